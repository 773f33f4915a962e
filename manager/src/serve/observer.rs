//! What the server's calls and connections mean to the manager.

use std::sync::Arc;
use std::time::Duration;

use crate::manager::Manager;
use crate::server::{ConnectionId, Observer};

/// Passes on what the server sees.
pub(super) struct Observed(pub(super) Arc<Manager>);

impl Observer for Observed {
    fn answered(&self, method: &str, code: &'static str, took: Duration) {
        self.0.metrics.answered(method, code, took);
    }

    fn closed(&self, connection: ConnectionId) {
        self.0.containers.closed(connection);
    }
}
