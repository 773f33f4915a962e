//! Terminals: `docker run -it`, `docker exec -it`, `docker attach`.

use gam_tests::poll;
use gam_tests::suite::Test;

use crate::engine::{Engine, shared};
use crate::tty::Tty;

gam_tests::tests![
    run_with_a_terminal,
    exec_with_a_terminal,
    a_terminal_is_resized,
    ctrl_c_interrupts_what_runs,
    detach_and_attach_again,
    a_terminal_without_stdin,
];

fn run(name: &str, options: &[&str], command: &[&str]) -> Tty {
    let mut all = vec!["--interactive", "--tty", "--name", name];
    all.extend(options);
    Tty::start(shared().command(&Engine::arguments(&["run"], &all, command)), 33, 101)
}

fn run_with_a_terminal(_: &Test) {
    let mut tty = run("terminal-run", &["--rm"], &["sh"]);
    tty.write("test -t 0 && test -t 1 && test -t 2 && echo is-a-\"\"tty\n");
    tty.expect("is-a-tty");
    let container = shared().container_named("terminal-run");
    tty.write("exit 5\n");
    let (status, text) = tty.finish();
    assert_eq!(status, 5, "{text}");
    container.removed_itself();
}

fn exec_with_a_terminal(_: &Test) {
    let container = shared().start_container(&[], "sleep 1000");
    for round in 0..3 {
        let command = container.about(&["exec", "--interactive", "--tty", "@", "sh"]);
        let mut tty = Tty::start(shared().command(&command), 33, 101);
        tty.write("test -t 0 && test -t 1 && test -t 2 && echo is-a-\"\"tty\n");
        tty.expect("is-a-tty");
        tty.write(&format!("exit {round}\n"));
        let (status, text) = tty.finish();
        assert_eq!(status, round, "{text}");
    }
    // All of a flood comes, though its writer ends at once.
    let command = container.about(&["exec", "--tty", "@", "sh", "-c", "seq 1 20000; exit 7"]);
    let (status, text) = Tty::start(shared().command(&command), 33, 101).finish();
    assert_eq!((status, text.lines().count()), (7, 20_000));
    container.end();
}

/// Types `stty size` until the answer is this. The docker command line is told of the size each time: it does not listen
/// for changes yet when the process has its first size already.
fn until_size(tty: &mut Tty, rows: u16, columns: u16) {
    let wanted = format!("{rows} {columns}");
    poll::holds(&wanted, || {
        tty.resize(rows, columns);
        tty.write("stty size\n");
        std::thread::sleep(std::time::Duration::from_millis(100));
        tty.text().lines().any(|line| line == wanted)
    });
}

fn a_terminal_is_resized(_: &Test) {
    let mut tty = run("terminal-resized", &[], &["sh"]);
    until_size(&mut tty, 33, 101);
    until_size(&mut tty, 44, 122);
    let container = shared().container_named("terminal-resized");
    let command = container.about(&["exec", "--interactive", "--tty", "@", "sh"]);
    let mut exec = Tty::start(shared().command(&command), 25, 81);
    until_size(&mut exec, 25, 81);
    until_size(&mut exec, 26, 82);
    exec.write("exit 0\n");
    exec.finish();
    tty.write("exit 0\n");
    assert_eq!(tty.finish().0, 0);
    container.end();
}

fn ctrl_c_interrupts_what_runs(_: &Test) {
    let mut tty = run("terminal-interrupted", &[], &["sh"]);
    tty.write("echo up-\"\"1; sleep 1000\n");
    tty.expect("up-1");
    let container = shared().container_named("terminal-interrupted");
    poll::holds("sleep runs", || container.ok(&["top", "@"]).contains("sleep 1000"));
    tty.write("\x03");
    tty.write("echo after-$?\n");
    tty.expect("after-130");
    tty.write("exit 0\n");
    assert_eq!(tty.finish().0, 0);
    container.end();
}

fn detach_and_attach_again(_: &Test) {
    let mut tty = run("terminal-detached", &[], &["sh"]);
    tty.write("echo up-\"\"1\n");
    tty.expect("up-1");
    let container = shared().container_named("terminal-detached");
    // Ctrl-P, Ctrl-Q.
    tty.write("\x10\x11");
    let (status, _) = tty.finish();
    assert_eq!(status, 0);
    assert_eq!(container.state()["Status"], "running");
    let mut again = Tty::start(shared().command(&container.about(&["attach", "@"])), 33, 101);
    again.write("echo up-\"\"2\n");
    again.expect("up-2");
    again.write("exit 6\n");
    assert_eq!(again.finish().0, 6);
    assert_eq!(container.until("exited")["ExitCode"], 6);
    container.end();
}

fn a_terminal_without_stdin(_: &Test) {
    let container = shared().start_container(&["--tty"], "tty; echo err >&2; exit 4");
    assert_eq!(container.until("exited")["ExitCode"], 4);
    // A terminal has one stream.
    let outcome = container.docker(&["logs", "@"]);
    assert!(outcome.stdout.contains("/dev/") && outcome.stdout.contains("err"), "{outcome:?}");
    assert_eq!(outcome.stderr, "");
    container.end();
}
