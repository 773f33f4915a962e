//! Section K: what one tenant may have.

use std::time::{Duration, Instant};

use gam_tests::daemon::{Daemon, Settings};
use gam_tests::scrape;
use gam_tests::suite::Test;

gam_tests::tests![k4_a_tenant_has_no_more_than_its_limits, k4_output_is_as_fast_as_its_tenant_may_be,];

fn settings(limits: &str) -> Settings {
    let mut settings = Settings::new().grouping("node");
    settings.gam.push_str(limits);
    settings
}

fn k4_a_tenant_has_no_more_than_its_limits(t: &Test) {
    if t.on_go() {
        return;
    }
    let daemon = Daemon::start(settings("[limits]\ncontainers = 2\nexecs = 1\n"));
    let first = t.container_of(&daemon).sandbox("payments").run();
    let second = t.container_of(&daemon).in_pod("payments", &first.id).run();
    let refused = t.container_of(&daemon).in_pod("payments", &first.id).try_create();
    let text = refused.err().expect("a third container was made").to_string();
    assert!(text.contains("/payments has 2 containers already"), "{text}");
    let other = t.container_of(&daemon).sandbox("batch").run();
    assert_eq!(other.shim(), first.shim(), "one manager for both tenants");
    let exec = first.exec("sleep 1000").run();
    let refused = first.exec("exit 0").streams([false; 3]).try_add();
    let text = refused.err().expect("a second exec was made").to_string();
    assert!(text.contains("/payments has 1 execs already"), "{text}");
    assert_eq!(other.exec("exit 0").run().finish().0.status, 0);
    exec.try_kill(9).unwrap();
    exec.finish();
    assert_eq!(second.exec("exit 0").run().finish().0.status, 0);
    second.end();
    t.container_of(&daemon).in_pod("payments", &first.id).run().end();
    let metrics: Vec<String> = scrape::sockets(&daemon.dir.join("run"))
        .iter()
        .filter_map(|socket| scrape::get(socket, "/metrics").ok())
        .collect();
    for limit in ["containers", "execs"] {
        let line = format!("gam_limits_reached_total{{limit=\"{limit}\"}} 1");
        assert!(metrics.iter().any(|text| text.contains(&line)), "{limit}: {metrics:?}");
    }
    first.end();
    other.end();
}

/// A megabyte at 300 kB a second, of which the first second's worth is free, and another tenant's at once.
fn k4_output_is_as_fast_as_its_tenant_may_be(t: &Test) {
    if t.on_go() {
        return;
    }
    let daemon = Daemon::start(settings("[limits.tenants.\"e2e/slow\"]\ncopied_bytes_per_second = 300000\n"));
    let print = "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end";
    let took = |tenant: &str, terminal: bool| {
        let mut plan = t.container_of(&daemon).sandbox(tenant).sh(print);
        if terminal {
            plan = plan.terminal();
        }
        let since = Instant::now();
        let container = plan.run();
        container.io.out().expect("end");
        let took = since.elapsed();
        container.finish();
        took
    };
    for terminal in [false, true] {
        let (slow, quick) = (took("slow", terminal), took("quick", terminal));
        assert!(slow > Duration::from_millis(1800), "terminal {terminal}: {slow:?}");
        assert!(quick < slow / 2, "terminal {terminal}: {quick:?} beside {slow:?}");
    }
}
