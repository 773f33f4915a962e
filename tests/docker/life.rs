//! Stopping, killing, pausing, restarting and waiting.

use std::thread;
use std::time::Duration;

use gam_tests::suite::Test;
use gam_tests::{poll, processes};

use crate::engine::{Engine, shared};

gam_tests::tests![
    stop_is_heard,
    stop_of_the_deaf_kills,
    kill_and_other_signals,
    pause_and_unpause,
    a_paused_container_is_killed,
    wait_before_and_after_the_end,
    restart_on_failure_twice,
    restart_always,
    docker_restart,
    rm_removes,
    the_state_after_an_end,
    start_after_a_failed_create,
];

/// Takes up TERM, so that it can be told from KILL.
const LISTENS: &str = "trap 'exit 4' TERM; trap 'echo usr1' USR1; echo up; while :; do sleep 0.05; done";

fn stop_is_heard(_: &Test) {
    let container = shared().start_container(&[], LISTENS);
    poll::holds("it listens", || container.ok(&["logs", "@"]) == "up");
    container.ok(&["stop", "--time", "60", "@"]);
    assert_eq!(container.state()["ExitCode"], 4);
    container.end();
}

fn stop_of_the_deaf_kills(_: &Test) {
    let container = shared().start_container(&[], "trap '' TERM; while :; do sleep 0.05; done");
    container.ok(&["stop", "--time", "1", "@"]);
    assert_eq!(container.state()["ExitCode"], 137);
    container.end();
}

fn kill_and_other_signals(_: &Test) {
    let container = shared().start_container(&[], LISTENS);
    poll::holds("it listens", || container.ok(&["logs", "@"]) == "up");
    container.ok(&["kill", "--signal", "USR1", "@"]);
    poll::holds("the signal is heard", || container.ok(&["logs", "@"]) == "up\nusr1");
    container.ok(&["kill", "@"]);
    assert_eq!(container.until("exited")["ExitCode"], 137);
    assert_eq!(container.docker(&["kill", "@"]).status, 1, "one that does not run");
    container.end();
}

fn pause_and_unpause(_: &Test) {
    let container = shared().start_container(&[], "while :; do echo x; sleep 0.02; done");
    let count = || container.ok(&["logs", "@"]).len();
    poll::holds("it writes", || count() > 0);
    container.ok(&["pause", "@"]);
    let state = container.state();
    assert_eq!((&state["Status"], &state["Paused"]), (&"paused".into(), &true.into()));
    assert_ne!(container.exec(&[], "exit 0").status, 0, "an exec of a paused container");
    // What was written before has come by now.
    thread::sleep(Duration::from_millis(300));
    let before = count();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(count(), before, "it writes while it is paused");
    container.ok(&["unpause", "@"]);
    assert_eq!(container.state()["Status"], "running");
    poll::holds("it writes again", || count() > before);
    container.end();
}

fn a_paused_container_is_killed(_: &Test) {
    let container = shared().start_container(&[], "sleep 1000");
    container.ok(&["pause", "@"]);
    container.ok(&["kill", "@"]);
    assert_eq!(container.until("exited")["ExitCode"], 137);
    container.end();
}

fn wait_before_and_after_the_end(_: &Test) {
    let container = shared().start_container(&["--interactive"], "read line; exit 9");
    let mut waits: Vec<_> = (0..3).map(|_| container.begin(&["wait", "@"])).collect();
    thread::sleep(Duration::from_millis(300));
    assert!(waits.iter_mut().all(|wait| !wait.ended()), "nobody has ended it");
    let mut attached = container.begin(&["attach", "@"]);
    attached.write("go\n");
    for wait in waits {
        assert_eq!(wait.finish().stdout, "9\n");
    }
    assert_eq!(attached.finish().status, 9);
    assert_eq!(container.ok(&["wait", "@"]), "9");
    container.end();
}

fn restart_on_failure_twice(_: &Test) {
    let container = shared().start_container(&["--restart", "on-failure:2"], "echo again; exit 3");
    poll::holds("it is given up", || {
        let all = container.inspect();
        all["RestartCount"] == 2 && all["State"]["Status"] == "exited"
    });
    assert_eq!(container.state()["ExitCode"], 3);
    assert_eq!(container.ok(&["logs", "@"]), "again\nagain\nagain");
    container.end();
    let container = shared().start_container(&["--restart", "on-failure:2"], "exit 0");
    container.until("exited");
    assert_eq!(container.inspect()["RestartCount"], 0);
    container.end();
}

fn restart_always(_: &Test) {
    let container = shared().start_container(&["--restart", "always"], "sleep 1000");
    let mut pid = container.pid();
    for count in 1..=3 {
        processes::kill_9(pid);
        poll::holds("it runs again", || {
            let all = container.inspect();
            all["RestartCount"] == count && all["State"]["Running"] == true && all["State"]["Pid"] != 0
        });
        assert_ne!(container.pid(), pid);
        pid = container.pid();
        assert_eq!(container.exec(&[], "echo fine").stdout, "fine\n");
    }
    // One that docker itself kills stays so.
    container.ok(&["kill", "@"]);
    assert_eq!(container.until("exited")["ExitCode"], 137);
    container.end();
}

fn docker_restart(_: &Test) {
    let container = shared().start_container(&[], "echo up; sleep 1000");
    let pid = container.pid();
    container.ok(&["restart", "--time", "0", "@"]);
    assert_ne!(container.pid(), pid);
    assert!(!processes::lives(pid));
    container.ok(&["stop", "--time", "0", "@"]);
    container.ok(&["start", "@"]);
    poll::holds("it ran three times", || container.ok(&["logs", "@"]) == "up\nup\nup");
    container.end();
}

fn rm_removes(_: &Test) {
    let container = shared().start_container(&[], "sleep 1000");
    assert_eq!(container.docker(&["rm", "@"]).status, 1, "one that runs");
    let pid = container.pid();
    container.end();
    assert!(!processes::lives(pid));
    let container = shared().start_container(&["--rm"], "sleep 0.3");
    container.removed_itself();
}

fn the_state_after_an_end(_: &Test) {
    // docker takes the time of the start when Start is answered, which can be after the end of what ends at once.
    let container = shared().start_container(&[], "sleep 0.5; exit 11");
    let state = container.until("exited");
    for (key, value) in [("Running", false), ("Paused", false), ("OOMKilled", false), ("Dead", false)] {
        assert_eq!(state[key], value, "{state}");
    }
    assert_eq!((&state["ExitCode"], &state["Pid"], &state["Error"]), (&11.into(), &0.into(), &"".into()));
    let times = [state["StartedAt"].as_str().unwrap(), state["FinishedAt"].as_str().unwrap()];
    assert!(times[0] < times[1] && !times[1].starts_with("0001"), "{state}");
    container.end();
}

/// A container whose create failed is none: docker keeps it, says why, and can remove it.
fn start_after_a_failed_create(_: &Test) {
    let engine = shared();
    let all = Engine::arguments(&["create"], &[], &["/does/not/exist"]);
    let id = engine.ok(&all);
    for _ in 0..2 {
        let outcome = engine.docker(&["start", &id]);
        assert_eq!(outcome.status, 1, "{outcome:?}");
        assert!(outcome.stderr.contains("/does/not/exist"), "{outcome:?}");
    }
    let state = engine.ok(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", &id]);
    assert_eq!(state, "created 127");
    engine.ok(&["rm", &id]);
}
