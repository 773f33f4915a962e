//! Control groups: where a container's are, what they count, and ending what is in them.
//!
//! Files are read directly. A machine has version 1, with a hierarchy for each set of controllers, or version 2, with
//! one for all; where both are mounted ("hybrid"), the controllers are version 1's.

mod error;
mod files;
mod join;
mod locate;
mod oom;
mod v1;
mod v2;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gam_protos::any;
use protobuf::well_known_types::any::Any;
use serde::{Deserialize, Serialize};

pub use error::CgroupError;
pub use join::join;
pub use oom::{OomMonitor, OomWatch};

use crate::sys::pidfd;

const SIGKILL: i32 = 9;
/// How often processes that appear while others are killed are killed too.
const ROUNDS: usize = 50;
/// How long a round takes, and how often removal is tried.
const ROUND: Duration = Duration::from_millis(20);

/// The cgroup of a container, in every hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cgroup {
    /// Version 1: a directory for each controller.
    V1(Vec<Controller>),
    /// Version 2: one directory.
    V2(PathBuf),
}

/// A controller of version 1 and the container's directory in its hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// Its name: `memory`, `cpu`, ...; `name=systemd` for a hierarchy without one.
    pub name: String,
    /// The directory.
    pub directory: PathBuf,
}

impl Cgroup {
    /// The cgroup that a process is in.
    ///
    /// # Errors
    /// [`CgroupError`] if the process is gone or its cgroups are not mounted here.
    pub fn of_process(pid: i32) -> Result<Self, CgroupError> {
        locate::of_process(pid)
    }

    /// The cgroup that a container's process is in, where it is the container's: one that this process is in too, or one
    /// above, is not, for ending what is in it would end others.
    ///
    /// # Errors
    /// [`CgroupError::Shared`] if none is the container's own, and those of [`of_process`](Self::of_process).
    pub fn of_container(pid: i32) -> Result<Self, CgroupError> {
        let own = Self::of_process(i32::try_from(std::process::id()).unwrap_or_default())?;
        let own = own.directories();
        let is_shared = |directory: &Path| own.iter().any(|own| own.starts_with(directory));
        match Self::of_process(pid)? {
            Self::V2(directory) if is_shared(&directory) => Err(CgroupError::Shared(pid)),
            Self::V2(directory) => Ok(Self::V2(directory)),
            Self::V1(mut controllers) => {
                controllers.retain(|controller| !is_shared(&controller.directory));
                if controllers.is_empty() { Err(CgroupError::Shared(pid)) } else { Ok(Self::V1(controllers)) }
            }
        }
    }

    /// The directory in which a controller of version 1 counts, or the only one.
    fn directory(&self, controller: &str) -> Option<&Path> {
        match self {
            Self::V1(controllers) => {
                let found = controllers.iter().find(|known| known.name == controller)?;
                Some(&found.directory)
            }
            Self::V2(directory) => Some(directory),
        }
    }

    /// Its directories, each once.
    fn directories(&self) -> Vec<&Path> {
        match self {
            Self::V1(controllers) => {
                let mut found: Vec<&Path> =
                    controllers.iter().map(|known| known.directory.as_path()).collect();
                found.sort_unstable();
                found.dedup();
                found
            }
            Self::V2(directory) => vec![directory],
        }
    }

    /// What the kernel counts, as `io.containerd.cgroups.v1.Metrics` or `v2.Metrics` (E10).
    ///
    /// # Errors
    /// [`CgroupError::Gone`] where the cgroup has been removed (E8, E9); a file that cannot be read or understood.
    pub fn stats(&self) -> Result<Any, CgroupError> {
        let stats = match self {
            Self::V1(_) => v1::stats(self).and_then(|stats| any::pack(&stats).map_err(CgroupError::Encode)),
            Self::V2(directory) => {
                v2::stats(directory).and_then(|stats| any::pack(&stats).map_err(CgroupError::Encode))
            }
        };
        // What is missing may be missing because all of it went while it was read.
        if self.exists() { stats } else { Err(CgroupError::Gone) }
    }

    /// Whether any of its directories is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.directories().iter().any(|directory| directory.is_dir())
    }

    /// The processes in it and in the cgroups below it.
    ///
    /// # Errors
    /// What reading answers; not that it is gone.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        let directory =
            self.directory("memory").or_else(|| self.directory("pids")).or_else(|| self.directory("freezer"));
        let Some(directory) = directory.or_else(|| self.directories().first().copied()) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for directory in below(directory) {
            match fs::read_to_string(directory.join("cgroup.procs")) {
                Ok(text) => found
                    .extend(text.lines().filter_map(|pid| pid.parse::<i32>().ok()).filter(|pid| *pid > 0)),
                Err(error) if is_gone(&error) => {}
                // A threaded cgroup of version 2 has no processes of its own.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Lets its processes go on.
    ///
    /// # Errors
    /// What writing answers.
    pub fn thaw(&self) -> io::Result<()> {
        self.freezer("THAWED", "0")
    }

    /// Stops its processes.
    ///
    /// # Errors
    /// What writing answers.
    pub fn freeze(&self) -> io::Result<()> {
        self.freezer("FROZEN", "1")
    }

    fn freezer(&self, v1: &str, v2: &str) -> io::Result<()> {
        match self {
            Self::V1(_) => match self.directory("freezer") {
                Some(directory) => fs::write(directory.join("freezer.state"), v1),
                None => Ok(()),
            },
            Self::V2(directory) => fs::write(directory.join("cgroup.freeze"), v2),
        }
    }

    /// Kills every process in it, also those that are frozen (G2) and those that are made meanwhile. It may take a second.
    ///
    /// # Errors
    /// What reading and writing answer; `TimedOut` if processes do not end.
    pub fn kill_all(&self) -> io::Result<()> {
        if self.is_ours() {
            return Err(io::Error::other("this process is in that cgroup"));
        }
        if let Self::V2(directory) = self
            && fs::write(directory.join("cgroup.kill"), "1").is_ok()
        {
            let _ = self.thaw();
        }
        for _ in 0..ROUNDS {
            let left = self.processes()?;
            if left.is_empty() {
                return Ok(());
            }
            for pid in left {
                if let Ok(process) = pidfd::open(pid) {
                    let _ = pidfd::signal(&process, SIGKILL);
                }
            }
            let _ = self.thaw();
            std::thread::sleep(ROUND);
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Removes it and the cgroups below it; whether it is gone within `limit` (D13). What has processes stays.
    pub async fn remove(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            if !self.exists() {
                return true;
            }
            if self.is_root() || self.is_ours() {
                return false;
            }
            for directory in self.directories() {
                for directory in below(directory).iter().rev() {
                    let _ = fs::remove_dir(directory);
                }
            }
            if !self.exists() {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(ROUND).await;
        }
    }

    /// Whether it is the root of a hierarchy, which is nobody's, or no cgroup at all.
    fn is_root(&self) -> bool {
        // Only below the root has version 2 the one file, and only the root has version 1 the other.
        self.directories().into_iter().filter(|directory| directory.is_dir()).any(|directory| match self {
            Self::V1(_) => {
                directory.join("release_agent").exists() || !directory.join("cgroup.procs").exists()
            }
            Self::V2(_) => !directory.join("cgroup.events").exists(),
        })
    }

    /// Whether this process is in it, or below.
    fn is_ours(&self) -> bool {
        let Ok(own) = locate::of_process(i32::try_from(std::process::id()).unwrap_or_default()) else {
            return false;
        };
        let own = own.directories().into_iter().map(Path::to_path_buf).collect::<Vec<_>>();
        self.directories().iter().any(|directory| own.iter().any(|own| own.starts_with(directory)))
    }
}

/// A directory and those below it, parents first.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_path_buf()];
    let mut next = 0;
    while let Some(directory) = found.get(next).cloned() {
        next += 1;
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        found.extend(entries.flatten().filter(is_directory).map(|entry| entry.path()));
    }
    found
}

/// Whether an error means that a cgroup, or its file, is not there any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}
