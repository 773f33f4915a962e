//! The runtime's command line, on real runc and on scripts that behave badly.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gam_task::admission::Class;
use gam_task::options::Options;
use gam_task::process::{Command, Core};
use gam_task::reaper::Reaper;
use gam_task::runtime::{Limits, Runtime, RuntimeError, Settings, Stdio, features};
use gam_task::telemetry::{Silent, Stream, Telemetry};
use gam_task::tenant::{Quota, Tenant};

/// A bundle and a runtime for it.
struct Lab {
    dir: tempfile::TempDir,
    reaper: Arc<Reaper>,
}

impl Lab {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), reaper: Reaper::new(Arc::new(Silent)).unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn options(&self, binary: &str) -> Options {
        Options {
            binary_name: binary.into(),
            root: self.path("root").display().to_string(),
            ..Options::default()
        }
    }

    fn runtime(&self, binary: &str) -> Runtime {
        let settings = Settings::new(&self.options(binary), "ns");
        let id = self.dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
        Runtime::new(Arc::clone(&self.reaper), Arc::new(Silent), settings, &id, self.dir.path())
    }

    /// A runtime that is a shell script; `$log`, `$pid` and `$command` are what its arguments say.
    fn script(&self, body: &str) -> Runtime {
        let path = self.path("fake");
        let text = format!(
            "#!/bin/sh\nshift 2; log=$2; shift 4; command=$1\n\
             while [ $# -gt 0 ]; do [ \"$1\" = --pid-file ] && pid=$2; shift; done\n{body}\n"
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self.runtime(path.to_str().unwrap())
    }

    /// Makes the bundle one of a container that runs `script`.
    fn bundle(&self, script: &str) {
        let bin = self.path("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for name in ["sh", "sleep", "true"] {
            std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
        }
        fs::create_dir_all(self.path("rootfs/proc")).unwrap();
        let cgroup = format!("/gam-runtime-{}", self.dir.path().file_name().unwrap().to_str().unwrap());
        let spec = serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}},
            "root": {"path": "rootfs"},
            "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
            "linux": {
                "cgroupsPath": cgroup,
                "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}],
            },
        });
        fs::write(self.path("config.json"), spec.to_string()).unwrap();
    }
}

fn text(error: &RuntimeError) -> String {
    match error {
        RuntimeError::Failed { text, .. } => text.clone(),
        other => panic!("{other:?}"),
    }
}

fn process(script: &str) -> Vec<u8> {
    let process = serde_json::json!({"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    process.to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_lives_and_ends_under_runc() {
    let lab = Lab::new();
    lab.bundle("exec sleep 1000");
    let runc = lab.runtime("runc");
    let hold = lab.reaper.hold();
    let pid = runc.create(Stdio::default(), None, None).await.unwrap();
    let init = lab.reaper.adopt(pid, &hold).unwrap();
    drop(hold);
    runc.start().await.unwrap();
    let hold = lab.reaper.hold();
    let pid = runc.exec("init", &process("exit 5"), Stdio::default(), None, None).await.unwrap();
    let exec = lab.reaper.adopt(pid, &hold).unwrap();
    drop(hold);
    assert_eq!(exec.wait().await.status, 5);
    assert!(lab.path("init.pid").exists(), "an exec named init has taken init's pid file away");
    let error = runc
        .exec("e", b"{\"args\": [\"nothing\"], \"cwd\": \"/\"}", Stdio::default(), None, None)
        .await
        .unwrap_err();
    assert!(text(&error).contains("nothing"), "{error}");
    runc.update(br#"{"memory": {"limit": 67108864}}"#).await.unwrap();
    runc.pause().await.unwrap();
    runc.resume().await.unwrap();
    for signal in [0, 64] {
        runc.kill(signal, false).await.unwrap();
    }
    runc.kill(9, false).await.unwrap();
    // Signal 64 was sent first.
    assert!(matches!(init.wait().await.status, 192 | 137));
    let error = runc.kill(9, false).await.unwrap_err();
    assert!(error.is_finished() && !error.is_gone(), "{error}");
    runc.delete(false).await.unwrap();
    runc.delete(false).await.unwrap();
    assert!(runc.kill(9, false).await.unwrap_err().is_gone());
    let left: Vec<_> =
        fs::read_dir(lab.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn j3_runc_tells_its_features() {
    let lab = Lab::new();
    let told = features(&lab.reaper, &Settings::new(&lab.options("runc"), "")).await.unwrap();
    let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
    assert!(told["linux"]["namespaces"].is_array());
    assert!(features(&lab.reaper, &Settings::new(&lab.options("false"), "")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn b6_a_runtime_that_complains_at_length_does_not_hang() {
    let lab = Lab::new();
    let fake = lab.script("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo last words >&2; exit 1");
    let error = fake.start().await.unwrap_err();
    assert!(text(&error).ends_with("last words"), "{error:.100}");
    assert!(text(&error).len() <= 4096);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_error_of_the_log_is_told() {
    let lab = Lab::new();
    let fake =
        lab.script("echo '{\"level\":\"error\",\"msg\":\"the reason\"}' >$log; echo noise >&2; exit 1");
    assert_eq!(text(&fake.start().await.unwrap_err()), "the reason");
    let silent = lab.script("exit 3");
    assert!(text(&silent.start().await.unwrap_err()).contains('3'));
}

#[tokio::test(flavor = "multi_thread")]
async fn b7_a_runtime_that_hangs_is_killed_with_its_hooks() {
    let lab = Lab::new();
    let fake = lab.script("sleep 1000 & echo $! >$(dirname $0)/hook; wait");
    let fake = fake.limited(Limits { slow: Duration::from_millis(500), ..Limits::default() });
    let since = Instant::now();
    let error = fake.start().await.unwrap_err();
    assert!(error.is_timed_out(), "{error}");
    assert!(since.elapsed() < Duration::from_secs(20));
    let hook = fs::read_to_string(lab.path("hook")).unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while alive(hook.trim()) {
        assert!(Instant::now() < until, "the hook lives on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn alive(pid: &str) -> bool {
    fs::read_to_string(Path::new("/proc").join(pid).join("stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_keeps_stderr_holds_nobody_up() {
    let lab = Lab::new();
    let fake = lab.script("sleep 3 & exit 0");
    let since = Instant::now();
    fake.start().await.unwrap();
    assert!(since.elapsed() < Duration::from_millis(2500), "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a12_a_pid_that_is_none_is_an_error() {
    let lab = Lab::new();
    for pid in ["", "0", "-3", "x", "99999999999"] {
        let fake = lab.script(&format!("echo '{pid}' >$pid"));
        let error = fake.create(Stdio::default(), None, None).await.unwrap_err();
        assert!(matches!(error, RuntimeError::PidFile { .. }), "{pid}: {error}");
    }
    fs::remove_file(lab.path("init.pid")).unwrap();
    let error = lab.script("exit 0").create(Stdio::default(), None, None).await.unwrap_err();
    assert!(matches!(error, RuntimeError::File { .. }), "{error}");
    let error = lab.runtime("/nonexistent/runc").start().await.unwrap_err();
    assert!(matches!(error, RuntimeError::Spawn { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn j11_no_command_sees_systemds_variables() {
    let lab = Lab::new();
    // This process has no such variables: what matters is that only those are passed on that are meant to be.
    let fake = lab.script("env >$(dirname $0)/env");
    fake.start().await.unwrap();
    let seen = fs::read_to_string(lab.path("env")).unwrap();
    let known = [
        "PATH=",
        "HOME=",
        "TMPDIR=",
        "LANG=",
        "XDG_RUNTIME_DIR=",
        "DBUS_SESSION_BUS_ADDRESS=",
        "PWD=",
        "_=",
        "SHLVL=",
        "OLDPWD=",
    ];
    for line in seen.lines() {
        assert!(known.iter().any(|name| line.starts_with(name)), "{line}");
    }
}

#[derive(Default)]
struct Commands(Mutex<Vec<(&'static str, bool)>>);

impl Telemetry for Commands {
    fn runtime_command(&self, _: Option<&Tenant>, command: &'static str, _: Duration, ok: bool) {
        self.0.lock().unwrap().push((command, ok));
    }
    fn queued(&self, _: Class, _: Duration) {}
    fn limited(&self, _: Quota) {}
    fn copied(&self, _: Stream, _: u64) {}
    fn dropped(&self, _: Stream, _: u64) {}
    fn orphan_reaped(&self) {}
    fn zombies(&self, _: usize, _: Duration) {}
    fn oom_kills(&self, _: &Tenant, _: u64) {}
    fn cgroup_left(&self) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_is_counted_once() {
    let lab = Lab::new();
    let commands = Arc::new(Commands::default());
    for (binary, expected) in [("/bin/true", true), ("/bin/false", false)] {
        let settings = Settings::new(&lab.options(binary), "ns");
        let runtime =
            Runtime::new(Arc::clone(&lab.reaper), Arc::clone(&commands) as _, settings, "c", lab.dir.path());
        assert_eq!(runtime.pause().await.is_ok(), expected);
        assert_eq!(runtime.delete(true).await.is_ok(), expected);
    }
    let counted = commands.0.lock().unwrap().clone();
    assert_eq!(counted, [("pause", true), ("delete", true), ("pause", false), ("delete", false)]);
}

/// The cookie with which a process shares cores; none where the kernel or the machine has no core scheduling.
fn cookie(pid: u32) -> Option<u64> {
    let pid = rustix::process::Pid::from_raw(pid.try_into().unwrap()).unwrap();
    rustix::thread::core_scheduling_cookie(pid, rustix::thread::CoreSchedulingScope::Thread).ok()
}

#[tokio::test]
async fn j4_a_child_shares_cores_as_it_is_told_and_its_maker_does_not() {
    let reaper = Reaper::new(Arc::new(Silent)).unwrap();
    let sleep = |core| reaper.spawn(Command::new("/bin/sleep").arg("100").core(core));
    if cookie(std::process::id()).is_none() {
        let error = sleep(Some(Core::New)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("SCHED_CORE") && text.contains("core"), "{text}");
        return;
    }
    let mut children = Vec::new();
    for core in [Some(Core::New), Some(Core::New), None] {
        children.push(sleep(core).unwrap());
    }
    children.push(sleep(Some(Core::Of(children[0].pid().unsigned_abs()))).unwrap());
    let cookies: Vec<u64> =
        children.iter().map(|child| cookie(child.pid().unsigned_abs()).unwrap()).collect();
    assert!(cookies[0] != 0 && cookies[1] != 0 && cookies[0] != cookies[1], "{cookies:?}");
    assert_eq!((cookies[2], cookies[3]), (0, cookies[0]));
    assert_eq!(cookie(std::process::id()), Some(0));
    for mut child in children {
        child.kill(9).unwrap();
        child.wait().await.unwrap();
    }
}
