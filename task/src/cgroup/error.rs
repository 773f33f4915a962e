//! Why a cgroup does not answer.

use std::io;
use std::path::PathBuf;

/// The reason.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// It has been removed.
    #[error("the cgroup is gone")]
    Gone,
    /// Its hierarchy is not mounted here.
    #[error("no cgroup of process {0} is mounted here")]
    NotMounted(i32),
    /// Its cgroup is not its own.
    #[error("process {0} has no cgroup of its own")]
    Shared(i32),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file is not understood.
    #[error("{path} is not understood")]
    Parse {
        /// The file.
        path: PathBuf,
    },
    /// A path of a cgroup that leads elsewhere.
    #[error("{0:?} is no path of a cgroup")]
    Path(String),
    /// A watch cannot be had.
    #[error("cannot watch {path}: {source}")]
    Watch {
        /// What was to be watched.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The message cannot be encoded.
    #[error("cannot encode the counts: {0}")]
    Encode(protobuf::Error),
}

impl CgroupError {
    /// Whether it has been removed.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone)
    }
}
