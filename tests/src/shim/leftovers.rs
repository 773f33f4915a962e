//! What is left of a case, and taking it away when the case failed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::lab::{Lab, Noted};
use super::process::{self, Proc};
use super::wire;

fn mounts(directory: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    points.filter(|point| point.starts_with(directory)).collect()
}

fn cgroups(lab: &Lab) -> Vec<PathBuf> {
    let prefix = format!("gs-{}", lab.namespace());
    let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
    roots.extend(
        std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path()),
    );
    let inside = roots.iter().filter_map(|root| std::fs::read_dir(root).ok()).flatten().flatten();
    inside
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .map(|entry| entry.path())
        .collect()
}

/// Containers that the runtime still knows.
fn states(lab: &Lab) -> Vec<PathBuf> {
    let namespaces = std::fs::read_dir(lab.runtime_root()).into_iter().flatten().flatten();
    let namespaces = namespaces.map(|entry| entry.path()).filter(|path| path.is_dir());
    let entries = namespaces.filter_map(|path| std::fs::read_dir(path).ok()).flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// What is left, a line each.
pub(super) fn find(lab: &Lab, noted: &Noted) -> Vec<String> {
    let mut left = Vec::new();
    let alive = |set: &std::collections::BTreeSet<Proc>| {
        set.iter().copied().filter(|p| p.alive()).collect::<Vec<_>>()
    };
    left.extend(alive(&noted.shims).iter().map(|shim| format!("shim {}", shim.pid)));
    left.extend(alive(&noted.processes).iter().map(|process| format!("process {}", process.pid)));
    left.extend(
        process::mentioning(lab.directory()).iter().map(|(pid, line)| format!("process {pid}: {line}")),
    );
    left.extend(mounts(lab.directory()).iter().map(|point| format!("mount {}", point.display())));
    left.extend(cgroups(lab).iter().map(|path| format!("cgroup {}", path.display())));
    left.extend(states(lab).iter().map(|path| format!("runtime state {}", path.display())));
    let sockets = noted.addresses.iter().map(|address| wire::socket(address)).filter(|path| path.exists());
    left.extend(sockets.map(|path| format!("socket {}", path.display())));
    left
}

/// Kills, unmounts and removes.
pub(super) fn sweep(lab: &Lab, noted: &Noted) {
    for process in noted.shims.iter().chain(&noted.processes) {
        process.kill();
    }
    for _ in 0..50 {
        let found = process::mentioning(lab.directory());
        if found.is_empty() {
            break;
        }
        found.iter().filter_map(|(pid, _)| Proc::of(*pid)).for_each(Proc::kill);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for state in states(lab) {
        if let (Some(root), Some(id)) = (state.parent(), state.file_name()) {
            let mut command = Command::new("runc");
            command.arg("--root").arg(root).args(["delete", "--force"]).arg(id);
            let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
    for point in mounts(lab.directory()).iter().rev() {
        let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
    }
    for path in cgroups(lab) {
        let _ = std::fs::remove_dir(path);
    }
    for address in &noted.addresses {
        let _ = std::fs::remove_file(wire::socket(address));
    }
}
