//! The writers: what containers, the server and the publisher report.

use gam_task::admission::Class;
use gam_task::telemetry::{Stream, Telemetry};
use gam_task::tenant::{Quota, Tenant};

use super::{Duration, Metrics, clamped};
use crate::publisher::{Dropped, EXIT, Observer};

impl Telemetry for Metrics {
    fn runtime_command(&self, tenant: Option<&Tenant>, command: &'static str, took: Duration, ok: bool) {
        self.command_seconds.with_label_values(&[command]).observe(took.as_secs_f64());
        // Looked up either way, so that a rate can be taken from the first failure on.
        let failures = self.command_failures.with_label_values(&[command]);
        if !ok {
            failures.inc();
        }
        if let Some(tenant) = tenant {
            self.tenants.command(tenant, took);
        }
    }

    fn queued(&self, class: Class, waited: Duration) {
        self.queue_seconds.with_label_values(&[class.name()]).observe(waited.as_secs_f64());
    }

    fn limited(&self, quota: Quota) {
        self.limited.with_label_values(&[quota.name()]).inc();
    }

    fn copied(&self, stream: Stream, bytes: u64) {
        self.copied.of(stream).inc_by(bytes);
    }

    fn dropped(&self, stream: Stream, bytes: u64) {
        self.dropped.of(stream).inc_by(bytes);
    }

    fn orphan_reaped(&self) {
        self.orphans.inc();
    }

    fn zombies(&self, count: usize, oldest: Duration) {
        self.zombies.set(clamped(count));
        self.oldest_zombie.set(oldest.as_secs_f64());
    }

    fn oom_kills(&self, tenant: &Tenant, kills: u64) {
        self.oom_kills.inc_by(kills);
        self.tenants.oom_kills(tenant, kills);
    }

    fn cgroup_left(&self) {
        self.cgroups_left.inc();
    }
}

impl Metrics {
    /// A request was answered: what [`crate::server::Observer::answered`] is told. `method` must be one that is served,
    /// or a word for all others.
    pub fn answered(&self, method: &str, code: &str, took: Duration) {
        self.requests.with_label_values(&[method, code]).inc();
        self.request_seconds.with_label_values(&[method]).observe(took.as_secs_f64());
    }

    /// How many events wait for containerd now, and how many bytes they are.
    pub fn events_queued(&self, events: usize, bytes: usize) {
        self.events_queued.set(clamped(events));
        self.events_queued_bytes.set(clamped(bytes));
    }

    /// containerd has taken an event that went by `transport` (`ttrpc`, `grpc` or `binary`).
    pub fn event_sent(&self, transport: &'static str) {
        self.events_sent.with_label_values(&[transport]).inc();
    }

    /// An attempt to send an event has failed and will be made again.
    pub fn event_retried(&self) {
        self.events_retried.inc();
    }

    /// Events were given up for `reason`, one of a few words.
    pub fn events_dropped(&self, reason: &'static str, dropped: Dropped) {
        self.events_dropped.with_label_values(&[reason]).inc_by(dropped.events);
        self.exits_lost.inc_by(dropped.exits);
    }

    /// containerd has taken the event of a process's end, `after` it was reaped.
    pub fn exit_acknowledged(&self, after: Duration) {
        self.exit_ack_seconds.observe(after.as_secs_f64());
    }
}

impl Observer for Metrics {
    fn queued(&self, events: usize, bytes: usize) {
        self.events_queued(events, bytes);
    }

    fn sent(&self, transport: &'static str) {
        self.event_sent(transport);
    }

    fn retried(&self) {
        self.event_retried();
    }

    fn dropped(&self, reason: &'static str, dropped: Dropped) {
        self.events_dropped(reason, dropped);
    }

    fn acknowledged(&self, topic: &'static str, since: Duration) {
        if topic == EXIT {
            self.exit_acknowledged(since);
        }
    }
}
