//! A tenant that makes every trouble there is, in loops, and commands of the runtime that hang.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use gam_tests::case::{Builder, Container};
use gam_tests::daemon::Daemon;
use gam_tests::suite::Test;
use gam_tests::{processes, stdio};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::troubles::Trouble;

/// The commands of the runtime that stop in the middle, as in an uninterruptible sleep.
const STUCK: [&str; 5] = ["create", "exec", "pause", "kill", "delete"];
/// Between two rounds of one trouble.
const PAUSE: Duration = Duration::from_secs(1);

/// The tenant at work.
pub(crate) struct BadTenant<'t> {
    t: &'t Test,
    pub(crate) daemon: &'t Arc<Daemon>,
    /// Its pod's sandbox.
    pub(crate) sandbox: Container,
    /// How often each trouble has been made.
    counts: Mutex<BTreeMap<&'static str, usize>>,
    over: AtomicBool,
}

impl<'t> BadTenant<'t> {
    pub(crate) fn new(t: &'t Test, daemon: &'t Arc<Daemon>) -> Self {
        let sandbox = t.container_of(daemon).sandbox("bad").run();
        Self { t, daemon, sandbox, counts: Mutex::default(), over: AtomicBool::new(false) }
    }

    /// Makes one trouble until it is over.
    pub(crate) fn work(&self, (name, _, make): Trouble) {
        while !self.is_over() {
            make(self);
            self.count(name);
            thread::sleep(PAUSE);
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn count(&self, name: &'static str) {
        *self.counts.lock().unwrap().entry(name).or_default() += 1;
    }

    /// What has been made, and how often.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.counts.lock().unwrap().clone()
    }

    /// A container of its pod, with a third of a processor, as its owner's quota may say.
    pub(crate) fn container(&self) -> Builder {
        self.t.container_of(self.daemon).in_pod("bad", &self.sandbox.id).change(|spec| {
            spec.json["linux"]["resources"]["cpu"] = json!({ "quota": 30_000, "period": 100_000 });
        })
    }

    /// A path that nothing has.
    pub(crate) fn path(&self) -> PathBuf {
        self.daemon.dir.join("io").join(self.t.id())
    }

    /// A new FIFO.
    pub(crate) fn fifo(&self) -> PathBuf {
        let path = self.path();
        stdio::fifo(&path);
        path
    }

    /// Writes a script, unless it is there. It appears at once: what is still open for writing cannot be run.
    fn script(&self, name: &str, interpreter: &str, text: &str) -> PathBuf {
        let path = self.daemon.dir.join(name);
        if !path.exists() {
            let aside = self.path();
            fs::write(&aside, format!("#!{interpreter}\n{text}\n")).unwrap();
            fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(&aside, &path).unwrap();
        }
        path
    }

    /// The URI of a logger that runs `text`, with its streams at 3 and 4, and 5 to be closed when it is ready.
    pub(crate) fn logger(&self, name: &str, text: &str) -> String {
        format!("binary://{}", self.script(&format!("{name}.logger"), "/bin/bash", text).display())
    }

    /// The address that the manager serves its containers at.
    pub(crate) fn address(&self) -> String {
        let bundle = self.daemon.bundle(&self.sandbox.namespace, &self.sandbox.id);
        fs::read_to_string(bundle.join("address")).unwrap()
    }

    /// Calls the runtime with commands that stop, on the name of a third tenant: each of them is under way until the end.
    pub(crate) fn get_stuck(&self, number: usize) {
        let command = STUCK[number % STUCK.len()];
        let (go, noted) = (self.daemon.dir.join("go"), self.daemon.dir.join("stuck"));
        let text = format!(
            "case \" $* \" in *\" {command} \"*) [ -e {} ] || {{ echo $$ >>{}; kill -STOP $$; }};; esac\nexec runc \"$@\"",
            go.display(),
            noted.display()
        );
        let runtime = self.script(&format!("stuck-{command}"), "/bin/sh", &text);
        let builder = self.t.container_of(self.daemon).sandbox("stuck");
        let Ok(container) =
            builder.options(|options| options.binary_name = runtime.display().to_string()).try_create()
        else {
            return;
        };
        let _ = container.try_start();
        let client = container.client();
        match command {
            "exec" => {
                drop(container.exec("exit 0").streams([false; 3]).try_add().map(|exec| exec.try_start()))
            }
            "pause" => drop(client.pause(&container.namespace, &container.id)),
            "kill" => drop(container.try_kill(15)),
            _ => {
                let _ = container.try_kill(9);
                let _ = container.try_delete();
            }
        }
    }

    /// How many commands of the runtime have stopped.
    pub(crate) fn stuck(&self) -> usize {
        self.stopped().len()
    }

    fn stopped(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.daemon.dir.join("stuck")).unwrap_or_default();
        let pids = text.lines().filter_map(|line| line.parse::<i32>().ok());
        pids.filter(|pid| processes::state(pid.unsigned_abs()) == Some('T')).collect()
    }

    /// It is over: nothing new is begun, and no command stops any more.
    pub(crate) fn ends(&self) {
        self.over.store(true, Ordering::SeqCst);
        fs::write(self.daemon.dir.join("go"), "").unwrap();
        self.release();
    }

    /// Lets the commands go on that have stopped.
    pub(crate) fn release(&self) {
        for pid in self.stopped() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGCONT);
        }
    }
}
