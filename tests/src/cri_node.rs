//! A node: a private containerd with CRI in a network namespace of its own, and the pods on it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::client::Answer;
use crate::cri::{
    Cri, Empty, ImageSpec, ImageStatus, ImageStatusAnswer, List, Metadata, PodConfig, PodId, PodLinux,
    PodSecurity, RunPodSandbox,
};
use crate::cri_pod::Pod;
use crate::cri_setup::{GAM, configuration, found, network, programs};
use crate::daemon::{PREFIX, remove};
use crate::leftovers::{self, CGROUP, MARK};
use crate::poll::{self, LONG};
use crate::target::{Containerd, another_build, gam_configuration};
use crate::{image, processes};

/// The limit for the end of everything: a manager stays for a minute where a container was announced to it and containerd
/// then refused to create it.
const STAY: Duration = Duration::from_secs(100);

/// A containerd with CRI whose gam has one grouping.
pub struct Node {
    /// Its directory.
    pub dir: PathBuf,
    /// The generation of its containerd.
    pub containerd: Containerd,
    /// gam's grouping.
    pub grouping: String,
    /// The pods' managers, by the pods' groups and ids.
    serving: Mutex<BTreeMap<(String, String), u32>>,
    /// How many other builds of gam have been installed: each has groups of its own.
    builds: AtomicU32,
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
        Self::start_on(grouping, Containerd::from_env())
    }

    /// The same with another containerd than the environment's.
    ///
    /// # Panics
    /// Where it does not come up.
    #[must_use]
    pub fn start_on(grouping: &str, containerd: Containerd) -> Self {
        Self::start_as(containerd, grouping, &configuration)
    }

    /// The same with the configuration that `configure` makes for the node's directory.
    ///
    /// # Panics
    /// Where it does not come up.
    #[must_use]
    pub fn start_as(containerd: Containerd, grouping: &str, configure: &dyn Fn(&Path) -> String) -> Self {
        let dir =
            tempfile::Builder::new().prefix(PREFIX).rand_bytes(5).tempdir_in("/tmp").expect("a directory");
        let dir = dir.keep();
        for name in ["bin", "run", "runc", "logs", "net", "image"] {
            fs::create_dir(dir.join(name)).expect("a directory of the node");
        }
        fs::write(dir.join("gam.toml"), format!("{}grouping = \"{grouping}\"\n", gam_configuration()))
            .expect("gam.toml");
        fs::write(dir.join("config.toml"), configure(&dir)).expect("config.toml");
        fs::write(dir.join("net/10-ptp.conflist"), network(&dir)).expect("the network's configuration");
        programs(&dir.join("bin"), containerd);
        let node = Self {
            dir,
            containerd,
            grouping: grouping.into(),
            serving: Mutex::default(),
            builds: AtomicU32::new(0),
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

    /// Its name.
    ///
    /// # Panics
    /// Never: the directory has one.
    #[must_use]
    pub fn name(&self) -> String {
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

    /// Whether the daemon is up.
    pub(crate) fn up(&self) -> bool {
        self.cri.read().is_ok_and(|cri| cri.is_some())
    }

    /// Starts containerd, again after [`Node::kill_9`].
    ///
    /// # Panics
    /// Where CRI does not answer in time.
    pub fn launch(&self) {
        let log = File::options().create(true).append(true).open(self.dir.join("log")).expect("the log file");
        let child = Command::new(found("nsenter"))
            .arg(format!("--net=/run/netns/{}", self.netns()))
            .arg(self.dir.join("bin/containerd"))
            .arg("--config")
            .arg(self.dir.join("config.toml"))
            .env_clear()
            .env("PATH", self.dir.join("bin"))
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

    /// A connection to `address` from inside of the daemon's network namespace.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn dial(&self, address: &str) -> TcpStream {
        let namespace = File::open(Path::new("/run/netns").join(self.netns())).expect("the node's network");
        let address = address.to_owned();
        let dialling = thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("entering the node's network");
            TcpStream::connect(&address).unwrap_or_else(|error| panic!("connecting to {address}: {error}"))
        });
        dialling.join().expect("a connection")
    }

    /// The manager that is the parent of the process `pid`, none where the process has ended.
    ///
    /// # Panics
    /// Where the parent is not gam.
    #[must_use]
    pub fn manager_of(&self, pid: u32) -> Option<u32> {
        let manager = processes::parent(pid).filter(|_| processes::lives(pid))?;
        let program = processes::program(manager);
        if !processes::lives(pid) {
            return None;
        }
        assert_eq!(program, self.dir.join("bin").join(GAM), "{pid} is served by another shim");
        Some(manager)
    }

    /// Notes that `manager` serves the pod `id` of the Kubernetes namespace `namespace`.
    ///
    /// # Panics
    /// Where the pods of a group have two managers, two groups share one, or another shim runs.
    pub(crate) fn note(&self, id: &str, namespace: &str, manager: u32) {
        let group = match self.grouping.as_str() {
            "pod" => id,
            "namespace" => namespace,
            _ => "",
        };
        let group = format!("{} {group}", self.builds.load(Ordering::Relaxed));
        let mut serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        serving.insert((group, id.into()), manager);
        let pairs = || serving.iter().map(|((group, _), manager)| (group, manager));
        for (one, its) in pairs() {
            for (other, others) in pairs() {
                assert_eq!(one == other, its == others, "one manager to a group: {:?}", *serving);
            }
        }
        let other = |pid: &u32| {
            let program = processes::program(*pid);
            program.to_string_lossy().contains("containerd-shim") && !program.ends_with(GAM)
        };
        let others: Vec<u32> = processes::of_directory(&self.dir).into_iter().filter(other).collect();
        assert!(others.is_empty(), "another shim runs: {others:?}");
    }

    /// Puts another build of gam in the place of the one that is there. The pods from now on have other managers.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn install_another_build(&self) {
        another_build(&self.dir.join("bin").join(GAM));
        self.builds.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets who serves the pod `id`: its manager is not the one that its group has now.
    pub fn forget(&self, id: &str) {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, pod), _| pod != id);
    }

    /// The managers that serve pods.
    ///
    /// # Panics
    /// Where a thread that held the lock has.
    #[must_use]
    pub fn serving(&self) -> Vec<u32> {
        let mut managers: Vec<u32> =
            self.serving.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect();
        managers.sort_unstable();
        managers.dedup();
        managers
    }

    /// The programs that containerd could find by its PATH or beside itself.
    ///
    /// # Panics
    /// While it is down.
    #[must_use]
    pub fn findable(&self) -> Vec<String> {
        let pid = self.child.lock().unwrap().as_ref().expect("the daemon is up").id();
        let environment = fs::read(format!("/proc/{pid}/environ")).expect("the daemon's environment");
        let environment = String::from_utf8_lossy(&environment).into_owned();
        let path =
            environment.split('\0').find_map(|one| one.strip_prefix("PATH=")).expect("a PATH").to_owned();
        let program = fs::read_link(format!("/proc/{pid}/exe")).expect("the daemon's program");
        let beside = program.parent().expect("a directory").to_path_buf();
        let directories = path.split(':').map(PathBuf::from).chain([beside]);
        let files = directories.flat_map(|directory| fs::read_dir(directory).into_iter().flatten().flatten());
        files.map(|file| file.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Waits until no pod and nothing of one is there.
    ///
    /// # Panics
    /// Where something stays, with what.
    pub fn empty(&self) {
        if poll::within(STAY, || self.left().is_empty().then_some(())).is_none() {
            panic!("the case left behind:\n  {}", self.left().join("\n  "));
        }
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

    /// Asks for a pod with the runtime `handler`; its id.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn try_pod(&self, handler: &str, config: &PodConfig) -> Answer<String> {
        let request = RunPodSandbox { config: Some(config.clone()), runtime_handler: handler.into() };
        let answer: PodId = self.cri().call("RunPodSandbox", request)?;
        Ok(answer.id)
    }

    /// Runs a pod with the runtime `handler`, and sees to it that gam serves it.
    ///
    /// # Panics
    /// Where it does not start, or its group has another manager.
    #[must_use]
    pub fn pod(&self, handler: &str, config: PodConfig) -> Pod<'_> {
        let id = self
            .try_pod(handler, &config)
            .unwrap_or_else(|status| panic!("RunPodSandbox: {status}; the log ends:\n{}", self.log_tail(8)));
        let pod = Pod { node: self, id, config };
        let manager = self.manager_of(pod.pid()).expect("the sandbox runs");
        let namespace = pod.config.metadata.as_ref().expect("the pod's metadata").namespace.clone();
        self.note(&pod.id, &namespace, manager);
        pod
    }

    /// What is there that no pod needs.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let pid: Vec<u32> = self.child.lock().unwrap().as_ref().map(Child::id).into_iter().collect();
        let mut left = leftovers::of_daemon(&self.dir, &pid);
        let namespaces = fs::read_dir(self.dir.join("state/io.containerd.grpc.v1.cri/sandboxes"));
        left.extend(namespaces.into_iter().flatten().flatten().map(|one| one.path().display().to_string()));
        if let Some(cri) = self.cri.read().ok().and_then(|cri| cri.clone()) {
            for method in ["ListPodSandbox", "ListContainers"] {
                let listed: List = cri.call(method, Empty {}).unwrap_or_default();
                left.extend(listed.items.into_iter().map(|one| format!("{method}: {}", one.id)));
            }
        }
        for network in ["state/netns", "state/io.containerd.grpc.v1.cri/netns"] {
            let namespaces = fs::read_dir(self.dir.join(network)).into_iter().flatten().flatten();
            left.extend(namespaces.map(|one| one.path().display().to_string()));
        }
        left
    }

    /// Ends the node and says what was left.
    #[must_use]
    pub fn shutdown(&self) -> Vec<String> {
        poll::within(LONG, || self.left().is_empty().then_some(()));
        let left = self.left();
        self.destroy();
        left
    }

    fn destroy(&self) {
        self.kill_9();
        remove(&self.dir);
        let _ = Command::new("ip").args(["netns", "delete", &self.netns()]).output();
    }
}

impl Drop for Node {
    /// One whose test has failed has not been shut down.
    fn drop(&mut self) {
        if self.dir.exists() {
            self.destroy();
        }
    }
}
