//! Why a process cannot have its streams. No message holds the query of a URI, which may hold credentials.

use std::io;
use std::path::PathBuf;

/// The reason.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// A URI of a scheme that is not served.
    #[error("{stream} has scheme {scheme:?}, which is none of fifo, file, binary and binary-v2")]
    Scheme {
        /// Which stream.
        stream: &'static str,
        /// The scheme.
        scheme: String,
    },
    /// A URI that makes no sense.
    #[error("{stream}: {why}")]
    Uri {
        /// Which stream.
        stream: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something cannot be opened or made.
    #[error("cannot {what} {path}: {source}")]
    Open {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A pipe cannot be had.
    #[error("cannot make a pipe for {stream}: {source}")]
    Pipe {
        /// Which stream.
        stream: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A logger that is not ready.
    #[error("logger {path} {why}")]
    Logger {
        /// Its program.
        path: PathBuf,
        /// What it did.
        why: &'static str,
    },
    /// The terminal has not come.
    #[error("the runtime sent no terminal: {0}")]
    Console(io::Error),
    /// It took too long.
    #[error("opening the standard streams took longer than {0} s")]
    Slow(u64),
}

impl StdioError {
    /// Whether what was asked for is wrong, rather than what was found.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Scheme { .. } | Self::Uri { .. })
    }

    pub(super) fn open(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Open { what, path, source }
    }
}

/// Why a process has not come to have its streams.
#[derive(Debug, thiserror::Error)]
pub enum RunError<E> {
    /// What was to make the process failed.
    #[error(transparent)]
    Work(E),
    /// It did not, and the streams failed.
    #[error(transparent)]
    Stdio(StdioError),
}
