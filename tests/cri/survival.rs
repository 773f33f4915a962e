//! Pods whose containerd, or manager, or both, are killed.

use std::fs;
use std::thread;
use std::time::Duration;

use gam_tests::cri::RUNNING;
use gam_tests::cri_node::Node;
use gam_tests::target::Containerd;
use gam_tests::{poll, processes};

use crate::cases::{FOREVER, own, private};

/// On containerd 2.1 a bundle names the binary of its shim, and no other may be needed.
fn no_other_shim(node: &Node, pod: &str) {
    let programs = node.findable();
    assert!(programs.iter().any(|name| name == "containerd"), "{programs:?}");
    let shims: Vec<_> = programs.iter().filter(|name| name.starts_with("containerd-shim")).collect();
    assert!(shims.iter().all(|name| *name == "containerd-shim-gam-v2"), "{shims:?}");
    if node.containerd == Containerd::V2_1 {
        let bundle = node.dir.join("state/io.containerd.runtime.v2.task/k8s.io").join(pod);
        let path = fs::read_to_string(bundle.join("shim-binary-path")).unwrap();
        assert_eq!(path, node.dir.join("bin/containerd-shim-gam-v2").display().to_string());
    }
}

pub(crate) fn containerd_is_killed(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let lives = pod.container("lives", FOREVER, own());
    let ends = pod.container("ends", "sleep 3; exit 5", own());
    let before = pod.output(&lives, "echo $PPID; cut -d ' ' -f 22 /proc/1/stat");
    let manager = node.manager_of(pod.pid());
    no_other_shim(node, &pod.id);
    let process = pod.pid_of(&ends);
    node.kill_9();
    poll::holds("the other has ended", || !processes::lives(process));
    node.launch();
    no_other_shim(node, &pod.id);
    assert!(pod.ready());
    assert_eq!(pod.status(&lives).state, RUNNING);
    assert_eq!(pod.output(&lives, "echo $PPID; cut -d ' ' -f 22 /proc/1/stat"), before, "the same process");
    assert_eq!(pod.ended(&ends).exit_code, 5, "an end while containerd was away");
    let third = pod.container("third", "exit 6", own());
    assert_eq!(pod.ended(&third).exit_code, 6);
    assert_eq!(node.manager_of(pod.pid()), manager, "the same manager");
    let mut streams = pod.exec_stream(&lives, "exit 2", false);
    assert_eq!(streams.exit_code(), 2);
    pod.stop_container(&lives, 10).unwrap();
    assert_eq!(pod.ended(&lives).exit_code, 3);
    pod.remove().unwrap();
}

pub(crate) fn the_manager_is_killed(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let id = pod.container("one", FOREVER, own());
    let before = node.managers();
    assert!(!before.is_empty(), "a manager runs");
    before.into_iter().for_each(processes::kill_9);
    let status = pod.ended(&id);
    // 255 where containerd's wait for it broke with the connection before it heard of the end.
    assert!(matches!(status.exit_code, 137 | 255), "{}", status.exit_code);
    poll::holds("the sandbox is not ready", || !pod.ready());
    thread::sleep(Duration::from_secs(1));
    assert_eq!(pod.status(&id).finished_at, status.finished_at, "reported dead once");
    drop(pod);
    let next = node.pod(handler, private(node, "default"));
    let id = next.container("one", "exit 9", own());
    assert_eq!(next.ended(&id).exit_code, 9);
}

pub(crate) fn both_are_killed(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let id = pod.container("one", FOREVER, own());
    let managers = node.serving();
    node.kill_9();
    managers.into_iter().for_each(processes::kill_9);
    node.launch();
    assert_ne!(pod.ended(&id).exit_code, 0);
    poll::holds("the sandbox is not ready", || !pod.ready());
    pod.remove().unwrap();
}
