//! How a process ended.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// The end of a process: its status and when it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code, or 128 plus the number of the signal that ended the process.
    pub status: u32,
    /// When the process was reaped, in wall-clock time.
    pub at: SystemTime,
}

impl Exit {
    /// The status of a process that SIGKILL ended, as shells and containerd count it.
    pub const KILLED: u32 = 137;
    /// The status reported where the kernel did not tell (containerd's `UnknownExitStatus`).
    pub const UNKNOWN: u32 = 255;

    /// An exit with `status` seen now.
    #[must_use]
    pub fn now(status: u32) -> Self {
        Self { status, at: SystemTime::now() }
    }
}
