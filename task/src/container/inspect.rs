//! What operators see of a container. Never its spec, so no environment and no arguments of a tenant.

use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::{Container, Status};
use crate::cgroup::Cgroup;
use crate::exit::Exit;
use crate::record::StreamNames;

impl Status {
    /// Its word, as containerd's clients have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Pausing => "pausing",
        }
    }
}

impl Container {
    /// When it was created.
    #[must_use]
    pub fn created_at(&self) -> SystemTime {
        self.created_at
    }

    /// Its cgroup; none before it has one.
    #[must_use]
    pub fn cgroup(&self) -> Option<Cgroup> {
        self.inner().cgroup.clone()
    }

    /// How many execs it has.
    #[must_use]
    pub fn exec_count(&self) -> usize {
        self.inner().execs.len()
    }

    /// What it is and what it waits for, for a dump.
    #[must_use]
    pub fn describe(&self) -> Value {
        let inner = self.inner();
        let execs: Map<String, Value> = inner
            .state
            .execs
            .iter()
            .map(|(id, exec)| (id.to_string(), json!({"state": exec.name(), "pid": exec.pid()})))
            .collect();
        json!({
            "container": self.key.to_string(),
            "tenant": self.tenant().as_str(),
            "state": inner.state.init.name(),
            "pid": inner.state.init.pid,
            "created_ms": millis(self.created_at),
            "exit_status": inner.state.init.exit.map(|exit| exit.status),
            "exit_announced": inner.state.init.announced,
            "execs": execs,
            "being_deleted": self.deletion.try_lock().is_err(),
            "kills": self.kills.load(Ordering::SeqCst),
            "waiters": self.init.ended.receiver_count(),
        })
    }

    /// Everything that is known of it: what [`describe`](Self::describe) says, its execs in full, and its record.
    #[must_use]
    pub fn inspect(&self) -> Value {
        let mut all = self.describe();
        let ids: Vec<_> = self.inner().execs.keys().cloned().collect();
        let execs: Vec<Value> = ids
            .iter()
            .filter_map(|id| {
                let report = self.report(Some(id)).ok()?;
                Some(json!({
                    "id": &**id,
                    "status": report.status.word(),
                    "pid": report.pid,
                    "exit": report.exit.map(exit),
                    "streams": streams(report.streams),
                }))
            })
            .collect();
        if let Some(all) = all.as_object_mut() {
            all.insert("status".into(), self.status().word().into());
            all.insert("bundle".into(), self.bundle.to_string_lossy().into());
            all.insert("sandbox".into(), self.sandbox.as_deref().into());
            all.insert("execs".into(), execs.into());
            let mut record = self.record();
            record.streams = streams(record.streams);
            record
                .execs
                .iter_mut()
                .for_each(|exec| exec.streams = streams(std::mem::take(&mut exec.streams)));
            all.insert("record".into(), serde_json::to_value(record).unwrap_or_default());
        }
        all
    }
}

/// Streams without the arguments of a logger, which may be credentials.
fn streams(names: StreamNames) -> StreamNames {
    let shown = |uri: String| match uri.split_once('?') {
        Some((logger, _)) => format!("{logger}?..."),
        None => uri,
    };
    StreamNames {
        terminal: names.terminal,
        stdin: names.stdin,
        stdout: shown(names.stdout),
        stderr: shown(names.stderr),
    }
}

fn exit(exit: Exit) -> Value {
    json!({"status": exit.status, "at_ms": millis(exit.at)})
}

/// Milliseconds since 1970.
fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
