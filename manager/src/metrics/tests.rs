use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use gam_task::telemetry::{Stream, Telemetry};
use tracing_subscriber::layer::SubscriberExt;

use super::http::{Limits, serve_within};
use super::*;

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new().unwrap())
}

/// Sends a request and reads all that comes.
fn ask(mut stream: impl Read + Write, request: &str) -> String {
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

struct Two;

impl Tasks for Two {
    fn by_state(&self) -> Vec<(&'static str, usize)> {
        vec![("running", 2), ("stopped", 0)]
    }
}

/// Calls every writer once.
fn drive(metrics: &Metrics) {
    let second = Duration::from_secs(1);
    for stream in [Stream::Stdin, Stream::Stdout, Stream::Stderr, Stream::Terminal] {
        metrics.copied(stream, 10);
        metrics.dropped(stream, 3);
    }
    metrics.runtime_command("create", second, true);
    metrics.runtime_command("create", second, false);
    metrics.orphan_reaped();
    metrics.zombies(4, second);
    metrics.oom_kills(5);
    metrics.cgroup_left();
    metrics.answered("State", "OK", second);
    metrics.events_queued(6, 7);
    metrics.event_sent("ttrpc");
    metrics.event_retried();
    metrics.event_dropped("full");
    metrics.exit_acknowledged(second);
    metrics.watch_tasks(Arc::new(Two));
    // A file that cannot be made takes no line.
    let logs = Logs::new("/nonexistent/log".into(), false);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(logs.clone()), || {
        tracing::info!("x")
    });
    metrics.watch_logs(logs);
}

#[test]
fn every_metric_has_a_help_text_and_a_writer() {
    let metrics = metrics();
    drive(&metrics);
    let text = metrics.scrape().unwrap();
    let mut told: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    let mut names = metrics.names().to_vec();
    told.sort_unstable();
    names.sort_unstable();
    assert_eq!(told, names);
    for name in metrics.names() {
        assert!(name.starts_with("gam_"), "{name}");
        let help = text.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} ")));
        assert!(help.is_some_and(|help| help.len() > 10 && help.ends_with('.')), "{name} has no help");
        let is_moved = text.lines().any(|line| {
            let rest = line.strip_prefix(name).map(|rest| rest.strip_prefix("_sum").unwrap_or(rest));
            rest.is_some_and(|rest| rest.starts_with([' ', '{'])) && !line.ends_with(" 0")
        });
        assert!(is_moved, "nothing writes {name}:\n{text}");
    }
    for line in [
        "gam_tasks{state=\"running\"} 2",
        "gam_tasks{state=\"stopped\"} 0",
        "gam_requests_total{code=\"OK\",method=\"State\"} 1",
        "gam_runtime_command_failures_total{command=\"create\"} 1",
        "gam_runtime_command_duration_seconds_count{command=\"create\"} 2",
        "gam_stream_bytes_total{stream=\"stderr\"} 10",
        "gam_stream_dropped_bytes_total{stream=\"terminal\"} 3",
        "gam_zombies 4",
        "gam_zombie_oldest_seconds 1",
        "gam_oom_kills_total 5",
        "gam_events_queued 6",
        "gam_events_queued_bytes 7",
        "gam_events_dropped_total{reason=\"full\"} 1",
        "gam_log_lines_dropped_total 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_state_that_no_task_is_in_any_more_is_not_told_and_dropped_lines_are_told_once() {
    struct Once(Mutex<Vec<(&'static str, usize)>>);
    impl Tasks for Once {
        fn by_state(&self) -> Vec<(&'static str, usize)> {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }
    let metrics = metrics();
    metrics.watch_tasks(Arc::new(Once(Mutex::new(vec![("paused", 1)]))));
    drive(&metrics);
    assert!(metrics.scrape().unwrap().contains("gam_tasks{state=\"paused\"} 1"));
    let text = metrics.scrape().unwrap();
    assert!(!text.contains("paused") && text.contains("gam_log_lines_dropped_total 1\n"), "{text}");
}

#[test]
fn http_over_tcp() {
    let handle = serve(&Address::Tcp("127.0.0.1:0".parse().unwrap()), metrics()).unwrap();
    let Address::Tcp(address) = *handle.address() else { panic!() };
    let connect = || TcpStream::connect(address).unwrap();
    let answer = ask(connect(), "GET /metrics");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4") && answer.contains("gam_build_info{"));
    assert!(ask(connect(), "GET /healthz").ends_with("\r\n\r\nok\n"));
    assert!(ask(connect(), "GET /metrics?x=1").starts_with("HTTP/1.1 200 "));
    assert!(ask(connect(), "GET /").starts_with("HTTP/1.1 404 "));
    assert!(ask(connect(), "POST /metrics").starts_with("HTTP/1.1 405 "));
    assert!(ask(connect(), "nonsense").starts_with("HTTP/1.1 400 "));
    drop(handle);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn k9_a_unix_socket_is_the_owners_only_and_goes_with_its_server() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.sock");
    let address = Address::Unix(path.clone());
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a stale socket");
    let handle = serve(&address, metrics()).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(ask(UnixStream::connect(&path).unwrap(), "GET /metrics").contains("gam_threads "));
    let second = serve(&address, metrics()).err().unwrap();
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    assert!(
        ask(UnixStream::connect(&path).unwrap(), "GET /healthz").ends_with("ok\n"),
        "the first still serves"
    );
    drop(handle);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn only_a_socket_is_replaced_and_only_its_own_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics.sock");
    fs::write(&path, "kept").unwrap();
    assert!(serve(&Address::Unix(path.clone()), metrics()).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    fs::remove_file(&path).unwrap();
    let handle = serve(&Address::Unix(path.clone()), metrics()).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "another's").unwrap();
    drop(handle);
    assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
    let long = Path::new("/tmp").join("x".repeat(120));
    assert!(serve(&Address::Unix(long), metrics()).is_err());
}

#[test]
fn clients_that_say_nothing_hold_the_server_only_for_so_long() {
    let limits = Limits { connections: 2, head: Duration::from_millis(200), whole: Duration::from_secs(30) };
    let handle = serve_within(&Address::Tcp("127.0.0.1:0".parse().unwrap()), metrics(), limits).unwrap();
    let Address::Tcp(address) = *handle.address() else { panic!() };
    let mut idle: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(ask(TcpStream::connect(address).unwrap(), "GET /healthz").ends_with("ok\n"));
    for stream in &mut idle {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0, "it is closed without an answer");
    }
}
