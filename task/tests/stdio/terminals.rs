//! Terminals, handed over as a runtime does it.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use gam_task::process::Child;
use gam_task::stdio::{Plan, RunError, StdioError, Streams};
use gam_task::telemetry::Stream;
use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use crate::bench::{Bench, LONG, bench, client, joined, read, sh, until, writer};

/// Makes a terminal, sends its master and answers its other side.
fn terminal(socket: &Path) -> OwnedFd {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let slave =
        rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let mut modes = tcgetattr(&slave).unwrap();
    modes.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &modes).unwrap();
    let socket = UnixStream::connect(socket).unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [master.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(&socket, &[IoSlice::new(name.as_bytes())], &mut control, SendFlags::empty()).unwrap();
    slave
}

pub(crate) async fn run(bench: &Bench, script: &str, stdin: &str, stdout: &str) -> (Child, Streams) {
    let plan = Plan::parse(true, stdin, stdout, "").unwrap();
    let mut prepared = bench.open(&plan).await.unwrap();
    let ends = prepared.take_child();
    assert!(ends.stdin.is_none() && ends.stdout.is_none() && ends.stderr.is_none());
    let socket = prepared.console_socket().unwrap().to_owned();
    let work = async {
        // One that brings nothing must not be in the way.
        drop(UnixStream::connect(&socket)?);
        let slave = terminal(&socket);
        let name = std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&slave)))?;
        let command = sh(script)
            .env("TTY", name)
            .new_session(true)
            .stdin(slave.try_clone()?)
            .stdout(slave.try_clone()?)
            .stderr(slave);
        bench.reaper.spawn(command)
    };
    prepared.run_while(work).await.unwrap()
}

#[tokio::test]
async fn what_is_typed_arrives_and_what_is_printed() {
    let bench = bench().await;
    let (stdin, out) = (bench.fifo("in"), bench.fifo("out"));
    let reader = client(&out);
    let (mut child, streams) = run(&bench, "read x; echo got $x >&2", &stdin, &out).await;
    writer(&stdin).await.write_all(b"keys\n").unwrap();
    assert!(child.wait().await.unwrap().success());
    streams.drained(LONG).await;
    assert_eq!(joined(reader).await, b"got keys\n");
    assert_eq!((bench.copied(Stream::Stdin), bench.copied(Stream::Terminal)), (5, 9));
    bench.nothing_is_left().await;
    streams.close();
}

#[tokio::test]
async fn c3_large_output_of_a_terminal_is_complete() {
    let bench = bench().await;
    let out = bench.fifo("out");
    let reader = client(&out);
    let (mut child, streams) = run(&bench, "head -c 3000000 /dev/zero", "", &out).await;
    assert!(child.wait().await.unwrap().success());
    streams.drained(LONG).await;
    assert_eq!(joined(reader).await.len(), 3_000_000);
    assert_eq!(bench.dropped(Stream::Terminal), 0);
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c17_a_resize_reaches_the_terminal_while_there_is_one() {
    let bench = bench().await;
    let (stdin, out) = (bench.fifo("in"), bench.fifo("out"));
    let reader = client(&out);
    let (mut child, streams) = run(&bench, "echo $TTY; read x; stty size", &stdin, &out).await;
    streams.resize(200_000, 33).unwrap();
    writer(&stdin).await.write_all(b"\n").unwrap();
    child.wait().await.unwrap();
    streams.resize(1, 1).unwrap();
    streams.drained(LONG).await;
    streams.resize(1, 1).unwrap();
    let printed = String::from_utf8(joined(reader).await).unwrap();
    assert!(printed.ends_with("33 65535\n"), "{printed}");
    streams.close();
    streams.resize(1, 1).unwrap();
    let (mut child, without) = bench.run("true", "", "", "").await;
    child.wait().await.unwrap();
    without.resize(1, 1).unwrap();
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn a_terminal_that_is_closed_and_opened_again_goes_on() {
    let bench = bench().await;
    let out = bench.fifo("out");
    let reader = client(&out);
    let script = "echo one; exec <&- >&- 2>&-; sleep 0.3; exec >$TTY; echo two; sleep 0.3; echo three";
    let (mut child, streams) = run(&bench, script, "", &out).await;
    child.wait().await.unwrap();
    streams.drained(LONG).await;
    assert_eq!(joined(reader).await, b"one\ntwo\nthree\n");
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c13_typing_at_a_closed_terminal_stops_nothing() {
    let bench = bench().await;
    let (stdin, out) = (bench.fifo("in"), bench.fifo("out"));
    let reader = client(&out);
    let script = "echo one; exec <&- >&- 2>&-; sleep 0.4; exec >$TTY; echo two";
    let (mut child, streams) = run(&bench, script, &stdin, &out).await;
    until("the first is printed", || bench.copied(Stream::Terminal) > 0).await;
    let mut keys = writer(&stdin).await;
    for _ in 0..20 {
        keys.write_all(b"nobody reads this\n").unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.closer.close();
    drop(keys);
    child.wait().await.unwrap();
    streams.drained(LONG).await;
    assert_eq!(joined(reader).await, b"one\ntwo\n");
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c1_a_background_child_keeps_a_terminal_no_longer_than_the_limit() {
    let bench = bench().await;
    let out = bench.fifo("out");
    let reader = client(&out);
    let (mut child, streams) = run(&bench, "sleep 1000 & echo hi", "", &out).await;
    child.wait().await.unwrap();
    streams.drained(Duration::from_millis(200)).await;
    assert_eq!(joined(reader).await, b"hi\n");
    bench.nothing_is_left().await;
    drop(streams);
}

#[tokio::test]
async fn a_terminal_may_print_to_a_file_a_logger_or_nobody() {
    let bench = bench().await;
    let (file, log) = (bench.path("file"), bench.path("log"));
    let logger = bench.script("logger", r#"exec 5>&-; cat <&3 >"$2"; cat <&4 >>"$2""#);
    for uri in [
        format!("file://{}", file.display()),
        format!("binary://{logger}?to={}", log.display()),
        String::new(),
    ] {
        let (mut child, streams) = run(&bench, "head -c 200000 /dev/zero; echo end", "", &uri).await;
        assert!(child.wait().await.unwrap().success());
        streams.drained(LONG).await;
    }
    for path in [file, log] {
        let text = read(&path);
        assert!(text.ends_with("end\n") && text.len() == 200_004, "{path:?}: {}", text.len());
    }
    assert_eq!(bench.dropped(Stream::Terminal), 0);
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c9_a_terminal_whose_sink_fails_goes_on() {
    let bench = bench().await;
    let dies = bench.script("dies", "exec 5>&-; sleep 0.1");
    for uri in ["file:///dev/full".to_owned(), format!("binary://{dies}")] {
        let (mut child, streams) =
            run(&bench, "sleep 0.3; head -c 200000 /dev/zero && exit 7", "", &uri).await;
        assert_eq!(child.wait().await.unwrap().code(), Some(7));
        streams.drained(LONG).await;
    }
    assert_eq!(bench.dropped(Stream::Terminal), 400_000);
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c11_failed_work_leaves_no_socket() {
    let bench = bench().await;
    let (stdin, out) = (bench.fifo("in"), bench.fifo("out"));
    let plan = Plan::parse(true, &stdin, &out, "").unwrap();
    let prepared = bench.open(&plan).await.unwrap();
    let error = prepared.run_while(async { Err::<(), _>(io::Error::other("no")) }).await.unwrap_err();
    assert!(matches!(error, RunError::Work(_)));
    bench.nothing_is_left().await;
    drop(bench.open(&plan).await.unwrap());
    bench.nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_terminal_that_never_comes_is_an_error() {
    let bench = bench().await;
    let out = bench.fifo("out");
    let prepared = bench.open(&Plan::parse(true, "", &out, "").unwrap()).await.unwrap();
    let error = prepared.run_while(async { Ok::<_, io::Error>(()) }).await.unwrap_err();
    assert!(matches!(error, RunError::Stdio(StdioError::NoTerminal(_))), "{error}");
    tokio::time::resume();
    bench.nothing_is_left().await;
    assert!(File::open("/dev/ptmx").is_ok());
}
