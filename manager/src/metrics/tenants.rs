//! What each tenant costs: a bounded number of them by name, the others together.
//!
//! Where the bound is reached, a scrape forgets the tenants that have no container any more, and their series with them; a
//! later one takes the place.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gam_task::tenant::Tenant;
use prometheus::{CounterVec, IntCounterVec, IntGaugeVec, Result};

use super::clamped;
use super::families::Families;

/// The label of all tenants above the bound.
const OTHER: &str = "other";

/// The families with a tenant's label.
pub(super) struct Tenants {
    most: usize,
    /// Those with series of their own. It is held while one of these is moved, so that none comes back that was forgotten.
    known: Mutex<BTreeSet<Tenant>>,
    containers: IntGaugeVec,
    commands: IntCounterVec,
    seconds: CounterVec,
    oom_kills: IntCounterVec,
}

impl Tenants {
    pub(super) fn make(make: &mut Families, most: usize) -> Result<Self> {
        let label = &["tenant"];
        Ok(Self {
            most,
            known: Mutex::default(),
            containers: make.gauges("gam_tenant_containers", "Containers by tenant.", label)?,
            commands: make.counters(
                "gam_tenant_runtime_commands_total",
                "Commands of the OCI runtime by tenant.",
                label,
            )?,
            seconds: make.sums(
                "gam_tenant_runtime_command_seconds_total",
                "Time that commands of the OCI runtime took, by tenant.",
                label,
            )?,
            oom_kills: make.counters(
                "gam_tenant_oom_kills_total",
                "Processes of containers killed for lack of memory, by tenant.",
                label,
            )?,
        })
    }

    /// A runtime command for `tenant` took so long.
    pub(super) fn command(&self, tenant: &Tenant, took: Duration) {
        self.with(tenant, |label| {
            self.commands.with_label_values(&[label]).inc();
            self.seconds.with_label_values(&[label]).inc_by(took.as_secs_f64());
            // So that a rate can be taken from the first kill on.
            let _ = self.oom_kills.with_label_values(&[label]);
        });
    }

    /// So many processes of `tenant` were killed for lack of memory.
    pub(super) fn oom_kills(&self, tenant: &Tenant, kills: u64) {
        self.with(tenant, |label| self.oom_kills.with_label_values(&[label]).inc_by(kills));
    }

    /// Tells who has how many containers now, and makes room.
    pub(super) fn look(&self, live: &[(Tenant, usize)]) {
        self.make_room(live);
        self.containers.reset();
        for (tenant, count) in live {
            self.with(tenant, |label| self.containers.with_label_values(&[label]).add(clamped(*count)));
        }
    }

    fn make_room(&self, live: &[(Tenant, usize)]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < self.most {
            return;
        }
        let live: BTreeSet<&Tenant> = live.iter().map(|(tenant, _)| tenant).collect();
        known.retain(|tenant| {
            let stays = live.contains(tenant);
            if !stays {
                let label = &[tenant.as_str()];
                // One that never had a series of a kind has none to lose.
                let _ = self.commands.remove_label_values(label);
                let _ = self.seconds.remove_label_values(label);
                let _ = self.oom_kills.remove_label_values(label);
            }
            stays
        });
    }

    fn with(&self, tenant: &Tenant, write: impl FnOnce(&str)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let named = known.contains(tenant) || known.len() < self.most && known.insert(tenant.clone());
        write(if named { tenant.as_str() } else { OTHER });
    }
}
