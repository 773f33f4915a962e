//! A process that we started ourselves.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitStatus;

use crate::reaper::Claim;
use crate::sys::pidfd;
use crate::sys::wait::How;

/// A helper process that we started: a runtime command, a logger, a publisher. Dropped before it was waited for, it
/// runs on and is reaped by the sweep.
#[derive(Debug)]
pub struct Child {
    claim: Claim,
    ended: Option<How>,
}

impl Child {
    pub(crate) fn new(claim: Claim) -> Self {
        Self { claim, ended: None }
    }

    /// Its pid, which stays its own until it has been waited for.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.claim.pid()
    }

    /// Its pidfd, readable once it has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.claim.as_fd()
    }

    /// Waits until it has ended and reaps it. May be dropped and called again, and answers the same each time.
    ///
    /// # Errors
    /// ECHILD if somebody else reaped it, which nothing in this process does.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let how = match self.ended {
            Some(how) => how,
            None => *self.ended.insert(self.claim.wait().await?),
        };
        Ok(how.exit_status())
    }

    /// Sends it `signal`, through its pidfd.
    ///
    /// # Errors
    /// ESRCH once it has been waited for, EINVAL for a number that is no signal.
    pub fn kill(&self, signal: i32) -> io::Result<()> {
        pidfd::signal(&self.claim, signal)
    }

    /// Sends `signal` to the process group it leads. This is for a child made with
    /// [`new_session`](super::Command::new_session) that may have children of its own.
    ///
    /// # Errors
    /// ESRCH once it has been waited for or if it leads no group, EINVAL for a number that is no signal.
    pub fn kill_group(&self, signal: i32) -> io::Result<()> {
        if self.ended.is_some() {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        let signal = nix::sys::signal::Signal::try_from(signal)?;
        Ok(nix::sys::signal::killpg(nix::unistd::Pid::from_raw(self.pid()), signal)?)
    }
}
