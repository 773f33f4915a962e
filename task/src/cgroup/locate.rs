//! Finding the cgroups of a process: `/proc/PID/cgroup` says which, `/proc/self/mountinfo` where.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Cgroup, CgroupError, Controller};

/// Where a hierarchy is mounted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Whether it is version 2's.
    pub(super) unified: bool,
    /// Its options, which for version 1 name its controllers.
    pub(super) options: Vec<String>,
    /// Which cgroup is mounted.
    root: PathBuf,
    /// Where.
    pub(super) place: PathBuf,
}

pub(super) fn of_process(pid: i32) -> Result<Cgroup, CgroupError> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let groups = fs::read_to_string(&path).map_err(|source| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => CgroupError::Gone,
        _ => CgroupError::Read { path, source },
    })?;
    find(&groups, &hierarchies()?).ok_or(CgroupError::NotMounted(pid))
}

/// Every hierarchy that is mounted.
pub(super) fn hierarchies() -> Result<Vec<Hierarchy>, CgroupError> {
    let path = PathBuf::from("/proc/self/mountinfo");
    let table = fs::read_to_string(&path).map_err(|source| CgroupError::Read { path, source })?;
    Ok(table.lines().filter_map(hierarchy).collect())
}

fn hierarchy(line: &str) -> Option<Hierarchy> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(3);
    let (root, place) = (left.next()?, left.next()?);
    let mut right = right.split(' ');
    let kind = right.next()?;
    let options = right.nth(1).unwrap_or_default();
    let unified = match kind {
        "cgroup" => false,
        "cgroup2" => true,
        _ => return None,
    };
    let options = options.split(',').map(str::to_owned).collect();
    Some(Hierarchy { unified, options, root: root.into(), place: place.into() })
}

fn find(groups: &str, hierarchies: &[Hierarchy]) -> Option<Cgroup> {
    let mut controllers = Vec::new();
    let mut unified = None;
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(names), Some(group)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        // The cgroup of a process that has ended may have been removed.
        let group = group.strip_suffix(" (deleted)").unwrap_or(group);
        if names.is_empty() {
            let hierarchy = hierarchies.iter().find(|hierarchy| hierarchy.unified);
            unified = hierarchy.and_then(|hierarchy| place(hierarchy, group));
            continue;
        }
        for name in names.split(',') {
            let is_its = |hierarchy: &&Hierarchy| {
                !hierarchy.unified && hierarchy.options.iter().any(|option| option == name)
            };
            if let Some(directory) = hierarchies.iter().find(is_its).and_then(|found| place(found, group)) {
                controllers.push(Controller { name: name.to_owned(), directory });
            }
        }
    }
    let has_controllers = controllers.iter().any(|controller| !controller.name.starts_with("name="));
    match unified {
        Some(directory) if !has_controllers => Some(Cgroup::V2(directory)),
        _ if controllers.is_empty() => None,
        _ => Some(Cgroup::V1(controllers)),
    }
}

/// A cgroup's directory, below where its hierarchy is mounted.
fn place(hierarchy: &Hierarchy, group: &str) -> Option<PathBuf> {
    let group = Path::new(group);
    let inside = group.strip_prefix(&hierarchy.root).ok()?;
    Some(hierarchy.place.join(inside))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "30 20 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 20 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 20 0:28 /docker/x /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
33 20 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
34 20 0:30 / /home rw - ext4 /dev/sda rw";

    fn hierarchies(lines: &str) -> Vec<Hierarchy> {
        lines.lines().filter_map(hierarchy).collect()
    }

    #[test]
    fn version_1_has_a_directory_for_each_controller_and_mounted_roots_are_taken_away() {
        let groups = "9:memory:/a/b\n8:cpu,cpuacct:/a/b\n7:pids:/docker/x/a\n6:freezer:/a\n0::/ignored\n";
        let Cgroup::V1(found) = find(groups, &hierarchies(MOUNTS)).unwrap() else { panic!("version 2") };
        let found: Vec<(&str, &str)> =
            found.iter().map(|known| (known.name.as_str(), known.directory.to_str().unwrap())).collect();
        assert_eq!(
            found,
            [
                ("memory", "/sys/fs/cgroup/memory/a/b"),
                ("cpu", "/sys/fs/cgroup/cpu,cpuacct/a/b"),
                ("cpuacct", "/sys/fs/cgroup/cpu,cpuacct/a/b"),
                ("pids", "/sys/fs/cgroup/pids/a"),
            ]
        );
    }

    #[test]
    fn version_2_has_one() {
        let mounts = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw";
        assert_eq!(
            find("0::/kubepods/pod1/c\n", &hierarchies(mounts)),
            Some(Cgroup::V2("/sys/fs/cgroup/kubepods/pod1/c".into()))
        );
        assert_eq!(find("", &hierarchies(mounts)), None);
        assert_eq!(find("0::/x\n", &[]), None);
    }
}
