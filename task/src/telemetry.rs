//! What a container's life reports to whoever counts.

use std::time::Duration;

use crate::admission::Class;
use crate::tenant::{Quota, Tenant};

/// One of a process's three standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// What the process reads.
    Stdin,
    /// What the process prints.
    Stdout,
    /// What the process complains of.
    Stderr,
    /// A terminal, which is all three.
    Terminal,
}

impl Stream {
    /// The name used in metrics and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Terminal => "terminal",
        }
    }
}

/// Receives counts and durations. Every method returns at once; none may block or panic.
pub trait Telemetry: Send + Sync + 'static {
    /// A runtime command (`create`, `start`, ...) ended after `took`; `ok` is whether it succeeded. `tenant` is whose
    /// container it was for, none where that is not known.
    fn runtime_command(&self, tenant: Option<&Tenant>, command: &'static str, took: Duration, ok: bool);
    /// A runtime command has waited for its turn.
    fn queued(&self, class: Class, waited: Duration);
    /// A tenant was refused something that it has as much of as it may.
    fn limited(&self, quota: Quota);
    /// `bytes` went through a stream.
    fn copied(&self, stream: Stream, bytes: u64);
    /// `bytes` of a stream could not be delivered and were dropped.
    fn dropped(&self, stream: Stream, bytes: u64);
    /// A reparented process that no container claimed was reaped.
    fn orphan_reaped(&self);
    /// How many zombies are waiting to be reaped, and for how long the oldest has.
    fn zombies(&self, count: usize, oldest: Duration);
    /// `kills` processes of a container of `tenant` were killed for lack of memory.
    fn oom_kills(&self, tenant: &Tenant, kills: u64);
    /// A cgroup outlived its container, or was removed later than that.
    fn cgroup_left(&self);
}

/// Counts nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Telemetry for Silent {
    fn runtime_command(&self, _: Option<&Tenant>, _: &'static str, _: Duration, _: bool) {}
    fn queued(&self, _: Class, _: Duration) {}
    fn limited(&self, _: Quota) {}
    fn copied(&self, _: Stream, _: u64) {}
    fn dropped(&self, _: Stream, _: u64) {}
    fn orphan_reaped(&self) {}
    fn zombies(&self, _: usize, _: Duration) {}
    fn oom_kills(&self, _: &Tenant, _: u64) {}
    fn cgroup_left(&self) {}
}
