//! Why a process's standard streams cannot be had.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use crate::telemetry::Stream;

/// What is wrong with a process's standard streams. No message has the query of a URI, which may hold credentials.
#[derive(Debug, thiserror::Error)]
pub enum StdioError {
    /// a URI with a scheme that is not served for this stream
    #[error("{} cannot be a {scheme:?} URI", .stream.name())]
    Scheme {
        /// The stream.
        stream: Stream,
        /// The URI's scheme.
        scheme: String,
    },
    /// a URI that cannot be understood
    #[error("the URI of {} {why}", .stream.name())]
    Uri {
        /// The stream.
        stream: Stream,
        /// What is wrong with it.
        why: &'static str,
    },
    /// a path that must be a FIFO and is not
    #[error("{path:?} of {} is not a FIFO", .stream.name())]
    NotFifo {
        /// The stream.
        stream: Stream,
        /// The path.
        path: PathBuf,
    },
    /// a FIFO or file that cannot be opened or made
    #[error("cannot open {path:?} for {}: {source}", .stream.name())]
    Open {
        /// The stream.
        stream: Stream,
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// a pipe that cannot be made, given away or watched
    #[error("cannot make a pipe for {}: {source}", .stream.name())]
    Pipe {
        /// The stream.
        stream: Stream,
        /// Why not.
        source: io::Error,
    },
    /// a logger that cannot be started
    #[error("cannot start the logger {path:?}: {source}")]
    LoggerStart {
        /// The logger's program.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// a logger that ended instead of becoming ready
    #[error("the logger {path:?} ended before it was ready: {status}")]
    LoggerEnded {
        /// The logger's program.
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// a `binary-v2` logger that closed its descriptor 5 without having written to it
    #[error("the logger {path:?} closed its descriptor without saying that it is ready")]
    LoggerNotReady {
        /// The logger's program.
        path: PathBuf,
    },
    /// a console socket that cannot be made
    #[error("cannot make a console socket in {directory:?}: {source}")]
    ConsoleSocket {
        /// Where it was to be.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// a runtime that made a process and did not hand over its terminal
    #[error("the runtime sent no terminal to the console socket in {0:?}")]
    NoTerminal(Duration),
    /// a terminal that was handed over and cannot be used
    #[error("cannot use the terminal: {0}")]
    Terminal(#[source] io::Error),
    /// the streams were not there in time
    #[error("the standard streams could not be opened in {0:?}: a logger is not ready or a disk hangs")]
    TimedOut(Duration),
}

impl StdioError {
    /// Whether the request itself is wrong, so that nothing was made and asking again is no use.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Scheme { .. } | Self::Uri { .. })
    }
}

/// Why [`Prepared::run_while`](super::Prepared::run_while) has no streams to give.
#[derive(Debug, thiserror::Error)]
pub enum RunError<E> {
    /// the work failed, as it says
    #[error(transparent)]
    Work(E),
    /// the work succeeded, but the process has no terminal
    #[error("{0}")]
    Stdio(#[source] StdioError),
}
