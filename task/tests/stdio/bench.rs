//! What the tests share: a reaper, a place for files, and the look at what is left.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as SyncMutex};
use std::time::{Duration, Instant};

use gam_task::admission::Class;
use gam_task::id::Key;
use gam_task::process::{Child, Command};
use gam_task::reaper::Reaper;
use gam_task::stdio::{ChildEnds, Context, Plan, Prepared, StdinCloser, StdioError, Streams};
use gam_task::sys::{daemon, proc};
use gam_task::telemetry::{Stream, Telemetry};
use gam_task::tenant::{Pace, Quota, Tenant};
use rustix::fs::{CWD, FileType, Mode};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::{JoinHandle, spawn_blocking};

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
pub(crate) const LONG: Duration = Duration::from_secs(15);

#[derive(Default)]
pub(crate) struct Counts {
    copied: SyncMutex<HashMap<Stream, u64>>,
    dropped: SyncMutex<HashMap<Stream, u64>>,
}

impl Telemetry for Counts {
    fn runtime_command(&self, _: Option<&Tenant>, _: &'static str, _: Duration, _: bool) {}
    fn queued(&self, _: Class, _: Duration) {}
    fn limited(&self, _: Quota) {}
    fn copied(&self, stream: Stream, bytes: u64) {
        *self.copied.lock().unwrap().entry(stream).or_default() += bytes;
    }
    fn dropped(&self, stream: Stream, bytes: u64) {
        assert!(bytes > 0);
        *self.dropped.lock().unwrap().entry(stream).or_default() += bytes;
    }
    fn orphan_reaped(&self) {}
    fn zombies(&self, _: usize, _: Duration) {}
    fn oom_kills(&self, _: &Tenant, _: u64) {}
    fn cgroup_left(&self) {}
}

pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) reaper: Arc<Reaper>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) closer: StdinCloser,
    pub(crate) pace: Arc<Pace>,
    key: Key,
    telemetry: Arc<dyn Telemetry>,
    descriptors: Vec<String>,
    _turn: MutexGuard<'static, ()>,
}

pub(crate) async fn bench() -> Bench {
    let turn = ONE_AT_A_TIME.lock().await;
    daemon::close_on_exec_all().unwrap();
    let counts = Arc::new(Counts::default());
    let telemetry: Arc<dyn Telemetry> = counts.clone();
    let bench = Bench {
        dir: tempfile::tempdir().unwrap(),
        reaper: Reaper::new(telemetry.clone()).unwrap(),
        counts,
        closer: StdinCloser::new(),
        pace: Arc::new(Pace::unlimited()),
        key: Key::new("k8s.io", "box").unwrap(),
        telemetry,
        descriptors: descriptors(),
        _turn: turn,
    };
    bench.kill_children().await;
    bench
}

impl Bench {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a FIFO as a client of containerd does.
    pub(crate) fn fifo(&self, name: &str) -> String {
        let path = self.path(name);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes a shell script that can be run.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) async fn open(&self, plan: &Plan) -> Result<Prepared, StdioError> {
        let context = Context {
            pace: &self.pace,
            key: &self.key,
            exec_id: None,
            socket_dir: self.dir.path(),
            io_uid: 1234,
            io_gid: 2345,
            reaper: &self.reaper,
            telemetry: &self.telemetry,
            closer: &self.closer,
        };
        Prepared::open(plan, context).await
    }

    /// Runs a shell with the streams, which stands for the runtime and the container's process at once.
    pub(crate) async fn run(
        &self,
        script: &str,
        stdin: &str,
        stdout: &str,
        stderr: &str,
    ) -> (Child, Streams) {
        let plan = Plan::parse(false, stdin, stdout, stderr).unwrap();
        let mut prepared = self.open(&plan).await.unwrap();
        let command = with(prepared.take_child(), script);
        prepared.run_while(async { self.reaper.spawn(command) }).await.unwrap()
    }

    pub(crate) fn copied(&self, stream: Stream) -> u64 {
        self.counts.copied.lock().unwrap().get(&stream).copied().unwrap_or(0)
    }

    pub(crate) fn dropped(&self, stream: Stream) -> u64 {
        self.counts.dropped.lock().unwrap().get(&stream).copied().unwrap_or(0)
    }

    async fn kill_children(&self) {
        for pid in proc::children().unwrap() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        }
        until("the children are gone", || proc::children().unwrap().is_empty()).await;
    }

    /// After the streams were dropped: what they had open is closed, and no logger is left.
    pub(crate) async fn nothing_is_left(&self) {
        until("the descriptors are closed", || {
            let left = descriptors();
            left.len() <= self.descriptors.len()
        })
        .await;
        let sockets = fs::read_dir(self.dir.path()).unwrap();
        for entry in sockets {
            let name = entry.unwrap().file_name();
            assert!(!name.to_string_lossy().starts_with("pty-"), "{name:?} is left");
        }
        self.kill_children().await;
    }
}

/// The pipes, FIFOs, files and terminals that this process has open. What runtimes have, those of other tests too, comes
/// and goes, and a test itself has the processes it waits for.
pub(crate) fn descriptors() -> Vec<String> {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .filter(|target| target.starts_with('/') || target.starts_with("pipe:"))
        .collect()
}

pub(crate) fn with(ends: ChildEnds, script: &str) -> Command {
    sh(script).stdin(ends.stdin).stdout(ends.stdout).stderr(ends.stderr)
}

pub(crate) fn sh(script: &str) -> Command {
    Command::new("/bin/sh").arg("-c").arg(script).env("PATH", "/usr/bin:/bin")
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "gave up waiting: {what}; open: {:?}", descriptors());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A client that opens a FIFO as containerd does, blocking on a thread, and reads it to its end.
pub(crate) fn client(path: &str) -> JoinHandle<Vec<u8>> {
    let path = path.to_owned();
    spawn_blocking(move || {
        let mut bytes = Vec::new();
        File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// Opens a FIFO for writing, blocking on a thread.
pub(crate) async fn writer(path: &str) -> File {
    let path = path.to_owned();
    spawn_blocking(move || OpenOptions::new().write(true).open(path).unwrap()).await.unwrap()
}

pub(crate) async fn joined<T>(handle: JoinHandle<T>) -> T {
    tokio::time::timeout(LONG, handle).await.expect("the client hangs").unwrap()
}

/// Whether the process is there and no zombie.
pub(crate) fn lives(pid: i32) -> bool {
    proc::stat(pid).is_ok_and(|stat| stat.state != 'Z')
}

pub(crate) fn read(path: &Path) -> String {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => panic!("{path:?}: {error}"),
    }
}
