//! Output given to a logger.

use std::time::{Duration, Instant};

use gam_task::stdio::{OPEN_LIMIT, Plan, StdioError};
use gam_task::telemetry::Stream;

use crate::bench::{LONG, bench, lives, read, until, writer};

#[tokio::test]
async fn a_logger_gets_both_streams_its_words_and_little_else() {
    let bench = bench().await;
    let log = bench.path("log");
    let logger = bench.script(
        "logger",
        r#"exec 5>&-; cat <&3 >"$2".out; cat <&4 >"$2".err; printf '%s,' "$@" >"$2"; env | sort >"$2".env"#,
    );
    let uri = format!("binary://{logger}?to={}&flag&x=a%20b", log.display());
    let (mut child, streams) = bench.run("echo out; echo err >&2", "", &uri, &uri).await;
    child.wait().await.unwrap();
    streams.drained(LONG).await;
    assert_eq!(read(&bench.path("log.out")), "out\n");
    assert_eq!(read(&bench.path("log.err")), "err\n");
    assert_eq!(read(&log), format!("to,{},flag,x,a b,", log.display()));
    let env = read(&bench.path("log.env"));
    let names: Vec<_> = env.lines().filter_map(|line| line.split_once('=')).collect();
    assert!(names.contains(&("CONTAINER_ID", "box")) && names.contains(&("CONTAINER_NAMESPACE", "k8s.io")));
    let own = ["CONTAINER_ID", "CONTAINER_NAMESPACE", "PATH", "PWD", "SHLVL", "OLDPWD", "_"];
    assert!(names.iter().all(|(name, _)| own.contains(name)), "{env}");
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c16_a_logger_that_dies_at_start_refuses_the_start() {
    let bench = bench().await;
    let dies = bench.script("dies", "exit 4");
    let mute = bench.script("mute", "exec 5>&-; sleep 1000");
    for _ in 0..20 {
        for scheme in ["binary", "binary-v2"] {
            let plan = Plan::parse(false, "", &format!("{scheme}://{dies}?secret=1"), "").unwrap();
            let error = bench.open(&plan).await.unwrap_err();
            assert!(matches!(error, StdioError::LoggerEnded { .. }), "{error}");
            assert!(error.to_string().contains(&dies) && !error.to_string().contains("secret"), "{error}");
        }
    }
    let plan = Plan::parse(false, "", &format!("binary-v2://{mute}"), "").unwrap();
    let error = bench.open(&plan).await.unwrap_err();
    assert!(matches!(error, StdioError::LoggerNotReady { .. }), "{error}");
    let plan = Plan::parse(false, "", "binary:///nowhere", "").unwrap();
    assert!(matches!(bench.open(&plan).await.unwrap_err(), StdioError::LoggerStart { .. }));
    until("the mute logger is killed", || gam_task::sys::proc::children().unwrap().is_empty()).await;
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c16_a_logger_that_says_it_is_ready_is_used() {
    let bench = bench().await;
    let log = bench.path("log");
    let logger = bench.script("logger", r#"printf r >&5; exec 5>&-; cat <&3 >"$2""#);
    let uri = format!("binary-v2://{logger}?to={}", log.display());
    let (mut child, streams) = bench.run("echo out", "", &uri, "").await;
    child.wait().await.unwrap();
    streams.drained(LONG).await;
    assert_eq!(read(&log), "out\n");
    bench.nothing_is_left().await;
}

#[tokio::test(start_paused = true)]
async fn c4_a_logger_that_is_never_ready_is_waited_for_thirty_seconds() {
    let bench = bench().await;
    let logger = bench.script("logger", "exec sleep 1000");
    let plan = Plan::parse(false, "", &format!("binary://{logger}"), "").unwrap();
    let begin = tokio::time::Instant::now();
    let error = bench.open(&plan).await.unwrap_err();
    assert!(matches!(error, StdioError::TimedOut(_)), "{error}");
    assert!(begin.elapsed() >= OPEN_LIMIT && begin.elapsed() < OPEN_LIMIT * 2);
    tokio::time::resume();
    until("the logger is killed", || gam_task::sys::proc::children().unwrap().is_empty()).await;
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c9_a_logger_that_dies_does_not_take_the_process_along() {
    let bench = bench().await;
    let logger = bench.script("logger", "exec 5>&-; head -c 6 <&3 >/dev/null");
    let stdin = bench.fifo("in");
    let uri = format!("binary://{logger}");
    let script = "echo first; read x; head -c 300000 /dev/zero && exit 7";
    let (mut child, streams) = bench.run(script, &stdin, &uri, &uri).await;
    until("the logger has ended", || gam_task::sys::proc::children().unwrap().len() == 1).await;
    std::io::Write::write_all(&mut writer(&stdin).await, b"\n").unwrap();
    let status = tokio::time::timeout(LONG, child.wait()).await.expect("the process hangs").unwrap();
    assert_eq!(status.code(), Some(7));
    streams.drained(LONG).await;
    assert_eq!(bench.dropped(Stream::Stdout), 300_000);
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn a_logger_that_does_not_end_is_ended() {
    let bench = bench().await;
    let log = bench.path("log");
    let logger = bench
        .script("logger", r#"trap 'echo term >"$2"; exit' TERM; exec 5>&-; while :; do sleep 0.05; done"#);
    let uri = format!("binary://{logger}?to={}", log.display());
    let (mut child, streams) = bench.run("echo out", "", &uri, "").await;
    child.wait().await.unwrap();
    let begin = Instant::now();
    streams.drained(Duration::from_millis(200)).await;
    assert!(begin.elapsed() < LONG / 2);
    until("the logger is terminated", || read(&log) == "term\n").await;
    until("the logger has ended", || gam_task::sys::proc::children().unwrap().is_empty()).await;
    until("what it did not read is counted", || bench.dropped(Stream::Stdout) == 4).await;
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn a_logger_of_streams_that_are_dropped_before_use_is_killed() {
    let bench = bench().await;
    let pid = bench.path("pid");
    let logger =
        bench.script("logger", r#"echo $$ >"$2"; exec 5>&-; trap '' TERM; while :; do sleep 1; done"#);
    let plan = Plan::parse(false, "", &format!("binary://{logger}?to={}", pid.display()), "").unwrap();
    let prepared = bench.open(&plan).await.unwrap();
    let pid = read(&pid).trim().parse().unwrap();
    assert!(lives(pid));
    drop(prepared);
    until("the logger is killed", || !lives(pid)).await;
    bench.nothing_is_left().await;
}
