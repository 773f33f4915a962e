//! What a node is set up with: its programs, its network, containerd's configuration.

use std::fs;
use std::path::{Path, PathBuf};

use crate::containerd_config::base;
use crate::image;
use crate::target::{Containerd, gam_binary, runtime_program};

/// The name of gam's binary.
pub(crate) const GAM: &str = "containerd-shim-gam-v2";

/// The path of a program in the tests' own PATH.
pub(crate) fn found(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH");
    let mut paths = std::env::split_paths(&path).map(|directory| directory.join(program));
    paths.find(|path| path.exists()).unwrap_or_else(|| panic!("{program} is not in PATH"))
}

/// Fills `bin`, all that the daemon finds programs in: it has gam, the runtime and no other shim. containerd is there too,
/// as it also looks beside itself.
pub(crate) fn programs(bin: &Path, containerd: Containerd) {
    fs::copy(gam_binary(), bin.join(GAM)).expect("gam's binary");
    let original = containerd.directory().join("containerd");
    if fs::hard_link(&original, bin.join("containerd")).is_err() {
        fs::copy(&original, bin.join("containerd")).expect("containerd's binary");
    }
    std::os::unix::fs::symlink(found(&runtime_program()), bin.join("runc")).expect("a link to the runtime");
}

/// The configuration of the pods' network.
pub(crate) fn network(dir: &Path) -> String {
    serde_json::json!({
        "cniVersion": "0.4.0", "name": "gam-e2e",
        "plugins": [{
            "type": "ptp", "ipMasq": false,
            "ipam": {
                "type": "host-local", "dataDir": dir.join("net-data"),
                "ranges": [[{ "subnet": "10.88.0.0/16" }]]
            }
        }]
    })
    .to_string()
}

/// The configuration of containerd.
pub(crate) fn configuration(dir: &Path) -> String {
    let plain = plain(dir);
    let dir = dir.display();
    format!(
        r#"{plain}
  default_runtime_name = "gam"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.gam]
  runtime_type = "io.containerd.gam.v2"
  privileged_without_host_devices = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.dropin]
  runtime_type = "io.containerd.runc.v2"
  runtime_path = "{dir}/bin/containerd-shim-gam-v2"
  privileged_without_host_devices = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.dropin.options]
  Root = "{dir}/runc"
"#
    )
}

/// The same before anybody adds a runtime. Its end is in the table in which the runtimes are.
#[must_use]
pub fn plain(dir: &Path) -> String {
    let base = base(dir, "debug", &[]);
    let (dir, image) = (dir.display(), image::NAME);
    format!(
        r#"{base}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_tcp_service = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "{dir}/net"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
"#
    )
}
