//! Counting the children that have ended and are still there (BEHAVIOUR A17).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sys::proc;
use crate::telemetry::Telemetry;

/// Knows since when each zombie has been one.
pub(super) struct Census {
    telemetry: Arc<dyn Telemetry>,
    /// When a zombie was first seen, by its pid and start time.
    zombies: BTreeMap<(i32, u64), Instant>,
}

impl Census {
    pub(super) fn new(telemetry: Arc<dyn Telemetry>) -> Self {
        Self { telemetry, zombies: BTreeMap::new() }
    }

    /// Whether there were zombies at the last count.
    pub(super) fn has_zombies(&self) -> bool {
        !self.zombies.is_empty()
    }

    /// Counts orphans that were reaped.
    pub(super) fn swept(&self, reaped: &[i32]) {
        for pid in reaped {
            tracing::debug!(pid, "an orphan was reaped");
            self.telemetry.orphan_reaped();
        }
    }

    /// Counts the zombies among all children, also those that somebody waits for and those whose other threads live.
    pub(super) fn count(&mut self) {
        let children = match proc::children() {
            Ok(children) => children,
            Err(error) => {
                tracing::warn!(%error, "cannot count zombies");
                return;
            }
        };
        let now = Instant::now();
        let known = std::mem::take(&mut self.zombies);
        self.zombies = children
            .into_iter()
            .filter_map(|pid| Some((pid, proc::stat(pid).ok().filter(|stat| stat.state == 'Z')?)))
            .map(|(pid, stat)| (pid, stat.start_time))
            .map(|zombie| (zombie, known.get(&zombie).copied().unwrap_or(now)))
            .collect();
        let oldest = self.zombies.values().min().map_or(Duration::ZERO, |first| now.duration_since(*first));
        self.telemetry.zombies(self.zombies.len(), oldest);
    }
}
