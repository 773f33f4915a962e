//! Where a case happens: directories, an ear for events, and a list of everything that must be gone in the end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::bundle::{self, Plan};
use super::container::Container;
use super::event::Recorder;
use super::fake::Desk;
use super::process::Proc;
use super::subject::Subject;
use super::{leftovers, order};

/// A case's place.
#[derive(Clone)]
pub struct Lab(Arc<Inner>);

struct Inner {
    subject: Subject,
    directory: TempDir,
    namespace: String,
    binary: PathBuf,
    events: Recorder,
    noted: Mutex<Noted>,
    containers: Mutex<Vec<Container>>,
}

/// What must be gone in the end.
#[derive(Default)]
pub(super) struct Noted {
    pub(super) shims: BTreeSet<Proc>,
    pub(super) processes: BTreeSet<Proc>,
    pub(super) addresses: BTreeSet<String>,
    /// A shim was killed: events are missing.
    pub(super) unfinished: bool,
}

impl Lab {
    pub(super) async fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::Builder::new().prefix("gs-").tempdir_in("/tmp").expect("directory");
        let path = directory.path();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        bundle::rootfs(&path.join("rootfs"));
        for name in ["runc", "run", "b"] {
            std::fs::create_dir(path.join(name)).expect("directory");
        }
        std::fs::write(path.join("config.toml"), "linger = \"1s\"\n[events]\npatience = \"3s\"\n")
            .expect("configuration");
        std::fs::write(path.join("publish"), "#!/bin/sh\nexit 1\n").expect("publish binary");
        std::fs::set_permissions(path.join("publish"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .expect("publish binary");
        let subject = Subject::chosen();
        let inner = Inner {
            subject,
            namespace: format!("t{}-{number}", std::process::id()),
            binary: subject.binary(path),
            events: Recorder::start(&path.join("c.sock.ttrpc")).await,
            noted: Mutex::default(),
            containers: Mutex::default(),
            directory,
        };
        Self(Arc::new(inner))
    }

    /// Which shim is tested.
    #[must_use]
    pub fn subject(&self) -> Subject {
        self.0.subject
    }

    /// Everything of the case lies in here.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.0.directory.path()
    }

    /// The namespace of containerd, no other case's.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// A root file system of busybox, for all containers.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.directory().join("rootfs")
    }

    /// The runtime's root, as options give it.
    #[must_use]
    pub fn runtime_root(&self) -> PathBuf {
        self.directory().join("runc")
    }

    /// gam's configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.directory().join("config.toml")
    }

    /// The publish binary, a script that may be replaced.
    #[must_use]
    pub fn publish_binary(&self) -> PathBuf {
        self.directory().join("publish")
    }

    /// The fake runtime's desk.
    #[must_use]
    pub fn fake(&self) -> Desk {
        Desk::new(&self.runtime_root())
    }

    /// The events that came.
    #[must_use]
    pub fn events(&self) -> &Recorder {
        &self.0.events
    }

    /// Runs the fake runtime as somebody else would, behind the shim's back.
    ///
    /// # Panics
    /// If it fails.
    pub fn run_fake(&self, arguments: &[&str]) {
        let root = self.runtime_root().join(self.namespace());
        let mut command = Command::new(super::subject::built("fake-runtime"));
        let output = command.arg("--root").arg(root).args(arguments).output().expect("the fake runtime runs");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }

    /// A container to be, with runc.
    #[must_use]
    pub fn plan(&self, id: &str) -> Plan {
        Plan::new(self, id)
    }

    /// The shim's command line without its last word, as containerd has it.
    #[must_use]
    pub fn command(&self, namespace: &str, id: &str, bundle: &Path, debug: bool) -> Command {
        let address = self.directory().join("c.sock");
        let mut command = Command::new(&self.0.binary);
        command.arg("-namespace").arg(namespace).arg("-address").arg(&address);
        command.arg("-publish-binary").arg(self.publish_binary()).arg("-id").arg(id);
        if debug {
            command.arg("-debug");
        }
        command
            .current_dir(bundle)
            .stdin(Stdio::null())
            .env("TTRPC_ADDRESS", self.directory().join("c.sock.ttrpc"));
        command.env("GAM_RUN_DIR", self.directory().join("run")).env("GAM_CONFIG", self.config_file());
        command
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_shim(&self, pid: u32) {
        self.noted().shims.extend(Proc::of(pid));
    }

    pub(super) fn note_process(&self, pid: u32) {
        self.noted().processes.extend(Proc::of(pid));
    }

    pub(super) fn note_address(&self, address: &str) {
        self.noted().addresses.insert(address.to_owned());
    }

    pub(super) fn adopt(&self, container: &Container) {
        self.0.containers.lock().unwrap_or_else(PoisonError::into_inner).push(container.clone());
    }

    /// Says that a shim was killed, so that exits are missing: only their order is checked at the end.
    pub fn expect_no_exit(&self) {
        self.noted().unfinished = true;
    }

    /// The shims that were seen.
    #[must_use]
    pub fn shims(&self) -> Vec<Proc> {
        self.noted().shims.iter().copied().collect()
    }

    fn containers(&self) -> Vec<Container> {
        self.0.containers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends what still runs, and checks that order was kept and nothing is left.
    ///
    /// # Panics
    /// If not.
    pub(super) async fn finish(&self) {
        for container in self.containers() {
            if !container.removed() {
                container.end().await;
            }
        }
        let since = Instant::now();
        loop {
            let wrong = order::violations(&self.0.events.list(), !self.noted().unfinished);
            if wrong.is_empty() {
                break;
            }
            if since.elapsed() > Duration::from_secs(10) {
                panic!("order of events:\n  {}\nin\n{}", wrong.join("\n  "), self.0.events.text());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let since = Instant::now();
        loop {
            let left = leftovers::find(self, &self.noted());
            if left.is_empty() {
                break;
            }
            if since.elapsed() > Duration::from_secs(20) {
                panic!("left behind:\n  {}", left.join("\n  "));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let wrong = order::violations(&self.0.events.list(), !self.noted().unfinished);
        assert!(wrong.is_empty(), "order of events at the end: {wrong:?}\n{}", self.0.events.text());
    }

    /// Lets go of everything: containers know their lab, so that nothing would ever be dropped by itself.
    pub(super) fn close(&self) {
        self.0.containers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let _ = std::fs::remove_dir_all(self.directory());
    }

    /// Takes away what a failed case left; answers what may explain the failure.
    pub(super) fn rescue(&self) -> String {
        let mut report = format!("events:\n{}", self.0.events.text());
        for container in self.containers() {
            if let Some(log) =
                container.log().map(super::fifo::Collector::text).filter(|text| !text.is_empty())
            {
                let tail: String = log
                    .lines()
                    .rev()
                    .take(15)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                    .map(|l| format!("  {l}\n"))
                    .collect();
                report.push_str(&format!("log of {}:\n{tail}", container.id()));
            }
        }
        leftovers::sweep(self, &self.noted());
        report
    }
}
