//! Streams at work.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::termios::{Winsize, tcsetwinsize};
use tokio::sync::watch;

use super::stage::{Follow, Stage};
use crate::sys::polled::Polled;

/// The streams of a process that has been started. Dropped, they are closed.
#[derive(Debug)]
pub struct Streams {
    stage: watch::Sender<Stage>,
    /// How many outputs have not been delivered.
    open: watch::Sender<usize>,
    master: Mutex<Option<Arc<Polled>>>,
}

impl Streams {
    pub(super) fn new() -> Self {
        Self {
            stage: watch::Sender::new(Stage::Running),
            open: watch::Sender::new(0),
            master: Mutex::new(None),
        }
    }

    pub(super) fn follow(&self) -> Follow {
        Follow(self.stage.subscribe())
    }

    /// Counts an output in, and gives what counts it out.
    pub(super) fn output(&self) -> impl FnOnce() + Send + 'static {
        let open = self.open.clone();
        open.send_modify(|open| *open = open.saturating_add(1));
        move || open.send_modify(|open| *open = open.saturating_sub(1))
    }

    pub(super) fn set_master(&self, master: Arc<Polled>) {
        *self.master.lock().unwrap_or_else(PoisonError::into_inner) = Some(master);
    }

    /// Sets the size of the terminal, in characters; nothing happens where there is none, or none any more (C17).
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn resize(&self, width: u32, height: u32) -> io::Result<()> {
        let master = self.master.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(master) = master else { return Ok(()) };
        let size = Winsize {
            ws_row: u16::try_from(height).unwrap_or(u16::MAX),
            ws_col: u16::try_from(width).unwrap_or(u16::MAX),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        match tcsetwinsize(&*master, size) {
            Err(rustix::io::Errno::IO) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Waits, after the process's end, until what it printed has been delivered, `limit` at most: then the rest is
    /// dropped and counted, and the streams are taken from whoever still has them (C1, C2).
    pub async fn drained(&self, limit: Duration) {
        self.reach(Stage::Ended);
        let mut open = self.open.subscribe();
        if tokio::time::timeout(limit, open.wait_for(|open| *open == 0)).await.is_err() {
            self.reach(Stage::Expired);
            let _ = tokio::time::timeout(Duration::from_secs(1), open.wait_for(|open| *open == 0)).await;
        }
        // Nothing is shown on the terminal any more.
        drop(self.master.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Lets go of everything.
    pub fn close(&self) {
        self.reach(Stage::Closed);
        drop(self.master.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn reach(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let later = stage > *now;
            *now = stage.max(*now);
            later
        });
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.close();
    }
}
