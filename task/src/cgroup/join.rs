//! Putting a process into a cgroup that is there already (the option `shim_cgroup`, BEHAVIOUR E13).

use std::io;
use std::path::{Component, Path};

use super::place::Host;
use super::{CgroupError, tree};

/// Moves the process `pid` with all its threads into the cgroup `path`, which is named from the top of each hierarchy: on
/// v1 for every controller that has such a cgroup, on v2 the only one. Children that it has already stay where they are.
///
/// # Errors
/// [`CgroupError::BadPath`] if the path is empty or holds `..`; [`CgroupError::Gone`] if no hierarchy has such a cgroup,
/// for it is not made, or there is no such process; [`CgroupError::Write`] if the kernel refuses: on v2 a cgroup that has
/// controllers enabled for its sub-cgroups takes no process (EBUSY).
pub fn join(path: &str, pid: i32) -> Result<(), CgroupError> {
    join_on(&Host::live(), path, pid)
}

fn join_on(host: &Host, path: &str, pid: i32) -> Result<(), CgroupError> {
    let refused = |why| CgroupError::BadPath { path: path.into(), why };
    let mut parts = Path::new(path).components().peekable();
    if parts.any(|part| part == Component::ParentDir) {
        return Err(refused("it holds .."));
    }
    if Path::new(path).components().all(|part| !matches!(part, Component::Normal(_))) {
        return Err(refused("it names no cgroup"));
    }
    let mut joined = false;
    for directory in host.named(Path::new(path))? {
        let file = directory.join("cgroup.procs");
        match tree::write(&file, &pid.to_string()) {
            Ok(()) => joined = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CgroupError::writing(&file, error)),
        }
    }
    if joined { Ok(()) } else { Err(CgroupError::Gone { path: path.into() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn e13_every_controller_that_has_the_cgroup_is_joined() {
        let root = tempfile::tempdir().unwrap();
        let cgroups = root.path().join("sys/fs/cgroup");
        fs::create_dir_all(root.path().join("proc/self")).unwrap();
        let mounts = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
            33 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            34 31 0:31 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
            35 31 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        fs::write(root.path().join("proc/self/mountinfo"), mounts).unwrap();
        for controller in ["cpu", "memory", "unified"] {
            let shim = cgroups.join(controller).join("gam/shim");
            fs::create_dir_all(&shim).unwrap();
            fs::write(shim.join("cgroup.procs"), "").unwrap();
        }
        let host = Host::at(root.path());
        join_on(&host, "/gam/shim", 42).unwrap();
        let procs =
            |name: &str| fs::read_to_string(cgroups.join(name).join("gam/shim/cgroup.procs")).unwrap();
        assert_eq!([procs("cpu"), procs("memory"), procs("unified")], ["42", "42", ""]);
        assert!(matches!(join_on(&host, "/none", 42), Err(CgroupError::Gone { .. })));
        assert!(matches!(join_on(&host, "/gam/../shim", 42), Err(CgroupError::BadPath { .. })));
        assert!(matches!(join_on(&host, "/", 42), Err(CgroupError::BadPath { .. })));
    }
}
