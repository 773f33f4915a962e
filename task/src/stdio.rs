//! A container process's standard streams.
//!
//! A [`Plan`] says what they are to be. [`Prepared`] has everything open that they need, and with it the ends that the
//! process is given: blocking pipes, as a process expects, of which the other ends are ours and do not block. Or, with a
//! terminal, a socket to which the runtime sends its master. [`Streams`] is what serves them while the process runs.
//!
//! From a pipe to a FIFO the bytes are spliced and never enter this process; a file needs copying, as an append-only file
//! cannot be spliced to, and so does a terminal; a logger has the pipe itself. Nothing here blocks a thread of the
//! runtime, no stream has a thread of its own, and a stream that is idle has no buffer.
//!
//! What a sink does not take is dropped and counted; the process is never told (BEHAVIOUR C9). A client that comes late,
//! leaves, or comes again finds its FIFO as it was, because both of its ends are held here (C7). The end of file it
//! gets when the process has ended and its output is through.

mod error;
mod fifo;
mod file;
mod input;
mod logger;
mod meter;
mod output;
mod phase;
mod plan;
mod prepare;
mod pump;
mod report;
mod streams;
mod terminal;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use self::error::{RunError, StdioError};
pub use self::input::StdinCloser;
pub use self::plan::Plan;
pub use self::prepare::Prepared;
pub use self::streams::Streams;
use crate::id::Key;
use crate::reaper::Reaper;
use crate::telemetry::Telemetry;
use crate::tenant::Pace;

/// How long opening all streams of a process may take (BEHAVIOUR C4).
pub const OPEN_LIMIT: Duration = Duration::from_secs(30);
/// How long the output of a process that has ended is waited for; containerd's shim has the same limit (C1).
pub const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// How long a terminal is waited for after the runtime has succeeded.
pub const TERMINAL_LIMIT: Duration = Duration::from_secs(10);
/// How long the last output is waited for where no process came of it.
const FAILED_LIMIT: Duration = Duration::from_secs(1);

/// What a process's streams have to do with.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The container.
    pub key: &'a Key,
    /// The exec, if it is not the container's init.
    pub exec_id: Option<&'a str>,
    /// Below which a directory for the console socket is made, if there is a terminal.
    pub socket_dir: &'a Path,
    /// Who is to own the process's pipes.
    pub io_uid: u32,
    /// The group that is to own them.
    pub io_gid: u32,
    /// Starts loggers and sees them end.
    pub reaper: &'a Arc<Reaper>,
    /// How fast its output may be brought on.
    pub pace: &'a Arc<Pace>,
    /// Who counts.
    pub telemetry: &'a Arc<dyn Telemetry>,
    /// Ends the process's stdin.
    pub closer: &'a StdinCloser,
}

/// The process's own ends of its streams, blocking and close-on-exec. Without one it is to have `/dev/null`.
#[derive(Debug, Default)]
pub struct ChildEnds {
    /// What it reads from.
    pub stdin: Option<OwnedFd>,
    /// What it prints to.
    pub stdout: Option<OwnedFd>,
    /// What it complains to.
    pub stderr: Option<OwnedFd>,
}
