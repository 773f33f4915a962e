//! Why a request about a container fails.

use std::io;

use crate::cgroup::CgroupError;
use crate::id::Key;
use crate::mount::MountError;
use crate::runtime::RuntimeError;
use crate::state::Refusal;
use crate::stdio::{RunError, StdioError};
use crate::tenant::OverLimit;

/// The reason; its text is what the caller is told.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// It is not possible in the container's present state.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its tenant has as much as it may.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// Nobody wants it any more, and it was not made.
    #[error("container {0} was not wanted any more before it was made")]
    Unwanted(Key),
    /// The runtime refused.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The standard streams cannot be had.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The root file system cannot be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The cgroup does not answer.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The process that the runtime made cannot be taken over.
    #[error("cannot take over process {pid} of container {key}: {source}")]
    Adopt {
        /// Whose process it is.
        key: Key,
        /// Its pid.
        pid: i32,
        /// What the kernel said.
        source: io::Error,
    },
    /// The record cannot be written.
    #[error(transparent)]
    Record(#[from] crate::record::RecordError),
    /// The container has no process, so no cgroup to ask.
    #[error("container {0} has no running process")]
    NoProcess(Key),
    /// A signal that is none.
    #[error("signal {0} is not between 0 and 64")]
    Signal(u32),
    /// A signal cannot be sent.
    #[error("cannot signal a process of container {key}: {source}")]
    Kill {
        /// Whose process it is.
        key: Key,
        /// What the kernel said.
        source: io::Error,
    },
    /// A terminal cannot be resized.
    #[error("cannot resize the terminal of container {key}: {source}")]
    Resize {
        /// Whose terminal it is.
        key: Key,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something that the request depends on did not end in time.
    #[error("{what} of container {key} has not ended within {seconds} s")]
    Slow {
        /// Whose it is.
        key: Key,
        /// What did not end.
        what: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A piece of work was lost, which only a panic does.
    #[error("{0} was abandoned")]
    Abandoned(&'static str),
}

impl From<RunError<RuntimeError>> for ContainerError {
    fn from(error: RunError<RuntimeError>) -> Self {
        match error {
            RunError::Work(error) => Self::Runtime(error),
            RunError::Stdio(error) => Self::Stdio(error),
        }
    }
}

impl ContainerError {
    pub(super) fn no_exec(id: &str) -> Self {
        Self::Refused(Refusal::NoExec(id.into()))
    }
}
