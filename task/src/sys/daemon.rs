//! What the manager does to itself before it serves.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::Mode;
use rustix::process::{chdir, getpid, set_child_subreaper, setsid, umask};

use super::checked;

/// Leaves the session of whoever started this process, the working directory (for `/`) and its umask (for 022).
///
/// # Errors
/// EPERM for a process that leads a process group: one made with
/// [`Command::new_session`](crate::process::Command::new_session) already is detached and needs no call.
pub fn detach() -> io::Result<()> {
    setsid()?;
    settle()
}

/// Takes `/` as the working directory and 022 as the umask.
///
/// # Errors
/// What chdir(2) answers.
pub fn settle() -> io::Result<()> {
    chdir("/")?;
    umask(Mode::from_raw_mode(0o022));
    Ok(())
}

/// Makes orphans below this process its children, not init's (`PR_SET_CHILD_SUBREAPER`).
///
/// # Errors
/// What prctl(2) answers.
pub fn become_subreaper() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Connects stdin, stdout and stderr to `/dev/null`, so that nobody waits for this process to close them.
///
/// # Errors
/// If `/dev/null` cannot be opened.
pub fn null_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// Ignores SIGPIPE: a write to a pipe that nobody reads fails with EPIPE instead. Children have it back.
///
/// # Errors
/// None that the kernel documents for this signal.
pub fn ignore_sigpipe() -> io::Result<()> {
    // SAFETY: ignoring a signal installs no handler.
    if unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Names the calling thread, for ps and top; 15 bytes are kept.
///
/// # Errors
/// `InvalidInput` for a name with a NUL.
pub fn name_thread(name: &str) -> io::Result<()> {
    Ok(rustix::thread::set_name(&CString::new(name)?)?)
}

/// Marks every descriptor from 3 up close-on-exec, so that what this process inherited without knowing goes no further
/// (BEHAVIOUR I6).
///
/// # Errors
/// If neither close_range(2) nor `/proc/self/fd` works.
pub fn close_on_exec_all() -> io::Result<()> {
    // SAFETY: setting a flag on descriptors closes none of them and affects exec only.
    let ranged = checked(unsafe {
        libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    });
    if ranged.is_ok() {
        return Ok(());
    }
    for fd in open_descriptors()? {
        // SAFETY: fcntl on an integer; for a descriptor that has gone it answers EBADF.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Takes over a descriptor that this process was started with, such as a listening socket, and marks it close-on-exec.
/// Whatever this process opens itself is close-on-exec from the start and is refused here, and so is a second taking.
///
/// # Errors
/// EBADF if it is not open, `InvalidInput` if it was not passed on by exec.
pub fn passed(fd: RawFd) -> io::Result<OwnedFd> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: fcntl on an integer, which answers EBADF if it is no open descriptor.
    let flags = checked(libc::c_long::from(unsafe { libc::fcntl(fd, libc::F_GETFD) }))?;
    if fd < 3 || flags & libc::c_long::from(libc::FD_CLOEXEC) != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("descriptor {fd} was not passed on"),
        ));
    }
    // SAFETY: as above.
    checked(libc::c_long::from(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }))?;
    // SAFETY: it is open, and without the flag it came through exec: nothing in this process made it, so nothing owns
    // it. The flag is set now, so it is not taken twice.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The open descriptors from 3 up. The one that lists them is closed again when this returns.
fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        if let Some(fd) = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok())
            && fd > 2
        {
            found.push(fd);
        }
    }
    Ok(found)
}
