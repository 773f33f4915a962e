use serde_json::json;

use super::*;

fn row(id: &str, cpu: u64, memory: u64) -> ContainerRow {
    let listed = json!({"namespace": "ns", "id": id, "state": "running", "pid": 1, "created_ms": 5});
    ContainerRow {
        listed: serde_json::from_value(listed).unwrap(),
        cost: cost::Cost { cpu: Some(cpu), memory: Some(memory), pids: Some(1) },
        manager: Some(9),
        group: "node".into(),
    }
}

fn looks() -> (Look, Look) {
    let at = Instant::now();
    let before = Look {
        at,
        managers: Vec::new(),
        failed: Vec::new(),
        containers: vec![row("a", 0, 7), row("b", 1000, 8)],
    };
    let containers = vec![row("a", 500_000_000, 7), row("b", 1000, 8), row("c", 9, 9)];
    (before, Look { at: at + Duration::from_secs(1), managers: Vec::new(), failed: Vec::new(), containers })
}

#[test]
fn a_processor_that_was_had_for_half_the_time_is_50_percent() {
    let (before, now) = looks();
    let frame = compare(&before, &now, Sort::Cpu);
    let seen: Vec<_> =
        frame.containers.iter().map(|using| (using.row.listed.id.as_str(), using.cpu_percent)).collect();
    assert_eq!(seen, [("a", Some(50.0)), ("b", Some(0.0)), ("c", None)], "one that is new is not known yet");
}

#[test]
fn the_largest_come_first() {
    let (before, now) = looks();
    let ids = |sort| {
        let frame = compare(&before, &now, sort);
        frame.containers.into_iter().map(|using| using.row.listed.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(Sort::Memory), ["c", "b", "a"]);
    assert_eq!(ids(Sort::Name), ["a", "b", "c"]);
}

#[test]
fn an_interval_is_a_number_of_seconds() {
    assert_eq!(interval("0.5").unwrap(), Duration::from_millis(500));
    for bad in ["", "x", "0", "-1", "NaN", "1e9"] {
        assert!(interval(bad).is_err(), "{bad}");
    }
}
