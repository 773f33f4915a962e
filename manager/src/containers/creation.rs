//! A Create at work.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::server::ConnectionId;

/// A container that is being created.
#[derive(Clone)]
pub struct Creation {
    /// The connection that asked for it.
    pub connection: ConnectionId,
    /// When it was asked for.
    pub since: SystemTime,
    abandoned: Arc<watch::Sender<bool>>,
    ended: CancellationToken,
}

impl Creation {
    pub(super) fn new(connection: ConnectionId) -> Self {
        Self {
            connection,
            since: SystemTime::now(),
            abandoned: Arc::new(watch::Sender::new(false)),
            ended: CancellationToken::new(),
        }
    }

    /// Says that nobody wants the container any more: it is undone when it has been made.
    pub fn abandon(&self) {
        self.abandoned.send_replace(true);
    }

    /// Whether nobody wants it any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        *self.abandoned.borrow()
    }

    /// Tells when nobody wants it any more.
    #[must_use]
    pub fn unwanted(&self) -> watch::Receiver<bool> {
        self.abandoned.subscribe()
    }

    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Waits until it has been made, has failed, or has been undone.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}
