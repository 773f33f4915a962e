//! One output of a process: from its pipe to a sink, until the process and all who have the pipe are gone.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::Interest;

use super::CHUNK;
use super::sink::Sink;
use super::stage::{Follow, Stage};
use crate::sys::pipe;
use crate::sys::polled::Polled;
use crate::telemetry::{Stream, Telemetry};

/// After how many chunks the others get their turn (K6).
const TURN: u32 = 16;

/// What an output needs.
pub(super) struct Output {
    from: Polled,
    sink: Sink,
    pub(super) stream: Stream,
    pub(super) telemetry: Arc<dyn Telemetry>,
}

impl Output {
    /// Takes the read end of the process's pipe.
    pub(super) fn new(
        from: OwnedFd,
        sink: Sink,
        stream: Stream,
        telemetry: Arc<dyn Telemetry>,
    ) -> io::Result<Self> {
        pipe::set_nonblocking(&from, true)?;
        Ok(Self { from: Polled::new(from, Interest::READABLE)?, sink, stream, telemetry })
    }

    /// Delivers until the end of the pipe, or until that has taken long enough; then the client sees the end.
    pub(super) async fn run(mut self, mut follow: Follow, done: impl FnOnce()) {
        let mut expired = follow.clone();
        tokio::select! {
            () = self.deliver() => {}
            () = expired.reached(Stage::Expired) => self.give_up(),
        }
        let Self { from, sink, .. } = self;
        drop(from);
        done();
        sink.finish(&mut follow).await;
    }

    async fn deliver(&mut self) {
        let mut turn = 0_u32;
        loop {
            match self.step().await {
                Ok(0) => return,
                Ok(bytes) => {
                    let bytes = u64::try_from(bytes).unwrap_or_default();
                    if self.sink.is_nowhere() {
                        self.telemetry.dropped(self.stream, bytes);
                    } else {
                        self.telemetry.copied(self.stream, bytes);
                    }
                }
                Err(error) if self.sink.is_nowhere() => {
                    tracing::warn!(stream = self.stream.name(), %error, "output is not drained any more");
                    return;
                }
                Err(error) => {
                    tracing::warn!(stream = self.stream.name(), %error, "output is dropped from now on");
                    match Sink::nowhere() {
                        Ok(nowhere) => self.sink = nowhere,
                        Err(_) => return,
                    }
                }
            }
            turn = turn.wrapping_add(1);
            if turn.is_multiple_of(TURN) {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Moves one chunk; 0 is the end.
    async fn step(&mut self) -> io::Result<usize> {
        loop {
            let mut ready = self.from.readable().await?;
            if pipe::waiting(&self.from)? > 0 {
                break;
            }
            // Nothing waits: it is the end, or what was ready has been taken.
            if at_end(&self.from) {
                return Ok(0);
            }
            ready.clear_ready();
            // The end may have come between the two: then nothing would wake us.
            if at_end(&self.from) {
                return Ok(0);
            }
        }
        self.sink.splice(&self.from, CHUNK).await
    }

    /// Counts what is left in the pipe as lost.
    fn give_up(&self) {
        let left = pipe::waiting(&self.from).unwrap_or_default();
        if left > 0 {
            self.telemetry.dropped(self.stream, left);
        }
    }
}

/// Whether nobody has the write end of a pipe in which nothing waits.
pub(super) fn at_end(from: &Polled) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled = [PollFd::new(from, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut polled, Some(&now)) {
        Ok(_) => polled
            .iter()
            .any(|fd| fd.revents().contains(PollFlags::HUP) && !fd.revents().contains(PollFlags::IN)),
        Err(_) => false,
    }
}
