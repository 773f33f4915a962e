//! waitid(2): how a child ended, with or without reaping it.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

/// A child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its pid.
    pub pid: i32,
    /// How it ended.
    pub how: How,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// By itself, with a code of 0 to 255.
    Exited(i32),
    /// By a signal, which may be a real-time one.
    Signalled(i32),
}

/// Which child is asked for.
#[derive(Clone, Copy, Debug)]
pub enum Which<'fd> {
    /// Whichever has ended; the kernel answers the same one until it is reaped.
    Any,
    /// The child with this pid.
    Pid(i32),
    /// The child behind this pidfd.
    Pidfd(BorrowedFd<'fd>),
}

impl How {
    /// The exit code, or 128 plus the signal's number.
    #[must_use]
    pub fn status(self) -> u32 {
        match self {
            Self::Exited(code) => code.unsigned_abs(),
            Self::Signalled(signal) => signal.unsigned_abs().saturating_add(128),
        }
    }

    /// The same in the standard library's type.
    #[must_use]
    pub fn exit_status(self) -> ExitStatus {
        match self {
            Self::Exited(code) => ExitStatus::from_raw((code & 0xff) << 8),
            Self::Signalled(signal) => ExitStatus::from_raw(signal & 0x7f),
        }
    }
}

/// Looks whether a child has ended and leaves it a zombie.
///
/// # Errors
/// ECHILD if there is no such child.
pub fn peek(which: Which<'_>) -> io::Result<Option<Ended>> {
    waitid(which, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
}

/// Reaps a child if it has ended. Never blocks.
///
/// # Errors
/// ECHILD if there is no such child.
pub fn reap(which: Which<'_>) -> io::Result<Option<Ended>> {
    waitid(which, libc::WEXITED | libc::WNOHANG)
}

fn waitid(which: Which<'_>, options: libc::c_int) -> io::Result<Option<Ended>> {
    let (kind, id) = match which {
        Which::Any => (libc::P_ALL, 0),
        Which::Pid(pid) => (libc::P_PID, pid),
        Which::Pidfd(fd) => (libc::P_PIDFD, fd.as_fd().as_raw_fd()),
    };
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    loop {
        // SAFETY: `info` is valid for a write of one siginfo_t, the rest are integers.
        if unsafe { libc::waitid(kind, id.unsigned_abs(), info.as_mut_ptr(), options) } == 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: siginfo_t is integers and a union of integers and pointers, for which all zeroes is a valid value, and
    // waitid either left it so or filled it in.
    let info = unsafe { info.assume_init() };
    // SAFETY: both are fields of the SIGCHLD member of the union, which is the one waitid fills in; after WNOHANG with
    // nothing to tell it is still zero.
    let (pid, value) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let how = if info.si_code == libc::CLD_EXITED { How::Exited(value) } else { How::Signalled(value) };
    Ok(Some(Ended { pid, how }))
}
