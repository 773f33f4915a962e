//! OCI specs: a small container from busybox, and what tests change in it.

use prost_types::Any;
use serde_json::{Value, json};

/// The words of a shell command.
#[must_use]
pub fn sh(script: &str) -> Vec<String> {
    vec!["/bin/sh".into(), "-c".into(), script.into()]
}

/// An OCI process.
#[must_use]
pub fn process(args: &[String], terminal: bool) -> Value {
    let capabilities = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_PTRACE"]);
    json!({
        "terminal": terminal,
        "user": { "uid": 0, "gid": 0 },
        "args": args,
        "env": ["PATH=/bin", "TERM=xterm"],
        "cwd": "/",
        "capabilities": {
            "bounding": capabilities, "effective": capabilities, "permitted": capabilities
        },
        "noNewPrivileges": true
    })
}

/// A process in the `Any` that Exec takes.
#[must_use]
pub fn process_any(process: &Value) -> Any {
    Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(),
        value: process.to_string().into_bytes(),
    }
}

/// An OCI spec: private pid, ipc, uts and mount namespaces, the host's network.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The JSON, to be changed at will.
    pub json: Value,
}

impl Spec {
    /// A container that runs `args` in the cgroup `cgroup`, which begins with a slash.
    #[must_use]
    pub fn new(args: &[String], cgroup: &str) -> Self {
        let json = json!({
            "ociVersion": "1.0.2",
            "process": process(args, false),
            "root": { "path": "rootfs", "readonly": false },
            "hostname": "gam",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=1777"] }
            ],
            "annotations": {},
            "linux": {
                "cgroupsPath": cgroup,
                "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
                "namespaces": [{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }]
            }
        });
        Self { json }
    }

    /// The arguments of init.
    pub fn args(&mut self, args: &[String]) {
        self.json["process"]["args"] = json!(args);
    }

    /// Gives init a terminal.
    pub fn terminal(&mut self) {
        self.json["process"]["terminal"] = json!(true);
    }

    /// Sets an annotation.
    pub fn annotate(&mut self, key: &str, value: &str) {
        self.json["annotations"][key] = json!(value);
    }

    /// Limits memory, in bytes.
    pub fn memory(&mut self, bytes: u64) {
        self.json["linux"]["resources"]["memory"] = json!({ "limit": bytes });
    }

    /// Leaves a namespace out, so that the host's is used.
    ///
    /// # Panics
    /// Never for a spec made here.
    pub fn without_namespace(&mut self, kind: &str) {
        self.json["linux"]["namespaces"]
            .as_array_mut()
            .expect("namespaces")
            .retain(|one| one["type"] != kind);
    }

    /// The spec in the `Any` that a container object takes.
    #[must_use]
    pub fn any(&self) -> Any {
        Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".into(),
            value: self.json.to_string().into_bytes(),
        }
    }
}
