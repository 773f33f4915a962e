use proptest::prelude::*;

use super::*;
use crate::metrics::Bounds;
use gam_task::tenant::Limits;

fn read(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    Config::read(&path)
}

#[test]
fn an_empty_file_gives_the_defaults() {
    let config = read("").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.grouping, Grouping::Namespace);
    assert_eq!(config.linger, Duration::from_secs(10));
    assert_eq!(config.metrics.listen, Listen::Group);
    assert_eq!(config.metrics.bounds(), Bounds::default());
    assert_eq!(config.events.patience, Duration::from_secs(120));
}

#[test]
fn every_key_is_read() {
    let text = r#"
        grouping = "node"
        linger = "1m30s"
        log_level = "debug"
        task_api = 3
        [scheduler]
        concurrency = 3
        [limits]
        containers = 100
        execs = 0
        copied_bytes_per_second = 1000
        [limits.tenants."k8s.io/batch"]
        containers = 5
        [metrics]
        listen = "tcp://127.0.0.1:9464"
        max_tenants = 8
        per_container = true
        max_containers = 9
        [events]
        max_events = 5
        max_bytes = 6
        patience = 7
        [runtime]
        BinaryName = "crun"
    "#;
    let limits = TenantLimits {
        containers: Some(100),
        execs: Some(0),
        copied_bytes_per_second: std::num::NonZeroU64::new(1000),
        tenants: [("k8s.io/batch".to_owned(), Limits { containers: Some(5), ..Limits::default() })].into(),
    };
    let expected = Config {
        grouping: Grouping::Node,
        linger: Duration::from_secs(90),
        task_api: TaskApi::V3,
        log_level: LevelFilter::DEBUG,
        scheduler: Scheduler { concurrency: 3 },
        limits,
        metrics: Metrics {
            listen: Listen::Tcp("127.0.0.1:9464".parse().unwrap()),
            max_tenants: 8,
            per_container: true,
            max_containers: 9,
        },
        events: Events { max_events: 5, max_bytes: 6, patience: Duration::from_secs(7) },
        runtime: Named { binary_name: Some("crun".into()), ..Named::default() },
    };
    assert_eq!(read(text).unwrap(), expected);
    assert_eq!(expected.metrics.bounds(), Bounds { tenants: 8, containers: Some(9) });
    assert_eq!(read("grouping = \"pod\"").unwrap().grouping, Grouping::Pod);
}

#[test]
fn listen_has_four_forms() {
    for (text, listen) in [
        ("off", Listen::Off),
        ("/run/m.sock", Listen::Unix("/run/m.sock".into())),
        ("unix:///run/m.sock", Listen::Unix("/run/m.sock".into())),
        ("[::1]:80", Listen::Tcp("[::1]:80".parse().unwrap())),
    ] {
        assert_eq!(
            read(&format!("[metrics]\nlisten = \"{text}\"")).unwrap().metrics.listen,
            listen,
            "{text}"
        );
    }
}

#[test]
fn listen_becomes_an_address_of_the_node() {
    let of = |listen: Listen| listen.node().map(|address| address.to_string());
    assert_eq!(of(Listen::Group), None);
    assert_eq!(of(Listen::Unix("/m".into())).unwrap(), "unix:///m");
    assert_eq!(of(Listen::Tcp("[::1]:80".parse().unwrap())).unwrap(), "tcp://[::1]:80");
    assert_eq!(of(Listen::Off), None);
}

#[test]
fn durations_are_seconds_or_text() {
    for (text, millis) in [
        ("0", 0),
        ("0.5", 500),
        ("\"500ms\"", 500),
        ("\"0s\"", 0),
        ("\"1h1m1s1ms\"", 3_661_001),
        ("\"24h\"", 86_400_000),
    ] {
        assert_eq!(
            read(&format!("linger = {text}")).unwrap().linger,
            Duration::from_millis(millis),
            "{text}"
        );
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_line() {
    for (text, line, word) in [
        ("\ngruping = \"pod\"", 2, "gruping"),
        ("grouping = \"Pod\"", 1, "Pod"),
        ("[metrics]\nport = 1", 2, "port"),
        ("[metrics]\nmax_tenants = 0", 2, "at least 1"),
        ("[metrics]\nper_container = 5", 2, "boolean"),
        ("\n[metric]", 2, "metric"),
        ("[metrics]\nlisten = \"localhost\"", 2, "localhost"),
        ("[metrics]\n\nlisten = \"tcp:///run/x\"", 3, "address"),
        ("linger = -1", 1, "-1"),
        ("linger = \"10\"", 1, "10"),
        ("linger = \"10x\"", 1, "10x"),
        ("linger = \"\"", 1, "seconds"),
        ("linger = \"25h\"", 1, "a day"),
        ("linger = nan", 1, "seconds"),
        ("linger = true", 1, "boolean"),
        ("log_level = \"loud\"", 1, "loud"),
        ("[events]\nmax_events = 0", 2, "at least 1"),
        ("[scheduler]\nconcurrency = 0", 2, "at least 1"),
        ("[limits]\npods = 1", 2, "pods"),
        ("[limits]\ncopied_bytes_per_second = 0", 2, "nonzero"),
        ("[limits.tenants.\"a b\"]\nexecs = 1", 1, "a b"),
        ("[metrics]\nmax_containers = 3001", 2, "3000"),
        ("[limits.tenants.a]\n\nexecs = -1", 3, "-1"),
        ("[runtime]\nbinary_name = \"x\"", 2, "binary_name"),
        ("grouping = ", 1, ""),
    ] {
        match read(text) {
            Err(ConfigError::Line { line: at, message, path }) => {
                assert_eq!(at, line, "{text}: {message}");
                assert!(message.contains(word), "{text}: {message}");
                assert!(!message.contains('\n') && path.ends_with("config.toml"));
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn a_file_that_is_named_must_be_there() {
    let error = Config::read("/nonexistent/gam.toml".as_ref()).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/gam.toml"), "{error}");
}

proptest! {
    #[test]
    fn no_configuration_panics(value in ".{0,20}", digits in "[0-9]{1,25}(h|m|s|ms)?") {
        let _ = read(&format!("linger = \"{digits}\"\n[metrics]\nlisten = {value:?}"));
        let _ = read(&value);
    }
}

#[test]
fn the_example_holds_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/config.toml");
    assert_eq!(Config::read(&path).unwrap(), Config::default());
}
