//! The dashboard's panels as a picture: `panels FILE`. Three tenants' pods start, work, run out of memory and end for a
//! minute and a half, under one manager each; a Prometheus of its own reads them; what it answers is drawn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gam_tests::case::{Builder, Container};
use gam_tests::daemon::{Daemon, Settings};
use gam_tests::dashboard;
use gam_tests::prometheus::{Prometheus, free_address};
use gam_tests::svg::{self, Chart};

/// How long the pods work.
const SPAN: Duration = Duration::from_secs(90);

fn pod(daemon: &Arc<Daemon>, tenant: &str, number: usize) -> Container {
    let id = format!("{tenant}-{number}");
    // It holds a few MiB, more with each.
    let script =
        format!("dd if=/dev/zero of=/tmp/held bs=1M count={} 2>/dev/null; sleep 1000", 2 + number % 7);
    Builder::new(daemon, "k8s.io", &id).sandbox(tenant).sh(&script).run()
}

/// A tenant that keeps some pods, ends the oldest and starts another every `pause`, and runs execs in them.
fn work(daemon: &Arc<Daemon>, tenant: &str, pods: usize, pause: Duration, done: &AtomicBool) {
    let mut kept: Vec<Container> = (0..pods).map(|number| pod(daemon, tenant, number)).collect();
    let mut next = pods;
    while !done.load(Ordering::Relaxed) {
        thread::sleep(pause);
        for one in &kept {
            let _ = one.exec("cat /proc/self/status").run().finish();
        }
        kept.remove(0).end();
        kept.push(pod(daemon, tenant, next));
        next += 1;
        if next % 8 == 0 {
            let hog = Builder::new(daemon, "k8s.io", &format!("{tenant}-hog-{next}"));
            let hog = hog.sandbox(tenant).change(|spec| spec.memory(32 << 20));
            hog.sh("exec dd if=/dev/zero of=/dev/null bs=300M count=1").run().finish();
        }
    }
    kept.into_iter().for_each(Container::end);
}

fn charts(prometheus: &Prometheus) -> Vec<Chart> {
    let panels = dashboard::panels("15s").into_iter().filter(|panel| panel.over_time);
    let mut charts = Vec::new();
    for panel in panels.filter(|panel| panel.unit != "dateTimeAsIso") {
        let mut lines = Vec::new();
        for query in &panel.queries {
            let series = prometheus.range(&query.expression, SPAN).expect("Prometheus answers");
            lines.extend(series.into_iter().map(|one| (query.name(&one.labels), one.samples)));
        }
        if !lines.is_empty() {
            charts.push(Chart { title: panel.title, unit: panel.unit, lines });
        }
    }
    charts
}

fn main() {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("panels FILE");
        std::process::exit(2);
    };
    let address = free_address();
    let mut settings = Settings::new().grouping("namespace");
    settings.gam.push_str(&format!("[metrics]\nlisten = \"tcp://{address}\"\nper_container = true\n"));
    let daemon = Daemon::start(settings);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for (tenant, pods, pause) in [("payments", 4, 1500), ("search", 3, 2500), ("mail", 2, 4000)] {
            let (daemon, done) = (&daemon, &done);
            scope.spawn(move || work(daemon, tenant, pods, Duration::from_millis(pause), done));
        }
        let prometheus = Prometheus::start(address);
        let begin = Instant::now();
        while begin.elapsed() < SPAN {
            thread::sleep(Duration::from_millis(200));
        }
        let charts = charts(&prometheus);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        let heading = "gam: three tenants, a manager each, read by Prometheus at one address every second";
        let text = svg::page(heading, &charts, now - SPAN.as_secs_f64(), SPAN.as_secs_f64());
        std::fs::write(&file, text).expect("writing the picture");
        println!("{file}: {} panels", charts.len());
    });
}
