//! Output through FIFOs.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gam_task::stdio::{Plan, RunError, StdioError, Streams};
use gam_task::telemetry::Stream;
use tokio::task::spawn_blocking;

use crate::bench::{LONG, bench, client, joined, lives, until, with, writer};

fn is_shared<T: Send + Sync>() {}

#[tokio::test]
async fn both_streams_arrive_and_end() {
    is_shared::<Streams>();
    let bench = bench().await;
    let (out, err) = (bench.fifo("out"), bench.fifo("err"));
    let (out_client, err_client) = (client(&out), client(&err));
    let (mut child, streams) = bench.run("echo one; echo two >&2; exit 3", "", &out, &err).await;
    assert_eq!(child.wait().await.unwrap().code(), Some(3));
    streams.drained(LONG).await;
    assert_eq!(joined(out_client).await, b"one\n");
    assert_eq!(joined(err_client).await, b"two\n");
    assert_eq!((bench.copied(Stream::Stdout), bench.copied(Stream::Stderr)), (4, 4));
    streams.drained(LONG).await;
    bench.nothing_is_left().await;
    streams.close();
}

#[tokio::test]
async fn c1_a_background_child_keeps_the_end_of_file_away_no_longer_than_the_limit() {
    let bench = bench().await;
    let out = bench.fifo("out");
    let reader = client(&out);
    let (mut child, streams) = bench.run("sleep 1000 & echo $!", "", &out, "").await;
    child.wait().await.unwrap();
    let begin = Instant::now();
    let limit = Duration::from_millis(200);
    tokio::join!(streams.drained(limit), streams.drained(LONG));
    assert!(begin.elapsed() >= limit && begin.elapsed() < LONG / 2);
    let printed = String::from_utf8(joined(reader).await).unwrap();
    assert!(lives(printed.trim().parse().unwrap()));
    bench.nothing_is_left().await;
    drop(streams);
}

#[tokio::test]
async fn c2_all_output_reaches_a_slow_reader() {
    let bench = bench().await;
    let out = bench.fifo("out");
    let path = out.clone();
    let reader = spawn_blocking(move || {
        let mut file = File::open(path).unwrap();
        let (mut total, mut buffer) = (0, vec![0; 10_000]);
        loop {
            std::thread::sleep(Duration::from_millis(2));
            match file.read(&mut buffer).unwrap() {
                0 => return total,
                count => total += count,
            }
        }
    });
    let (mut child, streams) = bench.run("head -c 1000000 /dev/zero", "", &out, "").await;
    assert!(child.wait().await.unwrap().success());
    streams.drained(LONG).await;
    assert_eq!(joined(reader).await, 1_000_000);
    assert_eq!((bench.copied(Stream::Stdout), bench.dropped(Stream::Stdout)), (1_000_000, 0));
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c2_what_nobody_reads_is_counted() {
    let bench = bench().await;
    let out = bench.fifo("out");
    let (mut child, streams) = bench.run("head -c 100000 /dev/zero", "", &out, "").await;
    assert!(child.wait().await.unwrap().success());
    streams.drained(Duration::from_millis(100)).await;
    let (copied, dropped) = (bench.copied(Stream::Stdout), bench.dropped(Stream::Stdout));
    assert_eq!(copied + dropped, 100_000);
    assert!(dropped >= 100_000 - 65_536);
    // The rest waits for its reader.
    assert_eq!(joined(client(&out)).await.len() as u64, copied);
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c4_no_client_has_to_be_there() {
    let bench = bench().await;
    let (stdin, out, err) = (bench.fifo("in"), bench.fifo("out"), bench.fifo("err"));
    let begin = Instant::now();
    let (mut child, streams) = bench.run("echo early", &stdin, &out, &err).await;
    child.wait().await.unwrap();
    streams.drained(LONG).await;
    assert!(begin.elapsed() < LONG / 2);
    drop(streams);
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn a_late_reader_gets_the_output_and_its_end() {
    let bench = bench().await;
    let (out, err) = (bench.fifo("out"), bench.fifo("err"));
    let (mut child, streams) = bench.run("echo kept; echo too >&2", "", &out, &err).await;
    child.wait().await.unwrap();
    streams.drained(LONG).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(joined(client(&out)).await, b"kept\n");
    assert_eq!(joined(client(&err)).await, b"too\n");
    bench.nothing_is_left().await;
    drop(streams);
}

#[tokio::test]
async fn a_fifo_without_a_reader_holds_many_lines() {
    let bench = bench().await;
    let out = bench.fifo("out");
    let script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done";
    let (mut child, streams) = bench.run(script, "", &out, "").await;
    child.wait().await.unwrap();
    streams.drained(Duration::from_secs(2)).await;
    assert_eq!(bench.dropped(Stream::Stdout), 0);
    let lines = String::from_utf8(joined(client(&out)).await).unwrap();
    assert!(lines.lines().enumerate().all(|(number, line)| line == format!("line {number}")));
    assert_eq!(lines.lines().count(), 2000);
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c10_close_gives_up_what_waits_for_a_reader() {
    let bench = bench().await;
    let out = bench.fifo("out");
    let (mut child, streams) = bench.run("echo kept", "", &out, "").await;
    child.wait().await.unwrap();
    streams.drained(LONG).await;
    streams.close();
    bench.nothing_is_left().await;
    streams.drained(LONG).await;
}

#[tokio::test]
async fn c7_a_reader_may_leave_and_come_back() {
    let bench = bench().await;
    let (stdin, out) = (bench.fifo("in"), bench.fifo("out"));
    let script = "echo 1; read x; echo 2; sleep 0.1; echo 3; read x; echo 4";
    let reading = spawn_blocking({
        let out = out.clone();
        move || {
            let mut first = [0; 2];
            File::open(out).unwrap().read_exact(&mut first).unwrap();
            first
        }
    });
    let (mut child, streams) = bench.run(script, &stdin, &out, "").await;
    assert_eq!(&joined(reading).await, b"1\n");
    let mut keys = writer(&stdin).await;
    std::io::Write::write_all(&mut keys, b"\n").unwrap();
    until("it has printed while nobody reads", || bench.copied(Stream::Stdout) == 6).await;
    let again = client(&out);
    std::io::Write::write_all(&mut keys, b"\n").unwrap();
    assert!(child.wait().await.unwrap().success(), "the process saw that the reader left");
    streams.drained(LONG).await;
    assert_eq!(joined(again).await, b"2\n3\n4\n");
    drop(keys);
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c11_a_failure_leaves_nothing() {
    let bench = bench().await;
    let out = bench.fifo("out");
    let plain = bench.path("plain");
    fs::write(&plain, "").unwrap();
    let plain = plain.to_str().unwrap().to_owned();
    for stderr in [plain.as_str(), "/nowhere/at/all", "/dev/null"] {
        let plan = Plan::parse(false, &out, &out, stderr).unwrap();
        let error = bench.open(&plan).await.unwrap_err();
        assert!(error.to_string().contains(stderr), "{error}");
        assert!(matches!(error, StdioError::NotFifo { .. } | StdioError::Open { .. }), "{error}");
        bench.nothing_is_left().await;
    }
    let plan = Plan::parse(false, &out, &out, "").unwrap();
    drop(bench.open(&plan).await.unwrap());
    bench.nothing_is_left().await;
    assert!(Plan::parse(false, &out, "ttrpc+unix:///x", &out).unwrap_err().is_refusal());
}

#[tokio::test]
async fn c11_the_last_output_of_failed_work_arrives() {
    let bench = bench().await;
    let out = bench.fifo("out");
    let there = Arc::new(AtomicUsize::new(0));
    let reader = spawn_blocking({
        let (out, there) = (out.clone(), there.clone());
        move || {
            let (mut file, mut first, mut rest) = (File::open(out).unwrap(), [0; 6], Vec::new());
            file.read_exact(&mut first).unwrap();
            there.store(1, Ordering::SeqCst);
            file.read_to_end(&mut rest).unwrap();
            rest
        }
    });
    let plan = Plan::parse(false, "", &out, "").unwrap();
    let mut prepared = bench.open(&plan).await.unwrap();
    let command = with(prepared.take_child(), "echo first; sleep 0.2; echo why not");
    let work = async {
        let mut child = bench.reaper.spawn(command).unwrap();
        until("the client is there", || there.load(Ordering::SeqCst) == 1).await;
        child.wait().await.unwrap();
        Err::<(), _>(std::io::Error::other("no"))
    };
    let error = prepared.run_while(work).await.unwrap_err();
    assert!(matches!(error, RunError::Work(error) if error.to_string() == "no"));
    assert_eq!(joined(reader).await, b"why not\n");
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c11_work_that_is_dropped_leaves_nothing() {
    let bench = bench().await;
    let (stdin, out) = (bench.fifo("in"), bench.fifo("out"));
    let plan = Plan::parse(false, &stdin, &out, "").unwrap();
    let prepared = bench.open(&plan).await.unwrap();
    let work = std::future::pending::<Result<(), std::io::Error>>();
    assert!(tokio::time::timeout(Duration::from_millis(20), prepared.run_while(work)).await.is_err());
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn more_than_a_pipe_holds_may_come_before_the_work_ends() {
    let bench = bench().await;
    let out = bench.fifo("out");
    let reader = client(&out);
    let plan = Plan::parse(false, "", &out, "").unwrap();
    let mut prepared = bench.open(&plan).await.unwrap();
    let command = with(prepared.take_child(), "head -c 500000 /dev/zero");
    let work = async {
        let mut child = bench.reaper.spawn(command)?;
        child.wait().await
    };
    let (status, streams) = prepared.run_while(work).await.unwrap();
    assert!(status.success());
    streams.drained(LONG).await;
    assert_eq!(joined(reader).await.len(), 500_000);
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c18_only_what_was_asked_for_is_made() {
    let bench = bench().await;
    let err = bench.fifo("err");
    let mut prepared = bench.open(&Plan::parse(false, "", "", &err).unwrap()).await.unwrap();
    let ends = prepared.take_child();
    assert!(ends.stdin.is_none() && ends.stdout.is_none() && ends.stderr.is_some());
    assert!(prepared.console_socket().is_none());
    drop((prepared, ends));
    let mut none = bench.open(&Plan::parse(false, "", "", "").unwrap()).await.unwrap();
    let ends = none.take_child();
    assert!(ends.stdin.is_none() && ends.stdout.is_none() && ends.stderr.is_none());
    drop(none);
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn j2_the_pipes_belong_to_the_containers_user_and_block() {
    let bench = bench().await;
    let (stdin, out) = (bench.fifo("in"), bench.fifo("out"));
    let mut prepared = bench.open(&Plan::parse(false, &stdin, &out, "").unwrap()).await.unwrap();
    let ends = prepared.take_child();
    for end in [ends.stdin.unwrap(), ends.stdout.unwrap()] {
        assert!(!rustix::fs::fcntl_getfl(&end).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
        let meta = File::from(end).metadata().unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 2345));
    }
    drop(prepared);
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn a_missing_fifo_is_made() {
    let bench = bench().await;
    let out = bench.path("made");
    let uri = format!("fifo://{}", out.display());
    let (mut child, streams) = bench.run("echo x", "", &uri, "").await;
    let meta = fs::metadata(&out).unwrap();
    assert!(meta.file_type().is_fifo());
    assert_eq!(meta.mode() & 0o777, 0o700);
    assert_eq!(joined(client(out.to_str().unwrap())).await, b"x\n");
    child.wait().await.unwrap();
    drop(streams);
    bench.nothing_is_left().await;
}

/// On a runtime with one thread, so that a pump that does not give way is seen.
#[tokio::test]
async fn k6_a_flood_lets_others_work() {
    let bench = bench().await;
    let out = bench.fifo("out");
    let path = out.clone();
    let reader = spawn_blocking(move || {
        let (mut file, mut total, mut buffer) = (File::open(path).unwrap(), 0, vec![0; 1 << 20]);
        loop {
            match file.read(&mut buffer).unwrap() {
                0 => return total,
                count => total += count as u64,
            }
        }
    });
    let worst = Arc::new(AtomicUsize::new(0));
    let ticker = tokio::spawn({
        let worst = worst.clone();
        async move {
            loop {
                let begin = Instant::now();
                tokio::task::yield_now().await;
                worst.fetch_max(begin.elapsed().as_millis() as usize, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    });
    let size: u64 = 500 << 20;
    let script = format!("head -c {size} /dev/zero");
    let (mut child, streams) = bench.run(&script, "", &out, "").await;
    child.wait().await.unwrap();
    streams.drained(LONG).await;
    ticker.abort();
    assert_eq!(joined(reader).await, size);
    assert_eq!(bench.copied(Stream::Stdout), size);
    assert!(worst.load(Ordering::SeqCst) < 1000, "{} ms", worst.load(Ordering::SeqCst));
    bench.nothing_is_left().await;
}
