//! Input through FIFOs.

use std::io::Write;
use std::time::Duration;

use gam_task::telemetry::Stream;

use crate::bench::{LONG, bench, client, joined, until, writer};

#[tokio::test]
async fn c5_a_close_that_comes_first_is_remembered() {
    let bench = bench().await;
    let (stdin, out) = (bench.fifo("in"), bench.fifo("out"));
    bench.closer.close();
    bench.closer.close();
    let (mut child, streams) = bench.run("cat; echo end", &stdin, &out, "").await;
    let reader = client(&out);
    assert!(tokio::time::timeout(LONG, child.wait()).await.expect("stdin stays open").unwrap().success());
    streams.drained(LONG).await;
    assert_eq!(joined(reader).await, b"end\n");
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c5_a_close_that_comes_later_ends_the_stdin() {
    let bench = bench().await;
    let (stdin, out) = (bench.fifo("in"), bench.fifo("out"));
    let reader = client(&out);
    let (mut child, streams) = bench.run("cat; echo end", &stdin, &out, "").await;
    writer(&stdin).await.write_all(b"first\n").unwrap();
    until("the input is through", || bench.copied(Stream::Stdout) == 6).await;
    // The client has gone, and another comes.
    writer(&stdin).await.write_all(b"second\n").unwrap();
    until("the input is through", || bench.copied(Stream::Stdout) == 13).await;
    let early = tokio::time::timeout(Duration::from_millis(100), child.wait()).await;
    assert!(early.is_err(), "the stdin ended with its client");
    bench.closer.close();
    assert!(tokio::time::timeout(LONG, child.wait()).await.expect("stdin stays open").unwrap().success());
    streams.drained(LONG).await;
    assert_eq!(joined(reader).await, b"first\nsecond\nend\n");
    assert_eq!(bench.copied(Stream::Stdin), 13);
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c6_what_is_in_flight_when_it_is_closed_arrives() {
    let bench = bench().await;
    let (stdin, out) = (bench.fifo("in"), bench.fifo("out"));
    let reader = client(&out);
    let (mut child, streams) = bench.run("sleep 0.3; wc -c", &stdin, &out, "").await;
    let mut keys = writer(&stdin).await;
    keys.write_all(&[b'x'; 50_000]).unwrap();
    bench.closer.close();
    // More than the process's pipe and the FIFO hold.
    let rest = std::thread::spawn(move || keys.write_all(&[b'y'; 100_000]).unwrap());
    assert!(child.wait().await.unwrap().success());
    rest.join().unwrap();
    streams.drained(LONG).await;
    assert_eq!(String::from_utf8(joined(reader).await).unwrap().trim(), "150000");
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c12_a_process_that_reads_no_more_ends_its_stdin_only() {
    let bench = bench().await;
    let (stdin, out) = (bench.fifo("in"), bench.fifo("out"));
    let reader = client(&out);
    let script = "exec 0<&-; echo deaf; sleep 0.3; echo alive";
    let (mut child, streams) = bench.run(script, &stdin, &out, "").await;
    let mut keys = writer(&stdin).await;
    until("it has closed its stdin", || bench.copied(Stream::Stdout) > 0).await;
    keys.write_all(b"unheard\n").unwrap();
    assert!(child.wait().await.unwrap().success());
    streams.drained(LONG).await;
    assert_eq!(joined(reader).await, b"deaf\nalive\n");
    drop(keys);
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn the_end_of_the_process_ends_its_stdin() {
    let bench = bench().await;
    let stdin = bench.fifo("in");
    let (mut child, streams) = bench.run("exit 0", &stdin, "", "").await;
    child.wait().await.unwrap();
    streams.drained(LONG).await;
    bench.nothing_is_left().await;
    drop(streams);
}
