//! Why a runtime command fails, and what its words mean.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The reason. What it says is the runtime's own text, never the spec or the environment.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The runtime cannot be executed.
    #[error("cannot run {binary} {command}: {source}")]
    Spawn {
        /// The runtime.
        binary: PathBuf,
        /// Its command.
        command: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The runtime refused.
    #[error("{binary} {command} of container {id}: {text}")]
    Failed {
        /// The runtime.
        binary: PathBuf,
        /// Its command.
        command: &'static str,
        /// The container.
        id: String,
        /// What it said.
        text: String,
    },
    /// The runtime did not end in time and was killed.
    #[error("{binary} {command} of container {id} has not ended within {} s and was killed", after.as_secs())]
    TimedOut {
        /// The runtime.
        binary: PathBuf,
        /// Its command.
        command: &'static str,
        /// The container.
        id: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The runtime says it succeeded, and wrote no pid.
    #[error("{path} holds no pid")]
    PidFile {
        /// The file.
        path: PathBuf,
    },
    /// A file that is passed to or from the runtime.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What runc and crun say of a container that is not there.
const GONE: [&str; 4] =
    ["does not exist", "no such container", "/status`: no such file or directory", "container not found"];
/// What they say of a process that has ended.
const FINISHED: [&str; 5] = [
    "process already finished",
    "container not running",
    "container is not running",
    "no such process",
    "cannot signal a stopped container",
];

impl RuntimeError {
    /// Whether the container does not exist.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.says(&GONE)
    }

    /// Whether the process has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.says(&FINISHED)
    }

    /// Whether there is no such runtime, so that it has made nothing.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        let Self::Spawn { source, .. } = self else { return false };
        matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
    }

    /// Whether the runtime was killed because it took too long.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }

    fn says(&self, words: &[&str]) -> bool {
        let Self::Failed { text, .. } = self else { return false };
        let text = text.to_ascii_lowercase();
        words.iter().any(|words| text.contains(words))
    }
}
