//! Output that is slowed down for its tenant.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gam_task::telemetry::Stream;
use gam_task::tenant::Pace;

use crate::bench::{Bench, LONG, bench, client, joined};
use crate::terminals;

const PRINTED: usize = 600_000;
const PACE: NonZeroU64 = NonZeroU64::new(300_000).unwrap();

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
    // In parts: as much as there is, up to a megabyte, is brought to a file before it is paid for.
    let part = PRINTED / 3;
    let script = format!("for part in 1 2 3; do head -c {part} /dev/zero; sleep 0.1; done");
    let (mut child, streams) = bench.run(&script, "", &uri, &uri).await;
    assert!(child.wait().await.unwrap().success());
    streams.drained(LONG).await;
    streams.close();
    assert_eq!(std::fs::metadata(file).unwrap().len(), PRINTED as u64);
    // Two parts are a third of a second more than what is free, and the third waits for that.
    let took = since.elapsed();
    assert!(took > Duration::from_millis(500) && took < Duration::from_secs(4), "{took:?}");
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

#[tokio::test]
async fn k4_who_prints_on_when_the_process_has_ended_is_slowed_down_too() {
    let mut bench = bench().await;
    bench.pace = Arc::new(Pace::of(PACE));
    let out = bench.fifo("out");
    let reader = client(&out);
    let (mut child, streams) = bench.run("head -c 50000000 /dev/zero & exit 0", "", &out, "").await;
    child.wait().await.unwrap();
    // They are told that it has ended, and wait for what is left.
    streams.drained(Duration::from_millis(1500)).await;
    let copied = bench.copied(Stream::Stdout);
    assert!((100_000..2_000_000).contains(&copied), "{copied} bytes");
    streams.close();
    bench.nothing_is_left().await;
    assert!(joined(reader).await.len() < 2_500_000);
}
