//! Ending a process's input, also before it is open (C5).

use tokio::sync::watch;

/// Remembers whether the input is to end.
#[derive(Clone, Debug)]
pub struct StdinCloser(watch::Sender<bool>);

impl StdinCloser {
    /// One that has not been told.
    #[must_use]
    pub fn new() -> Self {
        Self(watch::Sender::new(false))
    }

    /// Ends the input once what is on its way has been delivered. Any number of times.
    pub fn close(&self) {
        self.0.send_replace(true);
    }

    /// Whether it is to end.
    pub(super) fn is_closed(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is to end.
    pub(super) async fn closed(&self) {
        let mut told = self.0.subscribe();
        if told.wait_for(|closed| *closed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Default for StdinCloser {
    fn default() -> Self {
        Self::new()
    }
}
