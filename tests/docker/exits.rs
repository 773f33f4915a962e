//! `docker run` in the foreground: its exit status is the container's.

use gam_tests::processes;
use gam_tests::suite::Test;

use crate::engine::{Engine, Outcome, shared};

gam_tests::tests![
    statuses_of_the_program,
    a_program_that_cannot_start,
    a_container_that_cannot_be_made,
    a_program_that_is_killed,
    a_program_that_crashes,
    the_output_is_whole,
    stdin_is_read_to_its_end,
    an_init_reaps_and_passes_signals_on,
    an_oom_is_told,
];

fn run(options: &[&str], command: &[&str]) -> Outcome {
    shared().docker(&Engine::arguments(&["run", "--rm"], options, command))
}

fn statuses_of_the_program(_: &Test) {
    for status in [0, 1, 42, 125, 255] {
        let outcome = shared().run(&[], &format!("echo out; echo err >&2; exit {status}"));
        assert_eq!(outcome.status, status, "{outcome:?}");
        assert_eq!((&*outcome.stdout, &*outcome.stderr), ("out\n", "err\n"));
    }
}

fn a_program_that_cannot_start(_: &Test) {
    for (program, status) in
        [("/does/not/exist", 127), ("no-such-program", 127), ("/etc", 126), ("/etc/passwd", 126)]
    {
        let outcome = run(&[], &[program]);
        assert_eq!(outcome.status, status, "{program}: {outcome:?}");
        assert!(outcome.stderr.contains("Error response from daemon"), "{outcome:?}");
    }
}

fn a_container_that_cannot_be_made(_: &Test) {
    for options in [["--memory", "1k"], ["--runtime", "nobody"], ["--cpus", "1000"], ["--no-such-flag", "x"]]
    {
        let outcome = run(&options, &["true"]);
        assert_eq!(outcome.status, 125, "{options:?}: {outcome:?}");
    }
    // One that docker takes and runc does not; a failure that tells of a missing file is 127 to docker.
    for (sysctl, status) in [("net.no.such=1", 127), ("net.ipv4.ip_forward=nonsense", 125)] {
        let outcome = run(&["--sysctl", sysctl], &["true"]);
        assert_eq!(outcome.status, status, "{sysctl}: {outcome:?}");
    }
}

fn a_program_that_is_killed(_: &Test) {
    // Its own signal ends init only where it is not pid 1 of its namespace.
    assert_eq!(shared().run(&["--pid", "host"], "kill -KILL $$").status, 137);
    let running =
        shared().begin(&Engine::arguments(&["run"], &["--name", "exits-killed"], &["sleep", "1000"]));
    let container = shared().container_named("exits-killed");
    container.until("running");
    processes::kill_9(container.pid());
    assert_eq!(running.finish().status, 137);
    let state = container.until("exited");
    assert_eq!((&state["ExitCode"], &state["OOMKilled"]), (&137.into(), &false.into()));
    container.end();
}

fn a_program_that_crashes(_: &Test) {
    assert_eq!(shared().run(&["--pid", "host"], "kill -SEGV $$").status, 139);
    assert_eq!(shared().run(&["--init"], "kill -SEGV $$").status, 139);
    assert_eq!(shared().run(&[], "sh -c 'kill -SEGV $$'; exit $?").status, 139);
}

fn the_output_is_whole(_: &Test) {
    for _ in 0..3 {
        let outcome = shared().run(&[], "seq 1 100000; seq 1 1000 >&2");
        assert_eq!(outcome.status, 0);
        let lines = |count: u32| (1..=count).map(|number| format!("{number}\n")).collect::<String>();
        assert!(outcome.stdout == lines(100_000), "{} bytes of stdout", outcome.stdout.len());
        assert!(outcome.stderr == lines(1000), "{} bytes of stderr", outcome.stderr.len());
    }
}

fn stdin_is_read_to_its_end(_: &Test) {
    let mut running = shared().begin(&Engine::arguments(
        &["run", "--rm"],
        &["--interactive"],
        &["sh", "-c", "wc -c; exit 3"],
    ));
    running.write(&"x".repeat(300_000));
    running.close();
    let outcome = running.finish();
    assert_eq!((outcome.status, outcome.stdout.trim()), (3, "300000"), "{}", outcome.stderr);
}

fn an_init_reaps_and_passes_signals_on(_: &Test) {
    let outcome = shared().run(&["--init"], "cat /proc/1/comm; exit 5");
    assert_eq!((outcome.status, &*outcome.stdout), (5, "docker-init\n"), "{}", outcome.stderr);
    let container = shared().start_container(&["--init"], "(sleep 0.1 & exec true) ; exec sleep 1000");
    container.ok(&["stop", "--time", "60", "@"]);
    assert_eq!(container.until("exited")["ExitCode"], 143);
    container.end();
}

fn an_oom_is_told(_: &Test) {
    let options = ["--memory", "24m", "--memory-swap", "24m"];
    let container = shared().start_container(&options, "sleep 1; exec tail /dev/zero");
    let state = container.until("exited");
    assert_eq!((&state["ExitCode"], &state["OOMKilled"]), (&137.into(), &true.into()), "{state}");
    container.end();
}
