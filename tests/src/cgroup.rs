//! Where the cgroups are, for looking from outside: v1, one hierarchy per controller.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// Every directory of the hierarchies that has the cgroup path `path`, which begins with a slash.
#[must_use]
pub fn directories(path: &str) -> Vec<PathBuf> {
    let own = Path::new(ROOT).join(&path[1..]);
    let hierarchies = fs::read_dir(ROOT).into_iter().flatten().flatten().map(|entry| entry.path());
    hierarchies
        .map(|hierarchy| hierarchy.join(&path[1..]))
        .chain([own])
        .filter(|path| path.is_dir())
        .collect()
}

/// The pids in a cgroup, wherever it is.
#[must_use]
pub fn pids(path: &str) -> Vec<u32> {
    let mut pids: Vec<u32> = directories(path)
        .iter()
        .filter_map(|directory| fs::read_to_string(directory.join("cgroup.procs")).ok())
        .flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>())
        .collect();
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// A file of a cgroup, in the first hierarchy that has it.
#[must_use]
pub fn read(path: &str, file: &str) -> Option<String> {
    directories(path).iter().find_map(|directory| fs::read_to_string(directory.join(file)).ok())
}

/// Removes a cgroup and those below it, in every hierarchy; what is busy stays.
pub fn remove(path: &str) {
    for directory in directories(path) {
        remove_tree(&directory);
    }
}

fn remove_tree(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
}

/// Removes the directories of a cgroup that has none below it.
pub fn remove_if_empty(path: &str) {
    for directory in directories(path) {
        let _ = fs::remove_dir(directory);
    }
}
