//! A container's cgroup: where it is, what it accounts, how it is stopped, and when it runs out of memory.
//!
//! On v1 a container has a directory per controller, on v2 one directory; a machine that has controllers on v1 beside
//! an empty v2 mount ("hybrid") counts as v1. The files are read directly, so that an error stays an error instead of
//! becoming a zero.
//!
//! A directory that also holds this process, or that is the root of a hierarchy, is not a container's own: it is never
//! accepted as one, and nothing here freezes, kills or removes it.

mod error;
mod files;
mod join;
mod oom;
mod place;
mod tree;
mod usage;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use gam_protos::any::pack;
use protobuf::well_known_types::any::Any;
use serde::{Deserialize, Serialize};

pub use self::error::CgroupError;
pub use self::join::join;
pub use self::oom::{OomMonitor, OomWatch};
use self::place::Host;
pub use self::usage::Usage;

/// Where one container's cgroup is.
///
/// It is written down as a map from controllers to directories, in which v2's only directory has the empty name, as
/// runc does in its own state files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, PathBuf>", into = "BTreeMap<String, PathBuf>")]
pub struct Cgroup(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// A directory per controller; controllers that are mounted together have the same one.
    V1(BTreeMap<String, PathBuf>),
    V2(PathBuf),
}

/// On v1 the first of these that a container has is asked for its processes: those that every runtime sets up first.
const PREFERRED: [&str; 5] = ["freezer", "pids", "devices", "memory", "cpu"];

impl Cgroup {
    /// The cgroup that `pid` is in now, without those controllers whose cgroup it shares with this process or that it
    /// left at their hierarchy's root. It is to be asked while the process has not run its program yet (after the
    /// runtime's create): a systemd in the container moves itself to a sub-cgroup later, and the whole is wanted.
    ///
    /// # Errors
    /// [`CgroupError::Gone`] if the process or its cgroup is; [`CgroupError::NotOwn`] if it has no cgroup of its own;
    /// [`CgroupError::NotMounted`], [`CgroupError::Read`], [`CgroupError::Parse`].
    pub fn of_process(pid: i32) -> Result<Self, CgroupError> {
        Host::live().of_process(pid)
    }

    /// The cgroup with these directories: per controller on v1, under the empty name on v2.
    ///
    /// # Errors
    /// [`CgroupError::BadPath`] if there is none, or one is not absolute or holds `.` or `..`.
    pub fn from_paths(mut paths: BTreeMap<String, PathBuf>) -> Result<Self, CgroupError> {
        let plain = |path: &Path| {
            path.is_absolute()
                && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        };
        if let Some(path) = paths.values().find(|path| !plain(path)) {
            return Err(CgroupError::BadPath { path: path.clone(), why: "it is not absolute and plain" });
        }
        match (paths.remove(""), paths.is_empty()) {
            (Some(path), true) => Ok(Self(Place::V2(path))),
            (_, false) => Ok(Self(Place::V1(paths))),
            (None, true) => Err(CgroupError::BadPath { path: PathBuf::new(), why: "no directory is named" }),
        }
    }

    /// What [`from_paths`](Self::from_paths) makes the same cgroup of.
    #[must_use]
    pub fn to_paths(&self) -> BTreeMap<String, PathBuf> {
        match &self.0 {
            Place::V1(paths) => paths.clone(),
            Place::V2(path) => BTreeMap::from([(String::new(), path.clone())]),
        }
    }

    /// Whether it is on the unified hierarchy.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        matches!(self.0, Place::V2(_))
    }

    /// What the kernel has accounted to it: `io.containerd.cgroups.v1.Metrics` or `io.containerd.cgroups.v2.Metrics`.
    /// What the kernel has no file for is absent. This reads some dozens of small files.
    ///
    /// # Errors
    /// [`CgroupError::Gone`] if it has been removed or is being removed; [`CgroupError::Read`] and
    /// [`CgroupError::Parse`] if a file that is there cannot be read or understood.
    pub fn stats(&self) -> Result<Any, CgroupError> {
        let any = match &self.0 {
            Place::V1(paths) => pack(&v1::stats(paths)?),
            Place::V2(path) => pack(&v2::stats(path)?),
        };
        // A file may have been missing because the directory was on its way out.
        let there = self.directories().iter().filter(|directory| directory.exists()).count();
        let whole = there == self.directories().len();
        // systemd takes single controllers away from live cgroups on v1; what is left of those is still worth telling.
        if !whole && (there == 0 || self.processes().is_ok_and(|pids| pids.is_empty())) {
            return Err(CgroupError::Gone { path: self.main().unwrap_or_else(|| self.first()).to_owned() });
        }
        any.map_err(CgroupError::Encode)
    }

    /// Whether any of its directories is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.directories().iter().any(|directory| directory.exists())
    }

    /// The processes in it and in its sub-cgroups, in order of their pids; none if it is gone. A process outside our
    /// pid namespace is listed as 0.
    ///
    /// # Errors
    /// What opening or reading a `cgroup.procs` answers.
    pub fn processes(&self) -> io::Result<Vec<i32>> {
        self.main().map_or_else(|| Ok(Vec::new()), tree::processes)
    }

    /// Asks the kernel to freeze it, which takes effect some time later.
    ///
    /// # Errors
    /// `NotFound` if it is gone, `Unsupported` if it has no freezer, `PermissionDenied` if it is not a container's own.
    pub fn freeze(&self) -> io::Result<()> {
        self.set_frozen(true)
    }

    /// Asks the kernel to let it run again.
    ///
    /// # Errors
    /// Those of [`freeze`](Self::freeze).
    pub fn thaw(&self) -> io::Result<()> {
        self.set_frozen(false)
    }

    /// Sends SIGKILL to every process in it and in its sub-cgroups, including those that are forked meanwhile, and then
    /// thaws it: on v1 a frozen process dies only then (BEHAVIOUR G2). When this returns they have been told, not
    /// necessarily ended. It is no error if the cgroup is gone.
    ///
    /// # Errors
    /// `PermissionDenied` if it is not a container's own; `TimedOut` if new processes keep appearing; `Other` if it holds
    /// processes outside our pid namespace that only v2 can kill; else what reading the cgroup or signalling answers.
    pub fn kill_all(&self) -> io::Result<()> {
        let Some(directory) = self.main() else { return Ok(()) };
        let killed = match tree::kill(directory, self.is_v2(), || self.freeze()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        match (&self.0, killed) {
            (_, Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
            (_, killed) => match self.thaw() {
                Ok(()) => killed,
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::Unsupported) =>
                {
                    killed
                }
                Err(error) => killed.and(Err(error)),
            },
        }
    }

    /// Removes its directories, the deepest first, trying again with growing pauses for at most `limit` while processes
    /// that are dying hold them (BEHAVIOUR D13). Answers whether nothing is left. Processes are not killed.
    pub async fn remove(&self, limit: Duration) -> bool {
        tree::remove(&self.directories(), limit).await
    }

    fn set_frozen(&self, frozen: bool) -> io::Result<()> {
        let (directory, file, text) = match &self.0 {
            Place::V1(paths) => {
                let directory = paths.get("freezer").ok_or(io::ErrorKind::Unsupported)?;
                (directory, "freezer.state", if frozen { "FROZEN" } else { "THAWED" })
            }
            Place::V2(path) => (path, "cgroup.freeze", if frozen { "1" } else { "0" }),
        };
        tree::guard(directory)?;
        tree::write(&directory.join(file), text)
    }

    /// Its directories, each once.
    fn directories(&self) -> Vec<&Path> {
        let mut directories: Vec<&Path> = match &self.0 {
            Place::V1(paths) => paths.values().map(PathBuf::as_path).collect(),
            Place::V2(path) => vec![path],
        };
        directories.sort_unstable();
        directories.dedup();
        directories
    }

    /// The directory to ask for processes, of those that are there.
    fn main(&self) -> Option<&Path> {
        let preferred = match &self.0 {
            Place::V1(paths) => PREFERRED.iter().filter_map(|name| paths.get(*name)).collect(),
            Place::V2(_) => Vec::new(),
        };
        preferred.into_iter().map(PathBuf::as_path).chain(self.directories()).find(|path| path.exists())
    }

    fn first(&self) -> &Path {
        self.directories().first().copied().unwrap_or(Path::new(""))
    }
}

impl TryFrom<BTreeMap<String, PathBuf>> for Cgroup {
    type Error = CgroupError;

    fn try_from(paths: BTreeMap<String, PathBuf>) -> Result<Self, CgroupError> {
        Self::from_paths(paths)
    }
}

impl From<Cgroup> for BTreeMap<String, PathBuf> {
    fn from(cgroup: Cgroup) -> Self {
        cgroup.to_paths()
    }
}
