//! Section F: delivery of events.

use std::thread;
use std::time::Duration;

use gam_tests::daemon::{Daemon, Settings};
use gam_tests::events::Kind;
use gam_tests::suite::Test;
use gam_tests::{poll, processes};

gam_tests::tests![
    f1_events_of_a_hundred_lives_arrive,
    f3_events_wait_for_containerd,
    f8_reconnects_leave_no_descriptors,
];

fn f1_events_of_a_hundred_lives_arrive(t: &Test) {
    let container = t.container().run();
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let _ = container.exec("exit 0").streams([false; 3]).run().finish();
                }
            });
        }
    });
    let events = container.until_events("a hundred exits", |events| {
        events.iter().filter(|event| event.kind == Kind::Exit).count() == 100
    });
    assert_eq!(events.iter().filter(|event| event.kind == Kind::ExecStarted).count(), 100);
    container.end();
}

fn f3_events_wait_for_containerd(t: &Test) {
    let daemon = Daemon::start(Settings { level: "trace", ..Settings::new() });
    let containers: Vec<_> = (0..3).map(|_| t.container_of(&daemon).run_told()).collect();
    daemon.kill_9();
    for container in &containers {
        processes::kill_9(container.pid);
    }
    // Longer than five attempts with one to five seconds between them.
    thread::sleep(Duration::from_secs(18));
    daemon.launch();
    poll::holds("containerd has every exit", || daemon.received("/tasks/exit") >= containers.len());
    let number = containers.len();
    for container in containers {
        container.exit_may_be_unseen();
        assert_eq!(container.finish().status, 137);
    }
    assert_eq!(daemon.received("/tasks/exit"), number, "each exit once");
}

fn f8_reconnects_leave_no_descriptors(t: &Test) {
    let daemon = Daemon::start(Settings::new());
    let container = t.container_of(&daemon).run();
    let round = || {
        daemon.kill_9();
        daemon.launch();
        let _ = container.exec("exit 0").run().finish();
    };
    round();
    let before = processes::descriptors(container.shim()).len();
    (0..4).for_each(|_| round());
    let few = || (processes::descriptors(container.shim()).len() <= before + 1).then_some(());
    let settled = poll::within(Duration::from_secs(10), few);
    assert!(settled.is_some(), "{before} before, now {:#?}", processes::descriptors(container.shim()));
    container.end();
}
