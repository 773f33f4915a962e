//! Whether a manager lives, and if not, since when.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::control::{Client, ControlError};
use crate::group::{Group, Lock};
use crate::operator::managers::PATIENCE;

/// What is known of a manager's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It lives, or may.
    Alive,
    /// It is dead, and gave its last sign of life so long ago.
    Dead(Duration),
}

/// Whether whoever serves a group lives. In doubt it does: a socket that cannot be asked, a lock that is held.
pub(super) fn of_group(directory: &Path) -> Life {
    let group = Group::at("", directory);
    if is_served(&group) || is_locked(&group) {
        return Life::Alive;
    }
    Life::Dead(since(&group.pid_file()).or_else(|| since(directory)).unwrap_or_default())
}

/// Whether a manager of a group is there, be it that it leaves.
pub(super) fn is_served(group: &Group) -> bool {
    let connected = Client::connect(&group.control_socket(), PATIENCE);
    let is_absent = matches!(connected, Err(ControlError::Absent { .. }));
    !is_absent || pid_of(group).is_some_and(|pid| is_manager(pid, &group.directory))
}

/// Whether the manager that wrote a record, which is at `record`, lives. Another may be there by now, of the same group.
pub(super) fn of_writer(directory: &Path, pid: u32, record: &Path) -> Life {
    if directory.as_os_str().is_empty() || is_manager(pid, directory) {
        return Life::Alive;
    }
    if !directory.exists() {
        return Life::Dead(since_gone(directory, record));
    }
    match of_group(directory) {
        Life::Dead(since) => Life::Dead(since),
        Life::Alive => {
            let group = Group::at("", directory);
            match pid_of(&group) {
                // The one that is there now began after this one's end.
                Some(now) if now != pid && is_manager(now, directory) => {
                    Life::Dead(since(&group.control_socket()).unwrap_or_default())
                }
                _ => Life::Alive,
            }
        }
    }
}

/// Whether a manager of a group lives that may be about to write a record, for which there is `place`.
pub(super) fn of_maker(directory: &Path, place: &Path) -> Life {
    match directory.exists() {
        true => of_group(directory),
        false => Life::Dead(since_gone(directory, place)),
    }
}

/// Whether `pid` is the manager of the group in `directory`: `start` tells it so on its command line.
fn is_manager(pid: u32, directory: &Path) -> bool {
    let wanted = format!("--directory={}", directory.display());
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|word| word == wanted.as_bytes())
}

fn pid_of(group: &Group) -> Option<u32> {
    fs::read_to_string(group.pid_file()).ok()?.trim().parse().ok()
}

/// Whether somebody starts, joins or leaves. A file that is not there is nobody's, and is not made by looking.
fn is_locked(group: &Group) -> bool {
    let exists = group.directory.join("lock").exists();
    exists && !matches!(Lock::try_take(group), Ok(Some(_)))
}

/// How long ago a file was changed.
fn since(path: &Path) -> Option<Duration> {
    let changed = fs::symlink_metadata(path).and_then(|found| found.modified());
    changed.ok().and_then(|changed| SystemTime::now().duration_since(changed).ok())
}

/// How long the directory of a group has been gone, at least, of which `trace` is left. When that was, nothing tells but the
/// directory it was in: as long as that has not changed, it has not.
fn since_gone(directory: &Path, trace: &Path) -> Duration {
    let above = directory.parent().and_then(since);
    let trace = since(trace).unwrap_or_default();
    above.map_or(trace, |above| above.min(trace))
}

/// Whether a socket's file is left and nobody listens on it.
pub(super) fn is_stale(socket: &Path) -> bool {
    let connected = std::os::unix::net::UnixStream::connect(socket);
    matches!(connected, Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}
