//! The standard streams of a process that was made.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::phase::{Phase, Phases, Running, Token};
use crate::console;

/// How long stopping may take, in which what is left is counted.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// The streams of a process, served by tasks of their own. When this is dropped they end as by [`Streams::close`].
#[derive(Debug)]
pub struct Streams {
    phase: watch::Sender<Phase>,
    running: Running,
    /// The master of the terminal.
    master: Mutex<Option<OwnedFd>>,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            phase: watch::Sender::new(Phase::Running),
            running: Arc::new(watch::Sender::new(0)),
            master: Mutex::new(None),
        }
    }

    pub(super) fn phases(&self) -> Phases {
        Phases(self.phase.subscribe())
    }

    pub(super) fn token(&self) -> Token {
        Token::take(&self.running)
    }

    pub(super) fn set_master(&self, master: Option<OwnedFd>) {
        *self.master.lock().unwrap_or_else(PoisonError::into_inner) = master;
    }

    /// Sets the size of the terminal, in characters. Without a terminal, or after its end, this does nothing.
    ///
    /// # Errors
    /// What ioctl(2) answers while the terminal is there.
    pub fn resize(&self, width: u32, height: u32) -> io::Result<()> {
        match self.master.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some(master) => console::resize(master, width, height),
            None => Ok(()),
        }
    }

    /// Called once the process has ended: waits until all that it printed has been brought where it goes, but no longer
    /// than `limit`, because a child that it left behind may have its streams open. Then it closes everything, save what
    /// is kept in a FIFO for a client that has not opened it yet, and counts what was left as dropped.
    ///
    /// Any number of callers may wait, each with a limit of its own; the first limit that is over holds for all.
    pub async fn drained(&self, limit: Duration) {
        self.advance(Phase::Exited);
        let mut running = self.running.subscribe();
        let over = timeout(limit, running.wait_for(|count| *count == 0)).await.is_err();
        self.advance(Phase::Stopped);
        if over && timeout(STOP_LIMIT, running.wait_for(|count| *count == 0)).await.is_err() {
            tracing::warn!("the streams of a process are slow to stop");
        }
        self.set_master(None);
    }

    /// Drops everything at once, also what is kept for a client that has not come.
    pub fn close(&self) {
        self.advance(Phase::Closed);
        self.set_master(None);
    }

    fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let later = phase > *now;
            *now = phase.max(*now);
            later
        });
    }
}
