//! Section I: memory, threads and descriptors of the shim itself.

use std::thread;

use gam_tests::case::{Builder, Container};
use gam_tests::suite::Test;
use gam_tests::{poll, processes};

gam_tests::tests![
    i1_finished_execs_cost_nothing,
    i3_threads_do_not_grow_with_containers,
    i4_one_inotify_instance,
    i6_a_container_inherits_no_descriptor,
];

/// A pod of the test's own namespace, so that its shim serves nothing else.
fn pod(t: &Test, containers: usize) -> Vec<Container> {
    let daemon = t.daemon();
    let sandbox = Builder::new(&daemon, t.name, &t.id()).sandbox(t.name).run();
    let id = sandbox.id.clone();
    let mut pod = vec![sandbox];
    pod.extend(thread::scope(|scope| {
        let made: Vec<_> = (0..containers)
            .map(|_| scope.spawn(|| Builder::new(&daemon, t.name, &t.id()).in_pod(t.name, &id).run()))
            .collect();
        made.into_iter().map(|made| made.join().unwrap()).collect::<Vec<_>>()
    }));
    pod
}

fn end(pod: Vec<Container>) {
    for container in pod.into_iter().rev() {
        container.end();
    }
}

fn i1_finished_execs_cost_nothing(t: &Test) {
    let pod = pod(t, 0);
    let shim = pod[0].shim();
    let run = |count: usize| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..count / 4 {
                        let _ = pod[0].exec("exit 0").run().finish();
                    }
                });
            }
        });
    };
    run(80);
    let (memory, descriptors) = (processes::anonymous(shim).unwrap(), processes::descriptors(shim).len());
    run(160);
    let after = processes::anonymous(shim).unwrap();
    assert!(after < memory + 2048, "{memory} KiB before 160 execs, {after} KiB after");
    poll::holds("no descriptor stays", || processes::descriptors(shim).len() <= descriptors + 1);
    end(pod);
}

fn i3_threads_do_not_grow_with_containers(t: &Test) {
    let pod_of_one = pod(t, 0);
    let shim = pod_of_one[0].shim();
    let _ = pod_of_one[0].exec("exit 0").run().finish();
    let before = processes::threads(shim);
    let daemon = t.daemon();
    let id = pod_of_one[0].id.clone();
    let more: Vec<_> =
        (0..15).map(|_| Builder::new(&daemon, t.name, &t.id()).in_pod(t.name, &id).run()).collect();
    assert!(more.iter().all(|container| container.shim() == shim), "one shim serves the pod");
    let after = processes::threads(shim);
    assert!(after <= before, "{before} threads with one container, {after} with sixteen");
    end(more);
    end(pod_of_one);
}

fn i4_one_inotify_instance(t: &Test) {
    let pod = pod(t, 5);
    let descriptors = processes::descriptors(pod[0].shim());
    let instances =
        descriptors.iter().filter(|(_, to)| to.to_string_lossy().starts_with("anon_inode:inotify")).count();
    assert!(instances <= 1, "{descriptors:#?}");
    end(pod);
}

fn i6_a_container_inherits_no_descriptor(t: &Test) {
    // Descriptor 3 is ls's own, of the directory that it lists.
    let script = "ls /proc/self/fd | tr '\\n' ' '";
    let container = t.container().sh(&format!("{script}; sleep 1000")).run();
    container.io.out().expect("0 1 2 3");
    let (_, out) = container.exec(script).run().finish();
    assert_eq!(out, "0 1 2 3 ");
    assert_eq!(container.io.out().so_far(), b"0 1 2 3 ");
    container.end();
}
