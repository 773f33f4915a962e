//! What goes wrong with cgroups.

use std::io;
use std::path::{Path, PathBuf};

/// Why a cgroup could not be found, read, watched or joined.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// It, or the process whose it was asked for, does not exist (any more): a caller's NOT_FOUND.
    #[error("{} is gone", path.display())]
    Gone {
        /// The cgroup, or the process's file in `/proc`.
        path: PathBuf,
    },
    /// The process is in cgroups that are not a container's: the hierarchy's root, or one that this process is in too.
    #[error("process {pid} has no cgroup of its own")]
    NotOwn {
        /// The process.
        pid: i32,
    },
    /// No mount shows the cgroup.
    #[error("no mounted cgroup hierarchy shows the cgroup {}", path.display())]
    NotMounted {
        /// The cgroup, as its hierarchy names it.
        path: PathBuf,
    },
    /// A path that cannot be a container's cgroup.
    #[error("{} is refused as a cgroup: {why}", path.display())]
    BadPath {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A file could not be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("writing {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file's content is not what the kernel is known to write.
    #[error("{} is not understood: {line:?}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The beginning of the line in question.
        line: String,
    },
    /// The metrics are too large to be encoded.
    #[error("encoding the metrics: {0}")]
    Encode(protobuf::Error),
}

impl CgroupError {
    /// The error of reading `path`, which is [`CgroupError::Gone`] if the kernel says that the cgroup is: `ENODEV` from
    /// the open file of a removed cgroup, `ENOENT` and `ESRCH` where it or the process is not found.
    pub(super) fn reading(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.raw_os_error() {
            Some(libc::ENODEV | libc::ENOENT | libc::ESRCH) => Self::Gone { path },
            _ => Self::Read { path, source },
        }
    }

    /// The same of writing.
    pub(super) fn writing(path: &Path, source: io::Error) -> Self {
        match Self::reading(path, source) {
            Self::Read { path, source } => Self::Write { path, source },
            other => other,
        }
    }
}
