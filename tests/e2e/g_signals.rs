//! Section G: pause, kill, signals.

use std::thread;
use std::time::Duration;

use containerd_client::tonic::Code;
use containerd_client::types::v1::Status;
use gam_tests::events::Kind;
use gam_tests::suite::Test;
use gam_tests::{cgroup, poll};

gam_tests::tests![
    g1_a_container_that_ends_around_a_pause_is_deleted,
    g2_a_paused_container_is_killed,
    g3_state_is_answered_beside_a_kill_of_the_frozen,
    g4_errors_have_their_codes,
    g5_pause_and_resume,
    g6_real_time_signals_arrive,
];

fn g1_a_container_that_ends_around_a_pause_is_deleted(t: &Test) {
    for round in 0..10u64 {
        let container = t.container().sh("sleep 0.2").run();
        thread::sleep(Duration::from_millis(150 + round * 10));
        let client = container.client();
        let _ = client.pause(&container.namespace, &container.id);
        thread::sleep(Duration::from_millis(50));
        let _ = client.resume(&container.namespace, &container.id);
        container.finish();
    }
}

fn g2_a_paused_container_is_killed(t: &Test) {
    let container = t.container().run();
    container.client().pause(&container.namespace, &container.id).unwrap();
    container.until_status(Status::Paused);
    assert!(cgroup::is_frozen(&container.cgroup), "it is frozen");
    container.kill(9);
    let wait = container.wait_aside();
    poll::holds("the killed container ends without a resume", || wait.is_finished());
    assert_eq!(wait.join().unwrap().unwrap().status, 137);
    container.finish();
}

fn g3_state_is_answered_beside_a_kill_of_the_frozen(t: &Test) {
    let container = t.container().run();
    container.client().pause(&container.namespace, &container.id).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| container.try_kill(15));
        for _ in 0..20 {
            let begin = std::time::Instant::now();
            let _ = container.state();
            assert!(begin.elapsed() < poll::slow(Duration::from_secs(2)));
        }
    });
    let _ = container.client().resume(&container.namespace, &container.id);
    let _ = container.try_kill(9);
    container.finish();
}

fn g4_errors_have_their_codes(t: &Test) {
    let container = t.container().create();
    let client = container.client();
    let (namespace, id) = (container.namespace.as_str(), container.id.as_str());
    let code = |answer: Result<(), containerd_client::tonic::Status>| answer.err().map(|error| error.code());
    assert_eq!(code(client.kill(namespace, id, "no-such-exec", 9, false)), Some(Code::NotFound));
    assert_eq!(code(client.get(namespace, id, "no-such-exec").map(drop)), Some(Code::NotFound));
    assert_eq!(code(client.delete_exec(namespace, id, "no-such-exec").map(drop)), Some(Code::NotFound));
    assert_eq!(code(client.start(namespace, id, "no-such-exec").map(drop)), Some(Code::NotFound));
    container.start();
    assert_eq!(code(container.try_start().map(drop)), Some(Code::FailedPrecondition));
    assert_eq!(code(container.try_delete().map(drop)), Some(Code::FailedPrecondition));
    container.kill(9);
    container.wait();
    assert_eq!(code(container.try_kill(9)), Some(Code::NotFound));
    assert_eq!(code(client.kill(namespace, id, "", 9, true)), Some(Code::NotFound));
    assert!(client.pause(namespace, id).is_err());
    assert!(client.resume(namespace, id).is_err());
    container.finish();
}

fn g5_pause_and_resume(t: &Test) {
    let container = t.container().sh("while :; do echo tick; sleep 0.05; done").run();
    let exec = container.exec("sleep 1000").run();
    container.io.out().expect("tick");
    let client = container.client();
    client.pause(&container.namespace, &container.id).unwrap();
    assert_eq!(container.status(), Status::Paused);
    assert!(cgroup::is_frozen(&container.cgroup));
    assert_eq!(exec.try_state().unwrap().status(), Status::Paused);
    assert!(
        container.exec("exit 0").try_add().and_then(|exec| exec.try_start()).is_err(),
        "an exec while paused"
    );
    thread::sleep(Duration::from_millis(300));
    let before = container.io.out().so_far().len();
    thread::sleep(Duration::from_millis(300));
    assert_eq!(container.io.out().so_far().len(), before, "it is frozen");
    client.resume(&container.namespace, &container.id).unwrap();
    assert_eq!(container.status(), Status::Running);
    assert!(!cgroup::is_frozen(&container.cgroup));
    container.io.out().expect_bytes(before + 10);
    let events =
        container.until_events("resumed", |events| events.iter().any(|event| event.kind == Kind::Resumed));
    let paused = events.iter().position(|event| event.kind == Kind::Paused);
    assert!(paused.is_some() && paused < events.iter().position(|event| event.kind == Kind::Resumed));
    exec.try_kill(9).unwrap();
    exec.wait();
    exec.delete();
    container.end();
}

fn g6_real_time_signals_arrive(t: &Test) {
    let script = "trap 'echo got-37' 37; trap 'echo got-usr1' USR1; echo ready; while :; do sleep 0.05; done";
    let container = t.container().sh(script).run();
    container.io.out().expect("ready");
    container.kill(37);
    container.io.out().expect("got-37");
    container.kill(10);
    container.io.out().expect("got-usr1");
    assert!(container.try_kill(65).is_err(), "there is no signal 65");
    container.end();
}
