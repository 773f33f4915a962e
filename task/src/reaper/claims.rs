//! Which child is whose, and which unknown one may be reaped.
//!
//! A process has one set of children, so there is one register of them, however many reapers there are.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::sync::Notify;

use crate::sys::pidfd;
use crate::sys::polled::Polled;
use crate::sys::wait::{self, How, Which};

/// How often a child is looked at again that has ended and cannot be reaped yet, because a tracer has it.
const TRACED: Duration = Duration::from_millis(50);

static CLAIMS: Mutex<Claims> = Mutex::new(Claims::new());
static NUDGE: Notify = Notify::const_new();

/// The register. It is locked for a few system calls that do not block, and never across an await.
#[derive(Debug)]
pub(super) struct Claims {
    /// The number of the newest hold.
    clock: u64,
    /// The holds that are live.
    holds: BTreeSet<u64>,
    /// Children that somebody waits for.
    owned: BTreeSet<i32>,
    /// Zombies that nobody waits for, with the clock at their first sight.
    orphans: BTreeMap<i32, u64>,
}

impl Claims {
    const fn new() -> Self {
        Self { clock: 0, holds: BTreeSet::new(), owned: BTreeSet::new(), orphans: BTreeMap::new() }
    }

    fn hold(&mut self) -> u64 {
        self.clock = self.clock.saturating_add(1);
        self.holds.insert(self.clock);
        self.clock
    }

    /// Whether `pid`, a zombie, may be reaped as an orphan: nobody owns it, and every hold that was live when it was
    /// first seen has been dropped.
    pub(super) fn may_reap(&mut self, pid: i32) -> bool {
        if self.owned.contains(&pid) {
            return false;
        }
        let seen = *self.orphans.entry(pid).or_insert(self.clock);
        self.holds.first().is_none_or(|oldest| *oldest > seen)
    }

    /// Whether somebody waits for `pid`.
    pub(super) fn owns(&self, pid: i32) -> bool {
        self.owned.contains(&pid)
    }

    /// Forgets an orphan that has been reaped: its pid may come again.
    pub(super) fn reaped(&mut self, pid: i32) {
        self.orphans.remove(&pid);
    }

    /// How many orphans wait for a hold.
    pub(super) fn waiting(&self) -> usize {
        self.orphans.len()
    }
}

/// Locks the register.
pub(super) fn claims() -> MutexGuard<'static, Claims> {
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until something has changed that a sweep should know and the kernel does not signal.
pub(super) async fn nudged() {
    NUDGE.notified().await;
}

/// Keeps unknown processes that end from being reaped as orphans, for a create or exec that may still claim them.
#[derive(Debug)]
#[must_use = "a hold that is dropped holds nothing"]
pub struct Hold(Option<u64>);

impl Hold {
    pub(super) fn take() -> Self {
        Self(Some(claims().hold()))
    }

    /// A hold that holds nothing, for an [`ExitSource`](super::ExitSource) that is not this process's reaper.
    pub fn none() -> Self {
        Self(None)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let Some(ticket) = self.0 else { return };
        let mut claims = claims();
        claims.holds.remove(&ticket);
        if claims.waiting() > 0 {
            NUDGE.notify_one();
        }
    }
}

/// The right, and the duty, to reap one child. If it is dropped before, the sweep does it.
#[derive(Debug)]
pub(crate) struct Claim {
    pid: i32,
    pidfd: Polled,
    /// Changed only while the register is locked.
    reaped: AtomicBool,
}

impl Claim {
    /// Claims `pid`. The caller has a hold from before the process was made, so the pid is still its own.
    ///
    /// # Errors
    /// ESRCH if there is no such process, `InvalidInput` for a pid below 1, `AlreadyExists` if it is claimed, EMFILE.
    pub(super) fn take(pid: i32) -> io::Result<Self> {
        let pidfd = Polled::new(pidfd::open(pid)?, Interest::READABLE)?;
        let mut claims = claims();
        if !claims.owned.insert(pid) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("process {pid} is claimed")));
        }
        claims.orphans.remove(&pid);
        Ok(Self { pid, pidfd, reaped: AtomicBool::new(false) })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until the child has ended and reaps it. May be dropped and called again until it has answered.
    ///
    /// # Errors
    /// ECHILD if the child is not, or no longer, ours to reap.
    pub(crate) async fn wait(&self) -> io::Result<How> {
        loop {
            drop(self.pidfd.readable().await?);
            if let Some(how) = self.reap()? {
                return Ok(how);
            }
            tokio::time::sleep(TRACED).await;
        }
    }

    /// Reaps, and gives up the pid while nobody can have got it again.
    fn reap(&self) -> io::Result<Option<How>> {
        let mut claims = claims();
        let ended = wait::reap(Which::Pidfd(self.pidfd.as_fd()));
        if !matches!(ended, Ok(None)) {
            claims.owned.remove(&self.pid);
            self.reaped.store(true, Ordering::Relaxed);
        }
        Ok(ended?.map(|ended| ended.how))
    }
}

impl AsFd for Claim {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = claims();
        if !self.reaped.load(Ordering::Relaxed) {
            claims.owned.remove(&self.pid);
            NUDGE.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orphan_seen_without_a_hold_may_be_reaped() {
        let mut claims = Claims::new();
        assert!(claims.may_reap(7));
        let later = claims.hold();
        assert!(claims.may_reap(7), "a hold taken after it was seen does not concern it");
        claims.reaped(7);
        assert!(!claims.may_reap(7), "another process with its pid is another matter");
        claims.holds.remove(&later);
        assert!(claims.may_reap(7));
    }

    #[test]
    fn an_orphan_waits_for_the_holds_that_were_live_when_it_was_seen() {
        let mut claims = Claims::new();
        let first = claims.hold();
        let second = claims.hold();
        assert!(!claims.may_reap(7));
        let third = claims.hold();
        claims.holds.remove(&first);
        assert!(!claims.may_reap(7));
        claims.holds.remove(&second);
        assert!(claims.may_reap(7));
        assert!(!claims.may_reap(8));
        claims.holds.remove(&third);
        assert!(claims.may_reap(8));
    }

    #[test]
    fn what_is_owned_is_never_reaped() {
        let mut claims = Claims::new();
        claims.owned.insert(7);
        assert!(!claims.may_reap(7));
        assert_eq!(claims.waiting(), 0);
    }
}
