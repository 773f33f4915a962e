use super::*;

const V1: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
    32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
    33 31 0:30 / /sys/fs/cgroup/memory rw shared:9 master:2 - cgroup cgroup rw,memory\n\
    34 31 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
    35 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
    36 31 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
const V2: &str =
    "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";

struct Machine(tempfile::TempDir);

impl Machine {
    fn new(mounts: &str, own: &str, of_42: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc");
        for (who, text) in [("self", own), ("42", of_42)] {
            fs::create_dir_all(proc.join(who)).unwrap();
            fs::write(proc.join(who).join("cgroup"), text).unwrap();
        }
        fs::write(proc.join("self/mountinfo"), mounts).unwrap();
        Self(root)
    }

    fn of_42(&self) -> Result<Cgroup, CgroupError> {
        Host::at(self.0.path()).of_process(42)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn v2(&self, path: &str) -> Cgroup {
        Cgroup(Place::V2(self.at(path)))
    }
}

#[test]
fn hybrid_machines_are_v1_and_joint_controllers_share_a_directory() {
    let of_42 = "12:memory:/k/c\n11:pids:/\n5:cpu,cpuacct:/k/c\n4:rdma:/k/c\n1:name=systemd:/k:c\n0::/k/c\n";
    let machine = Machine::new(V1, "12:memory:/\n5:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n", of_42);
    let expected = BTreeMap::from(
        [
            ("memory", "/sys/fs/cgroup/memory/k/c"),
            ("cpu", "/sys/fs/cgroup/cpu,cpuacct/k/c"),
            ("cpuacct", "/sys/fs/cgroup/cpu,cpuacct/k/c"),
            ("name=systemd", "/sys/fs/cgroup/systemd/k:c"),
        ]
        .map(|(controller, path)| (controller.to_owned(), machine.at(path))),
    );
    // pids stayed at the root, rdma is mounted nowhere.
    assert_eq!(machine.of_42().unwrap(), Cgroup(Place::V1(expected)));
}

#[test]
fn what_is_shared_with_this_process_is_nobodys_own() {
    let own = "12:memory:/shim/deep\n11:pids:/shim\n5:cpu,cpuacct:/shimmer\n0::/\n";
    let of_42 = "12:memory:/shim\n11:pids:/shim\n5:cpu,cpuacct:/shim\n0::/\n";
    let machine = Machine::new(V1, own, of_42);
    let paths = machine.of_42().unwrap().to_paths();
    assert_eq!(paths.keys().collect::<Vec<_>>(), ["cpu", "cpuacct"]);
    let machine = Machine::new(V2, "0::/a/shim\n", "0::/a\n");
    assert!(matches!(machine.of_42(), Err(CgroupError::NotOwn { pid: 42 })));
    let machine = Machine::new(V2, "0::/a/shim\n", "0::/\n");
    assert!(matches!(machine.of_42(), Err(CgroupError::NotOwn { pid: 42 })));
}

#[test]
fn v2_alone_and_v2_with_a_v1_hierarchy_beside_it() {
    let path = "/sys/fs/cgroup/kubepods.slice/kubepods-podx.slice/cri-containerd-y.scope";
    let line = "0::/kubepods.slice/kubepods-podx.slice/cri-containerd-y.scope\n";
    let machine = Machine::new(V2, "0::/\n", line);
    assert_eq!(machine.of_42().unwrap(), machine.v2(path));
    let mounts = format!("{V2}40 31 0:40 / /run/net_cls rw - cgroup net_cls rw,net_cls\n");
    let machine = Machine::new(&mounts, "1:net_cls:/\n0::/\n", &format!("1:net_cls:/\n{line}"));
    assert_eq!(machine.of_42().unwrap(), machine.v2(path));
    let mounts =
        "31 23 0:28 / /cg rw - cgroup2 none rw\n32 23 0:29 / /sd rw - cgroup none rw,xattr,name=systemd\n";
    let machine = Machine::new(mounts, "1:name=systemd:/\n0::/\n", "1:name=systemd:/x\n0::/c\n");
    assert_eq!(machine.of_42().unwrap(), machine.v2("/cg/c"));
}

#[test]
fn the_roots_of_mounts_are_honoured() {
    // A part of the hierarchy, in a path with a space, after a mount of another part.
    let mounts = "31 23 0:28 /other /sys/fs/cgroup/other rw - cgroup2 cgroup2 rw\n\
        32 23 0:28 /docker/abc /sys/fs/cgroup\\040dir rw - cgroup2 cgroup2 rw\n";
    let machine = Machine::new(mounts, "0::/docker/abc\n", "0::/docker/abc/c\n");
    assert_eq!(machine.of_42().unwrap(), machine.v2("/sys/fs/cgroup dir/c"));
    let machine = Machine::new(mounts, "0::/docker/abc\n", "0::/docker/abcd\n");
    assert!(matches!(machine.of_42(), Err(CgroupError::NotMounted { .. })));
    // The host's whole hierarchy, seen from a cgroup namespace two levels down.
    let mounts = "31 23 0:28 /../.. /host rw - cgroup2 cgroup2 rw\n";
    let machine = Machine::new(mounts, "0::/\n", "0::/../../kubepods/c\n");
    assert_eq!(machine.of_42().unwrap(), machine.v2("/host/kubepods/c"));
    // One level up is in a directory whose name we cannot know.
    let machine = Machine::new(mounts, "0::/\n", "0::/../c\n");
    assert!(matches!(machine.of_42(), Err(CgroupError::NotMounted { .. })));
}

#[test]
fn what_has_gone_and_what_is_not_understood() {
    let machine = Machine::new(V2, "0::/\n", "0::/c (deleted)\n");
    assert!(matches!(machine.of_42(), Err(CgroupError::Gone { .. })));
    let machine = Machine::new(V2, "0::/\n", "nonsense\n");
    assert!(matches!(machine.of_42(), Err(CgroupError::Parse { .. })));
    fs::remove_dir_all(machine.at("/proc/42")).unwrap();
    assert!(matches!(machine.of_42(), Err(CgroupError::Gone { .. })));
}

#[test]
fn escapes() {
    assert_eq!(unescaped("/a\\040b\\134c\\"), "/a b\\c\\");
    assert_eq!(unescaped("/a\\9zz"), "/a\\9zz");
}
