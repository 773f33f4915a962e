//! What a test may not leave: processes, mounts, cgroups, sockets, runc's states, gam's directories.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{cgroup, processes};

/// The environment variable with the directory of the daemon that started a process.
pub const MARK: &str = "GAM_E2E_DIR";
/// The cgroup below which all test containers are.
pub const CGROUP: &str = "/gam-e2e";

/// Mount points at or below `directory`.
#[must_use]
pub fn mounts(directory: &Path) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(1));
    points.filter(|point| Path::new(point).starts_with(directory)).map(str::to_owned).collect()
}

/// Files and directories at or below `directory`, at most `depth` deep, whose name is `name`.
fn named(directory: &Path, name: &str, depth: usize, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name() == name {
            found.push(entry.path().display().to_string());
        } else if depth > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            named(&entry.path(), name, depth - 1, found);
        }
    }
}

/// What is left of one deleted container of the daemon in `directory`.
#[must_use]
pub fn of_container(directory: &Path, namespace: &str, id: &str, cgroup: &str) -> Vec<String> {
    let mut left = Vec::new();
    let bundle = directory.join("state/io.containerd.runtime.v2.task").join(namespace).join(id);
    if bundle.exists() {
        left.push(format!("the bundle {}", bundle.display()));
    }
    left.extend(mounts(&bundle).iter().map(|point| format!("the mount {point}")));
    left.extend(cgroup::directories(cgroup).iter().map(|path| format!("the cgroup {}", path.display())));
    // runc's root may hold a directory per namespace or not.
    for root in [directory.join("runc"), directory.join("runc").join(namespace)] {
        if root.join(id).exists() {
            left.push(format!("runc's state {}", root.join(id).display()));
        }
    }
    let mut records = Vec::new();
    named(&directory.join("run"), id, 3, &mut records);
    left.extend(records.into_iter().map(|path| format!("a record {path}")));
    left
}

/// What is left of a whole daemon: everything that has to do with its directory, but for `spared` processes.
#[must_use]
pub fn of_daemon(directory: &Path, spared: &[u32]) -> Vec<String> {
    let mut left = Vec::new();
    let marked = processes::of_directory(directory);
    for pid in marked.into_iter().filter(|pid| !spared.contains(pid)) {
        left.push(format!("process {pid}: {}", processes::command(pid)));
    }
    if let Some(name) = directory.file_name().and_then(|name| name.to_str()) {
        let cgroup = format!("{CGROUP}/{name}");
        left.extend(cgroup::pids(&cgroup).iter().map(|pid| format!("process {pid} in the cgroup {cgroup}")));
        for path in cgroup::directories(&cgroup) {
            let children = fs::read_dir(&path).into_iter().flatten().flatten();
            let children = children.filter(|entry| entry.path().is_dir());
            left.extend(children.map(|entry| format!("the cgroup {}", entry.path().display())));
        }
    }
    left.extend(mounts(&directory.join("state")).iter().map(|point| format!("the mount {point}")));
    for (what, path) in [("gam's", "run"), ("runc's", "runc")] {
        left.extend(files(&directory.join(path)).iter().map(|path| format!("{what} {path}")));
    }
    for namespace in entries(&directory.join("state/io.containerd.runtime.v2.task")) {
        // Where a spec cannot be read containerd leaves the bundle's empty directory itself, before any shim is asked.
        let bundles = entries(&namespace).into_iter().filter(|bundle| !entries(bundle).is_empty());
        left.extend(bundles.map(|bundle| format!("the bundle {}", bundle.display())));
    }
    left
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Everything below `directory` but empty directories.
fn files(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

/// The directories of daemons of this harness that are there or that processes were started for.
#[must_use]
pub fn directories() -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir("/tmp")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(crate::daemon::PREFIX))
        .map(|entry| entry.path())
        .collect();
    for pid in processes::all() {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let prefix = format!("{MARK}=");
        let mark = environment.split(|byte| *byte == 0).find_map(|one| one.strip_prefix(prefix.as_bytes()));
        found.extend(mark.map(|mark| String::from_utf8_lossy(mark).into_owned().into()));
    }
    found.sort();
    found.dedup();
    found
}
