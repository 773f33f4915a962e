//! What is shipped for Prometheus and Grafana.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use gam_tests::case::Container;
use gam_tests::dashboard;
use gam_tests::prometheus::{Prometheus, free_address};
use gam_tests::suite::Test;
use gam_tests::target::workspace;

use crate::daemon_at;

gam_tests::tests![
    promtool_takes_the_rules_and_the_configuration,
    prometheus_answers_every_query_of_the_dashboard_and_the_alerts,
];

/// Families that a node where all is well has no samples of.
const NOT_YET: [&str; 2] = ["gam_runtime_queue_seconds_bucket", "gam_limits_reached_total"];

fn promtool_takes_the_rules_and_the_configuration(_: &Test) {
    for words in [
        ["check", "rules", "rules.yaml"],
        ["test", "rules", "rules-test.yaml"],
        ["check", "config", "scrape.yaml"],
    ] {
        let command =
            Command::new("promtool").args(words).current_dir(workspace().join("deploy/prometheus")).output();
        let output = command.expect("starting promtool: tests/install installs it");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("SUCCESS"), "{words:?}: {said}");
    }
    // Each alert is shown to fire.
    let read =
        |name: &str| std::fs::read_to_string(workspace().join("deploy/prometheus").join(name)).unwrap();
    let (rules, tests) = (read("rules.yaml"), read("rules-test.yaml"));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(!alerts.is_empty());
    for alert in alerts {
        assert!(
            tests.contains(&format!("- labels: 'ALERTS{{alertname=\"{alert}\"")),
            "{alert} is not tested"
        );
    }
}

fn prometheus_answers_every_query_of_the_dashboard_and_the_alerts(t: &Test) {
    let address = free_address();
    let daemon = daemon_at(address);
    let pods = ["red", "blue"].map(|tenant| t.container_of(&daemon).sandbox(tenant).run());
    let prometheus = Prometheus::start(address);
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(6) {
        for pod in &pods {
            let _ = pod.exec("echo hello").run().finish();
            // An answer that is an error.
            assert!(pod.client().kill(&pod.namespace, &pod.id, "none", 9, false).is_err());
        }
        thread::sleep(Duration::from_millis(200));
    }
    for panel in dashboard::panels("10s") {
        for query in &panel.queries {
            let answer = prometheus.query(&query.expression);
            let series = answer.unwrap_or_else(|error| panic!("{}: {error}", panel.title));
            let may_be_empty = NOT_YET.iter().any(|family| query.expression.contains(family));
            assert!(may_be_empty || !series.is_empty(), "{}: no data: {}", panel.title, query.expression);
        }
    }
    let alerts = prometheus.alerts().unwrap();
    assert!(alerts.len() >= 10, "{alerts:?}");
    for (name, expression) in alerts {
        let fires = prometheus.query(&expression).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(fires.is_empty(), "{name} fires where all is well: {fires:?}");
    }
    let managers = prometheus.query("count(gam_start_time_seconds) by (group, group_id)").unwrap();
    assert_eq!(managers.len(), 2, "{managers:?}");
    drop(prometheus);
    pods.into_iter().for_each(Container::end);
}
