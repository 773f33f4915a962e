//! What is done to a cgroup together with its sub-cgroups.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::place::Host;
use crate::sys::{pidfd, proc};

/// File system types of cgroup mounts (`linux/magic.h`).
const MAGIC: [u64; 2] = [0x0027_e0eb, 0x6367_7270];

/// How often a cgroup is searched for processes that have not been killed yet.
const ROUNDS: usize = 100;
/// From which round on it is frozen first, because it forks faster than it is killed.
const FREEZE_FROM: usize = 8;
/// How many processes are held by descriptors at once.
const BATCH: usize = 64;

/// Pauses between attempts to remove: the first and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(250));
/// How many directories are removed before other tasks get their turn.
const STRETCH: usize = 64;

/// Refuses what is no container's cgroup: what is not on a cgroup file system, the top of a hierarchy, and a cgroup that
/// this process is in, itself or further down.
///
/// # Errors
/// `PermissionDenied` if it is refused, `NotFound` if it is gone.
pub(super) fn guard(directory: &Path) -> io::Result<()> {
    let refused = |why: &str| {
        let text = format!("{} is left alone: {why}", directory.display());
        Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
    };
    let directory = fs::canonicalize(directory)?;
    let kind = rustix::fs::statfs(&directory)?.f_type;
    if !u64::try_from(kind).is_ok_and(|kind| MAGIC.contains(&kind)) {
        return refused("it is on no cgroup file system");
    }
    let Some(parent) = directory.parent() else { return refused("it is the root directory") };
    if fs::metadata(&directory)?.st_dev() != fs::metadata(parent)?.st_dev() {
        return refused("it is the top of a hierarchy");
    }
    for own in Host::live().own_directories().map_err(io::Error::other)? {
        if fs::canonicalize(&own).is_ok_and(|own| own.starts_with(&directory)) {
            return refused("this process is in it");
        }
    }
    Ok(())
}

/// Writes to a file that is there.
pub(super) fn write(file: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes())
}

/// A cgroup and what is below it, each before what is below it. What disappears meanwhile is passed over.
pub(super) fn walk(directory: &Path, most: usize) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![directory.to_owned()];
    let mut next = 0;
    while let Some(current) = found.get(next).cloned() {
        next += 1;
        let entries = match fs::read_dir(&current) {
            Ok(entries) => entries,
            Err(error) if gone(&error) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if gone(&error) => break,
                Err(error) => return Err(error),
            };
            if found.len() < most && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// The processes in a cgroup and below it, in order, each once.
pub(super) fn processes(directory: &Path) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for directory in walk(directory, usize::MAX)? {
        match fs::read_to_string(directory.join("cgroup.procs")) {
            Ok(list) => found.extend(list.lines().filter_map(|line| line.trim().parse::<i32>().ok())),
            Err(error) if gone(&error) => {}
            // A threaded cgroup does not tell; its processes are listed by the domain that it is in.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Kills what is in a cgroup and below it. `freeze` is called if that turns out to be a race.
pub(super) fn kill(directory: &Path, v2: bool, freeze: impl Fn() -> io::Result<()>) -> io::Result<()> {
    guard(directory)?;
    // Since 5.14; not in a threaded cgroup.
    if v2 && write(&directory.join("cgroup.kill"), "1").is_ok() {
        return Ok(());
    }
    let mut killed = HashSet::new();
    for round in 0..ROUNDS {
        if round == FREEZE_FROM {
            // Without a freezer it has to do without.
            let _ = freeze();
        }
        if !kill_listed(directory, &mut killed)? {
            return Ok(());
        }
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("killing {}: new processes keep appearing", directory.display()),
    ))
}

/// Kills the processes listed now that are not in `killed` (pids and start times); answers whether there were any.
fn kill_listed(directory: &Path, killed: &mut HashSet<(i32, u64)>) -> io::Result<bool> {
    let listed = processes(directory)?;
    if listed.contains(&0) {
        let text = format!("{} holds processes of another pid namespace", directory.display());
        return Err(io::Error::other(text));
    }
    let mut fresh = Vec::new();
    for pid in listed {
        match proc::start_time(pid) {
            Ok(start) if !killed.contains(&(pid, start)) => fresh.push((pid, start)),
            // Killed, or gone.
            _ => {}
        }
    }
    for batch in fresh.chunks(BATCH) {
        let mut open = Vec::with_capacity(BATCH);
        for (pid, start) in batch {
            match pidfd::open(*pid) {
                Ok(fd) => open.push((*pid, *start, fd)),
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => return Err(error),
            }
        }
        // A pid may have passed on to another process before the descriptor was opened; then it is not listed again.
        let listed = processes(directory)?;
        for (pid, start, fd) in open {
            if listed.binary_search(&pid).is_ok() {
                match pidfd::signal(&fd, libc::SIGKILL) {
                    Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                    _ => killed.insert((pid, start)),
                };
            }
        }
    }
    Ok(!fresh.is_empty())
}

/// See [`Cgroup::remove`](super::Cgroup::remove).
pub(super) async fn remove(directories: &[&Path], limit: Duration) -> bool {
    let end = Instant::now().checked_add(limit);
    let mut pause = PAUSE.0;
    let mut left = directories.to_vec();
    let mut refused = false;
    loop {
        let mut again = Vec::new();
        for directory in left {
            match guard(directory) {
                Ok(()) if remove_once(directory).await => {}
                Ok(()) => again.push(directory),
                Err(error) if gone(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a cgroup is not removed");
                    refused = true;
                }
            }
        }
        if again.is_empty() {
            return !refused;
        }
        let rest = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if rest.is_zero() {
            return false;
        }
        sleep(pause.min(rest)).await;
        pause = pause.saturating_mul(2).min(PAUSE.1);
        left = again;
    }
}

/// Whether nothing is left.
async fn remove_once(directory: &Path) -> bool {
    let below = match walk(directory, usize::MAX) {
        Ok(below) => below,
        Err(error) => {
            tracing::debug!(directory = %directory.display(), %error, "a cgroup cannot be listed");
            return false;
        }
    };
    for (count, directory) in below.iter().rev().enumerate() {
        if let Err(error) = fs::remove_dir(directory)
            && !gone(&error)
        {
            tracing::trace!(directory = %directory.display(), %error, "a cgroup cannot be removed yet");
        }
        if count % STRETCH == STRETCH - 1 {
            tokio::task::yield_now().await;
        }
    }
    !directory.exists()
}

fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}
