//! What maintainers ask for when a pod hangs: every container, and what it waits for (J9).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::group::Group;
use crate::manager::Manager;

/// Describes everything that the manager holds.
#[must_use]
pub fn describe(manager: &Arc<Manager>) -> Value {
    let containers: Vec<Value> =
        manager.containers.all().iter().map(|container| container.describe()).collect();
    json!({
        "pid": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "containerd": manager.containerd.told().map(|told| told.version),
        "members": manager.containers.members(),
        "expected": manager.leases.live(),
        "requests": manager.calls.stacks(),
        "publisher": manager.publisher.dump(),
        "containers": containers,
    })
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
