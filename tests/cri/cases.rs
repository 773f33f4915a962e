//! The cases: what each does with a node and a runtime handler.

use std::fs;
use std::time::{Duration, Instant};

use gam_tests::cri::{
    ContainerId, ContainerLinux, ContainerSecurity, Empty, NODE, NamespaceOption, OWN, POD, PodConfig,
    RUNNING, Resources, SecurityProfile, StatsAnswer,
};
use gam_tests::cri_node::Node;
use gam_tests::{poll, processes};

/// A case.
type Case = fn(&Node, &str);

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
    ("read_only_privileged_seccomp", read_only_privileged_seccomp),
    ("containerd_is_killed", containerd_is_killed),
    ("the_manager_is_killed", the_manager_is_killed),
];

const FOREVER: &str = "trap 'exit 3' TERM; while :; do sleep 0.1; done";

fn secured(security: ContainerSecurity) -> ContainerLinux {
    ContainerLinux { resources: None, security: Some(security) }
}

fn in_namespaces(network: i32, pid: i32, ipc: i32) -> ContainerLinux {
    let namespaces = Some(NamespaceOption { network, pid, ipc });
    secured(ContainerSecurity { namespaces, ..ContainerSecurity::default() })
}

fn with_namespaces(mut config: PodConfig, network: i32, pid: i32, ipc: i32) -> PodConfig {
    let security = config.linux.as_mut().unwrap().security.as_mut().unwrap();
    security.namespaces = Some(NamespaceOption { network, pid, ipc });
    config
}

fn private(node: &Node, namespace: &str) -> PodConfig {
    with_namespaces(node.pod_config(namespace), POD, OWN, POD)
}

fn own() -> ContainerLinux {
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

fn read_only_privileged_seccomp(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let namespaces = Some(NamespaceOption { network: POD, pid: OWN, ipc: POD });
    let base = ContainerSecurity { namespaces, ..ContainerSecurity::default() };
    let fixed = secured(ContainerSecurity { readonly_rootfs: true, ..base.clone() });
    let id = pod.container("fixed", FOREVER, fixed);
    assert_ne!(pod.exec(&id, "touch /file", 20).unwrap().exit_code, 0, "the root is read-only");
    for (profile_type, mode) in [(0, "2"), (1, "0")] {
        let seccomp = Some(SecurityProfile { profile_type });
        let linux = secured(ContainerSecurity { seccomp, ..base.clone() });
        let id = pod.container(&format!("seccomp{mode}"), FOREVER, linux);
        let found = pod.output(&id, "sed -n 's/^Seccomp:[^0-9]*//p' /proc/1/status");
        assert_eq!(found, mode, "profile {profile_type}");
    }
    drop(pod);
    let mut config = private(node, "default");
    config.linux.as_mut().unwrap().security.as_mut().unwrap().privileged = true;
    let pod = node.pod(handler, config);
    let all = pod.container("all", FOREVER, secured(ContainerSecurity { privileged: true, ..base.clone() }));
    let few = pod.container("few", FOREVER, secured(base));
    let capabilities = "sed -n 's/^CapEff:[^0-9a-f]*//p' /proc/1/status";
    let parse = |text: String| u64::from_str_radix(&text, 16).unwrap();
    let (all, few) = (parse(pod.output(&all, capabilities)), parse(pod.output(&few, capabilities)));
    assert!(all & (1 << 21) != 0, "CAP_SYS_ADMIN of a privileged container: {all:x}");
    assert!(few & (1 << 21) == 0, "CAP_SYS_ADMIN of another: {few:x}");
}

fn containerd_is_killed(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let lives = pod.container("lives", FOREVER, own());
    let ends = pod.container("ends", "sleep 1; exit 5", own());
    let before = pod.output(&lives, "echo $PPID; cut -d ' ' -f 22 /proc/1/stat");
    node.kill_9();
    std::thread::sleep(Duration::from_millis(1500));
    node.launch();
    assert!(pod.ready());
    assert_eq!(pod.status(&lives).state, RUNNING);
    assert_eq!(pod.output(&lives, "echo $PPID; cut -d ' ' -f 22 /proc/1/stat"), before, "the same process");
    assert_eq!(pod.ended(&ends).exit_code, 5, "an end while containerd was away");
    let third = pod.container("third", "exit 6", own());
    assert_eq!(pod.ended(&third).exit_code, 6);
    pod.stop_container(&lives, 10).unwrap();
    assert_eq!(pod.ended(&lives).exit_code, 3);
}

fn the_manager_is_killed(node: &Node, handler: &str) {
    let pod = node.pod(handler, private(node, "default"));
    let id = pod.container("one", FOREVER, own());
    let before = node.managers();
    assert!(!before.is_empty(), "a manager runs");
    before.into_iter().for_each(processes::kill_9);
    let status = pod.ended(&id);
    // 255 where containerd's wait for it broke with the connection before it heard of the end.
    assert!(matches!(status.exit_code, 137 | 255), "{}", status.exit_code);
    poll::holds("the sandbox is not ready", || !pod.ready());
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(pod.status(&id).finished_at, status.finished_at, "reported dead once");
    drop(pod);
    let next = node.pod(handler, private(node, "default"));
    let id = next.container("one", "exit 9", own());
    assert_eq!(next.ended(&id).exit_code, 9);
}
