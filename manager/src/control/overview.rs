//! What a manager says of itself and its containers, for a list.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use gam_task::cgroup::Cgroup;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Answer;
use crate::containers::Slot;
use crate::info;
use crate::manager::Manager;

/// Who a manager is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its pid.
    pub pid: u32,
    /// The version of its build.
    pub version: String,
    /// What tells its build from others of that version.
    #[serde(default)]
    pub revision: String,
    /// Its group: the grouping and the name, such as `namespace k8s.io payments`.
    pub group: String,
    /// When it started, in milliseconds since 1970.
    pub started_ms: u64,
}

/// A container in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The containerd namespace.
    pub namespace: String,
    /// Its id.
    pub id: String,
    /// Whose it is; none while it is being created.
    #[serde(default)]
    pub tenant: Option<String>,
    /// The sandbox it belongs to; none outside of Kubernetes.
    #[serde(default)]
    pub sandbox: Option<String>,
    /// `creating`, `created`, `running`, `paused`, `pausing` or `stopped`.
    pub state: String,
    /// Init's pid; 0 before it has one.
    pub pid: u32,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: u64,
    /// Its cgroup; none before it has one.
    #[serde(default)]
    pub cgroup: Option<Cgroup>,
    /// How many execs it has.
    #[serde(default)]
    pub execs: usize,
}

/// Who `manager` is.
pub(super) fn identity(manager: &Manager) -> Identity {
    Identity {
        pid: std::process::id(),
        version: info::VERSION.to_owned(),
        revision: info::REVISION.to_owned(),
        group: manager.group.name.clone(),
        started_ms: millis(manager.started),
    }
}

/// Every container of `manager`, by namespace and id.
pub(super) fn list(manager: &Manager) -> Vec<Listed> {
    let mut listed: Vec<Listed> = manager
        .containers
        .slots()
        .into_iter()
        .filter_map(|(key, slot)| {
            let (namespace, id) = (key.namespace.to_string(), key.id.to_string());
            Some(match slot {
                Slot::Deleted(_) => return None,
                Slot::Creating(creation) => Listed {
                    namespace,
                    id,
                    tenant: None,
                    sandbox: None,
                    state: "creating".to_owned(),
                    pid: 0,
                    created_ms: millis(creation.since),
                    cgroup: None,
                    execs: 0,
                },
                Slot::Live(container) => Listed {
                    namespace,
                    id,
                    tenant: Some(container.tenant().to_string()),
                    sandbox: container.sandbox().map(str::to_owned),
                    state: container.status().word().to_owned(),
                    pid: container.pid(),
                    created_ms: millis(container.created_at()),
                    cgroup: container.cgroup(),
                    execs: container.exec_count(),
                },
            })
        })
        .collect();
    listed.sort_by(|a, b| (&a.namespace, &a.id).cmp(&(&b.namespace, &b.id)));
    listed
}

/// Everything that is known of one container, with the requests that are at work for it.
pub(super) fn inspect(manager: &Arc<Manager>, key: &gam_task::id::Key) -> Answer {
    let Some(container) = manager.containers.live(key) else { return Answer::Unknown };
    let mut all = container.inspect();
    let name = key.to_string();
    let mut requests = manager.calls.stacks();
    requests.retain(|stack| stack.container.as_deref() == Some(&name));
    if let Some(all) = all.as_object_mut() {
        all.insert("group".into(), manager.group.name.as_str().into());
        all.insert("manager".into(), std::process::id().into());
        all.insert("requests".into(), serde_json::to_value(requests).unwrap_or(Value::Null));
    }
    Answer::Inspected(all)
}

/// Milliseconds since 1970.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
