//! Bundles as containerd makes them.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use gam_protos::any::pack;
use gam_protos::runc_options::Options;
use protobuf::well_known_types::any::Any;
use serde_json::{Value, json};

use super::container::{Boot, Container};
use super::fifo::{self, Collector};
use super::lab::Lab;

/// What config.json holds.
#[derive(Debug, Clone)]
pub enum Config {
    /// What the plan says.
    Planned,
    /// These bytes.
    Raw(Vec<u8>),
    /// There is none.
    Missing,
}

/// What a container is to be.
#[derive(Clone)]
pub struct Plan {
    lab: Lab,
    /// Its id.
    pub id: String,
    /// containerd's namespace.
    pub namespace: String,
    args: Vec<String>,
    fake: bool,
    group: Option<String>,
    private_pids: bool,
    memory: Option<u64>,
    config: Config,
    options: Option<Any>,
    stdin: bool,
    output: bool,
    terminal: bool,
    mounted: bool,
    log: bool,
    debug: bool,
    environment: Vec<(String, String)>,
}

impl Plan {
    pub(super) fn new(lab: &Lab, id: &str) -> Self {
        Self {
            lab: lab.clone(),
            id: id.to_owned(),
            namespace: lab.namespace().to_owned(),
            args: vec!["sleep".into(), "1000".into()],
            fake: false,
            group: None,
            private_pids: true,
            memory: None,
            config: Config::Planned,
            options: None,
            stdin: false,
            output: false,
            terminal: false,
            mounted: false,
            log: true,
            debug: false,
            environment: Vec::new(),
        }
    }

    /// What init runs, a command of busybox.
    #[must_use]
    pub fn args(mut self, args: &[&str]) -> Self {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self
    }

    /// Init is a shell that runs `script`.
    #[must_use]
    pub fn script(self, script: &str) -> Self {
        self.args(&["sh", "-c", script])
    }

    /// Made by the fake runtime.
    #[must_use]
    pub fn fake(mut self) -> Self {
        self.fake = true;
        self
    }

    /// In the pod `group`: shares its shim in every grouping.
    #[must_use]
    pub fn group(mut self, group: &str) -> Self {
        self.group = Some(group.to_owned());
        self
    }

    /// Without a PID namespace of its own.
    #[must_use]
    pub fn shared_pids(mut self) -> Self {
        self.private_pids = false;
        self
    }

    /// In another namespace of containerd.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        namespace.clone_into(&mut self.namespace);
        self
    }

    /// With so many bytes of memory at most.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// With another config.json.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// With other options in Create.
    #[must_use]
    pub fn options(mut self, options: Any) -> Self {
        self.options = Some(options);
        self
    }

    /// With a FIFO for stdin.
    #[must_use]
    pub fn stdin(mut self) -> Self {
        self.stdin = true;
        self
    }

    /// With FIFOs for stdout and stderr, which are read.
    #[must_use]
    pub fn output(mut self) -> Self {
        self.output = true;
        self
    }

    /// With a terminal.
    #[must_use]
    pub fn terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// With a rootfs that Create has to mount.
    #[must_use]
    pub fn mounted(mut self) -> Self {
        self.mounted = true;
        self
    }

    /// Without a reader at `log`.
    #[must_use]
    pub fn unlogged(mut self) -> Self {
        self.log = false;
        self
    }

    /// With `-debug`.
    #[must_use]
    pub fn debug(mut self) -> Self {
        self.debug = true;
        self
    }

    /// With a variable in the environment of `start`.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where its bundle is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.lab.directory().join("b").join(&self.namespace).join(&self.id)
    }

    /// The options that Create sends.
    #[must_use]
    pub fn runtime_options(&self) -> Any {
        if let Some(options) = &self.options {
            return options.clone();
        }
        let mut options = Options::new();
        options.root = self.lab.runtime_root().to_string_lossy().into_owned();
        if self.fake {
            options.binary_name = super::subject::built("fake-runtime").to_string_lossy().into_owned();
        }
        pack(&options).expect("options can be encoded")
    }

    /// The cgroup of it.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("/gs-{}-{}", self.namespace, self.id)
    }

    fn spec(&self) -> Value {
        let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "ipc"}), json!({"type": "uts"})];
        if self.private_pids {
            namespaces.push(json!({"type": "pid"}));
        }
        let mut annotations = json!({});
        if let Some(group) = &self.group {
            let kind = if *group == self.id { "sandbox" } else { "container" };
            annotations = json!({
                "io.kubernetes.cri.sandbox-id": group, "io.kubernetes.cri.container-type": kind,
                "io.kubernetes.cri.sandbox-namespace": "tenant", "io.kubernetes.cri.sandbox-name": "pod",
            });
        }
        let mut resources = json!({"devices": [{"allow": false, "access": "rwm"}]});
        if let Some(bytes) = self.memory {
            resources["memory"] = json!({"limit": bytes, "swap": bytes});
        }
        let root = if self.mounted { PathBuf::from("rootfs") } else { self.lab.rootfs() };
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": self.terminal, "user": {"uid": 0, "gid": 0}, "args": self.args,
                "env": ["PATH=/bin", "TERM=xterm"], "cwd": "/",
            },
            "root": {"path": root},
            "hostname": "gam",
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=64k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]},
            ],
            "annotations": annotations,
            "linux": {"namespaces": namespaces, "cgroupsPath": self.cgroup(), "resources": resources},
        })
    }

    /// Makes the bundle on disk.
    ///
    /// # Panics
    /// If that fails.
    pub fn bundle(&self) -> PathBuf {
        let path = self.path();
        fs::create_dir_all(path.join("rootfs")).expect("bundle");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("bundle");
        match &self.config {
            Config::Planned => {
                fs::write(path.join("config.json"), self.spec().to_string()).expect("config.json")
            }
            Config::Raw(bytes) => fs::write(path.join("config.json"), bytes).expect("config.json"),
            Config::Missing => {}
        }
        path
    }

    /// Makes the bundle, runs `start` in it and connects.
    ///
    /// # Errors
    /// What went wrong on the way.
    pub async fn try_boot(self) -> Result<Container, String> {
        let bundle = self.bundle();
        let log = self.log.then(|| Collector::start(&bundle.join("log")));
        let boot = Boot { environment: self.environment.clone(), debug: self.debug };
        let fifo = |name: &str| self.lab.directory().join(format!("{}-{}-{name}", self.namespace, self.id));
        let mut streams = Vec::new();
        if self.output {
            for name in ["stdout", "stderr"] {
                if !(self.terminal && name == "stderr") {
                    streams.push(Collector::start(&fifo(name)));
                }
            }
        }
        let stdin = self.stdin.then(|| {
            let path = fifo("stdin");
            if !path.exists() {
                fifo::make(&path);
            }
            path
        });
        let container = Container::launch(&self.lab, &self, bundle, log, streams, stdin, &boot).await?;
        self.lab.adopt(&container);
        Ok(container)
    }

    /// As [`Plan::try_boot`], which must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub async fn boot(self) -> Container {
        let id = self.id.clone();
        self.try_boot().await.unwrap_or_else(|error| panic!("start of {id}: {error}"))
    }

    /// Boots and creates.
    pub async fn try_create(self) -> (Container, ttrpc::Result<u32>) {
        let container = self.boot().await;
        let created = container.create().await;
        (container, created)
    }

    /// Boots and creates, which must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub async fn create(self) -> Container {
        let (container, created) = self.try_create().await;
        created.unwrap_or_else(|error| panic!("Create of {}: {error}", container.id()));
        container
    }

    /// Boots, creates and starts, which must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub async fn run(self) -> Container {
        let container = self.create().await;
        container.start("").await.unwrap_or_else(|error| panic!("Start of {}: {error}", container.id()));
        container
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    pub(super) fn is_mounted(&self) -> bool {
        self.mounted
    }
}

/// Makes a root file system of busybox.
///
/// # Panics
/// If that fails.
pub(super) fn rootfs(path: &Path) {
    for name in ["bin", "proc", "dev", "tmp"] {
        fs::create_dir_all(path.join(name)).expect("rootfs");
    }
    if fs::hard_link("/bin/busybox", path.join("bin/busybox")).is_err() {
        fs::copy("/bin/busybox", path.join("bin/busybox")).expect("busybox");
    }
    for name in [
        "sh", "sleep", "true", "false", "cat", "echo", "kill", "head", "tail", "yes", "seq", "dd", "stty",
        "ls",
    ] {
        symlink("busybox", path.join("bin").join(name)).expect("busybox");
    }
}
