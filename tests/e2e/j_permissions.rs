//! Section J: permissions, limits of requests, debugging.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use containerd_client::tonic::Code;
use containerd_client::types::v1::Status;
use gam_tests::daemon::{Daemon, Settings};
use gam_tests::suite::Test;
use gam_tests::{poll, processes};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

gam_tests::tests![
    j1_files_and_sockets_are_not_for_others,
    j7_an_exec_that_is_too_large_is_refused,
    j9_a_signal_dumps_the_state_and_harms_nothing,
    j10_errors_do_not_echo_the_spec,
    j11_no_runtime_command_sees_notify_socket,
];

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn j1_files_and_sockets_are_not_for_others(t: &Test) {
    let container = t.container().run();
    let bundle = container.daemon.bundle(&container.namespace, &container.id);
    for entry in fs::read_dir(&bundle).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o002, 0, "{} is {:o}", path.display(), mode(&path));
    }
    for socket in container.daemon.sockets().iter().filter(|socket| socket.exists()) {
        assert_eq!(mode(socket) & 0o077, 0, "{} is {:o}", socket.display(), mode(socket));
        let directory = socket.parent().unwrap();
        assert_eq!(mode(directory) & 0o066, 0, "{} is {:o}", directory.display(), mode(directory));
    }
    let run = container.daemon.dir.join("run");
    for group in fs::read_dir(run).unwrap() {
        let group = group.unwrap().path();
        assert_eq!(mode(&group) & 0o066, 0, "{} is {:o}", group.display(), mode(&group));
        for entry in fs::read_dir(&group).into_iter().flatten().flatten() {
            assert_eq!(mode(&entry.path()) & 0o022, 0, "{}", entry.path().display());
        }
    }
    container.end();
}

fn j7_an_exec_that_is_too_large_is_refused(t: &Test) {
    let container = t.container().run();
    let mut builder = container.exec("").streams([false; 3]);
    builder.process["args"] = json!(["/bin/true", "x".repeat(5 << 20)]);
    let refused = builder.try_add().err().expect("a refusal");
    // Before 2.0 containerd itself refuses to send it, with another code.
    assert_ne!(refused.code(), Code::DeadlineExceeded, "{refused}");
    // The connection is still good.
    assert_eq!(container.exec("echo fine").run().finish().1, "fine\n");
    container.end();
}

fn j9_a_signal_dumps_the_state_and_harms_nothing(t: &Test) {
    let container = t.container().run();
    for _ in 0..3 {
        kill(Pid::from_raw(container.shim().try_into().unwrap()), Signal::SIGUSR1).unwrap();
    }
    thread::sleep(Duration::from_millis(300));
    assert_eq!(container.status(), Status::Running);
    assert_eq!(container.exec("echo fine").run().finish().1, "fine\n");
    container.end();
}

fn j10_errors_do_not_echo_the_spec(t: &Test) {
    let secret = "TOP-SECRET-VALUE";
    let refused = t
        .container()
        .args(&["/does/not/exist"])
        .change(|spec| spec.json["process"]["env"] = json!([format!("PASSWORD={secret}")]))
        .try_create()
        .err()
        .expect("a refusal");
    assert!(!refused.message().contains(secret), "{refused}");
    let container = t.container().run();
    let mut builder = container.exec("");
    builder.process["args"] = json!(["/does/not/exist"]);
    builder.process["env"] = json!([format!("PASSWORD={secret}")]);
    let exec = builder.add();
    let refused = exec.try_start().unwrap_err();
    assert!(!refused.message().contains(secret), "{refused}");
    drop(exec);
    container.end();
}

fn j11_no_runtime_command_sees_notify_socket(t: &Test) {
    let mut settings = Settings::new();
    settings.environment.push(("NOTIFY_SOCKET".into(), "/run/gam-e2e-nobody-listens".into()));
    let daemon = Daemon::start(settings);
    let begin = Instant::now();
    let container = t.container_of(&daemon).run();
    assert!(
        begin.elapsed() < poll::slow(Duration::from_secs(10)),
        "Create and Start took {:?}",
        begin.elapsed()
    );
    let environment = fs::read(format!("/proc/{}/environ", container.pid)).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("NOTIFY_SOCKET"));
    assert!(processes::lives(container.pid));
    container.end();
}
