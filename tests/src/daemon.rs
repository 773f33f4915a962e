//! A private containerd: its own directories, socket, configuration and PATH, ended by its pid.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, RwLock};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::Client;
use crate::containerd_config::{WITHOUT_CRI, base};
use crate::events::Recorder;
use crate::leftovers::{self, CGROUP, MARK};
use crate::poll::{self, LONG};
use crate::target::{self, Containerd, Shim, gam_binary, gam_configuration, go_binary};
use crate::{cgroup, image, processes};

/// What the names of the directories begin with, in /tmp: the paths of sockets have to be short.
pub const PREFIX: &str = "gam-e2e.";

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The shim of its containers.
    pub shim: Shim,
    /// The daemon itself.
    pub containerd: Containerd,
    /// The text of gam's configuration file.
    pub gam: String,
    /// The daemon's own log level; its shims get `-debug` at `debug` alone.
    pub level: &'static str,
    /// More environment for the daemon, and so for its shims.
    pub environment: Vec<(String, String)>,
}

impl Settings {
    /// What the environment asks for; managers stay a second.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shim: Shim::from_env(),
            containerd: Containerd::from_env(),
            gam: gam_configuration(),
            level: "debug",
            environment: Vec::new(),
        }
    }

    /// With gam's containers grouped by `grouping`.
    #[must_use]
    pub fn grouping(mut self, grouping: &str) -> Self {
        self.gam.push_str(&format!("grouping = \"{grouping}\"\n"));
        self
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

/// A running containerd.
pub struct Daemon {
    /// Its directory, with everything of it.
    pub dir: PathBuf,
    /// What it was started with.
    pub settings: Settings,
    /// The events since its start.
    pub events: Recorder,
    generation: Mutex<Containerd>,
    child: Mutex<Option<Child>>,
    client: RwLock<Option<Client>>,
    sockets: Mutex<BTreeSet<PathBuf>>,
}

impl Daemon {
    /// Starts one and waits until it answers.
    ///
    /// # Panics
    /// Where it does not.
    #[must_use]
    pub fn start(settings: Settings) -> Arc<Self> {
        let dir =
            tempfile::Builder::new().prefix(PREFIX).rand_bytes(5).tempdir_in("/tmp").expect("a directory");
        let dir = dir.keep();
        for name in ["bin", "io", "run", "runc"] {
            fs::create_dir(dir.join(name)).expect("a directory of the daemon");
        }
        image::rootfs(&dir.join("rootfs"));
        fs::write(dir.join("gam.toml"), &settings.gam).expect("gam's configuration");
        fs::write(dir.join("config.toml"), base(&dir, settings.level, WITHOUT_CRI))
            .expect("containerd's configuration");
        let shim = dir.join("bin").join(settings.shim.binary_name());
        let binary = match settings.shim {
            Shim::Gam => gam_binary(),
            Shim::Go => go_binary(),
        };
        fs::copy(&binary, &shim).unwrap_or_else(|error| panic!("copying {}: {error}", binary.display()));
        let daemon = Arc::new(Self {
            dir,
            generation: Mutex::new(settings.containerd),
            settings,
            events: Recorder::default(),
            child: Mutex::new(None),
            client: RwLock::new(None),
            sockets: Mutex::default(),
        });
        daemon.launch();
        daemon
    }

    /// The socket of the gRPC API.
    #[must_use]
    pub fn address(&self) -> PathBuf {
        self.dir.join("c.sock")
    }

    /// The last part of the directory's name, unique among daemons.
    ///
    /// # Panics
    /// Never: the directory has a name.
    #[must_use]
    pub fn name(&self) -> String {
        self.dir.file_name().expect("a name").to_string_lossy().into_owned()
    }

    /// The root directory of runc that containers are created with.
    #[must_use]
    pub fn runc_root(&self) -> PathBuf {
        self.dir.join("runc")
    }

    /// The cgroup of a container of it.
    #[must_use]
    pub fn cgroup(&self, namespace: &str, id: &str) -> String {
        format!("{CGROUP}/{}/{namespace}.{id}", self.name())
    }

    /// The bundle of a container of it.
    #[must_use]
    pub fn bundle(&self, namespace: &str, id: &str) -> PathBuf {
        self.dir.join("state/io.containerd.runtime.v2.task").join(namespace).join(id)
    }

    /// The client.
    ///
    /// # Panics
    /// While the daemon is down.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.read().unwrap().clone().expect("the daemon is up")
    }

    /// The daemon's pid, while it runs.
    ///
    /// # Panics
    /// Where a thread that held the lock has.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.lock().unwrap().as_ref().map(Child::id)
    }

    /// The environment that its shims get, and so what a test that runs a shim itself gives it.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let bin = self.dir.join("bin");
        let containerd = self.generation().directory();
        let path = format!("{}:{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display(), containerd.display());
        let mut all = vec![
            ("PATH".to_owned(), path),
            ("GAM_RUN_DIR".to_owned(), self.dir.join("run").display().to_string()),
            ("GAM_CONFIG".to_owned(), self.dir.join("gam.toml").display().to_string()),
            (MARK.to_owned(), self.dir.display().to_string()),
        ];
        all.extend(self.settings.environment.iter().cloned());
        all
    }

    /// Which containerd it is now.
    ///
    /// # Panics
    /// Where a thread that held the lock has.
    #[must_use]
    pub fn generation(&self) -> Containerd {
        *self.generation.lock().unwrap()
    }

    /// Starts another generation of the daemon on the same directories, after this one was ended.
    ///
    /// # Panics
    /// As [`Self::launch`].
    pub fn launch_as(&self, generation: Containerd) {
        *self.generation.lock().unwrap() = generation;
        self.launch();
    }

    /// Starts the daemon, again after it was ended.
    ///
    /// # Panics
    /// Where it runs already, or does not answer in time.
    pub fn launch(&self) {
        let log = File::options().create(true).append(true).open(self.dir.join("log")).expect("the log file");
        let mut slot = self.child.lock().unwrap();
        assert!(slot.is_none(), "the daemon runs already");
        let child = Command::new(self.generation().directory().join("containerd"))
            .arg("--config")
            .arg(self.dir.join("config.toml"))
            .env_clear()
            .envs(self.environment())
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file twice"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("starting containerd");
        *slot = Some(child);
        drop(slot);
        let connect = || {
            let client = Client::connect(&self.address()).ok()?;
            client.version().is_ok().then_some(client)
        };
        let client = poll::within(LONG, connect)
            .unwrap_or_else(|| panic!("containerd does not answer; its log ends:\n{}", self.log_tail(20)));
        self.events.attach(&client);
        *self.client.write().unwrap() = Some(client);
    }

    /// Puts another build of the shim in the place of the one that is there.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn install_another_build(&self) {
        target::another_build(&self.dir.join("bin").join(self.settings.shim.binary_name()));
    }

    fn end(&self, signal: Signal) {
        *self.client.write().unwrap() = None;
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = kill(Pid::from_raw(i32::try_from(child.id()).expect("a pid")), signal);
            let _ = child.wait();
        }
    }

    /// Kills the daemon, its shims stay.
    pub fn kill_9(&self) {
        self.end(Signal::SIGKILL);
    }

    /// Stops the daemon in an orderly way, its shims stay.
    pub fn stop(&self) {
        self.end(Signal::SIGTERM);
    }

    /// Remembers the shim's socket of a container that was just created.
    ///
    /// # Panics
    /// Where a thread that held the lock has.
    pub fn note_socket(&self, namespace: &str, id: &str) {
        let text = fs::read_to_string(self.bundle(namespace, id).join("address")).unwrap_or_default();
        if let Some(path) = text.trim().strip_prefix("unix://") {
            self.sockets.lock().unwrap().insert(path.into());
        }
    }

    /// Forgets the sockets seen so far: they need not be gone at the end.
    ///
    /// # Panics
    /// Where a thread that held the lock has.
    pub fn forget_sockets(&self) {
        self.sockets.lock().unwrap().clear();
    }

    /// The sockets of shims seen so far.
    ///
    /// # Panics
    /// Where a thread that held the lock has.
    #[must_use]
    pub fn sockets(&self) -> Vec<PathBuf> {
        self.sockets.lock().unwrap().iter().cloned().collect()
    }

    /// The long-running shims of this daemon: what serves its containers.
    #[must_use]
    pub fn shims(&self) -> Vec<u32> {
        let daemon = self.pid();
        let shim = self.dir.join("bin").join(self.settings.shim.binary_name());
        processes::of_directory(&self.dir)
            .into_iter()
            .filter(|pid| Some(*pid) != daemon)
            .filter(|pid| processes::program(*pid) == shim)
            .collect()
    }

    /// How many events of a topic the daemon has had from shims since it was first started, by its own log: a restarted
    /// daemon may have some before anybody has subscribed to them. The level must be `trace`, as containerd 2 has it.
    #[must_use]
    pub fn received(&self, topic: &str) -> usize {
        let bytes = fs::read(self.dir.join("log")).unwrap_or_default();
        let topic = format!("topic={topic} ");
        // Those that the shim sent itself, and those that it had containerd's `publish` command send.
        let words = ["\"event forwarded\"", "\"event published\""];
        let is = |line: &&str| words.iter().any(|word| line.contains(word)) && line.contains(&topic);
        String::from_utf8_lossy(&bytes).lines().filter(is).count()
    }

    /// The last lines of the log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let bytes = fs::read(self.dir.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// Ends everything and says what was left that should have gone by itself.
    #[must_use]
    pub fn shutdown(&self) -> Vec<String> {
        if !self.dir.exists() {
            return Vec::new();
        }
        let look = || {
            let mut left = leftovers::of_daemon(&self.dir, &self.pid().into_iter().collect::<Vec<_>>());
            let sockets = self.sockets().into_iter().filter(|path| path.exists());
            left.extend(sockets.map(|path| format!("the socket {}", path.display())));
            left
        };
        poll::within(LONG, || look().is_empty().then_some(()));
        let left = look();
        self.stop();
        // What is left has been told of; it may not disturb what comes next.
        remove(&self.dir);
        left
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let left = self.shutdown();
        if !left.is_empty() {
            let text = left.join("\n  ");
            if thread::panicking() {
                eprintln!("left behind:\n  {text}");
            } else {
                panic!("left behind:\n  {text}");
            }
        }
    }
}

/// Ends and removes everything of the daemon whose directory is `directory`.
pub fn remove(directory: &Path) {
    let name = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let cgroup = format!("{CGROUP}/{name}");
    for _ in 0..50 {
        let mut pids = processes::of_directory(directory);
        pids.extend(below(&cgroup));
        pids.retain(|pid| *pid != std::process::id());
        if pids.is_empty() {
            break;
        }
        pids.into_iter().for_each(processes::kill_9);
        thread::sleep(Duration::from_millis(20));
    }
    for point in leftovers::mounts(directory).iter().rev() {
        let _ = nix::mount::umount2(Path::new(point), nix::mount::MntFlags::MNT_DETACH);
    }
    cgroup::remove(&cgroup);
    cgroup::remove_if_empty(CGROUP);
    let _ = fs::remove_dir_all(directory);
}

fn below(cgroup: &str) -> Vec<u32> {
    let mut pids = cgroup::pids(cgroup);
    for directory in cgroup::directories(cgroup) {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                if let Some(name) = entry.file_name().to_str() {
                    pids.extend(below(&format!("{cgroup}/{name}")));
                }
            }
        }
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}
