//! The publisher against daemons that delay, refuse, break off, stand still, or are not there.

use std::collections::HashMap;
use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use ::ttrpc::asynchronous::TtrpcContext;
use ::ttrpc::{Code, get_status};
use async_trait::async_trait;
use gam_protos::any::unpack;
use gam_protos::{events, forward, task};
use gam_task::event::What;
use gam_task::exit::Exit;
use gam_task::telemetry::Silent;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};
use protobuf::Message as _;

use super::*;
use crate::server::{self, Server};

/// Long enough on a loaded machine; no test waits for it where all is well.
const LONG: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Tally {
    sent: Mutex<HashMap<&'static str, u64>>,
    dropped: Mutex<HashMap<&'static str, u64>>,
    exits_lost: AtomicU64,
    acknowledged: Mutex<Vec<&'static str>>,
    retried: AtomicU64,
    queued: Mutex<(usize, usize)>,
}

impl Observer for Tally {
    fn queued(&self, now: usize, bytes: usize) {
        *self.queued.lock().unwrap() = (now, bytes);
    }
    fn sent(&self, transport: &'static str) {
        *self.sent.lock().unwrap().entry(transport).or_default() += 1;
    }
    fn retried(&self) {
        self.retried.fetch_add(1, Ordering::SeqCst);
    }
    fn dropped(&self, reason: &'static str, dropped: Dropped) {
        *self.dropped.lock().unwrap().entry(reason).or_default() += dropped.events;
        self.exits_lost.fetch_add(dropped.exits, Ordering::SeqCst);
    }
    fn acknowledged(&self, topic: &'static str, _: Duration) {
        self.acknowledged.lock().unwrap().push(topic);
    }
}

impl Tally {
    fn sent_by(&self, transport: &str) -> u64 {
        self.sent.lock().unwrap().get(transport).copied().unwrap_or_default()
    }

    fn dropped_for(&self, reason: &str) -> u64 {
        self.dropped.lock().unwrap().get(reason).copied().unwrap_or_default()
    }
}

/// What a daemon does with an event that has come: answers it with a code (OK among them) or never.
type Mood = Box<dyn Fn(&str, u32) -> Option<Code> + Send + Sync>;

/// What the daemons of a test have been given, in the order it came: container and pid.
#[derive(Default)]
struct Seen {
    events: Mutex<Vec<(String, u32)>>,
    connections: AtomicU32,
    /// Ends the requests that are not answered.
    over: CancellationToken,
}

impl Seen {
    fn take_in(&self, request: forward::ForwardRequest) -> (String, u32) {
        let envelope = request.envelope.unwrap();
        assert_eq!(envelope.namespace, "ns");
        let start: events::TaskStart = unpack(&envelope.event).unwrap().unwrap();
        let seen = (start.container_id, start.pid);
        self.events.lock().unwrap().push(seen.clone());
        seen
    }

    fn count(&self) -> usize {
        self.events.lock().unwrap().len()
    }

    /// The events of each container in the order in which they first came.
    fn of_each(&self) -> HashMap<String, Vec<u32>> {
        let mut each: HashMap<String, Vec<u32>> = HashMap::new();
        for (container, n) in self.events.lock().unwrap().iter().cloned() {
            let events = each.entry(container).or_default();
            if !events.contains(&n) {
                events.push(n);
            }
        }
        each
    }
}

struct Daemon {
    seen: Arc<Seen>,
    mood: Mood,
}

#[async_trait]
impl forward::Events for Daemon {
    async fn forward(
        &self,
        ctx: &TtrpcContext,
        request: forward::ForwardRequest,
    ) -> ::ttrpc::Result<task::Empty> {
        assert_eq!(ctx.metadata.get("containerd-namespace-ttrpc").unwrap(), &["ns"]);
        let (container, n) = self.seen.take_in(request);
        match (self.mood)(&container, n) {
            Some(Code::OK) => Ok(task::Empty::new()),
            Some(code) => Err(::ttrpc::Error::RpcStatus(get_status(code, "not in the mood".to_owned()))),
            None => {
                self.seen.over.cancelled().await;
                Ok(task::Empty::new())
            }
        }
    }
}

impl server::Observer for Seen {
    fn answered(&self, _: &str, _: &'static str, _: Duration) {}
    fn closed(&self, _: server::ConnectionId) {
        self.connections.fetch_add(1, Ordering::SeqCst);
    }
}

/// A daemon's ttrpc side at `path`.
fn serve(path: &Path, seen: &Arc<Seen>, mood: Mood) -> Server {
    let _ = std::fs::remove_file(path);
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    let service = forward::create_events(Arc::new(Daemon { seen: Arc::clone(seen), mood }));
    Server::start(listener, service, Arc::clone(seen) as _, Arc::default())
}

/// A daemon's gRPC side at `path`, which answers with `code`.
fn serve_grpc(path: &Path, seen: &Arc<Seen>, code: &'static str) -> tokio::task::JoinHandle<()> {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    let seen = Arc::clone(seen);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&seen);
            let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
                let seen = Arc::clone(&seen);
                async move {
                    assert_eq!(request.uri().path(), "/containerd.services.events.v1.Events/Forward");
                    assert_eq!(request.headers().get("containerd-namespace").unwrap(), "ns");
                    assert_eq!(request.headers().get("content-type").unwrap(), "application/grpc");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    seen.take_in(forward::ForwardRequest::parse_from_bytes(&body[5..]).unwrap());
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static(code));
                    let body = if code == "0" { Bytes::from_static(&[0; 5]) } else { Bytes::new() };
                    let body = Full::new(body).with_trailers(async { Some(Ok::<_, Infallible>(trailers)) });
                    Ok::<_, Infallible>(hyper::Response::new(body))
                }
            });
            let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(serve.serve_connection(TokioIo::new(stream), service));
        }
    })
}

/// An executable script, which is in nobody's hands for writing when this returns.
fn script(path: &Path, text: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

struct Stage {
    dir: tempfile::TempDir,
    seen: Arc<Seen>,
    tally: Arc<Tally>,
}

impl Stage {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), seen: Arc::default(), tally: Arc::default() }
    }

    /// Ends the requests that are not answered, which a daemon runs to their end, and waits for that.
    async fn over(&self, daemon: &Server) {
        self.seen.over.cancel();
        daemon.stop(LONG).await;
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `ttrpc`, `grpc` and `binary` in the stage's directory, whether they exist or not.
    fn addresses(&self) -> Addresses {
        Addresses {
            ttrpc: format!("unix://{}", self.path("ttrpc").display()),
            grpc: self.path("grpc").display().to_string(),
            binary: PathBuf::new(),
        }
    }

    fn publisher(&self, addresses: Addresses, limits: Limits) -> Arc<Publisher> {
        let reaper = Reaper::new(Arc::new(Silent)).unwrap();
        Publisher::start(addresses, limits, reaper, Arc::clone(&self.tally) as _)
    }
}

fn started(container: &str, n: u32) -> Event {
    event(container, What::Started { pid: n })
}

fn event(container: &str, what: What) -> Event {
    Event { container: Key::new("ns", container).unwrap(), at: SystemTime::now(), what }
}

fn content() -> Mood {
    Box::new(|_, _| Some(Code::OK))
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < LONG, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn f1_events_arrive_in_order_and_the_flush_ends_with_the_last_acknowledgement() {
    let stage = Stage::new();
    let _server = serve(&stage.path("ttrpc"), &stage.seen, content());
    let publisher = stage.publisher(stage.addresses(), Limits::default());
    for n in 0..100 {
        for container in ["a", "b", "c"] {
            publisher.publish(started(container, n));
        }
    }
    assert!(publisher.flush(LONG).await);
    assert_eq!(publisher.pending(), 0);
    let expected: Vec<u32> = (0..100).collect();
    assert_eq!(stage.seen.count(), 300, "once each");
    for (container, events) in stage.seen.of_each() {
        assert_eq!(events, expected, "{container}");
    }
    assert_eq!(stage.tally.sent_by("ttrpc"), 300);
    assert_eq!(stage.tally.acknowledged.lock().unwrap().len(), 300);
    assert_eq!(*stage.tally.queued.lock().unwrap(), (0, 0));
    let dump = publisher.dump();
    assert_eq!((&dump["events"], &dump["transport"]), (&0.into(), &"ttrpc".into()), "{dump}");
}

#[tokio::test]
async fn f3_everything_is_kept_while_containerd_is_away_and_sent_soon_after_it_is_back() {
    let stage = Stage::new();
    let publisher = stage.publisher(stage.addresses(), Limits::default());
    for n in 0..50 {
        publisher.publish(started("a", n));
    }
    // By now the pauses between rounds are as long as they get.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(publisher.pending(), 50);
    let dump = publisher.dump();
    assert_eq!(dump["containers"]["ns/a"], 50, "{dump}");
    assert!(dump["last_error"].as_str().unwrap().contains("cannot connect"), "{dump}");
    let begun = Instant::now();
    let server = serve(&stage.path("ttrpc"), &stage.seen, content());
    assert!(publisher.flush(LONG).await);
    assert!(begun.elapsed() < Duration::from_millis(1500), "{:?}", begun.elapsed());

    // It goes and comes again while nothing is sent; the next event finds it.
    server.stop(Duration::ZERO).await;
    until("the connection closes", || stage.seen.connections.load(Ordering::SeqCst) == 1).await;
    let _server = serve(&stage.path("ttrpc"), &stage.seen, content());
    publisher.publish(started("a", 50));
    assert!(publisher.flush(LONG).await);
    assert_eq!(stage.seen.of_each().get("a").unwrap(), &(0..=50).collect::<Vec<u32>>());
    assert!(stage.tally.dropped.lock().unwrap().is_empty());
}

/// Passes connections at `path` on to `to`, until it is aborted: then they break.
fn forward_to(path: &Path, to: PathBuf) -> tokio::task::JoinHandle<()> {
    let _ = std::fs::remove_file(path);
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (mut ours, _) = listener.accept().await.unwrap();
            let mut theirs = tokio::net::UnixStream::connect(&to).await.unwrap();
            connections.spawn(async move { tokio::io::copy_bidirectional(&mut ours, &mut theirs).await });
        }
    })
}

/// A daemon that fails, does not answer, and whose connections break, at random: no event is overtaken or lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f4_no_event_is_overtaken_whatever_fails() {
    for seed in 0..4_u8 {
        let stage = Stage::new();
        let limits = Limits { failures: u32::MAX, ..Limits::default() };
        let publisher = stage.publisher(stage.addresses(), limits);
        let mut random = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let rolls = AtomicU64::new(random.next_u64());
        let mood: Mood = Box::new(move |_, _| {
            // Products of an odd constant are random enough.
            let roll = rolls.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            match (roll.wrapping_mul(0xD134_2543_DE82_EF95) >> 32) % 40 {
                0 => None,
                1 => Some(Code::UNAVAILABLE),
                2 => Some(Code::INTERNAL),
                _ => Some(Code::OK),
            }
        });
        let server = serve(&stage.path("daemon"), &stage.seen, mood);
        for n in 0..40 {
            for container in 0..8 {
                publisher.publish(started(&format!("c{container}"), n));
            }
        }
        let begun = Instant::now();
        while publisher.pending() > 0 {
            assert!(begun.elapsed() < LONG, "seed {seed}: {}", publisher.dump());
            let proxy = forward_to(&stage.path("ttrpc"), stage.path("daemon"));
            tokio::time::sleep(Duration::from_millis(50 + random.next_u64() % 250)).await;
            proxy.abort();
        }
        let each = stage.seen.of_each();
        assert_eq!(each.len(), 8);
        for (container, events) in each {
            assert_eq!(events, (0..40).collect::<Vec<u32>>(), "seed {seed}, {container}");
        }
        assert!(stage.tally.retried.load(Ordering::SeqCst) > 0, "seed {seed} tried nothing");
        assert!(stage.seen.connections.load(Ordering::SeqCst) > 1, "seed {seed} broke nothing");
        assert_eq!(stage.tally.sent_by("ttrpc"), 320);
        stage.over(&server).await;
    }
}

#[tokio::test]
async fn f2_a_daemon_that_stands_still_is_given_one_copy_for_as_long_as_the_patience() {
    let stage = Stage::new();
    let asked = AtomicU32::new(0);
    let mood: Mood = Box::new(move |_, _| (asked.fetch_add(1, Ordering::SeqCst) > 0).then_some(Code::OK));
    let server = serve(&stage.path("ttrpc"), &stage.seen, mood);
    let (answer, patience) = (Duration::from_millis(100), Duration::from_millis(1500));
    let publisher = stage.publisher(stage.addresses(), Limits { answer, patience, ..Limits::default() });
    let begun = Instant::now();
    for container in ["a", "b", "c"] {
        publisher.publish(started(container, 1));
    }
    assert!(publisher.flush(LONG).await);
    assert!(begun.elapsed() >= patience, "the wait was cut short: {:?}", begun.elapsed());
    assert_eq!(stage.seen.count(), 4, "a new connection carries one event until it has answered");
    until("the silent connection closes", || stage.seen.connections.load(Ordering::SeqCst) == 1).await;
    stage.over(&server).await;
}

#[tokio::test]
async fn one_event_that_is_not_answered_holds_up_its_own_container_only() {
    let stage = Stage::new();
    let stuck = AtomicU32::new(0);
    let mood: Mood = Box::new(move |container, n| match (container, n) {
        ("a", 1) if stuck.fetch_add(1, Ordering::SeqCst) == 0 => None,
        _ => Some(Code::OK),
    });
    let server = serve(&stage.path("ttrpc"), &stage.seen, mood);
    let (answer, patience) = (Duration::from_millis(50), Duration::from_secs(8));
    let publisher = stage.publisher(stage.addresses(), Limits { answer, patience, ..Limits::default() });
    publisher.publish(started("b", 0));
    assert!(publisher.flush(LONG).await);
    publisher.publish(started("a", 1));
    publisher.publish(started("a", 2));
    for n in 1..=20 {
        publisher.publish(started("b", n));
        until("b goes on", || stage.seen.of_each()["b"].contains(&n)).await;
        tokio::time::sleep(answer).await;
    }
    assert!(publisher.pending() >= 2, "b did not pass a, which waited: {}", publisher.dump());
    assert!(publisher.flush(LONG).await);
    assert_eq!(stage.seen.of_each().get("a").unwrap(), &[1, 2]);
    assert_eq!(stage.seen.connections.load(Ordering::SeqCst), 0, "the connection was kept");
    stage.over(&server).await;
}

#[tokio::test]
async fn what_is_refused_or_fails_for_ever_is_dropped_and_counted_and_the_lane_goes_on() {
    let stage = Stage::new();
    let mood: Mood = Box::new(|_, n| {
        Some(match n {
            1 => Code::INVALID_ARGUMENT,
            2 => Code::UNAVAILABLE,
            _ => Code::OK,
        })
    });
    let _server = serve(&stage.path("ttrpc"), &stage.seen, mood);
    let publisher = stage.publisher(stage.addresses(), Limits { failures: 3, ..Limits::default() });
    for n in 0..4 {
        publisher.publish(started("a", n));
    }
    assert!(publisher.flush(LONG).await);
    let events: Vec<u32> = stage.seen.events.lock().unwrap().iter().map(|(_, n)| *n).collect();
    assert_eq!(events, [0, 1, 2, 2, 2, 3]);
    assert_eq!(*stage.tally.dropped.lock().unwrap(), HashMap::from([("refused", 1), ("failed", 1)]));
    assert_eq!((stage.tally.sent_by("ttrpc"), stage.tally.retried.load(Ordering::SeqCst)), (2, 2));
}

#[tokio::test]
async fn over_the_bound_events_are_counted_as_dropped_and_so_are_those_left_at_the_end() {
    let stage = Stage::new();
    let publisher = stage.publisher(stage.addresses(), Limits { events: 10, ..Limits::default() });
    for n in 0..100 {
        publisher.publish(started("a", n));
    }
    assert_eq!((publisher.pending(), stage.tally.dropped_for("overflow")), (10, 90));
    publisher.publish(event("a", What::Checkpointed { path: "x".repeat(LONGEST) }));
    assert_eq!(stage.tally.dropped_for("unencodable"), 1);
    assert!(!publisher.flush(Duration::from_millis(50)).await);
    publisher.stop(Duration::from_millis(50)).await;
    assert_eq!((publisher.pending(), stage.tally.dropped_for("stopping")), (0, 10));
    publisher.publish(started("a", 100));
    assert_eq!((publisher.pending(), stage.tally.dropped_for("stopping")), (0, 11));
    assert!(publisher.flush(LONG).await);
}

#[tokio::test]
async fn d14_exits_of_init_are_left_to_containerd_and_the_others_are_not() {
    let stage = Stage::new();
    let publisher = stage.publisher(stage.addresses(), Limits::default());
    let exit = Exit::now(0);
    publisher.publish(event("a", What::Exited { exec_id: None, pid: 1, exit }));
    publisher.publish(event("a", What::Deleted { pid: 1, exit }));
    publisher.publish(event("b", What::Exited { exec_id: Some("e".into()), pid: 1, exit }));
    tokio::join!(publisher.stop_leaving_exits(Duration::from_millis(300)), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!((publisher.pending(), stage.tally.dropped_for("stopping")), (1, 2));
        assert_eq!(stage.tally.exits_lost.load(Ordering::SeqCst), 0);
    });
    assert_eq!(stage.tally.dropped_for("stopping"), 3);
    assert_eq!(stage.tally.exits_lost.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_daemon_without_the_ttrpc_service_gets_its_events_by_grpc() {
    let stage = Stage::new();
    let listener = tokio::net::UnixListener::bind(stage.path("ttrpc")).unwrap();
    let _server = Server::start(listener, HashMap::new(), Arc::clone(&stage.seen) as _, Arc::default());
    let grpc = serve_grpc(&stage.path("grpc"), &stage.seen, "0");
    let publisher = stage.publisher(stage.addresses(), Limits::default());
    for n in 0..20 {
        publisher.publish(started("a", n));
        publisher.publish(started("b", n));
    }
    assert!(publisher.flush(LONG).await);
    for container in ["a", "b"] {
        assert_eq!(stage.seen.of_each().get(container).unwrap(), &(0..20).collect::<Vec<u32>>());
    }
    assert_eq!((stage.tally.sent_by("grpc"), stage.seen.count()), (40, 40));
    grpc.abort();
}

#[tokio::test]
async fn events_return_to_ttrpc_when_it_works_again() {
    let stage = Stage::new();
    let grpc = serve_grpc(&stage.path("grpc"), &stage.seen, "0");
    let publisher = stage.publisher(stage.addresses(), Limits::default());
    publisher.publish(started("a", 0));
    assert!(publisher.flush(LONG).await);
    assert_eq!(stage.tally.sent_by("grpc"), 1);
    let _server = serve(&stage.path("ttrpc"), &stage.seen, content());
    let (mut n, begun) = (0, Instant::now());
    while stage.tally.sent_by("ttrpc") == 0 {
        assert!(begun.elapsed() < LONG);
        n += 1;
        publisher.publish(started("a", n));
        assert!(publisher.flush(LONG).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(stage.seen.of_each().get("a").unwrap(), &(0..=n).collect::<Vec<u32>>());
    grpc.abort();
}

#[tokio::test]
async fn a_refusal_by_grpc_is_a_refusal() {
    let stage = Stage::new();
    let grpc = serve_grpc(&stage.path("grpc"), &stage.seen, "3");
    let addresses = Addresses { ttrpc: String::new(), ..stage.addresses() };
    let publisher = stage.publisher(addresses, Limits::default());
    publisher.publish(started("a", 0));
    assert!(publisher.flush(LONG).await);
    assert_eq!(stage.tally.dropped_for("refused"), 1);
    grpc.abort();
}

#[tokio::test]
async fn without_any_socket_events_go_by_the_binary_in_order() {
    let stage = Stage::new();
    let (log, binary) = (stage.path("log"), stage.path("binary"));
    let text = format!("echo \"$@\" >> {0}; cat >> {0}.in; [ -z \"$HOME\" ]", log.display());
    script(&binary, &text);
    let publisher = stage.publisher(Addresses { binary, ..stage.addresses() }, Limits::default());
    publisher.publish(started("a", 1));
    publisher.publish(started("a", 2));
    assert!(publisher.flush(LONG).await, "{}", publisher.dump());
    assert_eq!(stage.tally.sent_by("binary"), 2);
    let line =
        format!("--address {} publish --topic /tasks/start --namespace ns\n", stage.path("grpc").display());
    assert_eq!(std::fs::read_to_string(&log).unwrap(), line.repeat(2));
    let mut read = std::fs::read(stage.path("log.in")).unwrap();
    let second = read.split_off(read.len() / 2);
    for (bytes, pid) in [(read, 1), (second, 2)] {
        let any = protobuf::well_known_types::any::Any::parse_from_bytes(&bytes).unwrap();
        assert_eq!(unpack::<events::TaskStart>(&any).unwrap().unwrap().pid, pid);
    }
}

#[tokio::test]
async fn b7_a_binary_that_hangs_is_killed_with_its_children() {
    let stage = Stage::new();
    let (pids, path) = (stage.path("pids"), stage.path("binary"));
    script(&path, &format!("/bin/sleep 1000 &\necho $$ $! > {}\nwait", pids.display()));
    let parcel = encode::encode(&started("a", 1)).unwrap();
    let reaper = Reaper::new(Arc::new(Silent)).unwrap();
    let begun = Instant::now();
    let limit = Duration::from_secs(2);
    let outcome = loop {
        match binary::publish(&reaper, &path, "/nowhere", &parcel, limit).await {
            // Another test's child may hold the script open for a moment.
            link::Outcome::Broken(why) if why.contains("busy") => continue,
            outcome => break outcome,
        }
    };
    assert!(matches!(&outcome, link::Outcome::Broken(why) if why.contains("killed after 2s")), "{outcome:?}");
    assert!(begun.elapsed() < LONG);
    for pid in std::fs::read_to_string(&pids).unwrap().split_whitespace() {
        let stat = format!("/proc/{pid}");
        until("the processes are gone", || !Path::new(&stat).exists()).await;
    }
    let missing = binary::publish(&reaper, &stage.path("none"), "/nowhere", &parcel, limit).await;
    assert!(matches!(missing, link::Outcome::Broken(_)));
}

#[tokio::test]
async fn a_publisher_that_is_dropped_ends() {
    let stage = Stage::new();
    let _server = serve(&stage.path("ttrpc"), &stage.seen, content());
    let publisher = stage.publisher(stage.addresses(), Limits::default());
    publisher.publish(started("a", 0));
    assert!(publisher.flush(LONG).await);
    drop(publisher);
    until("its connection closes", || stage.seen.connections.load(Ordering::SeqCst) == 1).await;
}
