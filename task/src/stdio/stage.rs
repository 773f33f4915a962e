//! How far the streams of a process have come.

use tokio::sync::watch;

/// From the start of a process to its deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It may run.
    Running,
    /// It has ended; what it printed is being delivered.
    Ended,
    /// That has taken long enough.
    Expired,
    /// Everything is to be let go of.
    Closed,
}

/// Follows the stage; one for each of a process's streams.
#[derive(Clone, Debug)]
pub(super) struct Follow(pub(super) watch::Receiver<Stage>);

impl Follow {
    /// Waits until `stage` has been reached.
    pub(super) async fn reached(&mut self, stage: Stage) {
        // Without a sender nobody is left to want anything.
        let _ = self.0.wait_for(|now| *now >= stage).await;
    }

    pub(super) fn has_reached(&self, stage: Stage) -> bool {
        *self.0.borrow() >= stage
    }
}
