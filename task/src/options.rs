//! How the runtime is to be called for one container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The settings of `containerd.runc.v1.Options`, whichever message or file they came in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Use MS_MOVE instead of pivot_root (`--no-pivot`).
    pub no_pivot_root: bool,
    /// Do not make a session keyring (`--no-new-keyring`).
    pub no_new_keyring: bool,
    /// A cgroup for the shim itself; empty for none.
    pub shim_cgroup: String,
    /// The user who is to own the pipes of the container's streams.
    pub io_uid: u32,
    /// The group that is to own the pipes of the container's streams.
    pub io_gid: u32,
    /// The runtime; empty for `runc` from PATH.
    pub binary_name: String,
    /// The directory under which the runtime keeps a directory per namespace; empty for the default.
    pub root: String,
    /// Let systemd make the cgroups (`--systemd-cgroup`).
    pub systemd_cgroup: bool,
    /// Where checkpoint images are read from on restore.
    pub criu_image_path: String,
    /// criu's work directory.
    pub criu_work_path: String,
    /// The address of a task API that serves the sandbox, from containerd 2.0 on.
    pub task_api_address: String,
    /// The version of that API.
    pub task_api_version: u32,
}

impl Options {
    /// The default directory of runtime state, the one containerd's own shim uses.
    pub const DEFAULT_ROOT: &'static str = "/run/containerd/runc";

    /// The runtime's state directory for a containerd namespace.
    #[must_use]
    pub fn runtime_root(&self, namespace: &str) -> PathBuf {
        let root = if self.root.is_empty() { Self::DEFAULT_ROOT } else { &self.root };
        PathBuf::from(root).join(namespace)
    }

    /// The runtime's binary: a path, or a name to look for in PATH.
    #[must_use]
    pub fn runtime_binary(&self) -> &str {
        if self.binary_name.is_empty() { "runc" } else { &self.binary_name }
    }
}
