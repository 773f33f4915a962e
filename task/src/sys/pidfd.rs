//! Processes by descriptor, so that a recycled pid is never mistaken for its predecessor (BEHAVIOUR A11).

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::checked;

/// Opens a descriptor for the process `pid`, which may be a zombie. It is readable once every thread of the process has
/// ended.
///
/// # Errors
/// ESRCH if there is no such process, `InvalidInput` for a pid below 1, EMFILE.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    let pid = if pid > 0 { Pid::from_raw(pid) } else { None };
    let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Sends `signal`, 0 to 64, to the process behind `pidfd`; 0 only asks whether it is there. A zombie accepts signals.
///
/// # Errors
/// ESRCH once the process has been reaped, EINVAL for a number that is no signal, EPERM.
pub fn signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: the call takes two integers, a null siginfo pointer (which the kernel fills in as kill(2) would) and no
    // flags; the descriptor is borrowed for its length.
    checked(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            fd,
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0 as libc::c_uint,
        )
    })?;
    Ok(())
}
