//! Counting what is brought, and slowing down whose tenant has a pace.

use super::phase::{Phase, Phases};
use super::report::Report;
use crate::telemetry::Stream;

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
        if self.phases.is_some() {
            self.report.pace.spend(bytes);
        }
    }

    /// Waits until more may be brought. What is left when the process has ended waits for nothing.
    pub(super) async fn pace(&self) {
        let Some(phases) = self.phases else { return };
        while let Some(owed) = self.report.pace.owed() {
            if phases.is(Phase::Exited) {
                return;
            }
            // Boxed, so that a stream that is never slowed down is not as large as one that is.
            let mut phases = phases.clone();
            Box::pin(async move {
                tokio::select! {
                    () = tokio::time::sleep(owed) => {}
                    () = phases.reached(Phase::Exited) => {}
                }
            })
            .await;
        }
    }
}
