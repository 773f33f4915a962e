//! The cases: what each does with a node and a runtime handler.

use std::fs;
use std::time::{Duration, Instant};

use gam_tests::cri::{
    ContainerId, ContainerLinux, ContainerSecurity, EXITED, Empty, NODE, NamespaceOption, OWN, POD,
    PodConfig, PodId, PodStatusAnswer, RUNNING, Resources, StatsAnswer,
};
use gam_tests::cri_node::Node;
use gam_tests::poll;

use crate::{safety, streaming, survival};

/// A case.
pub(crate) type Case = fn(&Node, &str);

/// Every case and its name.
pub(crate) const ALL: &[(&str, Case)] = &[
    ("two_containers_and_exec_sync", two_containers_and_exec_sync),
    ("exec_sync_times_out", exec_sync_times_out),
    ("log_file_and_reopen", log_file_and_reopen),
    ("stats", stats),
    ("oom_killed", oom_killed),
    ("stop_terminates_then_kills", stop_terminates_then_kills),
    ("shared_process_namespace", shared_process_namespace),
    ("host_namespaces", host_namespaces),
    ("a_stopped_pod", a_stopped_pod),
    ("managers_by_group", managers_by_group),
    ("exec_streams", streaming::exec_streams),
    ("exec_terminal", streaming::exec_terminal),
    ("an_exec_whose_client_goes", streaming::an_exec_whose_client_goes),
    ("attach_streams", streaming::attach_streams),
    ("attach_terminal", streaming::attach_terminal),
    ("port_forward", streaming::port_forward),
    ("read_only_and_privileged", safety::read_only_and_privileged),
    ("seccomp", safety::seccomp),
    ("user_namespace", safety::user_namespace),
    ("containerd_is_killed", survival::containerd_is_killed),
    ("the_manager_is_killed", survival::the_manager_is_killed),
    ("both_are_killed", survival::both_are_killed),
];

pub(crate) const FOREVER: &str = "trap 'exit 3' TERM; while :; do sleep 0.1; done";

pub(crate) fn secured(security: ContainerSecurity) -> ContainerLinux {
    ContainerLinux { resources: None, security: Some(security) }
}

fn in_namespaces(network: i32, pid: i32, ipc: i32) -> ContainerLinux {
    let namespaces = Some(NamespaceOption { network, pid, ipc, user: None });
    secured(ContainerSecurity { namespaces, ..ContainerSecurity::default() })
}

pub(crate) fn with_namespaces(mut config: PodConfig, network: i32, pid: i32, ipc: i32) -> PodConfig {
    let security = config.linux.as_mut().unwrap().security.as_mut().unwrap();
    security.namespaces = Some(NamespaceOption { network, pid, ipc, user: None });
    config
}

pub(crate) fn private(node: &Node, namespace: &str) -> PodConfig {
    with_namespaces(node.pod_config(namespace), POD, OWN, POD)
}

pub(crate) fn own() -> ContainerLinux {
    in_namespaces(POD, OWN, POD)
}

fn two_containers_and_exec_sync(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let (one, two) = (pod.container("one", FOREVER, own()), pod.container("two", FOREVER, own()));
    assert!(pod.ready());
    for id in [&one, &two] {
        assert_eq!(pod.status(id).state, RUNNING);
        let answer = pod.exec(id, "echo out; echo err >&2; exit 7", 20).unwrap();
        assert_eq!((answer.stdout, answer.stderr, answer.exit_code), (b"out\n".into(), b"err\n".into(), 7));
    }
    let network = "readlink /proc/self/ns/net";
    assert_eq!(pod.output(&one, network), pod.output(&two, network), "one network namespace in a pod");
    assert!(pod.output(&one, "ip addr show eth0").contains("10.88."), "the pod has its address");
    let big = pod.exec(&one, "head -c 1000000 /dev/zero", 20).unwrap();
    assert_eq!(big.stdout.len(), 1_000_000);
}

fn exec_sync_times_out(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let id = pod.container("one", FOREVER, own());
    let begin = Instant::now();
    let status = pod.exec(&id, "sleep 12345", 1).expect_err("it takes longer");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert!(status.message().contains("timeout") || status.message().contains("timed out"), "{status}");
    poll::holds("the exec is dead", || !pod.output(&id, "ps").contains("sleep 12345"));
}

fn log_file_and_reopen(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let script = "echo before; echo error >&2; while [ ! -e /go ]; do sleep 0.1; done; echo after; exit 4";
    let id = pod.container("one", script, own());
    let log = pod.log("one");
    let text = || fs::read_to_string(&log).unwrap_or_default();
    poll::holds("the log has both lines", || {
        text().contains(" stdout F before\n") && text().contains(" stderr F error\n")
    });
    fs::rename(&log, log.with_extension("old")).unwrap();
    let _: Empty = node.cri().call("ReopenContainerLog", ContainerId { id: id.clone() }).unwrap();
    let _ = pod.output(&id, "touch /go");
    assert_eq!(pod.ended(&id).exit_code, 4);
    poll::holds("the new log has the line", || text().contains(" stdout F after\n"));
    assert!(!text().contains("before"));
}

fn stats(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let id = pod.container("one", "while :; do :; done", own());
    poll::holds("CPU and memory are counted", || {
        let answer: StatsAnswer =
            node.cri().call("ContainerStats", ContainerId { id: id.clone() }).expect("ContainerStats");
        let stats = answer.stats.expect("stats");
        let of =
            |usage: Option<gam_tests::cri::Usage>| usage.and_then(|one| one.value).map_or(0, |one| one.value);
        of(stats.cpu) > 50_000_000 && of(stats.memory) > 0
    });
}

fn oom_killed(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let mut linux = own();
    linux.resources = Some(Resources { cpu_shares: 0, memory_limit: 16 << 20 });
    let id = pod.container("one", "exec tail /dev/zero", linux);
    let status = pod.ended(&id);
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
}

fn stop_terminates_then_kills(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let script = "trap 'exit 3' TERM; echo armed; while :; do sleep 0.1; done";
    let kind = pod.container("kind", script, own());
    let deaf = pod.container("deaf", "trap '' TERM; echo armed; while :; do sleep 0.1; done", own());
    for name in ["kind", "deaf"] {
        let armed = || fs::read_to_string(pod.log(name)).is_ok_and(|text| text.contains("armed"));
        poll::holds("the trap is set", armed);
    }
    pod.stop_container(&kind, 20).unwrap();
    pod.stop_container(&deaf, 1).unwrap();
    assert_eq!(pod.ended(&kind).exit_code, 3);
    assert_eq!(pod.ended(&deaf).exit_code, 137);
    let _: Empty = node.cri().call("RemoveContainer", ContainerId { id: kind }).unwrap();
}

fn shared_process_namespace(node: &Node, handler: &str) {
    let pod = node.pod(handler, with_namespaces(node.pod_config("default"), POD, POD, POD));
    let one = pod.container("one", "sleep 11111", in_namespaces(POD, POD, POD));
    let two = pod.container("two", "sleep 22222", in_namespaces(POD, POD, POD));
    poll::holds("each sees the other", || {
        let (from_one, from_two) = (pod.output(&one, "ps"), pod.output(&two, "ps"));
        from_one.contains("sleep 22222") && from_two.contains("sleep 11111")
    });
    pod.stop_container(&one, 1).unwrap();
    assert_eq!(pod.status(&two).state, RUNNING);
}

fn host_namespaces(node: &Node, handler: &str) {
    let mut config = with_namespaces(node.pod_config("default"), NODE, NODE, NODE);
    // The node has a name already.
    config.hostname = String::new();
    let pod = node.pod(handler, config);
    let id = pod.container("one", FOREVER, in_namespaces(NODE, NODE, NODE));
    for kind in ["pid", "ipc"] {
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(pod.output(&id, &format!("readlink /proc/self/ns/{kind}")), host.display().to_string());
    }
    assert!(!pod.output(&id, "ip link").contains("eth0@"), "the node's network, not one of its own");
    pod.stop_container(&id, 10).unwrap();
    assert_eq!(pod.ended(&id).exit_code, 3);
}

fn a_stopped_pod(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let (one, two) = (pod.container("one", FOREVER, own()), pod.container("two", "exit 8", own()));
    assert_eq!(pod.ended(&two).exit_code, 8);
    for _ in 0..2 {
        let _: Empty = node.cri().call("StopPodSandbox", PodId { id: pod.id.clone() }).unwrap();
        assert!(!pod.ready());
        assert_eq!((pod.status(&one).state, pod.status(&two).exit_code), (EXITED, 8));
    }
    assert_ne!(pod.status(&one).exit_code, 0);
    let status = pod.exec(&one, "true", 20).expect_err("nothing runs there");
    assert!(status.message().contains("not") || status.message().contains("state"), "{status}");
    pod.remove().unwrap();
    let unknown: Result<PodStatusAnswer, _> =
        node.cri().call("PodSandboxStatus", PodId { id: pod.id.clone() });
    assert!(unknown.expect_err("it is removed").message().contains("not"));
}

fn managers_by_group(node: &Node, handler: &str) {
    let namespaces = ["default", "default", "other"];
    let pods = namespaces.map(|namespace| node.pod(handler, private(node, namespace)));
    let _containers: Vec<String> = pods.iter().map(|pod| pod.container("one", FOREVER, own())).collect();
    let expected = match node.grouping.as_str() {
        "pod" => 3,
        "namespace" => 2,
        _ => 1,
    };
    assert_eq!(node.serving().len(), expected);
    poll::holds("no other manager runs", || {
        let mut running = node.managers();
        running.sort_unstable();
        running == node.serving()
    });
}
