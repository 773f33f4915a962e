//! The standard streams of a container's process.
//!
//! The process gets pipes, or a terminal; the manager moves what they carry to and from the FIFOs, files and loggers that
//! containerd names. Between pipes and FIFOs that is splice(2): the bytes never enter user space. The ends that the
//! process has are blocking, ours are not, and no stream has a thread.
//!
//! - A [`Plan`] is what was asked for, understood before a thing is made.
//! - [`Prepared`] has everything open that the runtime needs.
//! - [`Streams`] are at work, until the process has ended and what it printed is delivered, or may no longer take.
//!
//! Of a FIFO that is written to, a read end is kept, so that no process sees SIGPIPE while containerd is away (C7).

mod closer;
mod error;
mod fifo;
mod file;
mod input;
mod logger;
mod output;
mod plan;
mod prepared;
mod sink;
mod stage;
mod streams;
mod terminal;

use std::time::Duration;

pub use closer::StdinCloser;
pub use error::{RunError, StdioError};
pub use plan::Plan;
pub use prepared::{ChildEnds, Context, Prepared};
pub use streams::Streams;

/// How long what an ended process printed may take to be delivered, and a background child may keep its streams (C1).
pub const DRAIN: Duration = Duration::from_secs(10);
/// How long opening the streams may take (C4).
const OPEN: Duration = Duration::from_secs(30);
/// How much is moved at a time, in bytes: what a pipe holds.
const CHUNK: usize = 64 << 10;
