//! Looking at what runs: logs, attach, top, stats, update.

use gam_tests::poll;
use gam_tests::suite::Test;

use crate::engine::{Engine, shared};

gam_tests::tests![
    logs_are_whole,
    a_failed_create_has_no_logs,
    logs_are_followed_to_the_end,
    attach_reads_and_writes,
    start_attached,
    top_lists_all_processes,
    stats_and_update,
];

fn logs_are_whole(_: &Test) {
    let container = shared().start_container(&[], "seq 1 5000; seq 1 500 >&2");
    container.until("exited");
    let outcome = container.docker(&["logs", "@"]);
    let lines = |count: u32| (1..=count).map(|number| format!("{number}\n")).collect::<String>();
    assert!(outcome.stdout == lines(5000) && outcome.stderr == lines(500), "{outcome:?}");
    container.end();
}

/// What the runtime says of a failure is in the answer; the container's own streams have nothing.
fn a_failed_create_has_no_logs(_: &Test) {
    let engine = shared();
    let id = engine.ok(&Engine::arguments(&["create"], &[], &["/does/not/exist"]));
    engine.docker(&["start", &id]);
    let outcome = engine.docker(&["logs", &id]);
    engine.ok(&["rm", &id]);
    assert_eq!((outcome.status, &*outcome.stdout, &*outcome.stderr), (0, "", ""));
}

fn logs_are_followed_to_the_end(_: &Test) {
    let container = shared().start_container(&["--interactive"], "echo 1; read line; echo 2; exit 0");
    let following = container.begin(&["logs", "--follow", "@"]);
    let mut attached = container.begin(&["attach", "@"]);
    attached.write("go\n");
    assert_eq!(attached.finish().status, 0);
    assert_eq!(following.finish().stdout, "1\n2\n");
    container.end();
}

fn attach_reads_and_writes(_: &Test) {
    let script = "while read line; do echo got $line; [ $line = end ] && exit 6; done";
    let container = shared().start_container(&["--interactive"], script);
    let mut attached = container.begin(&["attach", "@"]);
    attached.write("a\nend\n");
    // docker closes the outputs too when an attached stdin ends, so it stays open.
    poll::holds("the container ends", || attached.ended());
    let outcome = attached.finish();
    assert_eq!((outcome.status, &*outcome.stdout), (6, "got a\ngot end\n"), "{}", outcome.stderr);
    container.end();
}

/// The end of stdin reaches a container that was created with it.
fn start_attached(_: &Test) {
    let engine = shared();
    let options = ["--interactive", "--name", "looks-start"];
    engine.ok(&Engine::arguments(&["create"], &options, &["sh", "-c", "cat; echo end; exit 2"]));
    let container = engine.container_named("looks-start");
    let mut running = container.begin(&["start", "--attach", "--interactive", "@"]);
    running.write("hello\n");
    running.close();
    let outcome = running.finish();
    assert_eq!((outcome.status, &*outcome.stdout), (2, "hello\nend\n"), "{}", outcome.stderr);
    container.end();
}

fn top_lists_all_processes(_: &Test) {
    let container = shared().start_container(&[], "sleep 1001 & sleep 1002");
    container.ok(&["exec", "--detach", "@", "sleep", "1003"]);
    poll::holds("all are listed", || {
        let text = container.ok(&["top", "@", "-eo", "pid,args"]);
        let pid = container.pid().to_string();
        ["sleep 1001", "sleep 1002", "sleep 1003"].iter().all(|one| text.contains(one))
            && text.split_whitespace().any(|word| word == pid)
    });
    container.end();
}

fn stats_and_update(_: &Test) {
    let limits = ["--memory", "128m", "--memory-swap", "128m"];
    let container = shared().start_container(&limits, "sleep 1001 & sleep 1000");
    let stats = |format: &str| container.ok(&["stats", "--no-stream", "--format", format, "@"]);
    poll::holds("two or three processes", || ["2", "3"].contains(&&*stats("{{.PIDs}}")));
    let usage = stats("{{.MemUsage}}");
    assert!(usage.ends_with("/ 128MiB") && !usage.starts_with("0B"), "{usage}");
    container.ok(&["update", "--memory", "64m", "--memory-swap", "64m", "@"]);
    let limit = ["memory.limit_in_bytes", "memory.max"].map(|file| container.cgroup_file(file));
    assert!(limit.contains(&(64 * 1024 * 1024).to_string()), "{limit:?}");
    assert!(stats("{{.MemUsage}}").ends_with("/ 64MiB"));
    container.ok(&["update", "--pids-limit", "77", "@"]);
    assert_eq!(container.cgroup_file("pids.max"), "77");
    container.end();
}
