use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Mutex;

use gam_task::cgroup::Usage;
use gam_task::id::Key;
use gam_task::spec::{Spec, annotation};
use gam_task::telemetry::{Stream, Telemetry};
use gam_task::tenant::Tenant;
use tracing_subscriber::layer::SubscriberExt;

use super::http::{Content, Limits};
use super::serve::start;
use super::*;
use crate::publisher::Dropped;
use gam_task::admission::Class;
use gam_task::tenant::Quota;

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new(Bounds { tenants: 2, containers: Some(1) }).unwrap())
}

fn serve(address: &Address) -> std::io::Result<Handle> {
    serve_within(address, Limits::default())
}

fn serve_within(address: &Address, limits: Limits) -> std::io::Result<Handle> {
    start(address, Content::Group { name: "g".into(), metrics: metrics() }, None, limits)
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

    fn by_tenant(&self) -> Vec<(Tenant, usize)> {
        vec![(tenant("red"), 2)]
    }

    fn usage(&self, most: usize) -> (Vec<ContainerUsage>, usize) {
        let usage = Usage { memory: Some(4096), cpu: Some(Duration::from_millis(1500)), pids: Some(3) };
        let one = |id| ContainerUsage {
            tenant: tenant("red"),
            key: Key::new("k8s.io", id).unwrap(),
            sandbox: Some("s".into()),
            usage,
            oom_kills: 4,
        };
        (["a", "b"].into_iter().take(most).map(one).collect(), 2 - most)
    }
}

struct Slow;

impl Requests for Slow {
    fn oldest(&self) -> Duration {
        Duration::from_millis(2500)
    }
}

/// A tenant of Kubernetes.
fn tenant(name: &str) -> Tenant {
    let mut spec = Spec::default();
    spec.annotations.insert(annotation::SANDBOX_NAMESPACE.to_owned(), name.to_owned());
    Tenant::of(&Key::new("k8s.io", "x").unwrap(), &spec)
}

/// Calls every writer once.
fn drive(metrics: &Metrics) {
    let second = Duration::from_secs(1);
    for stream in [Stream::Stdin, Stream::Stdout, Stream::Stderr, Stream::Terminal] {
        metrics.queued(Class::Make, Duration::from_millis(1));
        metrics.limited(Quota::Execs);
        metrics.copied(stream, 10);
        metrics.dropped(stream, 3);
    }
    metrics.runtime_command(Some(&tenant("red")), "create", second, true);
    metrics.runtime_command(None, "create", second, false);
    metrics.orphan_reaped();
    metrics.zombies(4, second);
    metrics.oom_kills(&tenant("red"), 5);
    metrics.watch_requests(Arc::new(Slow));
    metrics.cgroup_left();
    metrics.answered("State", "OK", second);
    metrics.events_queued(6, 7);
    metrics.event_sent("ttrpc");
    metrics.event_retried();
    metrics.events_dropped("full", Dropped { events: 3, exits: 2 });
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
        "gam_runtime_queue_seconds_count{class=\"make\"} 1",
        "gam_limits_reached_total{limit=\"execs\"} 1",
        "gam_runtime_command_duration_seconds_count{command=\"create\"} 2",
        "gam_stream_bytes_total{stream=\"stderr\"} 10",
        "gam_stream_dropped_bytes_total{stream=\"terminal\"} 3",
        "gam_zombies 4",
        "gam_zombie_oldest_seconds 1",
        "gam_oom_kills_total 5",
        "gam_events_queued 6",
        "gam_events_queued_bytes 7",
        "gam_events_dropped_total{reason=\"full\"} 3",
        "gam_exits_lost_total 2",
        "gam_request_oldest_seconds 2.5",
        "gam_tenant_containers{tenant=\"k8s.io/red\"} 2",
        "gam_tenant_runtime_commands_total{tenant=\"k8s.io/red\"} 1",
        "gam_tenant_runtime_command_seconds_total{tenant=\"k8s.io/red\"} 1",
        "gam_tenant_oom_kills_total{tenant=\"k8s.io/red\"} 5",
        "gam_containers_not_shown 1",
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

        fn by_tenant(&self) -> Vec<(Tenant, usize)> {
            Vec::new()
        }

        fn usage(&self, _: usize) -> (Vec<ContainerUsage>, usize) {
            (Vec::new(), 0)
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
    let handle = serve(&Address::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
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
    let handle = serve(&address).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(ask(UnixStream::connect(&path).unwrap(), "GET /metrics").contains("gam_threads "));
    let second = serve(&address).err().unwrap();
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
    assert!(serve(&Address::Unix(path.clone())).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "kept");
    fs::remove_file(&path).unwrap();
    let handle = serve(&Address::Unix(path.clone())).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "another's").unwrap();
    drop(handle);
    assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
    let long = Path::new("/tmp").join("x".repeat(120));
    assert!(serve(&Address::Unix(long)).is_err());
}

#[test]
fn clients_that_say_nothing_hold_the_server_only_for_so_long() {
    let limits = Limits { connections: 2, head: Duration::from_millis(200), whole: Duration::from_secs(30) };
    let handle = serve_within(&Address::Tcp("127.0.0.1:0".parse().unwrap()), limits).unwrap();
    let Address::Tcp(address) = *handle.address() else { panic!() };
    let mut idle: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(ask(TcpStream::connect(address).unwrap(), "GET /healthz").ends_with("ok\n"));
    for stream in &mut idle {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap(), 0, "it is closed without an answer");
    }
}

#[test]
fn tenants_above_the_bound_are_counted_together_until_others_have_gone() {
    struct Live(Mutex<Vec<(Tenant, usize)>>);
    impl Tasks for Live {
        fn by_state(&self) -> Vec<(&'static str, usize)> {
            Vec::new()
        }

        fn by_tenant(&self) -> Vec<(Tenant, usize)> {
            self.0.lock().unwrap().clone()
        }

        fn usage(&self, _: usize) -> (Vec<ContainerUsage>, usize) {
            (Vec::new(), 0)
        }
    }
    let metrics = metrics();
    let all = ["a", "b", "c", "d"].map(tenant);
    let live = Arc::new(Live(Mutex::new(all.iter().map(|tenant| (tenant.clone(), 1)).collect())));
    metrics.watch_tasks(Arc::clone(&live) as _);
    for tenant in &all {
        metrics.runtime_command(Some(tenant), "create", Duration::from_secs(2), true);
        metrics.oom_kills(tenant, 1);
    }
    let text = metrics.scrape().unwrap();
    for line in [
        "gam_tenant_runtime_command_seconds_total{tenant=\"k8s.io/a\"} 2",
        "gam_tenant_runtime_command_seconds_total{tenant=\"other\"} 4",
        "gam_tenant_oom_kills_total{tenant=\"other\"} 2",
        "gam_tenant_containers{tenant=\"k8s.io/b\"} 1",
        "gam_tenant_containers{tenant=\"other\"} 2",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("k8s.io/c"), "{text}");
    // One has gone: its place is the next tenant's.
    live.0.lock().unwrap().remove(0);
    let _ = metrics.scrape().unwrap();
    metrics.runtime_command(Some(&all[2]), "create", Duration::from_secs(1), true);
    let text = metrics.scrape().unwrap();
    assert!(!text.contains("k8s.io/a\""), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("gam_tenant_runtime_commands_total{")).count(), 3);
}

#[test]
fn a_container_that_has_gone_takes_its_series_with_it() {
    let series = |text: &str| text.lines().filter(|line| line.starts_with("gam_container_")).count();
    let metrics = metrics();
    metrics.watch_tasks(Arc::new(Two));
    let text = metrics.scrape().unwrap();
    assert_eq!(series(&text), 4, "{text}");
    let labels = "{container=\"a\",namespace=\"k8s.io\",sandbox=\"s\",tenant=\"k8s.io/red\"}";
    for line in ["memory_bytes L 4096", "cpu_seconds_total L 1.5", "pids L 3", "oom_kills_total L 4"] {
        let line = format!("gam_container_{}", line.replace(" L", labels));
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(metrics.registry.gather().iter().all(|one| !one.name().starts_with("gam_container_")));
    let without = Metrics::new(Bounds::default()).unwrap();
    without.watch_tasks(Arc::new(Two));
    let text = without.scrape().unwrap();
    assert!(series(&text) == 0 && text.contains("gam_containers_not_shown 0\n"), "{text}");
}
