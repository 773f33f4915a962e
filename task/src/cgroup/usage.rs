//! The few numbers of a cgroup that are worth a look every few seconds, in a read of one small file each.

use std::path::Path;
use std::time::Duration;

use super::files::Dir;
use super::{Cgroup, CgroupError, Place};

/// What a cgroup uses; none of what the kernel has no file for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory in bytes, its page cache included.
    pub memory: Option<u64>,
    /// CPU time since the cgroup was made.
    pub cpu: Option<Duration>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl Cgroup {
    /// What it uses now.
    ///
    /// # Errors
    /// Those of [`stats`](Self::stats), but a controller's directory that has gone is only absent on v1.
    pub fn usage(&self) -> Result<Usage, CgroupError> {
        match &self.0 {
            Place::V1(paths) => {
                let number = |controller: &str, file: &str| match paths.get(controller) {
                    Some(path) => in_directory(path, file),
                    None => Ok(None),
                };
                Ok(Usage {
                    memory: number("memory", "memory.usage_in_bytes")?,
                    cpu: number("cpuacct", "cpuacct.usage")?.map(Duration::from_nanos),
                    pids: number("pids", "pids.current")?,
                })
            }
            Place::V2(path) => {
                let dir = Dir::open(path)?;
                let cpu = dir.text("cpu.stat")?.map(|text| text.value("usage_usec")).transpose()?.flatten();
                Ok(Usage {
                    memory: dir.number("memory.current")?,
                    cpu: cpu.map(Duration::from_micros),
                    pids: dir.number("pids.current")?,
                })
            }
        }
    }
}

fn in_directory(path: &Path, file: &str) -> Result<Option<u64>, CgroupError> {
    match Dir::open(path) {
        Ok(dir) => dir.number(file),
        Err(CgroupError::Gone { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;

    #[test]
    fn a_v1_cgroup_has_a_directory_for_each_number() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        for (name, file, text) in
            [("memory", "memory.usage_in_bytes", "4096\n"), ("cpuacct", "cpuacct.usage", "1500000000\n")]
        {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join(file), text).unwrap();
        }
        let paths = ["memory", "cpuacct", "pids"].map(|name| (name.to_owned(), at(name)));
        let usage = Cgroup::from_paths(BTreeMap::from(paths)).unwrap().usage().unwrap();
        let cpu = Some(Duration::from_millis(1500));
        assert_eq!(usage, Usage { memory: Some(4096), cpu, pids: None });
    }

    #[test]
    fn a_v2_cgroup_has_one_and_what_has_gone_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let cgroup =
            |path: &Path| Cgroup::from_paths(BTreeMap::from([(String::new(), path.into())])).unwrap();
        fs::write(root.path().join("memory.current"), "8192\n").unwrap();
        fs::write(root.path().join("cpu.stat"), "usage_usec 2000\nuser_usec 1\n").unwrap();
        fs::write(root.path().join("pids.current"), "3\n").unwrap();
        let usage = cgroup(root.path()).usage().unwrap();
        let cpu = Some(Duration::from_millis(2));
        assert_eq!(usage, Usage { memory: Some(8192), cpu, pids: Some(3) });
        assert!(matches!(cgroup(&root.path().join("gone")).usage(), Err(CgroupError::Gone { .. })));
    }
}
