//! Events to a real containerd, by each of the three ways; and what it says of its version.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use gam_manager::containerd;
use gam_manager::publisher::{Addresses, Dropped, Limits, Observer, Publisher};
use gam_task::event::{Event, EventSink as _, What};
use gam_task::exit::Exit;
use gam_task::id::Key;
use gam_task::process::{Child, Command};
use gam_task::reaper::Reaper;
use gam_task::telemetry::Silent;

/// Long enough on a loaded machine.
const LONG: Duration = Duration::from_secs(90);

#[derive(Default)]
struct Tally {
    sent: Mutex<HashMap<&'static str, u64>>,
    dropped: Mutex<HashMap<&'static str, u64>>,
}

impl Observer for Tally {
    fn queued(&self, _: usize, _: usize) {}
    fn sent(&self, transport: &'static str) {
        *self.sent.lock().unwrap().entry(transport).or_default() += 1;
    }
    fn retried(&self) {}
    fn dropped(&self, reason: &'static str, dropped: Dropped) {
        *self.dropped.lock().unwrap().entry(reason).or_default() += dropped.events;
    }
    fn acknowledged(&self, _: &'static str, _: Duration) {}
}

/// A containerd of our own, which ends with the test.
struct Daemon {
    reaper: Arc<Reaper>,
    dir: tempfile::TempDir,
    child: Option<Child>,
}

impl Daemon {
    async fn start(reaper: &Arc<Reaper>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.aufs\", \
             \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.devmapper\", \
             \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.internal.v1.opt\"]\n\
             [grpc]\naddress = {:?}\n",
            path("root"),
            path("state"),
            path("c.sock")
        );
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        let mut daemon = Self { reaper: Arc::clone(reaper), dir, child: None };
        daemon.run().await;
        daemon
    }

    async fn run(&mut self) {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let command = Command::new("/usr/bin/containerd")
            .arg("--config")
            .arg(self.path("config.toml"))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stderr(OwnedFd::from(log));
        self.child = Some(self.reaper.spawn(command).unwrap());
        let begun = Instant::now();
        while let Err(error) = containerd::version(&self.grpc(), Duration::from_secs(5)).await {
            let log = std::fs::read_to_string(self.path("log")).unwrap();
            assert!(begun.elapsed() < LONG, "containerd does not come up: {error}\n{log}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill(9).unwrap();
            child.wait().await.unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn grpc(&self) -> String {
        self.path("c.sock").display().to_string()
    }

    fn ttrpc(&self) -> String {
        format!("unix://{}.ttrpc", self.grpc())
    }

    /// Begins to write down what its subscribers see, and returns once they see something.
    async fn watch(&self) -> Watch {
        let path = self.path("events");
        let out = File::create(&path).unwrap();
        let command = Command::new("/usr/bin/ctr")
            .args(["--address", &self.grpc(), "events"])
            .stdout(OwnedFd::from(out));
        let watch = Watch { path, child: self.reaper.spawn(command).unwrap() };
        let tally = Arc::new(Tally::default());
        let addresses = Addresses { ttrpc: self.ttrpc(), ..Addresses::default() };
        let probe = Publisher::start(addresses, Limits::default(), Arc::clone(&self.reaper), tally);
        let begun = Instant::now();
        while !watch.text().contains("probe") {
            assert!(begun.elapsed() < LONG, "nothing is seen");
            probe.publish(event("probe", What::Oom));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        probe.stop(LONG).await;
        watch
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            let _ = child.kill(9);
        }
    }
}

/// `ctr events` at work.
struct Watch {
    path: PathBuf,
    child: Child,
}

impl Watch {
    fn text(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }

    /// The topic and content of the events of `container`, once there are `count`.
    async fn of(&self, container: &str, count: usize) -> Vec<String> {
        let begun = Instant::now();
        loop {
            let text = self.text();
            let lines: Vec<String> = text
                .lines()
                .filter(|line| line.contains(&format!("\"container_id\":\"{container}\"")))
                .map(|line| line.split_once(" ns /").map(|(_, rest)| rest.to_owned()).unwrap())
                .collect();
            if lines.len() >= count {
                return lines;
            }
            assert!(begun.elapsed() < LONG, "{count} events of {container} do not come:\n{text}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill(9);
    }
}

fn event(container: &str, what: What) -> Event {
    Event { container: Key::new("ns", container).unwrap(), at: SystemTime::now(), what }
}

/// A wrapper of containerd that goes to the real daemon, whatever address it is told.
fn wrapper(path: &Path, grpc: &str) {
    let text = format!("#!/bin/sh\nshift 2\nexec /usr/bin/containerd --address {grpc} \"$@\"\n");
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn open_sockets() -> usize {
    let links =
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_reach_a_real_containerd() {
    let reaper = Reaper::new(Arc::new(Silent)).unwrap();
    let mut daemon = Daemon::start(&reaper).await;
    let version = containerd::version(&format!("unix://{}", daemon.grpc()), LONG).await.unwrap();
    assert!(version.version.starts_with("1."), "{version:?}");
    let missing = containerd::version(&daemon.path("none").display().to_string(), LONG).await;
    assert!(matches!(missing, Err(containerd::Error::Connect { .. })), "{missing:?}");

    let watch = daemon.watch().await;
    let before = open_sockets();
    let binary = daemon.path("publish");
    wrapper(&binary, &daemon.grpc());
    let ways = [
        ("ttrpc", Addresses { ttrpc: daemon.ttrpc(), ..Addresses::default() }),
        ("grpc", Addresses { grpc: daemon.grpc(), ..Addresses::default() }),
        (
            "binary",
            Addresses { grpc: daemon.path("none").display().to_string(), binary, ..Addresses::default() },
        ),
    ];
    for (way, addresses) in ways {
        let tally = Arc::new(Tally::default());
        let publisher =
            Publisher::start(addresses, Limits::default(), Arc::clone(&reaper), Arc::clone(&tally) as _);
        publisher.publish(event(way, What::Started { pid: 7 }));
        publisher.publish(event(way, What::Oom));
        publisher.publish(event(way, What::Exited { exec_id: None, pid: 7, exit: Exit::now(137) }));
        assert!(publisher.flush(LONG).await, "{way}: {}", publisher.dump());
        publisher.stop(Duration::ZERO).await;
        assert_eq!(*tally.sent.lock().unwrap(), HashMap::from([(way, 3)]));
        let seen = watch.of(way, 3).await;
        assert_eq!(seen[0], format!("tasks/start {{\"container_id\":\"{way}\",\"pid\":7}}"));
        assert_eq!(seen[1], format!("tasks/oom {{\"container_id\":\"{way}\"}}"));
        let exit =
            format!("tasks/exit {{\"container_id\":\"{way}\",\"id\":\"{way}\",\"pid\":7,\"exit_status\":137");
        assert!(seen[2].starts_with(&exit), "{}", seen[2]);
        assert_eq!(seen.len(), 3);
    }

    // Many at once on one connection: Go's ttrpc refuses stream numbers that do not rise.
    let tally = Arc::new(Tally::default());
    let addresses = Addresses { ttrpc: daemon.ttrpc(), grpc: daemon.grpc(), ..Addresses::default() };
    let publisher =
        Publisher::start(addresses, Limits::default(), Arc::clone(&reaper), Arc::clone(&tally) as _);
    for n in 0..20 {
        for container in 0..50 {
            publisher.publish(event(&format!("many{container}"), What::Started { pid: n + 1 }));
        }
    }
    assert!(publisher.flush(LONG).await);
    for container in 0..50 {
        let seen = watch.of(&format!("many{container}"), 20).await;
        let expected = (0..20)
            .map(|n| format!("tasks/start {{\"container_id\":\"many{container}\",\"pid\":{}}}", n + 1));
        assert!(seen.iter().cloned().eq(expected), "{seen:?}");
    }
    drop(watch);

    // It is killed, events come, and it starts again: they are delivered.
    daemon.kill().await;
    for n in 0..100 {
        publisher.publish(event(&format!("later{}", n % 10), What::Started { pid: n }));
    }
    assert!(!publisher.flush(Duration::from_secs(1)).await);
    assert_eq!(publisher.pending(), 100);
    daemon.run().await;
    assert!(publisher.flush(LONG).await, "{}", publisher.dump());
    publisher.stop(Duration::ZERO).await;
    assert_eq!(tally.sent.lock().unwrap().values().sum::<u64>(), 1100);
    assert!(tally.dropped.lock().unwrap().is_empty());

    let begun = Instant::now();
    while open_sockets() > before {
        assert!(begun.elapsed() < LONG, "{} sockets are open, {before} were", open_sockets());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    daemon.kill().await;
}
