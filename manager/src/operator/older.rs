//! Managers of builds that knew no question of an operator but `dump`: after an upgrade they serve on.

use serde_json::Value;

use super::cmdline;
use crate::control::{Identity, Listed};

/// Who the manager is whose dump this is. Its group is on its command line, where `start` wrote it.
pub(super) fn identity(dump: &Value) -> Option<Identity> {
    let pid = u32::try_from(dump.get("pid")?.as_u64()?).ok()?;
    Some(Identity {
        pid,
        version: dump.get("version").and_then(Value::as_str).unwrap_or_default().to_owned(),
        revision: "unknown".to_owned(),
        group: cmdline::group(pid)?,
        started_ms: 0,
    })
}

/// Its containers; of each what the dump tells.
pub(super) fn list(dump: &Value) -> Vec<Listed> {
    let containers = dump.get("containers").and_then(Value::as_array).into_iter().flatten();
    containers.filter_map(container).collect()
}

fn container(dump: &Value) -> Option<Listed> {
    let (namespace, id) = dump.get("container")?.as_str()?.split_once('/')?;
    Some(Listed {
        namespace: namespace.to_owned(),
        id: id.to_owned(),
        tenant: None,
        sandbox: None,
        state: dump.get("state")?.as_str()?.to_owned(),
        pid: u32::try_from(dump.get("pid")?.as_u64()?).ok()?,
        created_ms: 0,
        cgroup: None,
        execs: dump.get("execs").and_then(Value::as_object).map_or(0, serde_json::Map::len),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dump_is_a_list_too() {
        let dump = json!({"pid": 7, "version": "0.1.0", "containers": [
            {"container": "ns/c", "state": "running", "pid": 8, "execs": {"e": {}}, "later": 1},
            {"container": "no namespace"},
        ]});
        let listed = list(&dump);
        assert_eq!(listed.len(), 1);
        let one = &listed[0];
        assert_eq!((one.namespace.as_str(), one.id.as_str(), one.pid, one.execs), ("ns", "c", 8, 1));
        assert!(list(&json!({})).is_empty());
    }

    #[test]
    fn a_process_that_is_no_manager_has_no_group() {
        assert_eq!(identity(&json!({"pid": std::process::id()})), None);
        assert_eq!(identity(&json!({})), None);
    }
}
