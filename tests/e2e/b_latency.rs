//! Section B: locks and latency. The two containers of a pod share a shim, in Go too.

use std::thread;
use std::time::{Duration, Instant};

use containerd_client::types::v1::Status;
use gam_tests::case::Container;
use gam_tests::suite::Test;

use crate::wrapper::Wrapper;

gam_tests::tests![
    b1_a_slow_create_delays_nobody,
    b2_a_slow_exec_delays_nobody,
    b3_a_delete_that_waits_for_io_delays_nobody,
    b4_a_hung_runtime_leaves_the_reads_answered,
    b5_state_runs_no_runtime,
    b6_a_runtime_that_floods_stderr,
];

/// Far less than what the slow runtimes take here, far more than a loaded machine does.
const QUICK: Duration = Duration::from_millis(2500);

/// The reads of a container answer quickly, again and again for a second.
fn reads_are_quick(container: &Container) {
    let client = container.client();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(1) {
        let one = Instant::now();
        let state = client.get(&container.namespace, &container.id, "").unwrap();
        // containerd gives a shim two seconds, then says that it does not know.
        assert_ne!(state.status(), Status::Unknown, "State took {:?}", one.elapsed());
        client.pids(&container.namespace, &container.id).unwrap();
        assert!(one.elapsed() < QUICK, "State and Pids took {:?}", one.elapsed());
        thread::sleep(Duration::from_millis(20));
    }
}

fn b1_a_slow_create_delays_nobody(t: &Test) {
    let slow = Wrapper::new(&t.daemon(), t.name, "[ $COMMAND = create ] && sleep 4");
    let sandbox = t.container().sandbox(t.name).run();
    let builder =
        t.container().in_pod(t.name, &sandbox.id).options(|options| options.binary_name = slow.binary());
    let container = thread::scope(|scope| {
        let made = scope.spawn(move || builder.run());
        thread::sleep(Duration::from_millis(500));
        reads_are_quick(&sandbox);
        let exec = sandbox.exec("echo quick").run();
        assert_eq!(exec.finish().1, "quick\n");
        assert!(!made.is_finished(), "the slow create was not slow");
        made.join().unwrap()
    });
    container.end();
    sandbox.end();
}

fn b2_a_slow_exec_delays_nobody(t: &Test) {
    let slow = Wrapper::new(&t.daemon(), t.name, "[ $COMMAND = exec ] && sleep 10");
    let sandbox = t.container().sandbox(t.name).run();
    let container = t
        .container()
        .in_pod(t.name, &sandbox.id)
        .options(|options| options.binary_name = slow.binary())
        .run();
    thread::scope(|scope| {
        let exec = container.exec("exit 5");
        let slow = scope.spawn(move || exec.run().finish().0.status);
        thread::sleep(Duration::from_millis(300));
        for _ in 0..3 {
            assert_eq!(sandbox.exec("echo quick").run().finish().1, "quick\n");
        }
        reads_are_quick(&container);
        assert!(!slow.is_finished(), "the slow exec was not slow");
        assert_eq!(slow.join().unwrap(), 5);
    });
    container.end();
    sandbox.end();
}

fn b3_a_delete_that_waits_for_io_delays_nobody(t: &Test) {
    let container = t.container().run();
    let exec = container.exec("sleep 1000 & exit 0").run();
    assert_eq!(exec.wait().status, 0);
    thread::scope(|scope| {
        let deleted = scope.spawn(|| exec.delete());
        reads_are_quick(&container);
        assert_eq!(container.exec("echo quick").run().finish().1, "quick\n");
        deleted.join().unwrap();
    });
    container.end();
}

fn b4_a_hung_runtime_leaves_the_reads_answered(t: &Test) {
    let hung = Wrapper::new(&t.daemon(), t.name, "[ $COMMAND = pause ] && sleep 6");
    let sandbox = t.container().sandbox(t.name).run();
    let container = t
        .container()
        .in_pod(t.name, &sandbox.id)
        .options(|options| options.binary_name = hung.binary())
        .run();
    thread::scope(|scope| {
        let paused = scope.spawn(|| container.client().pause(&container.namespace, &container.id));
        thread::sleep(Duration::from_millis(300));
        reads_are_quick(&container);
        reads_are_quick(&sandbox);
        let begin = Instant::now();
        container.client().metrics(&container.namespace, &container.id).unwrap();
        assert!(begin.elapsed() < QUICK, "Stats took {:?}", begin.elapsed());
        assert!(!paused.is_finished(), "the hung pause did not hang");
        paused.join().unwrap().unwrap();
    });
    container.client().resume(&container.namespace, &container.id).unwrap();
    container.end();
    sandbox.end();
}

fn b5_state_runs_no_runtime(t: &Test) {
    let counted = Wrapper::new(&t.daemon(), t.name, "");
    let container = t.container().options(|options| options.binary_name = counted.binary()).run();
    assert_eq!(counted.count("create", &container.id), 1, "the wrapper is used");
    let before = counted.total(&container.id);
    for _ in 0..50 {
        let _ = container.status();
    }
    assert_eq!(counted.total(&container.id), before, "State ran the runtime");
    container.end();
}

fn b6_a_runtime_that_floods_stderr(t: &Test) {
    let loud = Wrapper::new(
        &t.daemon(),
        t.name,
        "[ $COMMAND = create ] || [ $COMMAND = start ] && head -c 200000 /dev/zero | tr '\\0' x >&2",
    );
    let container = t.container().options(|options| options.binary_name = loud.binary()).sh("exit 6").run();
    assert_eq!(container.finish().status, 6);
}
