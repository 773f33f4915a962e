//! A process's input: from a FIFO to its pipe or terminal.
//!
//! We hold a write end of the FIFO until CloseIO, so the input ends when a client has closed its end *and* CloseIO has
//! come: a client that goes away, with containerd for instance, may be followed by another.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;

use super::output::at_end;
use super::stage::{Follow, Stage};
use super::{CHUNK, StdinCloser, fifo};
use crate::sys::pipe;
use crate::sys::polled::Polled;
use crate::telemetry::{Stream, Telemetry};

/// How long a client may take to open an input that is to end at once.
const CLIENT: Duration = Duration::from_millis(250);

/// What an input needs.
pub(super) struct Input {
    from: Polled,
    keeper: OwnedFd,
    closer: StdinCloser,
    telemetry: Arc<dyn Telemetry>,
}

impl Input {
    pub(super) fn new(
        ends: fifo::Ends,
        closer: StdinCloser,
        telemetry: Arc<dyn Telemetry>,
    ) -> io::Result<Self> {
        Ok(Self { from: Polled::new(ends.read, Interest::READABLE)?, keeper: ends.write, closer, telemetry })
    }

    /// Feeds a pipe until the input ends, the process does, or nobody reads the pipe; then closes it.
    pub(super) async fn feed_pipe(self, to: Polled, mut follow: Follow) {
        let Self { from, keeper, closer, telemetry } = self;
        let work = async {
            while more(&from).await? {
                let moved =
                    to.run(Interest::WRITABLE, |to| pipe::splice(from.as_fd(), to.as_fd(), CHUNK)).await?;
                telemetry.copied(Stream::Stdin, u64::try_from(moved).unwrap_or_default());
            }
            io::Result::Ok(())
        };
        run(work, keeper, closer, &mut follow).await;
    }

    /// Feeds a terminal until the input ends or the process does. The terminal is left as it is.
    pub(super) async fn feed_terminal(self, to: Arc<Polled>, mut follow: Follow) {
        let Self { from, keeper, closer, telemetry } = self;
        let work = async {
            while more(&from).await? {
                let mut buffer = [0_u8; 2048];
                let length = match rustix::io::read(&from, &mut buffer) {
                    Ok(length) => length,
                    Err(rustix::io::Errno::AGAIN) => continue,
                    Err(error) => return Err(error.into()),
                };
                let mut rest = buffer.get(..length).unwrap_or_default();
                while !rest.is_empty() {
                    let written = to.run(Interest::WRITABLE, |to| Ok(rustix::io::write(to, rest)?)).await?;
                    rest = rest.get(written..).unwrap_or_default();
                }
                telemetry.copied(Stream::Stdin, u64::try_from(length).unwrap_or_default());
            }
            Ok(())
        };
        run(work, keeper, closer, &mut follow).await;
    }
}

/// Waits until there is something to read; false at the end.
async fn more(from: &Polled) -> io::Result<bool> {
    loop {
        let mut ready = from.readable().await?;
        if pipe::waiting(from)? > 0 {
            return Ok(true);
        }
        if at_end(from) {
            return Ok(false);
        }
        ready.clear_ready();
        if at_end(from) {
            return Ok(false);
        }
    }
}

/// Waits until the input is to end. Where that was said before it was open, its client has a moment to open it too.
async fn late_enough(closer: &StdinCloser) {
    let early = closer.is_closed();
    closer.closed().await;
    if early {
        tokio::time::sleep(CLIENT).await;
    }
}

/// Works until it is done or the process has ended; lets go of our write end when CloseIO comes (C6: what is on its way is
/// still delivered).
async fn run(
    work: impl Future<Output = io::Result<()>>,
    keeper: OwnedFd,
    closer: StdinCloser,
    follow: &mut Follow,
) {
    let mut work = std::pin::pin!(work);
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        () = follow.reached(Stage::Ended) => return,
        () = late_enough(&closer) => {
            drop(keeper);
            tokio::select! {
                outcome = &mut work => outcome,
                () = follow.reached(Stage::Ended) => return,
            }
        }
    };
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tracing::debug!(%error, "input ended early")
        }
        _ => {}
    }
}
