//! Reading what a command prints while it runs, keeping a bounded part.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;

use crate::sys::pipe;
use crate::sys::polled::Polled;

/// Which part is kept.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keep {
    /// The first bytes: it is data.
    First(usize),
    /// The last bytes: it is a complaint.
    Last(usize),
}

/// The read end of a pipe that a command prints to.
pub(super) struct Output {
    from: Polled,
    keep: Keep,
    kept: Vec<u8>,
}

impl Output {
    /// A pipe: this end, and the one for the command.
    pub(super) fn new(keep: Keep) -> io::Result<(Self, OwnedFd)> {
        let (read, write) = pipe::pipe()?;
        pipe::set_nonblocking(&read, true)?;
        Ok((Self { from: Polled::new(read, Interest::READABLE)?, keep, kept: Vec::new() }, write))
    }

    /// Reads until the pipe ends. May be dropped and called again.
    pub(super) async fn drain(&mut self) {
        let mut buffer = [0_u8; 4096];
        loop {
            let read = self.from.run(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut buffer)?)).await;
            match read {
                Ok(length) if length > 0 => self.take(buffer.get(..length).unwrap_or_default()),
                _ => return,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        match self.keep {
            Keep::First(most) => {
                let room = most.saturating_sub(self.kept.len()).min(bytes.len());
                self.kept.extend_from_slice(bytes.get(..room).unwrap_or_default());
            }
            Keep::Last(most) => {
                self.kept.extend_from_slice(bytes);
                let surplus = self.kept.len().saturating_sub(most);
                self.kept.drain(..surplus);
            }
        }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.kept
    }
}
