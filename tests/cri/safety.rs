//! What containers may not do: roots that are read-only, privileges, system calls, other users.

use std::fs;
use std::process::Command;

use gam_tests::cri::{
    ContainerSecurity, Empty, IdMapping, NamespaceOption, OWN, POD, PodConfig, SecurityProfile, StatusAnswer,
    UserNamespace,
};
use gam_tests::cri_node::Node;
use gam_tests::target::{Containerd, runtime_program};
use serde_json::json;

use crate::cases::{FOREVER, own, private, secured};

fn base() -> ContainerSecurity {
    let namespaces = Some(NamespaceOption { network: POD, pid: OWN, ipc: POD, user: None });
    ContainerSecurity { namespaces, ..ContainerSecurity::default() }
}

pub(crate) fn read_only_and_privileged(node: &Node, handler: &str) {
    let mut config = private(node, "default");
    config.linux.as_mut().unwrap().security.as_mut().unwrap().privileged = true;
    let pod = node.pod(handler, config);
    let fixed = secured(ContainerSecurity { readonly_rootfs: true, ..base() });
    let id = pod.container("fixed", FOREVER, fixed);
    assert_ne!(pod.exec(&id, "touch /file", 20).unwrap().exit_code, 0, "the root is read-only");
    let all = pod.container("all", FOREVER, secured(ContainerSecurity { privileged: true, ..base() }));
    let few = pod.container("few", FOREVER, secured(base()));
    assert_eq!(pod.exec(&few, "touch /file", 20).unwrap().exit_code, 0, "another root is not");
    let capabilities = "sed -n 's/^CapEff:[^0-9a-f]*//p' /proc/1/status";
    let parse = |text: String| u64::from_str_radix(&text, 16).unwrap();
    let (all, few) = (parse(pod.output(&all, capabilities)), parse(pod.output(&few, capabilities)));
    assert!(all & (1 << 21) != 0, "CAP_SYS_ADMIN of a privileged container: {all:x}");
    assert!(few & (1 << 21) == 0, "CAP_SYS_ADMIN of another: {few:x}");
}

pub(crate) fn seccomp(node: &Node, handler: &str) {
    let profile = node.dir.join("logs/seccomp.json");
    let denied = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }]
    });
    fs::write(&profile, denied.to_string()).unwrap();
    let profile = format!("localhost/{}", profile.display());
    let pod = node.pod(handler, private(node, "default"));
    let kinds =
        [("default", 0, "", "2", true), ("none", 1, "", "0", true), ("own", 2, &*profile, "2", false)];
    for (name, profile_type, path, mode, may) in kinds {
        let seccomp = Some(SecurityProfile { profile_type, localhost_ref: path.into() });
        let id = pod.container(name, FOREVER, secured(ContainerSecurity { seccomp, ..base() }));
        assert_eq!(pod.output(&id, "sed -n 's/^Seccomp:[^0-9]*//p' /proc/1/status"), mode, "{name}");
        let made = pod.exec(&id, "touch /file && mkdir /directory", 20).unwrap();
        assert_eq!(made.exit_code == 0, may, "{name}: {}", String::from_utf8_lossy(&made.stderr));
        if !may {
            assert!(String::from_utf8_lossy(&made.stderr).contains("Operation not permitted"), "{name}");
        }
    }
}

const HOST: u32 = 200_000;

fn users() -> UserNamespace {
    let all = IdMapping { host: HOST, container: 0, length: 65_536 };
    UserNamespace { mode: POD, uids: vec![all.clone()], gids: vec![all] }
}

fn of_users(mut config: PodConfig) -> PodConfig {
    let security = config.linux.as_mut().unwrap().security.as_mut().unwrap();
    security.namespaces.as_mut().unwrap().user = Some(users());
    config
}

/// A field of `/proc/PID/status`, the first number of it.
fn status(pid: u32, field: &str) -> u32 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Whether the runtime tells that it has ID-mapped mounts.
fn idmaps() -> bool {
    let features = Command::new(runtime_program()).arg("features").output().unwrap();
    let features: serde_json::Value = serde_json::from_slice(&features.stdout).unwrap_or_default();
    features["linux"]["mountExtensions"]["idmap"]["enabled"] == true
}

pub(crate) fn user_namespace(node: &Node, handler: &str) {
    if node.containerd == Containerd::V1_6 {
        // It knows no such option: nothing of it is refused, and nothing done.
        return;
    }
    let pod = node.pod(handler, of_users(private(node, "default")));
    let mut linux = own();
    linux.security.as_mut().unwrap().namespaces.as_mut().unwrap().user = Some(users());
    assert_eq!((status(pod.pid(), "Uid:"), status(pod.pid(), "Gid:")), (HOST, HOST), "the sandbox's root");
    if node.containerd == Containerd::V2_1 {
        // kubelet looks at this before it asks for such a pod. Only runtimes of runc's type are asked what they have.
        let answer: StatusAnswer = node.cri().call("Status", Empty {}).unwrap();
        let told = answer.handlers.iter().find(|one| one.name == handler).unwrap();
        let told = told.features.as_ref().is_some_and(|features| features.user_namespaces);
        assert_eq!(told, handler == "dropin" && idmaps(), "{:?}", answer.handlers);
    }
    let start = || pod.try_start(pod.config_of("one", FOREVER, linux));
    if node.containerd == Containerd::V2_1 && !idmaps() {
        // The manager stays for a minute for a container that was announced and refused, so one grouping is enough.
        if (&*node.grouping, handler) == ("pod", "dropin") {
            let status = start().expect_err("2.1 wants ID-mapped mounts, which this runtime has not");
            assert!(status.message().contains("idmap mounts not supported"), "{status}");
        }
        return;
    }
    let id = start().unwrap();
    assert_eq!(pod.output(&id, "id -u"), "0");
    let map = pod.output(&id, "cat /proc/self/uid_map; cat /proc/self/gid_map");
    let numbers: Vec<u32> = map.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!(numbers, [0, HOST, 65_536, 0, HOST, 65_536]);
    let pid = pod.pid_of(&id);
    assert_eq!((status(pid, "Uid:"), status(pid, "Gid:")), (HOST, HOST), "root there is nobody here");
    assert_eq!(pod.output(&id, "touch /file; stat -c %u /file /bin/busybox").replace('\n', " "), "0 0");
    pod.stop_container(&id, 20).unwrap();
    assert_eq!(pod.ended(&id).exit_code, 3);
}
