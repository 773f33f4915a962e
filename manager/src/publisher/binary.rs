//! Handing an event over by running containerd's own `publish` command.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use gam_task::process::{Child, Command};
use gam_task::reaper::Reaper;
use nix::libc::SIGKILL;
use rustix::fs::{MemfdFlags, memfd_create};

use super::encode::Parcel;
use super::link::Outcome;

/// How long a process that was killed may take to be gone before the reaper's sweep is left with it.
const DEAD: Duration = Duration::from_secs(1);

/// Publishes one event within `limit`. At its end the process is killed with its children (B7).
pub(super) async fn publish(
    reaper: &Reaper,
    binary: &Path,
    address: &str,
    parcel: &Parcel,
    limit: Duration,
) -> Outcome {
    match run(reaper, binary, address, parcel, limit).await {
        Ok(()) => Outcome::Acknowledged,
        Err(error) => Outcome::Broken(format!("{} publish: {error}", binary.display())),
    }
}

async fn run(
    reaper: &Reaper,
    binary: &Path,
    address: &str,
    parcel: &Parcel,
    limit: Duration,
) -> io::Result<()> {
    let command = Command::new(binary)
        .args(["--address", address, "publish", "--topic", parcel.topic])
        .args(["--namespace", parcel.namespace.as_ref()])
        .stdin(input(&parcel.any()?)?)
        .new_session(true);
    let mut running = Running(Some(reaper.spawn(command)?));
    let Some(child) = running.0.as_mut() else { return Ok(()) };
    let Ok(ended) = tokio::time::timeout(limit, child.wait()).await else {
        let killed = child.kill_group(SIGKILL);
        let dead = tokio::time::timeout(DEAD, child.wait()).await;
        tracing::debug!(?killed, dead = dead.is_ok(), "a publish command was killed");
        running.0 = None;
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("killed after {limit:?}")));
    };
    running.0 = None;
    let status = ended?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

/// A file without a name that holds what the program reads: unlike a pipe it needs nobody who writes.
fn input(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("gam-event", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// Kills the process if nobody waits for it any more.
struct Running(Option<Child>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            // It may just have ended; the sweep reaps it either way.
            let _ = child.kill_group(SIGKILL);
        }
    }
}
