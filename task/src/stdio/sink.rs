//! Where output goes, and what happens when it cannot go there: it is drained all the same, and counted (C9).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;

use super::file::Append;
use super::stage::{Follow, Stage};
use crate::sys::pipe;
use crate::sys::polled::Polled;

/// How long it takes at first, and at most, to look again whether a client has opened a FIFO.
const LOOK: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(1)];

/// Where output goes.
pub(super) enum Sink {
    /// Into a FIFO or a logger's pipe, whose read end is kept (C7).
    Pipe { write: Polled, read: OwnedFd },
    /// To the end of a file.
    File(Append),
    /// Nowhere.
    Nowhere(File),
}

impl Sink {
    pub(super) fn pipe(write: OwnedFd, read: OwnedFd) -> io::Result<Self> {
        pipe::set_nonblocking(&write, true)?;
        Ok(Self::Pipe { write: Polled::new(write, Interest::WRITABLE)?, read })
    }

    pub(super) fn nowhere() -> io::Result<Self> {
        Ok(Self::Nowhere(File::options().write(true).open("/dev/null")?))
    }

    /// Whether what comes here is lost.
    pub(super) fn is_nowhere(&self) -> bool {
        matches!(self, Self::Nowhere(_))
    }

    /// Moves what waits in a pipe, `most` bytes at most, and waits for room. There is something in the pipe.
    pub(super) async fn splice(&mut self, from: &Polled, most: usize) -> io::Result<usize> {
        match self {
            Self::Pipe { write, .. } => {
                write.run(Interest::WRITABLE, |to| pipe::splice(from.as_fd(), to.as_fd(), most)).await
            }
            Self::Nowhere(null) => pipe::splice(from.as_fd(), &*null, most),
            Self::File(file) => {
                let mut buffer = vec![0_u8; most];
                let length = rustix::io::read(from.as_fd(), &mut buffer)?;
                buffer.truncate(length);
                file.append(buffer).await?;
                Ok(length)
            }
        }
    }

    /// Writes all of `bytes`.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Pipe { write, .. } => {
                let mut rest = bytes;
                while !rest.is_empty() {
                    let written =
                        write.run(Interest::WRITABLE, |to| Ok(rustix::io::write(to, rest)?)).await?;
                    rest = rest.get(written..).unwrap_or_default();
                }
                Ok(())
            }
            Self::Nowhere(_) => Ok(()),
            Self::File(file) => file.append(bytes.to_vec()).await,
        }
    }

    /// Lets the client see the end. What is in a FIFO lives as long as an end of it is open, and a client that opens it
    /// late would wait for a writer: so the write end is kept until a client is there, or `follow` says that all is over.
    pub(super) async fn finish(self, follow: &mut Follow) {
        let Self::Pipe { write, read } = self else { return };
        drop(read);
        let mut pause = LOOK[0];
        while !follow.has_reached(Stage::Closed) && !has_reader(&write) {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = follow.reached(Stage::Closed) => return,
            }
            pause = pause.saturating_mul(2).min(LOOK[1]);
        }
    }
}

/// Whether somebody has the read end: without one, a write end is in error.
fn has_reader(write: impl AsFd) -> bool {
    let mut polled = [PollFd::new(&write, PollFlags::OUT)];
    match poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => !polled.iter().any(|fd| fd.revents().contains(PollFlags::ERR)),
        Err(_) => true,
    }
}
