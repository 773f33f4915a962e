//! What Prometheus is told. Counting costs a request an atomic addition; everything that takes longer, such as reading
//! /proc or asking for the tasks, is done when somebody scrapes, on a thread that serves no request ([`serve`]).

mod containers;
mod families;
mod http;
mod listener;
mod node;
mod process;
mod serve;
mod sources;
mod telemetry;
mod tenants;

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gam_task::tenant::Quota;
use prometheus::{
    Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};

pub use listener::Address;
pub use node::Node;
pub(crate) use node::merge::{Merged, Source, merge};
pub use serve::{Handle, serve};
pub use sources::{ContainerUsage, Requests, Tasks};

use crate::info;
use crate::logs::Logs;
use crate::publisher;
use containers::PerContainer;
use families::{Families, PerStream};
use sources::Sources;
use tenants::Tenants;

/// Metrics that cannot be made or told.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// a metric that the registry refuses
    #[error("cannot make the metrics: {0}")]
    Make(#[source] prometheus::Error),
    /// metrics that cannot be written as text
    #[error("cannot write the metrics: {0}")]
    Encode(#[source] prometheus::Error),
}

/// How many series there may be whose labels are not this program's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Tenants with series of their own; the others share one.
    pub tenants: usize,
    /// Containers with series of their own; none for no such series.
    pub containers: Option<usize>,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { tenants: 100, containers: None }
    }
}

/// The metrics of one manager. The number of their labels' values is bounded.
pub struct Metrics {
    registry: Registry,
    names: Vec<&'static str>,
    started: Instant,
    sources: Sources,

    uptime: Gauge,
    start_time: Gauge,
    tenants: Tenants,
    containers: PerContainer,
    request_oldest: Gauge,
    exits_lost: IntCounter,
    tasks: IntGaugeVec,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    command_seconds: HistogramVec,
    command_failures: IntCounterVec,
    queue_seconds: HistogramVec,
    limited: IntCounterVec,
    copied: PerStream,
    dropped: PerStream,
    orphans: IntCounter,
    zombies: IntGauge,
    oldest_zombie: Gauge,
    oom_kills: IntCounter,
    cgroups_left: IntCounter,
    events_queued: IntGauge,
    events_queued_bytes: IntGauge,
    events_sent: IntCounterVec,
    events_retried: IntCounter,
    events_dropped: IntCounterVec,
    exit_ack_seconds: Histogram,
    log_lines_dropped: IntCounter,
    rss: IntGauge,
    pss: IntGauge,
    threads: IntGauge,
    fds: IntGauge,
}

impl Metrics {
    /// Metrics that are all zero.
    ///
    /// # Errors
    /// [`MetricsError::Make`] would be a fault in this file.
    pub fn new(bounds: Bounds) -> Result<Self, MetricsError> {
        Self::build(bounds).map_err(MetricsError::Make)
    }

    fn build(bounds: Bounds) -> prometheus::Result<Self> {
        let mut make = Families::default();
        let build = make.gauges("gam_build_info", "This build; always 1.", &["version", "revision"])?;
        build.with_label_values(&[info::VERSION, info::REVISION]).set(1);
        let metrics = Self {
            started: Instant::now(),
            sources: Sources::default(),
            uptime: make.seconds("gam_uptime_seconds", "How long this manager has been running.")?,
            start_time: make
                .seconds("gam_start_time_seconds", "When this manager started, in seconds since the epoch.")?,
            tenants: Tenants::make(&mut make, bounds.tenants)?,
            containers: PerContainer::make(&mut make, bounds.containers)?,
            request_oldest: make.seconds(
                "gam_request_oldest_seconds",
                "How long the oldest request at work has been so, those not counted that wait for a process's end.",
            )?,
            exits_lost: make.counter(
                "gam_exits_lost_total",
                "Dropped events that told of a process's end and that nobody else tells of.",
            )?,
            tasks: make.gauges("gam_tasks", "Tasks by state.", &["state"])?,
            requests: make.counters(
                "gam_requests_total",
                "Requests of containerd by method and status code.",
                &["method", "code"],
            )?,
            request_seconds: make.durations(
                "gam_request_duration_seconds",
                "Time from a request's arrival to its answer, by method.",
                &["method"],
            )?,
            command_seconds: make.durations(
                "gam_runtime_command_duration_seconds",
                "Time that a command of the OCI runtime took, by command.",
                &["command"],
            )?,
            command_failures: make.counters(
                "gam_runtime_command_failures_total",
                "Commands of the OCI runtime that failed, by command.",
                &["command"],
            )?,
            queue_seconds: make.durations(
                "gam_runtime_queue_seconds",
                "Time that commands of the OCI runtime waited for their turn, by class.",
                &["class"],
            )?,
            limited: make.counters(
                "gam_limits_reached_total",
                "Requests refused because their tenant has as much as it may, by limit.",
                &["limit"],
            )?,
            copied: make.per_stream(
                "gam_stream_bytes_total",
                "Bytes that went through standard streams, by stream.",
            )?,
            dropped: make.per_stream(
                "gam_stream_dropped_bytes_total",
                "Bytes of standard streams that nobody took and that were dropped, by stream.",
            )?,
            orphans: make.counter(
                "gam_orphans_reaped_total",
                "Processes reaped that were reparented to the manager and no container claimed.",
            )?,
            zombies: make.gauge("gam_zombies", "Processes that have ended and have not been reaped.")?,
            oldest_zombie: make.seconds(
                "gam_zombie_oldest_seconds",
                "How long the oldest of them has waited to be reaped.",
            )?,
            oom_kills: make
                .counter("gam_oom_kills_total", "Processes of containers killed for lack of memory.")?,
            cgroups_left: make.counter(
                "gam_cgroups_left_total",
                "Cgroups that outlived their container or were removed later than it.",
            )?,
            events_queued: make.gauge("gam_events_queued", "Events that containerd has not taken yet.")?,
            events_queued_bytes: make.gauge("gam_events_queued_bytes", "The size of those events.")?,
            events_sent: make.counters(
                "gam_events_sent_total",
                "Events that containerd has taken, by the way they went.",
                &["transport"],
            )?,
            events_retried: make
                .counter("gam_events_retried_total", "Attempts to send an event that failed.")?,
            events_dropped: make.counters(
                "gam_events_dropped_total",
                "Events that containerd will never get, by reason.",
                &["reason"],
            )?,
            exit_ack_seconds: make.duration(
                "gam_event_exit_ack_seconds",
                "Time from the end of a process to containerd's taking the event of it.",
            )?,
            log_lines_dropped: make
                .counter("gam_log_lines_dropped_total", "Log lines that no sink took without blocking.")?,
            rss: make.gauge("gam_memory_rss_bytes", "Resident memory of the manager.")?,
            pss: make.gauge(
                "gam_memory_pss_bytes",
                "Proportional memory of the manager: shared pages count by their share.",
            )?,
            threads: make.gauge("gam_threads", "Threads of the manager.")?,
            fds: make.gauge("gam_open_fds", "Open file descriptors of the manager.")?,
            names: std::mem::take(&mut make.names),
            registry: make.registry,
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        metrics.start_time.set(now.as_secs_f64());
        // So that an increase can be seen from the first event, and the first refusal, on.
        for reason in publisher::REASONS {
            let _ = metrics.events_dropped.with_label_values(&[reason]);
        }
        for quota in Quota::ALL {
            let _ = metrics.limited.with_label_values(&[quota.name()]);
        }
        Ok(metrics)
    }

    /// The names of all metrics, whether or not they have a value yet.
    #[must_use]
    pub fn names(&self) -> &[&'static str] {
        &self.names
    }

    /// Asks `tasks` at each scrape. Only the first call counts.
    pub fn watch_tasks(&self, tasks: Arc<dyn Tasks>) {
        let _ = self.sources.tasks.set(tasks);
    }

    /// Asks `requests` at each scrape. Only the first call counts.
    pub fn watch_requests(&self, requests: Arc<dyn Requests>) {
        let _ = self.sources.requests.set(requests);
    }

    /// Asks `logs` at each scrape how many lines were dropped. Only the first call counts.
    pub fn watch_logs(&self, logs: Logs) {
        let _ = self.sources.logs.set(logs);
    }

    /// Reads what is only read at a scrape, and writes all metrics in Prometheus's text format. Blocks for as long as
    /// the kernel takes to add up the process's memory, so this is nothing for a thread that serves requests.
    ///
    /// # Errors
    /// [`MetricsError::Encode`]
    pub fn scrape(&self) -> Result<String, MetricsError> {
        let _scraping = self.sources.scraping.lock().unwrap_or_else(PoisonError::into_inner);
        self.uptime.set(self.started.elapsed().as_secs_f64());
        if let Some(tasks) = self.sources.tasks.get() {
            self.tasks.reset();
            for (state, count) in tasks.by_state() {
                self.tasks.with_label_values(&[state]).set(clamped(count));
            }
            self.tenants.look(&tasks.by_tenant());
            self.containers.look(tasks.as_ref());
        }
        if let Some(requests) = self.sources.requests.get() {
            self.request_oldest.set(requests.oldest().as_secs_f64());
        }
        if let Some(logs) = self.sources.logs.get() {
            // The registry's counters only go up, and only this line moves this one.
            self.log_lines_dropped.inc_by(logs.dropped().saturating_sub(self.log_lines_dropped.get()));
        }
        let usage = process::usage();
        for (gauge, value) in [
            (&self.rss, usage.rss),
            (&self.pss, usage.pss),
            (&self.threads, usage.threads),
            (&self.fds, usage.fds),
        ] {
            // What cannot be read keeps its last value: a zero would look like a fact.
            if let Some(value) = value {
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            }
        }
        let text = TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(MetricsError::Encode);
        self.containers.forget();
        text
    }
}

/// A count as gauges take it.
fn clamped(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
