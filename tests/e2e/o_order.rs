//! Section 0: order and completeness of events.

use std::thread;

use containerd_client::types::v1::Status;
use gam_tests::events::{Kind, check_order};
use gam_tests::suite::Test;

gam_tests::tests![
    o1_a_life_is_published_in_order,
    o2_each_start_has_exactly_one_exit,
    o5_a_wait_that_began_before_delete_is_answered,
    o6_a_created_container_that_is_killed_ends_in_order,
];

fn o1_a_life_is_published_in_order(t: &Test) {
    let container = t.container().run();
    let exec = container.exec("exit 4").run();
    assert_eq!(exec.finish().0.status, 4);
    container.kill(15);
    container.kill(9);
    let (namespace, id, daemon) =
        (container.namespace.clone(), container.id.clone(), container.daemon.clone());
    assert_eq!(container.finish().status, 137);
    let kinds: Vec<Kind> = daemon.events.of(&namespace, &id).iter().map(|event| event.kind).collect();
    let expected =
        [Kind::Create, Kind::Start, Kind::ExecAdded, Kind::ExecStarted, Kind::Exit, Kind::Exit, Kind::Delete];
    assert_eq!(kinds, expected);
}

fn o2_each_start_has_exactly_one_exit(t: &Test) {
    let containers: Vec<_> = (0..6).map(|_| t.container().run()).collect();
    thread::scope(|scope| {
        for container in &containers {
            for number in 0..4 {
                let exec = container.exec(&format!("exit {number}"));
                scope.spawn(move || assert_eq!(exec.run().finish().0.status, number));
            }
        }
    });
    for container in containers {
        container.kill(9);
        let (namespace, id, daemon) =
            (container.namespace.clone(), container.id.clone(), container.daemon.clone());
        container.finish();
        let events = daemon.events.of(&namespace, &id);
        check_order(&events).unwrap();
        assert_eq!(events.iter().filter(|event| event.kind == Kind::ExecStarted).count(), 4);
        assert_eq!(events.iter().filter(|event| event.kind == Kind::Exit).count(), 5);
    }
}

fn o5_a_wait_that_began_before_delete_is_answered(t: &Test) {
    for _ in 0..5 {
        let container = t.container().sh("sleep 0.3; exit 9").run();
        let waits: Vec<_> = (0..4).map(|_| container.wait_aside()).collect();
        container.until_status(Status::Stopped);
        container.delete();
        for wait in waits {
            assert_eq!(wait.join().unwrap().expect("the exit").status, 9);
        }
        container.check_gone();
    }
}

fn o6_a_created_container_that_is_killed_ends_in_order(t: &Test) {
    let container = t.container().create();
    assert_eq!(container.status(), Status::Created);
    container.kill(9);
    container.until_status(Status::Stopped);
    let deleted = container.delete();
    assert_eq!(deleted.exit.status, 137);
    container.check_gone();
}
