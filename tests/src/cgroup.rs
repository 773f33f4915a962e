//! Where the cgroups are, for looking from outside: on v1 one hierarchy per controller, on v2 one for all.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// Whether the machine has v2 and nothing else.
#[must_use]
pub fn is_v2() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// Every directory of the hierarchies that has the cgroup path `path`, which begins with a slash.
#[must_use]
pub fn directories(path: &str) -> Vec<PathBuf> {
    let own = Path::new(ROOT).join(&path[1..]);
    if is_v2() {
        return Some(own).filter(|path| path.is_dir()).into_iter().collect();
    }
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

/// A number in a file of a cgroup; none where there is no such file or it says `max`.
#[must_use]
pub fn number(path: &str, file: &str) -> Option<u64> {
    read(path, file)?.trim().parse().ok()
}

/// The value of `key` in a file of lines `KEY VALUE`.
#[must_use]
pub fn value(path: &str, file: &str, key: &str) -> Option<u64> {
    let text = read(path, file)?;
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

/// Whether the kernel says that everything in a cgroup is frozen.
#[must_use]
pub fn is_frozen(path: &str) -> bool {
    if is_v2() {
        return value(path, "cgroup.events", "frozen") == Some(1);
    }
    read(path, "freezer.state").is_some_and(|state| state.trim() == "FROZEN")
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
