//! dockerd is killed and comes again, and containers outlive it.

use std::thread;
use std::time::Duration;

use gam_tests::processes;
use gam_tests::suite::Test;

use crate::engine::Engine;

gam_tests::tests![containers_outlive_dockerd];

/// Those that run are found running and answer; the end of one that ended meanwhile is told.
fn containers_outlive_dockerd(_: &Test) {
    let engine = Engine::start();
    let running = engine.start_container(&[], "echo up; sleep 1000");
    let ended = engine.start_container(&[], "trap 'exit 4' USR1; echo up; while :; do sleep 0.05; done");
    gam_tests::poll::holds("it listens", || ended.ok(&["logs", "@"]) == "up");
    let (pid, other) = (running.pid(), ended.pid());
    engine.kill_9();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(other).unwrap()),
        nix::sys::signal::Signal::SIGUSR1,
    )
    .unwrap();
    gam_tests::poll::holds("it ends", || !processes::lives(other));
    thread::sleep(Duration::from_millis(300));
    engine.launch();
    assert_eq!(running.pid(), pid);
    assert_eq!(running.until("running")["Pid"], pid);
    assert_eq!(running.exec(&[], "echo fine").stdout, "fine\n");
    assert_eq!(ended.until("exited")["ExitCode"], 4);
    running.ok(&["kill", "@"]);
    assert_eq!(running.until("exited")["ExitCode"], 137);
    running.end();
    ended.end();
    assert_eq!(engine.finish(), Vec::<String>::new());
}
