//! Section C: standard streams and terminals.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use gam_tests::case::Container;
use gam_tests::stdio::{Reader, fifo};
use gam_tests::suite::Test;
use gam_tests::{poll, processes};

gam_tests::tests![
    c1_delete_of_an_exec_whose_child_holds_stdout_is_bounded,
    c2_the_last_output_arrives,
    c3_a_large_output_of_a_terminal_arrives,
    c4_stdin_without_a_client_blocks_nothing,
    c5_close_io_before_start_is_remembered,
    c5_end_of_input_reaches_an_exec,
    c6_close_io_keeps_what_is_in_flight,
    c7_a_container_outlives_its_reader,
    c9_a_full_log_does_not_hold_the_container,
    c10_terminals_leave_no_descriptors,
    c11_failed_creates_leave_no_descriptors,
    c16_a_binary_logger_gets_the_output,
    c16_a_binary_v2_logger_that_dies_fails_create,
    c16_a_logger_that_dies_does_not_hold_the_container,
    c17_resize_of_a_terminal_at_any_time,
    c18_streams_that_were_not_requested_are_not_made,
    c18_stdout_alone,
    c20_a_file_gets_the_output,
    c21_a_stuck_reader_delays_nobody,
];

fn c1_delete_of_an_exec_whose_child_holds_stdout_is_bounded(t: &Test) {
    let container = t.container().run();
    let exec = container.exec("echo parent; sleep 1000 & exit 3").run();
    assert_eq!(exec.wait().status, 3);
    let begin = Instant::now();
    exec.delete();
    assert!(begin.elapsed() < poll::slow(Duration::from_secs(20)), "Delete took {:?}", begin.elapsed());
    exec.io.out().expect("parent");
    container.end();
}

fn c2_the_last_output_arrives(t: &Test) {
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..3 {
                    let script =
                        "head -c 1000000 /dev/zero | tr '\\0' x; echo; echo err-end >&2; echo out-end";
                    let container = t.container().sh(script).run();
                    assert_eq!(container.wait().status, 0);
                    container.delete();
                    let out = container.io.out().to_end();
                    assert_eq!(out.len(), 1_000_000 + 1 + "out-end\n".len());
                    assert!(out.ends_with(b"\nout-end\n"));
                    assert_eq!(container.io.err().text(), "err-end\n");
                    container.check_gone();
                }
            });
        }
    });
}

fn c3_a_large_output_of_a_terminal_arrives(t: &Test) {
    let container =
        t.container().terminal().sh("head -c 500000 /dev/zero | tr '\\0' y; echo; echo the-end").run();
    assert_eq!(container.wait().status, 0);
    container.delete();
    let out = container.io.out().text();
    assert_eq!(out.len(), 500_000 + 2 + "the-end\r\n".len());
    assert!(out.ends_with("\r\nthe-end\r\n"));
    container.check_gone();
    // And that of an exec.
    let container = t.container().run();
    let (exit, out) = container.exec("tty; head -c 300000 /dev/zero | tr '\\0' z").terminal().run().finish();
    assert_eq!(exit.status, 0);
    assert!(out.starts_with("/dev/pts/0\r\n"), "{:?}", &out[..20.min(out.len())]);
    assert_eq!(out.len(), 300_000 + "/dev/pts/0\r\n".len());
    container.end();
}

fn c4_stdin_without_a_client_blocks_nothing(t: &Test) {
    let path = t.daemon().dir.join("io/c4-stdin");
    fifo(&path);
    let begin = Instant::now();
    let container = t.container().stdin_at(&path).sh("cat; exit 7").run();
    assert!(
        begin.elapsed() < poll::slow(Duration::from_secs(25)),
        "Create and Start took {:?}",
        begin.elapsed()
    );
    // A client that comes late is heard, and its end is the end.
    fs::write(&path, "late").unwrap();
    let client = container.client();
    client.close_stdin(&container.namespace, &container.id, "").unwrap();
    assert_eq!(container.finish().status, 7);
    let _ = fs::remove_file(path);
}

fn c5_close_io_before_start_is_remembered(t: &Test) {
    let container = t.container().run();
    // The client has gone before the shim opens the FIFO: without CloseIO the process would wait for another.
    let mut exec = container.exec("cat; echo eof").stdin().add();
    exec.close_stdin();
    exec.start();
    exec.io.out().expect("eof");
    assert_eq!(exec.finish().1, "eof\n");
    // A client that is still there is heard to its end.
    let mut exec = container.exec("cat; echo eof").stdin().add();
    container.client().close_stdin(&container.namespace, &container.id, &exec.id).unwrap();
    exec.start();
    exec.io.input().write(b"still here\n");
    exec.io.input().close();
    assert_eq!(exec.finish().1, "still here\neof\n");
    container.end();
}

fn c5_end_of_input_reaches_an_exec(t: &Test) {
    let container = t.container().run();
    for _ in 0..5 {
        let mut exec = container.exec("cat; echo eof").stdin().run();
        exec.io.input().write(b"some input\n");
        exec.close_stdin();
        assert_eq!(exec.finish().1, "some input\neof\n");
    }
    container.end();
}

fn c6_close_io_keeps_what_is_in_flight(t: &Test) {
    let container = t.container().run();
    // More than a pipe holds, so that a part is still in the FIFO when the client closes; less than two.
    let mut exec = container.exec("sleep 1; wc -c").stdin().run();
    exec.io.input().write(&vec![b'x'; 100_000]);
    exec.close_stdin();
    assert_eq!(exec.finish().1.trim(), "100000");
    container.end();
}

fn c7_a_container_outlives_its_reader(t: &Test) {
    let mut container = t.container().sh("while echo tick; do sleep 0.02; done; exit 1").run();
    container.io.out().expect("tick");
    // containerd is away: nobody reads.
    container.io.stdout = None;
    container.io.stderr = None;
    thread::sleep(Duration::from_secs(1));
    assert!(processes::lives(container.pid), "init died with its reader");
    let reader = Reader::open(Path::new(&container.io.paths[1]));
    reader.expect("tick");
    container.end();
}

fn c9_a_full_log_does_not_hold_the_container(t: &Test) {
    let directory = t.daemon().dir.join("c9-full");
    fs::create_dir(&directory).unwrap();
    let mounted = |args: &[&str]| assert!(Command::new(args[0]).args(&args[1..]).status().unwrap().success());
    let place = directory.display().to_string();
    mounted(&["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", &place]);
    let uri = format!("file://{place}/out");
    let container = t.container().uris(["", &uri, &uri]).sh("head -c 3000000 /dev/zero; exit 5").run();
    let wait = container.wait_aside();
    let ended = poll::within(poll::LONG, || wait.is_finished().then_some(()));
    if ended.is_none() {
        container.kill(9);
    }
    let status = wait.join().unwrap().unwrap().status;
    container.finish();
    mounted(&["umount", &place]);
    assert_eq!(status, 5, "the container hung on its full log, or saw its error");
}

/// Descriptors of the process that serves `container`, when they have come to rest.
fn settled_descriptors(shim: u32) -> usize {
    let count = || processes::descriptors(shim).len();
    let mut last = count();
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(100));
        let now = count();
        if now == last {
            return now;
        }
        last = now;
    }
    last
}

/// Runs `load` often beside a container of its own pod, and finds that the pod's shim has no more descriptors afterwards.
fn leaves_no_descriptors(t: &Test, load: impl Fn(&Container)) {
    // A namespace of its own: gam's manager serves nothing else then.
    let sandbox = gam_tests::case::Builder::new(&t.daemon(), t.name, &t.id()).sandbox(t.name).run();
    load(&sandbox);
    let before = settled_descriptors(sandbox.shim());
    for _ in 0..8 {
        load(&sandbox);
    }
    poll::within(Duration::from_secs(15), || {
        (settled_descriptors(sandbox.shim()) <= before + 2).then_some(())
    });
    let after = processes::descriptors(sandbox.shim());
    assert!(after.len() <= before + 2, "{before} descriptors before, {} after: {after:#?}", after.len());
    sandbox.end();
}

fn c10_terminals_leave_no_descriptors(t: &Test) {
    leaves_no_descriptors(t, |sandbox| {
        let mut exec = sandbox.exec("read line; echo $line").terminal().run();
        exec.io.input().write(b"hello\n");
        exec.io.out().expect("hello");
        let _ = exec.finish();
        let builder = gam_tests::case::Builder::new(&sandbox.daemon, &sandbox.namespace, &t.id());
        let container = builder.in_pod(t.name, &sandbox.id).terminal().sh("echo done").run();
        container.finish();
    });
}

fn c11_failed_creates_leave_no_descriptors(t: &Test) {
    leaves_no_descriptors(t, |sandbox| {
        let builder = gam_tests::case::Builder::new(&sandbox.daemon, &sandbox.namespace, &t.id());
        let failed = builder.in_pod(t.name, &sandbox.id).args(&["/does/not/exist"]).try_create();
        assert!(failed.is_err());
        let mut exec = sandbox.exec("").stdin();
        exec.process["args"] = serde_json::json!(["/does/not/exist"]);
        let exec = exec.add();
        assert!(exec.try_start().is_err());
        let _ = exec.try_delete();
    });
}

fn logger(t: &Test, name: &str, script: &str) -> (String, std::path::PathBuf) {
    let path = t.daemon().dir.join(name);
    let out = path.with_extension("out");
    let aside = path.with_extension("new");
    fs::write(&aside, format!("#!/bin/bash\nOUT={}\n{script}\n", out.display())).unwrap();
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&aside, &path).unwrap();
    (path.display().to_string(), out)
}

fn c16_a_binary_logger_gets_the_output(t: &Test) {
    // A logger is asked to end with SIGTERM; what it had not read then still counts.
    let script = "trap '' TERM\nexec 5>&-\n{ echo \"$CONTAINER_NAMESPACE/$CONTAINER_ID $*\"; cat <&3; } > $OUT.part\nmv $OUT.part $OUT";
    let (path, out) = logger(t, "c16-logger", script);
    let container =
        t.container().uris(["", &format!("binary://{path}?key=value"), ""]).sh("echo logged").run();
    let first = format!("{}/{} key value", container.namespace, container.id);
    container.finish();
    let text = poll::until("the logger wrote", || fs::read_to_string(&out).ok());
    assert_eq!(text, format!("{first}\nlogged\n"));
}

fn c16_a_binary_v2_logger_that_dies_fails_create(t: &Test) {
    let (path, _) = logger(t, "c16-dead", "exit 1");
    let refused = t.container().uris(["", &format!("binary-v2://{path}"), ""]).sh("echo logged").try_create();
    assert!(refused.is_err(), "the container would run unlogged");
}

fn c16_a_logger_that_dies_does_not_hold_the_container(t: &Test) {
    let (path, _) = logger(t, "c16-dies", "exec 5>&-; head -c 10 <&3 >$OUT; exit 1");
    let uri = format!("binary://{path}");
    let container = t.container().uris(["", &uri, ""]).sh("head -c 1000000 /dev/zero; exit 0").run();
    let wait = container.wait_aside();
    let ended = poll::within(poll::LONG, || wait.is_finished().then_some(()));
    if ended.is_none() {
        container.kill(9);
    }
    wait.join().unwrap().unwrap();
    container.finish();
    assert!(ended.is_some(), "the container hung when its logger had died");
}

fn c17_resize_of_a_terminal_at_any_time(t: &Test) {
    let mut container = t.container().terminal().sh("read line; stty size; read line").create();
    let client = container.client();
    client.resize(&container.namespace, &container.id, "", 90, 30).unwrap();
    container.start();
    client.resize(&container.namespace, &container.id, "", 100, 40).unwrap();
    container.io.input().write(b"\n");
    container.io.out().expect("40 100");
    let exec = container.exec("sleep 1000").terminal().add();
    client.resize(&container.namespace, &container.id, &exec.id, 80, 25).unwrap();
    exec.start();
    exec.try_kill(9).unwrap();
    exec.wait();
    client.resize(&container.namespace, &container.id, &exec.id, 80, 25).unwrap();
    exec.delete();
    drop(exec);
    container.kill(9);
    container.wait();
    client.resize(&container.namespace, &container.id, "", 80, 25).unwrap();
    container.finish();
}

fn c18_streams_that_were_not_requested_are_not_made(t: &Test) {
    let container = t.container().sh("cat; readlink /proc/self/fd/0; sleep 1000").run();
    container.io.out().expect("/dev/null\n");
    container.end();
    let container = t
        .container()
        .streams([false; 3])
        .sh("out=$(readlink /proc/1/fd/1); echo $out > /tmp/out; sleep 1000")
        .run();
    let out = format!("/proc/{}/root/tmp/out", container.pid);
    let text =
        poll::until("the container wrote", || fs::read_to_string(&out).ok().filter(|text| !text.is_empty()));
    assert_eq!(text, "/dev/null\n");
    container.end();
    let container = t.container().run();
    let (_, out) = container.exec("cat; readlink /proc/self/fd/0").run().finish();
    assert_eq!(out, "/dev/null\n");
    container.end();
}

fn c18_stdout_alone(t: &Test) {
    let report = "for i in 0 1 2; do readlink /proc/self/fd/$i; done";
    let container = t.container().streams([false, true, false]).sh(report).run();
    container.wait();
    container.delete();
    let out = container.io.out().text();
    let lines: Vec<_> = out.lines().collect();
    assert_eq!((lines[0], lines[2]), ("/dev/null", "/dev/null"), "{out}");
    container.check_gone();
}

fn c20_a_file_gets_the_output(t: &Test) {
    let path = t.daemon().dir.join("c20/made/out");
    let uri = format!("file://{}", path.display());
    for _ in 0..2 {
        t.container().uris(["", &uri, &uri]).sh("echo out; echo err >&2").run().finish();
    }
    let text = poll::until("both lines twice", || {
        let text = fs::read_to_string(&path).ok()?;
        (text.lines().count() == 4).then_some(text)
    });
    assert_eq!(text.matches("out\n").count(), 2, "it is appended to");
}

fn c21_a_stuck_reader_delays_nobody(t: &Test) {
    let sandbox = t.container().sandbox(t.name).sh("head -c 1000000 /dev/zero; sleep 1000").create();
    sandbox.io.out().hold();
    sandbox.start();
    let container = t.container().in_pod(t.name, &sandbox.id).sh("head -c 1000000 /dev/zero; exit 4").run();
    container.io.out().expect_bytes(1_000_000);
    assert_eq!(container.finish().status, 4);
    sandbox.io.out().release();
    sandbox.io.out().expect_bytes(1_000_000);
    sandbox.end();
}
