//! Output that is slowed down for its tenant.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gam_task::telemetry::Stream;
use gam_task::tenant::Pace;

use crate::bench::{Bench, LONG, bench, client, joined};
use crate::terminals;

const PRINTED: usize = 600_000;
const PACE: u64 = 300_000;

/// All of it has come, of which a second's worth is free, and so is what a pipe holds when the process ends.
async fn check(bench: &Bench, since: Instant, stream: Stream) {
    let took = since.elapsed();
    assert!(took > Duration::from_millis(400), "{took:?} for {stream:?}");
    assert!(took < Duration::from_secs(4), "{took:?} for {stream:?}");
    assert_eq!((bench.copied(stream), bench.dropped(stream)), (PRINTED as u64, 0));
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn k4_a_fifo_is_as_fast_as_its_tenant_may_be() {
    let mut bench = bench().await;
    bench.pace = Arc::new(Pace::of(PACE));
    let out = bench.fifo("out");
    let (reader, since) = (client(&out), Instant::now());
    let (mut child, streams) = bench.run(&format!("head -c {PRINTED} /dev/zero"), "", &out, "").await;
    assert!(child.wait().await.unwrap().success());
    streams.drained(LONG).await;
    assert_eq!(joined(reader).await.len(), PRINTED);
    streams.close();
    check(&bench, since, Stream::Stdout).await;
}

#[tokio::test]
async fn k4_a_file_is_as_fast_as_its_tenant_may_be() {
    let mut bench = bench().await;
    bench.pace = Arc::new(Pace::of(PACE));
    let file = bench.path("log");
    let (uri, since) = (format!("file://{}", file.display()), Instant::now());
    // In two halves: what a file is brought at a time is a megabyte.
    let script = format!("for half in 1 2; do head -c {} /dev/zero; sleep 0.1; done; printf ''", PRINTED / 2);
    let (mut child, streams) = bench.run(&format!("{script}; head -c 1 /dev/null"), "", &uri, &uri).await;
    assert!(child.wait().await.unwrap().success());
    streams.drained(LONG).await;
    streams.close();
    assert_eq!(std::fs::metadata(file).unwrap().len(), PRINTED as u64);
    let owed = bench.pace.owed().unwrap_or_default();
    assert!(
        owed > Duration::from_millis(300),
        "{owed:?}: what is left at the end is paid for by what comes next"
    );
    assert!(since.elapsed() < Duration::from_secs(4));
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn k4_a_terminal_is_as_fast_as_its_tenant_may_be() {
    let mut bench = bench().await;
    bench.pace = Arc::new(Pace::of(PACE));
    let out = bench.fifo("out");
    let (reader, since) = (client(&out), Instant::now());
    let (mut child, streams) =
        terminals::run(&bench, &format!("head -c {PRINTED} /dev/zero"), "", &out).await;
    assert!(child.wait().await.unwrap().success());
    streams.drained(LONG).await;
    assert_eq!(joined(reader).await.len(), PRINTED);
    streams.close();
    check(&bench, since, Stream::Terminal).await;
}
