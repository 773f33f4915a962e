//! How far the streams of a process are in their life, told to the tasks that serve them.

use std::sync::Arc;

use tokio::sync::watch;

/// The life of the streams; each phase implies those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// The process may be running.
    Running,
    /// The process has ended; what it printed may still be on its way.
    Exited,
    /// Nothing more is taken from the process's descriptors.
    Stopped,
    /// Nothing is kept, not even for a client that is yet to come.
    Closed,
}

/// Learns of the phases. If nobody can tell any more, the streams are closed.
#[derive(Clone, Debug)]
pub(super) struct Phases(pub(super) watch::Receiver<Phase>);

impl Phases {
    /// Waits for `phase` or a later one.
    pub(super) async fn reached(&mut self, phase: Phase) {
        let _ = self.0.wait_for(|now| *now >= phase).await.is_ok();
    }

    /// Whether `phase` or a later one has come.
    pub(super) fn is(&self, phase: Phase) -> bool {
        *self.0.borrow() >= phase || self.0.has_changed().is_err()
    }
}

/// How many tasks still bring output.
pub(super) type Running = Arc<watch::Sender<usize>>;

/// Held by a task that brings output until no more comes.
#[derive(Debug)]
pub(super) struct Token(Running);

impl Token {
    pub(super) fn take(running: &Running) -> Self {
        running.send_modify(|count| *count = count.saturating_add(1));
        Self(Arc::clone(running))
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
