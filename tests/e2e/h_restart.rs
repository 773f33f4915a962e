//! Section H: what a restart of containerd finds.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use containerd_client::types::v1::Status;
use gam_tests::daemon::{Daemon, Settings};
use gam_tests::suite::Test;
use gam_tests::{poll, processes};

gam_tests::tests![
    h4_start_answers_what_containerd_dials,
    h6_a_restart_with_many_containers_is_quick,
    h7_waits_end_with_their_connection,
    h8_an_exit_while_containerd_is_down,
    h9_the_debug_flag_reaches_the_shim,
    h12_running_containers_survive_a_restart,
    h13_execs_survive_a_restart,
];

fn h4_start_answers_what_containerd_dials(t: &Test) {
    let container = t.container().run();
    let bundle = container.daemon.bundle(&container.namespace, &container.id);
    let address = fs::read_to_string(bundle.join("address")).unwrap();
    assert!(address.starts_with("unix:///run/containerd/s/"), "{address:?}");
    assert_eq!(address.trim(), address, "no newline");
    assert!(fs::metadata(address.trim_start_matches("unix://")).is_ok());
    container.end();
}

fn h6_a_restart_with_many_containers_is_quick(t: &Test) {
    let daemon = Daemon::start(Settings::new());
    let containers: Vec<_> = thread::scope(|scope| {
        let made: Vec<_> = (0..20).map(|_| scope.spawn(|| t.container_of(&daemon).run_told())).collect();
        made.into_iter().map(|made| made.join().unwrap()).collect()
    });
    daemon.kill_9();
    let begin = Instant::now();
    daemon.launch();
    assert!(begin.elapsed() < poll::slow(Duration::from_secs(15)), "the restart took {:?}", begin.elapsed());
    for container in &containers {
        assert_eq!(container.status(), Status::Running);
    }
    thread::scope(|scope| {
        for container in containers {
            scope.spawn(|| container.end());
        }
    });
}

fn h7_waits_end_with_their_connection(t: &Test) {
    let daemon = Daemon::start(Settings::new());
    let container = t.container_of(&daemon).run_told();
    let descriptors = || processes::descriptors(container.shim()).len();
    let before = descriptors();
    for _ in 0..3 {
        let waits: Vec<_> = (0..10).map(|_| container.wait_aside()).collect();
        thread::sleep(Duration::from_millis(100));
        daemon.kill_9();
        for wait in waits {
            assert!(wait.join().unwrap().is_err());
        }
        daemon.launch();
    }
    poll::holds("no descriptor stays", || descriptors() <= before + 2);
    let wait = container.wait_aside();
    container.kill(9);
    assert_eq!(wait.join().unwrap().unwrap().status, 137);
    container.finish();
}

fn h8_an_exit_while_containerd_is_down(t: &Test) {
    let daemon = Daemon::start(Settings { level: "trace", ..Settings::new() });
    let killed = t.container_of(&daemon).run_told();
    let ended = t.container_of(&daemon).sh("while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 42").run();
    daemon.kill_9();
    processes::kill_9(killed.pid);
    fs::write(format!("/proc/{}/root/tmp/go", ended.pid), "").unwrap();
    // Reaped, that is: the shim has seen the ends.
    poll::holds("both have ended", || !processes::lives(killed.pid) && !processes::lives(ended.pid));
    daemon.launch();
    poll::holds("containerd has both exits", || daemon.received("/tasks/exit") >= 2);
    for (container, status) in [(killed, 137), (ended, 42)] {
        container.exit_may_be_unseen();
        container.until_status(Status::Stopped);
        assert_eq!(container.state().exit_status, status);
        assert_eq!(container.wait().status, status);
        assert_eq!(container.finish().status, status);
    }
    assert_eq!(daemon.received("/tasks/exit"), 2, "each exit once");
}

fn h9_the_debug_flag_reaches_the_shim(t: &Test) {
    // The harness runs containerd with its log level at debug.
    let container = t.container().run();
    let command = processes::command(container.shim());
    assert!(t.on_go() || command.contains("debug"), "{command}");
    container.end();
}

fn h12_running_containers_survive_a_restart(t: &Test) {
    let daemon = Daemon::start(Settings::new());
    let mut container =
        t.container_of(&daemon).stdin().sh("while read line; do echo got $line; done; exit 8").run();
    let paused = t.container_of(&daemon).run_told();
    let created = t.container_of(&daemon).sh("exit 5").create();
    daemon.client().pause(&paused.namespace, &paused.id).unwrap();
    container.io.input().write(b"one\n");
    container.io.out().expect("got one");
    for round in 0..2 {
        if round == 0 {
            daemon.kill_9()
        } else {
            daemon.stop()
        }
        daemon.launch();
        assert_eq!(container.status(), Status::Running);
        assert_eq!(paused.status(), Status::Paused);
        assert_eq!(created.status(), Status::Created);
        assert_eq!(container.pids(), [container.pid]);
        container.io.input().write(b"two\n");
        container.io.out().expect("got two");
    }
    created.start();
    assert_eq!(created.finish().status, 5);
    daemon.client().resume(&paused.namespace, &paused.id).unwrap();
    paused.end();
    container.io.input().close();
    daemon.client().close_stdin(&container.namespace, &container.id, "").unwrap();
    assert_eq!(container.finish().status, 8);
}

fn h13_execs_survive_a_restart(t: &Test) {
    let daemon = Daemon::start(Settings::new());
    let container = t.container_of(&daemon).run_told();
    let mut exec = container.exec("read line; echo $line; exit 3").stdin().run();
    daemon.kill_9();
    daemon.launch();
    exec.io.input().write(b"after\n");
    let (exit, out) = exec.finish();
    assert_eq!((exit.status, out.as_str()), (3, "after\n"));
    container.end();
}
