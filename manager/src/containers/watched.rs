//! What the metrics ask of the containers.

use std::collections::BTreeMap;

use gam_task::container::Status;
use gam_task::tenant::Tenant;

use super::{Containers, Slot};
use crate::metrics::{ContainerUsage, Tasks};

impl Tasks for Containers {
    fn by_state(&self) -> Vec<(&'static str, usize)> {
        let mut counts = [("created", 0), ("running", 0), ("stopped", 0), ("paused", 0), ("creating", 0)];
        for entry in &self.slots {
            let name = match entry.value() {
                Slot::Creating(_) => "creating",
                Slot::Live(container) => match container.status() {
                    Status::Created => "created",
                    Status::Running => "running",
                    Status::Stopped => "stopped",
                    Status::Paused | Status::Pausing => "paused",
                },
                Slot::Deleted(_) => continue,
            };
            if let Some((_, count)) = counts.iter_mut().find(|(known, _)| *known == name) {
                *count += 1;
            }
        }
        counts.into()
    }

    fn by_tenant(&self) -> Vec<(Tenant, usize)> {
        let mut counts = BTreeMap::new();
        for container in self.all() {
            *counts.entry(container.tenant().clone()).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    fn usage(&self, most: usize) -> (Vec<ContainerUsage>, usize) {
        let mut all = self.all();
        // In an order that does not change, so that a container above the bound does not come and go.
        all.sort_by(|a, b| (&a.key().namespace, &a.key().id).cmp(&(&b.key().namespace, &b.key().id)));
        let others = all.len().saturating_sub(most);
        all.truncate(most);
        let shown = all.iter().map(|container| ContainerUsage {
            tenant: container.tenant().clone(),
            key: container.key().clone(),
            sandbox: container.sandbox().map(str::to_owned),
            usage: container.usage().unwrap_or_default(),
            oom_kills: container.oom_kills(),
        });
        (shown.collect(), others)
    }
}
