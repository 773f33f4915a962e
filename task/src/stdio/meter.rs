//! Counting what is brought, and slowing down whose tenant has a pace.

use std::sync::atomic::Ordering;

use super::phase::{Phase, Phases};
use super::report::Report;
use crate::telemetry::Stream;

/// How much is left when a process has ended: what two pipes hold.
const REST: u64 = 128 << 10;

/// Counts one stream of a process.
#[derive(Clone, Copy)]
pub(super) struct Meter<'a> {
    pub(super) stream: Stream,
    pub(super) report: &'a Report,
    /// Tells when the process has ended; none for what it reads, which is as slow as the process is.
    pub(super) phases: Option<&'a Phases>,
}

impl Meter<'_> {
    /// So many bytes have been brought.
    pub(super) fn count(&self, bytes: u64) {
        self.report.telemetry.copied(self.stream, bytes);
        let Some(phases) = self.phases else { return };
        self.report.pace.spend(bytes);
        if phases.is(Phase::Exited) {
            self.report.rest.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Waits until more may be brought. What is left in the pipes when the process has ended waits for nothing; what others
    /// go on printing to them does.
    pub(super) async fn pace(&self) {
        let Some(phases) = self.phases else { return };
        while let Some(owed) = self.report.pace.owed() {
            let exited = phases.is(Phase::Exited);
            if exited && self.report.rest.load(Ordering::Relaxed) < REST {
                return;
            }
            // Boxed, so that a stream that is never slowed down is not as large as one that is.
            let mut phases = phases.clone();
            Box::pin(async move {
                tokio::select! {
                    () = tokio::time::sleep(owed) => {}
                    () = phases.reached(Phase::Exited), if !exited => {}
                }
            })
            .await;
        }
    }
}
