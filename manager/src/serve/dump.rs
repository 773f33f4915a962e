//! What maintainers ask for when a pod hangs: every container and request, and what it waits for (J9).

use std::sync::Arc;

use gam_task::admission::Share;
use serde_json::{Value, json};

use crate::containers::Slot;
use crate::group::Group;
use crate::info;
use crate::kept;
use crate::manager::Manager;

/// Describes everything that the manager holds.
#[must_use]
pub fn describe(manager: &Arc<Manager>) -> Value {
    let mut containers: Vec<Value> =
        manager.containers.all().iter().map(|container| container.describe()).collect();
    containers.sort_by_key(|container| container["container"].to_string());
    let slots = manager.containers.slots();
    let of = |wanted: fn(&Slot) -> bool| -> Vec<String> {
        let found = slots.iter().filter(|(_, slot)| wanted(slot));
        found.map(|(key, _)| key.to_string()).collect()
    };
    let kept: Vec<String> =
        kept::all(&manager.host.group).iter().map(|(_, record)| record.key.to_string()).collect();
    json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "revision": info::REVISION,
        "group": manager.group.name,
        "directory": manager.group.directory,
        "log_level": manager.logs.level().to_string(),
        "containerd": manager.containerd.told().map(|told| told.version),
        "members": manager.containers.members(),
        "expected": manager.leases.keys(),
        "creating": of(|slot| matches!(slot, Slot::Creating(_))),
        "remembered": of(|slot| matches!(slot, Slot::Deleted(_))),
        "kept": kept,
        "requests": manager.calls.stacks(),
        "runtime_commands": commands(manager),
        "publisher": manager.publisher.dump(),
        "containers": containers,
    })
}

/// What tenants have of runtime commands at work and waiting.
fn commands(manager: &Manager) -> Vec<Value> {
    let described = |share: &Share| {
        json!({
            "tenant": share.tenant.as_str(),
            "running": share.running,
            "overdue": share.overdue,
            "waiting": share.waiting,
        })
    };
    manager.host.admission.shares().iter().map(described).collect()
}

/// Writes the description to the group's `dump` file, for its owner alone.
pub(super) fn write(manager: &Arc<Manager>, group: &Group) {
    let text = serde_json::to_vec_pretty(&describe(manager)).unwrap_or_default();
    let path = group.dump_file();
    match gam_task::record::replace(&path, &text, 0o600) {
        Ok(()) => tracing::info!(path = %path.display(), "state dumped"),
        Err(error) => tracing::warn!(path = %path.display(), %error, "state not dumped"),
    }
}
