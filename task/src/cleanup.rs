//! Cleaning up a container whose manager is dead, by its record.
//!
//! It ends the container as `runc delete --force` does, thaws and removes its cgroup, and unmounts its root file system.
//! Whatever is gone already is no error; one step that fails keeps none of the others from being taken.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;

use crate::exit::Exit;
use crate::id::Key;
use crate::mount::{self, MountError};
use crate::options::Options;
use crate::reaper::Reaper;
use crate::record::{ProcessName, Record};
use crate::runtime::{Limits, Runtime, RuntimeError, Settings};
use crate::sys::polled::Polled;
use crate::sys::{pidfd, proc};
use crate::telemetry::Silent;

/// How long the cgroup may take to go: containerd gives the whole command 5 s.
const CGROUP: Duration = Duration::from_secs(1);

/// How long the runtime may take: its container has been killed before, and whoever cleans up has others to see to.
const DELETE: Duration = Duration::from_secs(10);

/// How long the runtime may go on to make a container whose manager is dead.
const CREATION: Duration = Duration::from_secs(3);

/// Why a container is not cleaned up.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    /// No thread to work on, or no way to see children end.
    #[error("cannot begin to clean up container {key}: {source}")]
    Begin {
        /// Which container.
        key: Key,
        /// What the kernel said.
        source: io::Error,
    },
    /// The runtime refused.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The root file system stays mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// Cleans up a container, and answers init's pid and how it ended: as recorded, else killed, which it has been then.
///
/// # Errors
/// [`CleanupError`] is the first thing that failed; the rest has been done all the same.
pub fn container(key: &Key, bundle: &Path, record: Option<&Record>) -> Result<(u32, Exit), CleanupError> {
    let begin = |source| CleanupError::Begin { key: key.clone(), source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(begin)?;
    runtime.block_on(async {
        let reaper = Reaper::new(Arc::new(Silent)).map_err(begin)?;
        work(key, bundle, record, reaper).await
    })
}

/// Kills what is left of a container at once, which is the part of cleaning up that cannot wait.
pub fn kill_now(record: &Record) {
    if let Some(init) = record.init {
        kill(init);
    }
    if let Some(cgroup) = &record.cgroup {
        let _ = cgroup.kill_all();
        let _ = cgroup.thaw();
    }
}

async fn work(
    key: &Key,
    bundle: &Path,
    record: Option<&Record>,
    reaper: Arc<Reaper>,
) -> Result<(u32, Exit), CleanupError> {
    let options = record.map_or_else(Options::default, |record| record.options.clone());
    let init = record.and_then(|record| record.init);
    if init.is_none() {
        creation_ended(bundle).await;
    }
    let pid = init.map(|init| init.pid).or_else(|| pid_file(bundle)).unwrap_or_default();
    let cgroup = record.and_then(|record| record.cgroup.clone());
    if let Some(init) = init {
        kill(init);
    }
    if let Some(cgroup) = &cgroup {
        let _ = cgroup.thaw();
    }
    let settings = Settings::new(&options, &key.namespace);
    let runtime = Runtime::new(reaper, Arc::new(Silent), settings, &key.id, bundle)
        .limited(Limits { slow: DELETE, ..Limits::default() });
    let deleted = runtime.delete(true).await;
    let exit = record.and_then(|record| record.exit).unwrap_or_else(|| Exit::now(Exit::KILLED));
    if record.is_some_and(|record| is_anothers(bundle, record)) {
        return Ok((pid.unsigned_abs(), exit));
    }
    if let Some(cgroup) = cgroup {
        let _ = cgroup.kill_all();
        cgroup.remove(CGROUP).await;
    }
    let unmounted = mount::unmount_all(&bundle.join("rootfs"));
    if let Some(record) = record {
        note(record, bundle);
    }
    deleted?;
    unmounted?;
    Ok((pid.unsigned_abs(), exit))
}

/// Whether a bundle is a later container's of the same id by now, which a slow runtime lets happen. Its cgroup and its mounts
/// have the same names.
fn is_anothers(bundle: &Path, record: &Record) -> bool {
    let same =
        |now: &Record| now.manager == record.manager && now.init.is_none_or(|_| now.init == record.init);
    matches!(Record::read(bundle), Ok(Some(now)) if !same(&now))
}

/// Waits until the runtime has ended that makes the container of a bundle: it outlives the manager that called it, and would
/// go on to make what has been cleaned up. It is not ended at once, for what it leaves then is more than its `delete` sees.
async fn creation_ended(bundle: &Path) {
    let named = pid_file_of(bundle);
    let found = proc::with_argument(named.as_os_str()).unwrap_or_default();
    let open = |pid| pidfd::open(pid).ok().filter(|_| proc::has_argument(pid, named.as_os_str()));
    let makers: Vec<OwnedFd> = found.into_iter().filter_map(open).collect();
    let ended = async {
        for maker in &makers {
            let polled = maker.try_clone().and_then(|maker| Polled::new(maker, Interest::READABLE));
            if let Ok(polled) = polled {
                let _ = polled.readable().await;
            }
        }
    };
    if tokio::time::timeout(CREATION, ended).await.is_err() {
        for maker in &makers {
            let _ = pidfd::signal(maker, 9);
        }
    }
}

/// Kills a process if it is still the one that was recorded.
fn kill(process: ProcessName) {
    let Ok(opened) = pidfd::open(process.pid) else { return };
    // The pidfd is open, so what is read now is of the process that it names, or of none.
    if proc::start_time(process.pid).is_ok_and(|start| start == process.start_time) {
        let _ = pidfd::signal(&opened, 9);
    }
}

/// The pid that the runtime wrote; a record is written later.
fn pid_file(bundle: &Path) -> Option<i32> {
    std::fs::read_to_string(pid_file_of(bundle)).ok()?.trim().parse().ok()
}

/// The file that the runtime is told to write init's pid to.
fn pid_file_of(bundle: &Path) -> PathBuf {
    bundle.join("init.pid")
}

/// Records that it is gone, so that nobody cleans up again.
fn note(record: &Record, bundle: &Path) {
    let mut record = record.clone();
    record.deleted = true;
    record.exit.get_or_insert_with(|| Exit::now(Exit::KILLED));
    let _ = record.write(bundle);
}
