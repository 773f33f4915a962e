//! FIFOs, opened so that nothing ever blocks.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, mkfifoat, openat};

use super::StdioError;

/// Both ends of a FIFO.
pub(super) struct Ends {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
}

/// Opens both ends of a FIFO, the read end first, so that the write end finds a reader. It is made if it is missing.
pub(super) fn open(path: &Path) -> Result<Ends, StdioError> {
    let read = end(path, OFlags::RDONLY)?;
    let write = end(path, OFlags::WRONLY)?;
    Ok(Ends { read, write })
}

fn end(path: &Path, access: OFlags) -> Result<OwnedFd, StdioError> {
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match openat(CWD, path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => {
            mkfifoat(CWD, path, Mode::RWXU)
                .map_err(io::Error::from)
                .map_err(StdioError::open("make FIFO", path))?;
            openat(CWD, path, flags, Mode::empty())
        }
        other => other,
    };
    let fd = opened.map_err(io::Error::from).map_err(StdioError::open("open FIFO", path))?;
    let found = fstat(&fd).map_err(io::Error::from).map_err(StdioError::open("look at FIFO", path))?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Fifo {
        Ok(fd)
    } else {
        Err(StdioError::open("use as a FIFO", path)(io::Error::other("it is none")))
    }
}
