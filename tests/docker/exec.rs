//! `docker exec`.

use gam_tests::suite::Test;

use crate::engine::shared;

gam_tests::tests![
    statuses_of_execs,
    streams_of_execs,
    a_failed_exec_prints_one_error,
    an_exec_ends_with_its_container,
    a_detached_exec,
    an_exec_of_a_stopped_container_is_refused,
];

fn statuses_of_execs(_: &Test) {
    let container = shared().start_container(&[], "sleep 1000");
    for status in [0, 1, 42, 127] {
        let outcome = container.exec(&[], &format!("exit {status}"));
        assert_eq!(outcome.status, status, "{outcome:?}");
    }
    assert_eq!(container.exec(&[], "kill -KILL $$").status, 137);
    assert_eq!(container.exec(&[], "kill -SEGV $$").status, 139);
    for program in ["/does/not/exist", "/etc"] {
        let outcome = container.docker(&["exec", "@", program]);
        // 126 for both, whatever the runtime: so says docker 26.1.
        assert_eq!(outcome.status, 126, "{program}: {outcome:?}");
    }
    container.end();
}

/// What the runtime says of a failure is in the answer; the exec's own streams have nothing.
fn a_failed_exec_prints_one_error(_: &Test) {
    let container = shared().start_container(&[], "sleep 1000");
    let outcome = container.docker(&["exec", "@", "/does/not/exist"]);
    container.end();
    let text = format!("{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(text.matches("unable to start container process").count(), 1, "{outcome:?}");
}

fn streams_of_execs(_: &Test) {
    let container = shared().start_container(&[], "sleep 1000");
    let outcome =
        container.exec(&["--env", "A=b", "--workdir", "/tmp", "--user", "user"], "echo $A; pwd; id -u >&2");
    assert_eq!((&*outcome.stdout, &*outcome.stderr), ("b\n/tmp\n", "1000\n"));
    let mut running = container.begin(&["exec", "--interactive", "@", "sh", "-c", "wc -c; exit 3"]);
    running.write(&"x".repeat(300_000));
    running.close();
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stdout.trim()), (3, "300000"), "{}", outcome.stderr);
    let outcome = container.exec(&[], "seq 1 100000");
    assert_eq!(outcome.stdout.lines().count(), 100_000);
    container.end();
}

fn an_exec_ends_with_its_container(_: &Test) {
    let container = shared().start_container(&[], "sleep 1000");
    let running = container.begin(&["exec", "--interactive", "@", "sh", "-c", "echo up; exec sleep 1000"]);
    gam_tests::poll::holds("the exec runs", || {
        container.ok(&["top", "@"]).matches("sleep 1000").count() >= 2
    });
    container.ok(&["kill", "@"]);
    let outcome = running.finish();
    assert_eq!((outcome.status, &*outcome.stdout), (137, "up\n"), "{}", outcome.stderr);
    assert_eq!(container.until("exited")["ExitCode"], 137);
    container.end();
}

fn a_detached_exec(_: &Test) {
    let container = shared().start_container(&[], "sleep 1000");
    container.ok(&["exec", "--detach", "@", "sh", "-c", "echo done >/tmp/done"]);
    gam_tests::poll::holds("it has run", || container.exec(&[], "cat /tmp/done").stdout == "done\n");
    container.end();
}

fn an_exec_of_a_stopped_container_is_refused(_: &Test) {
    let container = shared().start_container(&[], "exit 0");
    container.until("exited");
    let outcome = container.exec(&[], "exit 0");
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("is not running"), "{outcome:?}");
    container.end();
}
