//! Pipes, and moving bytes between them without copying.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, OFlags, fcntl_getfl, fcntl_setfl, memfd_create};
use rustix::pipe::{PipeFlags, SpliceFlags};

/// Makes a pipe: the read end, then the write end. Both are blocking, as a process expects of an end it is given, and
/// close-on-exec.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

/// Makes the open file behind `fd` non-blocking or blocking. This belongs to the open file, not to the descriptor:
/// whoever holds a duplicate sees it too; the two ends of a pipe are two open files.
///
/// # Errors
/// What fcntl(2) answers.
pub fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> io::Result<()> {
    let flags = fcntl_getfl(&fd)?;
    let wanted = if nonblocking { flags | OFlags::NONBLOCK } else { flags - OFlags::NONBLOCK };
    if wanted != flags {
        fcntl_setfl(&fd, wanted)?;
    }
    Ok(())
}

/// Moves at most `most` bytes from `from` to `to`, of which one is a pipe, without blocking on the pipe. Answers 0 at
/// end of file. The other descriptor must itself be non-blocking if it can block.
///
/// # Errors
/// `WouldBlock` when there is nothing to read or no room (which of the two is not told), EPIPE when nobody reads `to`,
/// and EINVAL where the file behind one of them cannot be spliced, such as one opened with `O_APPEND`.
pub fn splice(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    Ok(rustix::pipe::splice(from, None, to, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
}

/// How many bytes wait in a pipe, socket or terminal (`FIONREAD`).
///
/// # Errors
/// ENOTTY where the file cannot tell.
pub fn waiting(fd: impl AsFd) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(fd)?)
}

/// Makes an anonymous file in memory, named `name` in `/proc/PID/fd`.
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub fn memory_file(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}
