//! What the shims of a daemon cost, added up.

use std::fmt;

use crate::daemon::Daemon;
use crate::processes;

/// Memory, threads and processes of the long-running shims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Proportional set size in KiB: shared pages are divided among those that share them.
    pub pss: u64,
    /// Threads.
    pub threads: usize,
    /// Processes.
    pub processes: usize,
}

impl Cost {
    /// Of every shim of `daemon` now.
    #[must_use]
    pub fn of(daemon: &Daemon) -> Self {
        let shims = daemon.shims();
        Self {
            pss: shims.iter().filter_map(|pid| processes::pss(*pid)).sum(),
            threads: shims.iter().map(|pid| processes::threads(*pid)).sum(),
            processes: shims.len(),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = (self.pss as f64) / 1024.0;
        write!(f, "{mib:9.1} MiB PSS {:6} threads {:5} processes", self.threads, self.processes)
    }
}
