//! What the configurations of the private containerds have in common.

use std::path::Path;

/// The plugins of CRI, for those that are to have none.
pub(crate) const WITHOUT_CRI: &[&str] =
    &["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"];
/// What none of them needs.
const NEVER: [&str; 7] = [
    "io.containerd.nri.v1.nri",
    "io.containerd.internal.v1.restart",
    "io.containerd.monitor.v1.cgroups",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.aufs",
];

/// The configuration of a containerd in `dir`, without the plugins that are named.
pub(crate) fn base(dir: &Path, level: &str, without: &[&str]) -> String {
    let dir = dir.display();
    let disabled: Vec<&str> = without.iter().copied().chain(NEVER).collect();
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = {disabled:?}

[grpc]
  address = "{dir}/c.sock"

[debug]
  level = "{level}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
"#
    )
}
