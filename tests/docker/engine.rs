//! A private dockerd on a private containerd, and the docker command line for it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gam_tests::daemon::{Daemon, Settings};
use gam_tests::image;
use gam_tests::leftovers::{self, CGROUP};
use gam_tests::poll::{self, LONG};
use gam_tests::target::{Containerd, Shim};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::container::Container;

/// dockerd's containerd namespace.
pub(crate) const NAMESPACE: &str = "moby";
/// The image that [`image::archive`] holds, as docker calls it.
pub(crate) const IMAGE: &str = "gam-e2e";
/// The limit for one run of the docker command line.
const COMMAND: Duration = Duration::from_secs(120);

static SHARED: OnceLock<Engine> = OnceLock::new();

/// A running dockerd.
pub(crate) struct Engine {
    /// The containerd below it.
    pub(crate) daemon: Arc<Daemon>,
    child: Mutex<Option<Child>>,
}

/// The one that all cases share.
pub(crate) fn shared() -> &'static Engine {
    SHARED.get_or_init(Engine::start)
}

/// Ends the shared one; what was left behind.
pub(crate) fn finish() -> Vec<String> {
    SHARED.get().map(Engine::finish).unwrap_or_default()
}

/// How a command line ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Its exit status, or 1000 and the number of the signal that ended it.
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A command line at work.
pub(crate) struct Running {
    what: String,
    child: Child,
    readers: Vec<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Writes to its stdin.
    pub(crate) fn write(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is open");
        stdin.write_all(text.as_bytes()).unwrap_or_else(|error| panic!("writing to {}: {error}", self.what));
    }

    /// Closes its stdin.
    pub(crate) fn close(&mut self) {
        self.child.stdin = None;
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().expect("waiting").is_some()
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Outcome {
        self.close();
        let ended = poll::within(COMMAND, || self.child.try_wait().expect("waiting"));
        let Some(status) = ended else {
            let _ = self.child.kill();
            let _ = self.child.wait();
            panic!("{} is not done after {COMMAND:?}", self.what);
        };
        let mut texts = self.readers.drain(..).map(|reader| {
            let bytes = reader.join().expect("the reader");
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let (stdout, stderr) = (texts.next().unwrap_or_default(), texts.next().unwrap_or_default());
        drop(texts);
        let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default();
        Outcome { status: status.code().unwrap_or(1000 + signal), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that a failed case left does not outlive it.
        if !self.child.try_wait().is_ok_and(|status| status.is_some()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn reader(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// A program of the unpacked packages.
fn program(path: &str) -> PathBuf {
    let bin = Containerd::V1_7.directory();
    let file = bin.parent().expect("usr").join(path);
    assert!(file.exists(), "{} is missing: run make docker-unpack", file.display());
    file
}

impl Engine {
    /// Starts one; its containers outlive it.
    pub(crate) fn start() -> Self {
        let daemon = Daemon::start(Settings { containerd: Containerd::V1_7, ..Settings::new() });
        let dir = daemon.dir.clone();
        for name in ["home", "image"] {
            fs::create_dir(dir.join(name)).expect("a directory of dockerd");
        }
        fs::write(dir.join("options.toml"), format!("Root = \"{}\"\n", dir.join("runc").display()))
            .expect("the runtime's options");
        fs::write(dir.join("daemon.json"), runtimes(&dir.display().to_string()).to_string())
            .expect("dockerd's configuration");
        let engine = Self { daemon, child: Mutex::new(None) };
        engine.launch();
        let archive = image::archive(&dir.join("rootfs"), &dir.join("image"));
        engine.ok(&["load", "--input", &archive.display().to_string()]);
        engine
    }

    /// Starts dockerd, again after it was ended, and waits until it answers.
    pub(crate) fn launch(&self) {
        let (daemon, dir) = (&self.daemon, &self.daemon.dir);
        let log =
            File::options().create(true).append(true).open(dir.join("docker.log")).expect("dockerd's log");
        let path = |name: &str| dir.join(name).display().to_string();
        let child = Command::new(program("sbin/dockerd"))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--userland-proxy=false"])
            .args(["--config-file", &path("daemon.json"), "--containerd", &path("c.sock")])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec"), "--pidfile", &path("d.pid")])
            .args(["--host", &format!("unix://{}", path("d.sock"))])
            .args(["--cgroup-parent", &format!("{CGROUP}/{}", daemon.name())])
            .env_clear()
            .envs(daemon.environment())
            .env("HOME", dir.join("home"))
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log file twice"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("starting dockerd");
        *self.child.lock().unwrap() = Some(child);
        let up = poll::within(LONG, || (self.docker(&["version"]).status == 0).then_some(()));
        if up.is_none() {
            let log = fs::read_to_string(dir.join("docker.log")).unwrap_or_default();
            let _ = self.finish();
            panic!("dockerd does not answer; its log:\n{log}");
        }
    }

    /// Kills dockerd; its containers stay.
    pub(crate) fn kill_9(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Begins a run of the docker command line.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Running {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("running docker");
        let readers =
            vec![reader(child.stdout.take().expect("stdout")), reader(child.stderr.take().expect("stderr"))];
        Running { what: format!("docker {}", arguments.join(" ")), child, readers }
    }

    /// The docker command line.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(program("bin/docker"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.daemon.environment())
            .env("HOME", self.daemon.dir.join("home"))
            .env("DOCKER_HOST", format!("unix://{}", self.daemon.dir.join("d.sock").display()));
        command
    }

    /// Runs the docker command line.
    pub(crate) fn docker(&self, arguments: &[&str]) -> Outcome {
        self.begin(arguments).finish()
    }

    /// Runs the docker command line, which has to succeed; its stdout without the white space around it.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let outcome = self.docker(arguments);
        assert_eq!(outcome.status, 0, "docker {}: {outcome:?}", arguments.join(" "));
        outcome.stdout.trim().to_owned()
    }

    /// The arguments of `docker VERB` for a container of the runtime under test.
    pub(crate) fn arguments<'a>(verb: &[&'a str], options: &[&'a str], command: &[&'a str]) -> Vec<&'a str> {
        let mut all = verb.to_vec();
        all.extend(["--network", "none"]);
        if Shim::from_env() == Shim::Gam {
            all.extend(["--runtime", Shim::Gam.runtime()]);
        }
        all.extend(options);
        all.push(IMAGE);
        all.extend(command);
        all
    }

    /// `docker run --rm` of a script, in the foreground.
    pub(crate) fn run(&self, options: &[&str], script: &str) -> Outcome {
        self.docker(&Self::arguments(&["run", "--rm"], options, &["sh", "-c", script]))
    }

    /// `docker run --detach` of a script.
    pub(crate) fn start_container(&self, options: &[&str], script: &str) -> Container<'_> {
        let id = self.ok(&Self::arguments(&["run", "--detach"], options, &["sh", "-c", script]));
        Container::new(self, id)
    }

    /// The container that a command of its own made and named `name`, once it is there.
    pub(crate) fn container_named(&self, name: &str) -> Container<'_> {
        let id = poll::until("the container is there", || {
            let outcome = self.docker(&["inspect", "--type", "container", "--format", "{{.Id}}", name]);
            (outcome.status == 0).then(|| outcome.stdout.trim().to_owned())
        });
        Container::new(self, id)
    }

    /// Ends everything; what was left behind.
    pub(crate) fn finish(&self) -> Vec<String> {
        let mut left = Vec::new();
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let containers = self.docker(&["ps", "--all", "--quiet"]).stdout;
            left.extend(containers.lines().map(|id| format!("the container {id} of docker")));
            if !containers.is_empty() {
                let mut remove = vec!["rm", "--force"];
                remove.extend(containers.lines());
                let _ = self.docker(&remove);
            }
            let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
            let _ = kill(pid, Signal::SIGTERM);
            if poll::within(LONG, || child.try_wait().expect("waiting for dockerd")).is_none() {
                left.push("dockerd does not end on SIGTERM".into());
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        // dockerd's own, which one that was killed leaves.
        let data = self.daemon.dir.join("data").display().to_string();
        let points = leftovers::mounts(&self.daemon.dir).into_iter().filter(|point| *point != data);
        left.extend(points.map(|point| format!("the mount {point}")));
        left.extend(self.daemon.shutdown());
        left
    }
}

/// dockerd's configuration: containers outlive it, and there is a runtime `named`, with a root for runc of its own.
fn runtimes(dir: &str) -> Value {
    let options = match Shim::from_env() {
        Shim::Gam => json!({ "TypeUrl": "gam", "ConfigPath": format!("{dir}/options.toml") }),
        Shim::Go => json!({ "Root": format!("{dir}/runc") }),
    };
    json!({ "live-restore": true, "runtimes": { "named": { "runtimeType": Shim::from_env().runtime(), "options": options } } })
}
