//! Series for single containers. They are made anew at each scrape, so a container that is deleted takes its own with it, and
//! between scrapes they cost nothing.

use prometheus::{CounterVec, IntCounterVec, IntGauge, IntGaugeVec, Result};

use super::clamped;
use super::families::Families;
use super::sources::{ContainerUsage, Tasks};

/// The families with a container's labels.
pub(super) struct PerContainer {
    /// How many containers get series; none if that is not wanted.
    most: Option<usize>,
    not_shown: IntGauge,
    memory: IntGaugeVec,
    cpu: CounterVec,
    pids: IntGaugeVec,
    oom_kills: IntCounterVec,
}

impl PerContainer {
    pub(super) fn make(make: &mut Families, most: Option<usize>) -> Result<Self> {
        let labels = &["tenant", "namespace", "sandbox", "container"];
        Ok(Self {
            most,
            not_shown: make.gauge(
                "gam_containers_not_shown",
                "Containers that are above the bound and have no series of their own.",
            )?,
            memory: make.gauges(
                "gam_container_memory_bytes",
                "Memory of a container, its page cache included.",
                labels,
            )?,
            cpu: make.sums("gam_container_cpu_seconds_total", "CPU time of a container.", labels)?,
            pids: make.gauges("gam_container_pids", "Processes and threads of a container.", labels)?,
            oom_kills: make.counters(
                "gam_container_oom_kills_total",
                "Processes of a container killed for lack of memory.",
                labels,
            )?,
        })
    }

    /// Makes the series.
    pub(super) fn look(&self, tasks: &dyn Tasks) {
        let Some(most) = self.most else { return };
        self.forget();
        let (shown, others) = tasks.usage(most);
        self.not_shown.set(clamped(others));
        for container in &shown {
            self.show(container);
        }
    }

    /// Drops the series.
    pub(super) fn forget(&self) {
        self.memory.reset();
        self.cpu.reset();
        self.pids.reset();
        self.oom_kills.reset();
    }

    fn show(&self, container: &ContainerUsage) {
        let ContainerUsage { tenant, key, sandbox, usage, oom_kills } = container;
        let labels = &[tenant.as_str(), &*key.namespace, sandbox.as_deref().unwrap_or_default(), &*key.id];
        if let Some(bytes) = usage.memory {
            self.memory.with_label_values(labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        if let Some(time) = usage.cpu {
            self.cpu.with_label_values(labels).inc_by(time.as_secs_f64());
        }
        if let Some(count) = usage.pids {
            self.pids.with_label_values(labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.oom_kills.with_label_values(labels).inc_by(*oom_kills);
    }
}
