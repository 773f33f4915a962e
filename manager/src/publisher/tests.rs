use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ::ttrpc::asynchronous::TtrpcContext;
use ::ttrpc::{self, Code, get_status};
use async_trait::async_trait;
use gam_protos::forward::{Events, ForwardRequest, create_events};
use gam_task::event::What;
use gam_task::exit::Exit;
use gam_task::id::Key;
use gam_task::telemetry::Silent;
use protobuf::well_known_types::empty::Empty;
use tokio::net::UnixListener;

use super::{Addresses, Event, EventSink as _, Limits, Mutex, Observer, Publisher, Reaper, binary, encode};
use crate::server::{ConnectionId, Server};

/// Counts what a publisher reports.
#[derive(Default)]
struct Counts {
    sent: Mutex<HashMap<&'static str, u64>>,
    dropped: Mutex<HashMap<&'static str, u64>>,
    retried: AtomicU64,
    acknowledged: AtomicU64,
}

impl Observer for Counts {
    fn queued(&self, _: usize, _: usize) {}

    fn sent(&self, transport: &'static str) {
        *self.sent.lock().unwrap().entry(transport).or_default() += 1;
    }

    fn retried(&self) {
        self.retried.fetch_add(1, Ordering::SeqCst);
    }

    fn dropped(&self, reason: &'static str, count: u64) {
        *self.dropped.lock().unwrap().entry(reason).or_default() += count;
    }

    fn exit_acknowledged(&self, _: Duration) {
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
    }
}

/// What a listener does with an event.
type Mood = Box<dyn Fn(usize, &str) -> ttrpc::Result<()> + Send + Sync>;

/// A containerd's events service.
struct Listener {
    heard: Mutex<Vec<(String, String)>>,
    calls: AtomicUsize,
    pause: Duration,
    mood: Mood,
}

impl Listener {
    fn new(pause: Duration, mood: Mood) -> Arc<Self> {
        Arc::new(Self { heard: Mutex::default(), calls: AtomicUsize::new(0), pause, mood })
    }

    fn pleased() -> Arc<Self> {
        Self::new(Duration::ZERO, Box::new(|_, _| Ok(())))
    }

    /// The topics heard of a container.
    fn of(&self, id: &str) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|(container, _)| container == id).map(|(_, topic)| topic.clone()).collect()
    }
}

struct Service(Arc<Listener>);

#[async_trait]
impl Events for Service {
    async fn forward(&self, ctx: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let listener = &self.0;
        let envelope = request.envelope.unwrap_or_default();
        assert_eq!(ctx.metadata["containerd-namespace-ttrpc"], ["ns"]);
        assert_eq!(envelope.namespace, "ns");
        tokio::time::sleep(listener.pause).await;
        let number = listener.calls.fetch_add(1, Ordering::SeqCst);
        // The id is the first field of each of these messages.
        let value = &envelope.event.value;
        let id = String::from_utf8_lossy(&value[2..2 + usize::from(value[1])]).into_owned();
        (listener.mood)(number, &envelope.topic)?;
        listener.heard.lock().unwrap().push((id, envelope.topic));
        Ok(Empty::new())
    }
}

struct Unobserved;

impl crate::server::Observer for Unobserved {
    fn answered(&self, _: &str, _: &'static str, _: Duration) {}
    fn closed(&self, _: ConnectionId) {}
}

fn serve(path: &Path, listener: &Arc<Listener>) -> Server {
    let _ = std::fs::remove_file(path);
    let service: Arc<dyn Events + Send + Sync> = Arc::new(Service(Arc::clone(listener)));
    Server::start(UnixListener::bind(path).unwrap(), create_events(service), Arc::new(Unobserved))
}

fn start(addresses: Addresses, limits: Limits) -> (Arc<Publisher>, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let reaper = Reaper::new(Arc::new(Silent)).unwrap();
    (Publisher::start(addresses, limits, reaper, Arc::clone(&counts) as _), counts)
}

fn ttrpc_at(path: &Path) -> Addresses {
    Addresses { ttrpc: format!("unix://{}", path.display()), ..Addresses::default() }
}

fn publish(publisher: &Publisher, id: &str, what: What) {
    publisher.publish(Event { container: Key::new("ns", id).unwrap(), at: SystemTime::now(), what });
}

/// A life of a container.
fn life(publisher: &Publisher, id: &str) {
    publish(publisher, id, What::Started { pid: 7 });
    publish(publisher, id, What::Paused);
    publish(publisher, id, What::Resumed);
    publish(publisher, id, What::Exited { exec_id: None, pid: 7, exit: Exit::now(3) });
    publish(publisher, id, What::Deleted { pid: 7, exit: Exit::now(3) });
}

const LIFE: [&str; 5] = ["/tasks/start", "/tasks/paused", "/tasks/resumed", "/tasks/exit", "/tasks/delete"];

#[tokio::test(flavor = "multi_thread")]
async fn f4_many_containers_events_arrive_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = Listener::pleased();
    let _server = serve(&path, &listener);
    let (publisher, counts) = start(ttrpc_at(&path), Limits::default());
    for number in 0..200 {
        life(&publisher, &format!("c{number}"));
    }
    assert!(publisher.flush(Duration::from_secs(60)).await, "{}", publisher.dump());
    for number in 0..200 {
        assert_eq!(listener.of(&format!("c{number}")), LIFE);
    }
    assert_eq!(counts.sent.lock().unwrap()["ttrpc"], 1000);
    assert_eq!(counts.acknowledged.load(Ordering::SeqCst), 200);
    assert!(counts.dropped.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn f3_f4_a_listener_with_troubles_hears_everything_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let troubled = |number: usize, _: &str| {
        if number % 7 == 3 {
            return Err(ttrpc::Error::RpcStatus(get_status(Code::UNAVAILABLE, "later")));
        }
        Ok(())
    };
    let listener = Listener::new(Duration::ZERO, Box::new(troubled));
    let _server = serve(&path, &listener);
    let (publisher, counts) = start(ttrpc_at(&path), Limits::default());
    for number in 0..10 {
        life(&publisher, &format!("c{number}"));
    }
    assert!(publisher.flush(Duration::from_secs(60)).await, "{}", publisher.dump());
    for number in 0..10 {
        assert_eq!(listener.of(&format!("c{number}")), LIFE);
    }
    assert!(counts.retried.load(Ordering::SeqCst) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn f3_events_wait_for_a_containerd_that_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let (publisher, _) = start(ttrpc_at(&path), Limits::default());
    life(&publisher, "c");
    assert!(!publisher.flush(Duration::from_millis(300)).await);
    assert_eq!(publisher.pending(), 5);
    let listener = Listener::pleased();
    let first = serve(&path, &listener);
    assert!(publisher.flush(Duration::from_secs(60)).await, "{}", publisher.dump());
    first.stop(Duration::ZERO).await;
    let again = Listener::pleased();
    let _second = serve(&path, &again);
    life(&publisher, "d");
    assert!(publisher.flush(Duration::from_secs(60)).await, "{}", publisher.dump());
    assert_eq!(
        (listener.of("c"), again.of("d")),
        (LIFE.map(str::to_owned).into(), LIFE.map(str::to_owned).into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_counted_and_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let refuse = |_: usize, topic: &str| {
        if topic == "/tasks/paused" {
            return Err(ttrpc::Error::RpcStatus(get_status(Code::INVALID_ARGUMENT, "no")));
        }
        Ok(())
    };
    let listener = Listener::new(Duration::ZERO, Box::new(refuse));
    let _server = serve(&path, &listener);
    let (publisher, counts) = start(ttrpc_at(&path), Limits::default());
    life(&publisher, "c");
    assert!(publisher.flush(Duration::from_secs(60)).await);
    assert_eq!(listener.of("c"), ["/tasks/start", "/tasks/resumed", "/tasks/exit", "/tasks/delete"]);
    assert_eq!(counts.dropped.lock().unwrap()["refused"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_stands_still_hears_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = Listener::new(Duration::from_secs(7), Box::new(|_, _| Ok(())));
    let _server = serve(&path, &listener);
    let (publisher, _) = start(ttrpc_at(&path), Limits::default());
    publish(&publisher, "c", What::Started { pid: 7 });
    assert!(publisher.flush(Duration::from_secs(60)).await);
    assert_eq!(listener.of("c"), ["/tasks/start"]);
}

#[tokio::test]
async fn f3_above_the_bound_the_oldest_are_lost_and_counted() {
    let (publisher, counts) = start(Addresses::default(), Limits { events: 10, bytes: 1 << 20 });
    for pid in 0..25 {
        publish(&publisher, "c", What::Started { pid });
    }
    assert_eq!(publisher.pending(), 10);
    assert_eq!(counts.dropped.lock().unwrap()["overflow"], 15);
    publisher.stop(Duration::from_millis(50)).await;
    assert_eq!(counts.dropped.lock().unwrap()["stopping"], 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn b7_a_publish_binary_that_hangs_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("publish");
    std::fs::write(&script, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (publisher, counts) = start(Addresses { binary: script, ..Addresses::default() }, Limits::default());
    publish(&publisher, "c", What::Oom);
    let since = Instant::now();
    while counts.retried.load(Ordering::SeqCst) == 0 {
        assert!(since.elapsed() < Duration::from_secs(30), "{}", publisher.dump());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(publisher.pending(), 1);
}

/// A containerd of its own, ended with it.
struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
}

impl Daemon {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {:?}\n[ttrpc]\naddress = {:?}\n[debug]\nlevel = \"debug\"\n",
            at("root"),
            at("state"),
            at("c.sock"),
            at("c.sock.ttrpc")
        );
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("containerd")
            .args(["-c", &at("config.toml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Self { child, dir };
        daemon.until("containerd successfully booted");
        daemon
    }

    fn address(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn until(&self, words: &str) {
        let since = Instant::now();
        let log = self.dir.path().join("log");
        while !std::fs::read_to_string(&log).unwrap().contains(words) {
            assert!(since.elapsed() < Duration::from_secs(60), "{words:?} is not in containerd's log");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_containerd_takes_events_each_way() {
    // The daemon is a child of the test, which has a reaper: it is waited for by this thread before any sweep runs.
    let daemon = Daemon::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let ttrpc = Addresses { ttrpc: daemon.address("c.sock.ttrpc"), ..Addresses::default() };
        let (publisher, counts) = start(ttrpc, Limits::default());
        publish(&publisher, "by-ttrpc", What::Started { pid: 7 });
        assert!(publisher.flush(Duration::from_secs(60)).await, "{}", publisher.dump());
        assert_eq!(counts.sent.lock().unwrap()["ttrpc"], 1);
        let grpc = Addresses { grpc: daemon.address("c.sock"), ..Addresses::default() };
        let (publisher, counts) = start(grpc, Limits::default());
        publish(&publisher, "by-grpc", What::Paused);
        assert!(publisher.flush(Duration::from_secs(60)).await, "{}", publisher.dump());
        assert_eq!(counts.sent.lock().unwrap()["grpc"], 1);
        let addresses =
            Addresses { grpc: daemon.address("c.sock"), binary: "containerd".into(), ..Addresses::default() };
        let reaper = Reaper::new(Arc::new(Silent)).unwrap();
        let publish = binary::Publish::new(&addresses, &reaper);
        let event = Event {
            container: Key::new("ns", "by-binary").unwrap(),
            at: SystemTime::now(),
            what: What::Resumed,
        };
        publish.publish(&encode::parcel(event).unwrap()).await.unwrap();
    });
    daemon.until("topic=/tasks/start");
    daemon.until("topic=/tasks/paused");
    daemon.until("topic=/tasks/resumed");
}
