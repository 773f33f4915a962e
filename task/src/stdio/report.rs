//! Whose streams these are, and who counts their bytes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::id::Key;
use crate::telemetry::{Stream, Telemetry};
use crate::tenant::Pace;

/// Shared by the tasks of one process.
pub(super) struct Report {
    key: Key,
    exec_id: Option<Box<str>>,
    pub(super) telemetry: Arc<dyn Telemetry>,
    /// How fast its output may be brought on.
    pub(super) pace: Arc<Pace>,
    /// How much output has been brought since the process ended.
    pub(super) rest: AtomicU64,
}

impl Report {
    pub(super) fn new(
        key: &Key,
        exec_id: Option<&str>,
        telemetry: &Arc<dyn Telemetry>,
        pace: &Arc<Pace>,
    ) -> Arc<Self> {
        let (key, exec_id) = (key.clone(), exec_id.map(Into::into));
        Arc::new(Self {
            key,
            exec_id,
            telemetry: Arc::clone(telemetry),
            pace: Arc::clone(pace),
            rest: AtomicU64::new(0),
        })
    }

    /// Logs what is wrong with a stream.
    pub(super) fn failed(&self, stream: Stream, what: &str, error: &dyn fmt::Display) {
        let (container, exec) = (&self.key, self.exec_id.as_deref().unwrap_or_default());
        tracing::warn!(%container, exec, stream = stream.name(), %error, "a stream {what}");
    }

    /// Logs what a logger does that it should not.
    pub(super) fn logger(&self, what: &str) {
        let (container, exec) = (&self.key, self.exec_id.as_deref().unwrap_or_default());
        tracing::warn!(%container, exec, "the logger {what}");
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("key", &self.key)
            .field("exec_id", &self.exec_id)
            .finish_non_exhaustive()
    }
}
