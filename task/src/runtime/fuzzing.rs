//! The reading of a runtime's complaints, open to tests/fuzz, and built for it only.

use super::log::{self, without_mount_data};

/// What a log says went wrong.
#[must_use]
pub fn complaint(log: &str) -> Option<String> {
    log::complaint(log)
}

/// What is told of a complaint.
#[must_use]
pub fn told(complaint: &str) -> String {
    without_mount_data(complaint)
}
