//! The FIFO that containerd makes in a bundle and reads.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;

/// A FIFO that is never waited for.
pub(super) struct Fifo(File);

impl Fifo {
    /// Opens the FIFO at `path`; anything else there is refused.
    ///
    /// It is opened for reading as well, though never read: on Linux that succeeds at once whether or not containerd has
    /// it open (fifo(7)), writing raises no SIGPIPE while containerd is away, and what was written then waits for it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY;
        // A regular file in its place must not be grown, so what it is is looked at before the file is kept.
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(path)?;
        if file.metadata()?.file_type().is_fifo() {
            Ok(Self(file))
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO"))
        }
    }

    /// Writes a line, whole or not at all as it has no more than `PIPE_BUF` bytes (pipe(7)). Whether it was taken.
    pub(super) fn write(&self, line: &[u8]) -> bool {
        (&self.0).write(line).is_ok_and(|written| written == line.len())
    }
}
