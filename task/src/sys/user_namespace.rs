//! User namespaces that say how the owners of files are mapped.
//!
//! A namespace is made with its first process, for which a child is cloned that only sleeps until it is killed. It has
//! no exit signal, and so is a "clone child" of wait(2): the waits of the reaper do not see it, SIGCHLD is not sent, and
//! nobody can take it for an orphan.

#![allow(unsafe_code)]

use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::sys::signal::{SigSet, SigmaskHow};

use super::{checked, pidfd};

/// A range of ids, as a line of `/proc/PID/uid_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first id inside the namespace, which is the one on the disk.
    pub inside: u32,
    /// The id that it is outside.
    pub outside: u32,
    /// How many ids follow each other.
    pub count: u32,
}

/// Makes a user namespace with these maps and answers a descriptor for it. It lives as long as the descriptor, and what
/// has been made with it.
///
/// # Errors
/// EPERM without the privilege, ENOSPC or EUSERS where the number of namespaces is limited, EINVAL if ranges overlap or
/// are none or too many, EAGAIN, ENOMEM, EMFILE.
pub fn create(uids: &[IdRange], gids: &[IdRange]) -> io::Result<OwnedFd> {
    let first = Sleeper::start()?;
    fs::write(format!("/proc/{}/uid_map", first.pid), lines(uids))?;
    fs::write(format!("/proc/{}/gid_map", first.pid), lines(gids))?;
    Ok(File::open(format!("/proc/{}/ns/user", first.pid))?.into())
}

fn lines(ranges: &[IdRange]) -> String {
    let mut lines = String::new();
    for range in ranges {
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{} {} {}", range.inside, range.outside, range.count);
    }
    lines
}

/// The first process of a namespace. Dropping it kills and reaps it.
struct Sleeper {
    pid: libc::c_long,
    pidfd: OwnedFd,
}

impl Sleeper {
    fn start() -> io::Result<Self> {
        // The child would run our signal handlers, which write to descriptors that it shares with us.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let started = clone();
        mask.thread_set_mask()?;
        started
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if let Err(error) = pidfd::signal(&self.pidfd, libc::SIGKILL).and_then(|()| reap(&self.pidfd)) {
            tracing::error!(pid = self.pid, %error, "cannot end the first process of a user namespace");
        }
    }
}

fn clone() -> io::Result<Sleeper> {
    let mut pidfd: RawFd = -1;
    // `struct clone_args` of `linux/sched.h` in its first version: flags, pidfd, child_tid, parent_tid, exit_signal,
    // stack, stack_size, tls. The exit signal is none, the stack a copy of ours.
    let flags = u64::from((libc::CLONE_NEWUSER | libc::CLONE_PIDFD).unsigned_abs());
    let arguments: [u64; 8] = [flags, (&raw mut pidfd).expose_provenance() as u64, 0, 0, 0, 0, 0, 0];
    // SAFETY: the arguments are the array whose size is told, and the kernel writes a descriptor to `pidfd`; both
    // outlive the call. Without CLONE_VM the child has a copy of our memory, in which other threads may have been stopped
    // at any point: it runs nothing but `sleep`, which takes no lock and does not allocate.
    let pid = unsafe {
        let pid = libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments));
        if pid == 0 {
            sleep();
        }
        pid
    };
    let pid = checked(pid)?;
    // SAFETY: clone3 has succeeded, so this is a new descriptor, close-on-exec, that nobody else knows.
    Ok(Sleeper { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// What the child does: it waits to be killed. If its parent is gone it ends by itself.
///
/// # Safety
/// Only in a child that shares no memory with others.
unsafe fn sleep() -> ! {
    let limit = libc::timespec { tv_sec: 30, tv_nsec: 0 };
    loop {
        // SAFETY: raw system calls that read one timespec and no descriptors; the second does not return.
        unsafe {
            libc::syscall(
                libc::SYS_ppoll,
                ptr::null::<libc::pollfd>(),
                0,
                &raw const limit,
                ptr::null::<u64>(),
                8,
            );
            libc::syscall(libc::SYS_exit_group, 0);
        }
    }
}

/// Waits for a clone child that has been killed, and reaps it.
fn reap(pidfd: &OwnedFd) -> io::Result<()> {
    loop {
        // SAFETY: a null pointer stands for an answer that is not wanted; the rest are integers.
        let ended = unsafe {
            libc::waitid(
                libc::P_PIDFD,
                pidfd.as_raw_fd().unsigned_abs(),
                ptr::null_mut(),
                libc::WEXITED | libc::__WALL,
            )
        };
        match checked(ended.into()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_written_one_range_a_line() {
        let ranges = [
            IdRange { inside: 0, outside: 100_000, count: 10 },
            IdRange { inside: 10, outside: 7, count: 1 },
        ];
        assert_eq!(lines(&ranges), "0 100000 10\n10 7 1\n");
    }

    #[test]
    fn ranges_that_overlap_are_refused_by_the_kernel() {
        let range = IdRange { inside: 0, outside: 100_000, count: 10 };
        assert!(create(&[range, range], &[range]).is_err());
    }
}
