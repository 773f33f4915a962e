//! Output appended to files.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use gam_task::stdio::{Plan, StdioError};
use gam_task::telemetry::Stream;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::bench::{LONG, bench, read, until, writer};

#[tokio::test]
async fn a_file_is_appended_to_and_its_directories_made() {
    let bench = bench().await;
    let path = bench.path("a/b/log");
    let uri = format!("file://{}", path.display());
    for _ in 0..2 {
        let (mut child, streams) = bench.run("echo out; sleep 0.05; echo err >&2", "", &uri, &uri).await;
        child.wait().await.unwrap();
        streams.drained(LONG).await;
    }
    assert_eq!(read(&path), "out\nerr\nout\nerr\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o133, 0);
    assert_eq!((bench.copied(Stream::Stdout), bench.copied(Stream::Stderr)), (8, 8));
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn much_output_is_complete_in_its_file() {
    let bench = bench().await;
    let path = bench.path("log");
    let (mut child, streams) =
        bench.run("head -c 5000000 /dev/zero", "", &format!("file://{}", path.display()), "").await;
    child.wait().await.unwrap();
    streams.drained(LONG).await;
    assert_eq!(fs::metadata(&path).unwrap().len(), 5_000_000);
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c9_a_sink_that_takes_nothing_stops_nobody() {
    let bench = bench().await;
    let (mut child, streams) =
        bench.run("head -c 1000000 /dev/zero && exit 7", "", "file:///dev/full", "").await;
    assert_eq!(child.wait().await.unwrap().code(), Some(7));
    streams.drained(LONG).await;
    assert_eq!((bench.copied(Stream::Stdout), bench.dropped(Stream::Stdout)), (0, 1_000_000));
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn c9_a_full_disk_that_is_emptied_is_written_to_again() {
    let bench = bench().await;
    let disk = bench.path("disk");
    fs::create_dir(&disk).unwrap();
    mount("tmpfs", &disk, "tmpfs", MountFlags::empty(), Some(c"size=65536")).unwrap();
    let log = disk.join("log");
    let ballast = disk.join("ballast");
    fs::write(&ballast, vec![0; 40_000]).unwrap();
    let stdin = bench.fifo("in");
    let script = "head -c 200000 /dev/zero; read x; echo after";
    let (mut child, streams) = bench.run(script, &stdin, &format!("file://{}", log.display()), "").await;
    until("all is written or dropped", || {
        bench.copied(Stream::Stdout) + bench.dropped(Stream::Stdout) == 200_000
    })
    .await;
    assert!(bench.dropped(Stream::Stdout) > 100_000);
    fs::remove_file(&ballast).unwrap();
    std::io::Write::write_all(&mut writer(&stdin).await, b"\n").unwrap();
    assert!(child.wait().await.unwrap().success());
    streams.drained(LONG).await;
    let text = read(&log);
    unmount(&disk, UnmountFlags::DETACH).unwrap();
    assert!(text.ends_with("after\n"));
    bench.nothing_is_left().await;
}

#[tokio::test]
async fn what_is_no_file_is_refused() {
    let bench = bench().await;
    let fifo = bench.fifo("fifo");
    for path in [fifo.as_str(), "/proc", "/proc/nothing/log"] {
        let plan = Plan::parse(false, "", &format!("file://{path}"), "").unwrap();
        let opened = tokio::time::timeout(Duration::from_secs(10), bench.open(&plan)).await;
        let error = opened.expect("it waits for a FIFO").unwrap_err();
        assert!(matches!(error, StdioError::Open { .. }) && error.to_string().contains(path), "{error}");
    }
    bench.nothing_is_left().await;
}
