//! The FIFOs at whose other ends containerd, or another client, is, or will be, or was.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::time::sleep;

use super::StdioError;
use super::phase::{Phase, Phases};
use super::pump;
use crate::sys::polled::Polled;
use crate::telemetry::Stream;

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Both ends of a FIFO, each an open file of its own. Opening never waits for a client.
#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

impl Ends {
    /// Opens the FIFO at `path`, and makes it if there is none (mode 0700).
    fn open(stream: Stream, path: &Path) -> Result<Self, StdioError> {
        let failed =
            |source: Errno| StdioError::Open { stream, path: path.to_owned(), source: source.into() };
        let find =
            || rustix::fs::open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let found = match find() {
            Err(Errno::NOENT) => {
                match rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(failed(error)),
                }
                find()
            }
            found => found,
        }
        .map_err(failed)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&found).map_err(failed)?.st_mode) != FileType::Fifo {
            return Err(StdioError::NotFifo { stream, path: path.to_owned() });
        }
        // Through the descriptor, so that both ends are of the file that was looked at.
        let same = format!("/proc/self/fd/{}", found.as_raw_fd());
        let open = |way: OFlags| {
            rustix::fs::open(&*same, way | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).map_err(failed)
        };
        // With a reader there, the write end can be opened without waiting.
        Ok(Self { read: open(OFlags::RDONLY)?, write: open(OFlags::WRONLY)? })
    }
}

/// A FIFO that we write to.
///
/// Our read end, which is never read, keeps the write end from seeing EPIPE, and keeps what is in the FIFO, while no
/// client is there (BEHAVIOUR C7).
#[derive(Debug)]
pub(super) struct Outlet {
    read: OwnedFd,
    write: Polled,
}

impl Outlet {
    pub(super) fn open(stream: Stream, path: &Path) -> Result<Self, StdioError> {
        let Ends { read, write } = Ends::open(stream, path)?;
        let write = Polled::new(write, Interest::WRITABLE).map_err(|source| StdioError::Open {
            stream,
            path: path.to_owned(),
            source,
        })?;
        Ok(Self { read, write })
    }

    pub(super) fn end(&self) -> &Polled {
        &self.write
    }

    /// Gives the client its end of file: at once if one is there, else when one comes or the streams are closed.
    ///
    /// What is in a FIFO is there as long as any of its descriptors, so the write end alone keeps it; and without a
    /// write end the open of a late client would hang. The kernel does not tell who opens a FIFO without being read from
    /// or written to, but a write end has POLLERR while there is no reader: so that is asked, ever less often.
    pub(super) async fn finish(self, mut phases: Phases) {
        let Self { read, write } = self;
        let write = write.into_inner();
        drop(read);
        let mut pause = FIRST_PAUSE;
        while pump::now(&write, PollFlags::OUT).is_ok_and(|found| found.contains(PollFlags::ERR)) {
            tokio::select! {
                () = phases.reached(Phase::Closed) => return,
                () = sleep(pause) => pause = pause.saturating_mul(2).min(LONGEST_PAUSE),
            }
        }
    }
}

/// A FIFO that we read from.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) read: Polled,
    /// While this write end is open, there is no end of file when a client leaves: another may come.
    pub(super) held: OwnedFd,
}

impl Inlet {
    pub(super) fn open(path: &Path) -> Result<Self, StdioError> {
        let stream = Stream::Stdin;
        let Ends { read, write } = Ends::open(stream, path)?;
        let failed = |source: io::Error| StdioError::Open { stream, path: path.to_owned(), source };
        Ok(Self { read: Polled::new(read, Interest::READABLE).map_err(failed)?, held: write })
    }
}
