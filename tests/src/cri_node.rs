//! A node: a private containerd with CRI in a network namespace of its own, and the pods on it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use crate::client::Answer;
use crate::cri::{
    ContainerConfig, ContainerId, ContainerLinux, ContainerMetadata, ContainerStatus, ContainerStatusAnswer,
    CreateContainer, Cri, Empty, ExecSync, ExecSyncAnswer, ImageSpec, ImageStatus, ImageStatusAnswer,
    Metadata, PodConfig, PodId, PodLinux, PodSecurity, PodStatusAnswer, RunPodSandbox, StopContainer,
};
use crate::daemon::{PREFIX, remove};
use crate::leftovers::{self, CGROUP, MARK};
use crate::poll::{self, LONG};
use crate::target::{Containerd, gam_binary, gam_configuration};
use crate::{image, processes};

/// A containerd with CRI whose gam has one grouping.
pub struct Node {
    /// Its directory.
    pub dir: PathBuf,
    containerd: Containerd,
    child: Mutex<Option<Child>>,
    cri: RwLock<Option<Cri>>,
    counter: AtomicU32,
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("running {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Node {
    /// Starts one with gam's `grouping`, and brings the image in.
    ///
    /// # Panics
    /// Where it does not come up.
    #[must_use]
    pub fn start(grouping: &str) -> Self {
        let dir =
            tempfile::Builder::new().prefix(PREFIX).rand_bytes(5).tempdir_in("/tmp").expect("a directory");
        let dir = dir.keep();
        for name in ["bin", "run", "runc", "logs", "net", "image"] {
            fs::create_dir(dir.join(name)).expect("a directory of the node");
        }
        fs::copy(gam_binary(), dir.join("bin/containerd-shim-gam-v2")).expect("gam's binary");
        fs::write(dir.join("gam.toml"), format!("{}grouping = \"{grouping}\"\n", gam_configuration()))
            .expect("gam.toml");
        fs::write(dir.join("config.toml"), configuration(&dir)).expect("config.toml");
        fs::write(dir.join("net/10-ptp.conflist"), network(&dir)).expect("the network's configuration");
        let node = Self {
            dir,
            containerd: Containerd::from_env(),
            child: Mutex::new(None),
            cri: RwLock::new(None),
            counter: AtomicU32::new(1),
        };
        run(Command::new("ip").args(["netns", "add", &node.netns()]));
        run(Command::new("ip").args(["-n", &node.netns(), "link", "set", "lo", "up"]));
        node.launch();
        image::rootfs(&node.dir.join("rootfs"));
        let archive =
            image::archive_of(&node.dir.join("rootfs"), &node.dir.join("image"), &["/bin/sleep", "1000000"]);
        let mut import = Command::new(node.containerd.directory().join("ctr"));
        import.arg("-a").arg(node.dir.join("c.sock"));
        import.args(["-n", "k8s.io", "images", "import", "--snapshotter", "native"]);
        if node.containerd == Containerd::V2_1 {
            import.arg("--local");
        }
        run(import.arg(archive));
        poll::holds("CRI knows the image", || {
            let image = Some(ImageSpec { image: image::NAME.into() });
            let answer: Answer<ImageStatusAnswer> =
                node.cri().service("ImageService", "ImageStatus", ImageStatus { image });
            answer.is_ok_and(|answer| answer.image.is_some())
        });
        node
    }

    fn name(&self) -> String {
        self.dir.file_name().expect("a name").to_string_lossy().into_owned()
    }

    fn netns(&self) -> String {
        self.name().replace('.', "-")
    }

    /// The connection.
    ///
    /// # Panics
    /// While the daemon is down.
    #[must_use]
    pub fn cri(&self) -> Cri {
        self.cri.read().unwrap().clone().expect("the daemon is up")
    }

    /// Starts containerd, again after [`Node::kill_9`].
    ///
    /// # Panics
    /// Where CRI does not answer in time.
    pub fn launch(&self) {
        let log = File::options().create(true).append(true).open(self.dir.join("log")).expect("the log file");
        let bin = self.containerd.directory();
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", self.netns()))
            .arg(bin.join("containerd"))
            .arg("--config")
            .arg(self.dir.join("config.toml"))
            .env_clear()
            .env(
                "PATH",
                format!("{}/bin:{}:/usr/sbin:/usr/bin:/sbin:/bin", self.dir.display(), bin.display()),
            )
            .env("GAM_RUN_DIR", self.dir.join("run"))
            .env("GAM_CONFIG", self.dir.join("gam.toml"))
            .env(MARK, &self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file twice"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("starting containerd");
        *self.child.lock().unwrap() = Some(child);
        let connect = || {
            let cri = Cri::connect(&self.dir.join("c.sock")).ok()?;
            let answer: Answer<Empty> = cri.call("ListPodSandbox", Empty {});
            answer.is_ok().then_some(cri)
        };
        let cri = poll::within(LONG, connect)
            .unwrap_or_else(|| panic!("CRI does not answer; the log ends:\n{}", self.log_tail(20)));
        *self.cri.write().unwrap() = Some(cri);
    }

    /// Kills containerd; its shims stay.
    ///
    /// # Panics
    /// Where a thread that held the lock has.
    pub fn kill_9(&self) {
        *self.cri.write().unwrap() = None;
        if let Some(mut child) = self.child.lock().unwrap().take() {
            processes::kill_9(child.id());
            let _ = child.wait();
        }
    }

    /// The pids of gam's managers.
    #[must_use]
    pub fn managers(&self) -> Vec<u32> {
        let groups = fs::read_dir(self.dir.join("run")).into_iter().flatten().flatten();
        let pids = groups.filter_map(|group| fs::read_to_string(group.path().join("pid")).ok());
        pids.filter_map(|text| text.trim().parse().ok()).filter(|pid| processes::lives(*pid)).collect()
    }

    /// The end of containerd's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let text = fs::read(self.dir.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The configuration of a pod to be, in the Kubernetes namespace `namespace`.
    ///
    /// # Panics
    /// Where its log directory cannot be made.
    #[must_use]
    pub fn pod_config(&self, namespace: &str) -> PodConfig {
        let name = format!("pod{}", self.counter.fetch_add(1, Ordering::Relaxed));
        let logs = self.dir.join("logs").join(&name);
        fs::create_dir_all(&logs).expect("the pod's log directory");
        let metadata =
            Metadata { name: name.clone(), uid: name.clone(), namespace: namespace.into(), attempt: 0 };
        let cgroup_parent = format!("{CGROUP}/{}", self.name());
        PodConfig {
            metadata: Some(metadata),
            hostname: name,
            log_directory: logs.display().to_string(),
            labels: HashMap::new(),
            annotations: HashMap::new(),
            linux: Some(PodLinux { cgroup_parent, security: Some(PodSecurity::default()) }),
        }
    }

    /// Runs a pod with the runtime `handler`.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn pod(&self, handler: &str, config: PodConfig) -> Pod<'_> {
        let request = RunPodSandbox { config: Some(config.clone()), runtime_handler: handler.into() };
        let answer: PodId = self
            .cri()
            .call("RunPodSandbox", request)
            .unwrap_or_else(|status| panic!("RunPodSandbox: {status}; the log ends:\n{}", self.log_tail(8)));
        Pod { node: self, id: answer.id, config }
    }

    /// What is there that no pod needs.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let pid: Vec<u32> = self.child.lock().unwrap().as_ref().map(Child::id).into_iter().collect();
        let mut left = leftovers::of_daemon(&self.dir, &pid);
        let namespaces = fs::read_dir(self.dir.join("state/io.containerd.grpc.v1.cri/sandboxes"));
        left.extend(namespaces.into_iter().flatten().flatten().map(|one| one.path().display().to_string()));
        left
    }

    /// Ends the node and says what was left.
    #[must_use]
    pub fn shutdown(&self) -> Vec<String> {
        poll::within(LONG, || self.left().is_empty().then_some(()));
        let left = self.left();
        self.kill_9();
        remove(&self.dir);
        let _ = Command::new("ip").args(["netns", "delete", &self.netns()]).output();
        left
    }
}

/// A pod; it is stopped and removed when dropped.
pub struct Pod<'n> {
    node: &'n Node,
    /// The sandbox's id.
    pub id: String,
    /// Its configuration.
    pub config: PodConfig,
}

impl Pod<'_> {
    /// Creates and starts a container that runs `script`, with the log file `NAME.log`.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn container(&self, name: &str, script: &str, linux: ContainerLinux) -> String {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(ImageSpec { image: image::NAME.into() }),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            log_path: format!("{name}.log"),
            linux: Some(linux),
        };
        let request = CreateContainer {
            pod: self.id.clone(),
            config: Some(config),
            pod_config: Some(self.config.clone()),
        };
        let cri = self.node.cri();
        let created: ContainerId = cri.call("CreateContainer", request).expect("CreateContainer");
        let _: Empty = cri.call("StartContainer", created.clone()).expect("StartContainer");
        created.id
    }

    /// The log file of the container `name`.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        Path::new(&self.config.log_directory).join(format!("{name}.log"))
    }

    /// Executes `script` in the container `id`, for at most `timeout` seconds where that is not 0.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn exec(&self, id: &str, script: &str, timeout: i64) -> Answer<ExecSyncAnswer> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        self.node.cri().call("ExecSync", ExecSync { id: id.into(), command, timeout })
    }

    /// What `script` prints in the container `id`.
    ///
    /// # Panics
    /// Where it fails.
    #[must_use]
    pub fn output(&self, id: &str, script: &str) -> String {
        let answer = self.exec(id, script, 20).expect("ExecSync");
        assert_eq!(answer.exit_code, 0, "{script}: {}", String::from_utf8_lossy(&answer.stderr));
        String::from_utf8_lossy(&answer.stdout).trim().to_owned()
    }

    /// A container's status.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn status(&self, id: &str) -> ContainerStatus {
        let answer: ContainerStatusAnswer =
            self.node.cri().call("ContainerStatus", ContainerId { id: id.into() }).expect("ContainerStatus");
        answer.status.expect("a status")
    }

    /// Waits for a container's end.
    ///
    /// # Panics
    /// Where it does not end.
    #[must_use]
    pub fn ended(&self, id: &str) -> ContainerStatus {
        poll::until("the container has ended", || {
            Some(self.status(id)).filter(|status| status.state == crate::cri::EXITED)
        })
    }

    /// Whether the sandbox is ready.
    ///
    /// # Panics
    /// Where it is not known.
    #[must_use]
    pub fn ready(&self) -> bool {
        let answer: PodStatusAnswer = self
            .node
            .cri()
            .call("PodSandboxStatus", PodId { id: self.id.clone() })
            .expect("PodSandboxStatus");
        answer.status.expect("a status").state == 0
    }

    /// Stops a container, killing it after `timeout` seconds.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn stop_container(&self, id: &str, timeout: i64) -> Answer<Empty> {
        self.node.cri().call("StopContainer", StopContainer { id: id.into(), timeout })
    }

    /// Stops and removes the pod, with all in it.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn remove(&self) -> Answer<()> {
        let cri = self.node.cri();
        let _: Empty = cri.call("StopPodSandbox", PodId { id: self.id.clone() })?;
        let _: Empty = cri.call("RemovePodSandbox", PodId { id: self.id.clone() })?;
        Ok(())
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if self.node.cri.read().is_ok_and(|cri| cri.is_none()) {
            return;
        }
        if let Err(status) = self.remove() {
            assert!(std::thread::panicking(), "removing the pod: {status}");
            eprintln!("removing the pod: {status}");
        }
        let state = Path::new("/run/containerd/runc/k8s.io").join(&self.id);
        let gone = poll::within(Duration::from_secs(10), || (!state.exists()).then_some(()));
        assert!(gone.is_some() || std::thread::panicking(), "{} is left", state.display());
    }
}

fn network(dir: &Path) -> String {
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

fn configuration(dir: &Path) -> String {
    let (dir, image) = (dir.display(), image::NAME);
    format!(
        r#"version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = [
  "io.containerd.nri.v1.nri", "io.containerd.internal.v1.restart", "io.containerd.monitor.v1.cgroups",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs",
]

[grpc]
  address = "{dir}/c.sock"

[debug]
  level = "debug"

[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"

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
