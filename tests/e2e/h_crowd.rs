//! Section H: many containers at work while containerd is killed and restarted.

use std::fs;
use std::thread;

use containerd_client::types::v1::Status;
use gam_tests::case::{Builder, Container};
use gam_tests::daemon::{Daemon, Settings};
use gam_tests::events::{Event, Kind};
use gam_tests::exec::Exec;
use gam_tests::suite::Test;
use gam_tests::{poll, processes, scrape};

gam_tests::tests![h12_fifty_containers_survive_a_restart];

/// What a container does meanwhile. Each ends once its file `/tmp/go` is there.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// Writes numbered lines to a FIFO that the test reads.
    Fifo,
    /// The same to a file.
    File,
    /// Ends while containerd is away.
    Ends,
    /// Has a terminal.
    Terminal,
    /// Has an exec at work.
    Execs,
}

const ROLES: [Role; 5] = [Role::Fifo, Role::File, Role::Ends, Role::Terminal, Role::Execs];
const COUNT: usize = 50;

/// Writes lines until its file is there; a line that cannot be written shows in the exit status.
const WRITES: &str =
    "i=0; while [ ! -e /tmp/go ]; do echo line $i || exit 99; i=$((i+1)); sleep 0.2; done; echo end $i";
const WAITS: &str = "while [ ! -e /tmp/go ]; do sleep 0.2; done";

struct Member {
    container: Container,
    role: Role,
    status: u32,
}

fn make(mut builder: Builder, role: Role, number: usize) -> Member {
    let status = 10 + u32::try_from(number).unwrap();
    let script = |text: &str| format!("{text}; exit {status}");
    builder = match role {
        Role::Fifo => builder.sh(&script(WRITES)),
        Role::File => {
            let uri = format!("file://{}", builder.daemon.dir.join("io").join(&builder.id).display());
            builder.sh(&script(WRITES)).uris(["", &uri, ""])
        }
        Role::Ends | Role::Execs => builder.sh(&script(WAITS)),
        Role::Terminal => builder.terminal().sh(&format!("read line; echo got $line; exit {status}")),
    };
    // A few are in pods, whose first container is the sandbox.
    builder = match number {
        0 | 5 | 10 => builder.sandbox("tenant"),
        _ => builder,
    };
    Member { container: builder.run_told(), role, status }
}

/// Every line of a writer, in order, and its last one.
fn check_lines(text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let (last, lines) = lines.split_last().expect("lines");
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("line {number}"));
    }
    assert_eq!(*last, format!("end {}", lines.len()));
}

fn h12_fifty_containers_survive_a_restart(t: &Test) {
    let settings = Settings { level: "trace", ..Settings::new() }.grouping("node");
    let daemon = Daemon::start(settings);
    let members: Vec<Member> = thread::scope(|scope| {
        let daemon = &daemon;
        let make = |number: usize| make(t.container_of(daemon), ROLES[number % ROLES.len()], number);
        let lanes: Vec<_> = (0..4)
            .map(|lane| scope.spawn(move || (lane..COUNT).step_by(4).map(make).collect::<Vec<_>>()))
            .collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    });
    let go = |member: &Member| fs::write(format!("/proc/{}/root/tmp/go", member.container.pid), "").unwrap();
    let with = |role| members.iter().filter(move |member| member.role == role);
    let execs: Vec<Exec<'_>> = with(Role::Execs)
        .map(|member| member.container.exec("read line; echo $line; exit 6").stdin().run())
        .collect();
    for member in with(Role::Execs) {
        let told = |events: &[Event]| events.iter().any(|event| event.kind == Kind::ExecStarted);
        member.container.until_events("of a started exec", told);
    }
    daemon.kill_9();
    with(Role::Ends).for_each(go);
    let lives = |member: &Member| processes::lives(member.container.pid);
    poll::holds("those that were to end have", || !with(Role::Ends).any(lives));
    daemon.launch();
    let ended = with(Role::Ends).count();
    let told = || daemon.received("/tasks/exit");
    let all = poll::within(poll::LONG, || (told() >= ended).then_some(()));
    assert!(
        all.is_some(),
        "containerd has {} of {ended} exits; gam's metrics:\n{}",
        told(),
        metrics(&daemon)
    );
    assert_eq!(told(), ended, "each once");
    for member in &members {
        let stopped = member.role == Role::Ends;
        assert_eq!(member.container.status(), if stopped { Status::Stopped } else { Status::Running });
        assert!(member.container.pids().contains(&member.container.pid));
    }
    for mut exec in execs {
        exec.io.input().write(b"after\n");
        let (exit, out) = exec.finish();
        assert_eq!((exit.status, out.as_str()), (6, "after\n"));
    }
    members.iter().filter(|member| member.role != Role::Ends).for_each(go);
    thread::scope(|scope| {
        for member in members {
            scope.spawn(move || finish(member));
        }
    });
}

fn metrics(daemon: &Daemon) -> String {
    let sockets = scrape::sockets(&daemon.dir.join("run"));
    let texts = sockets.iter().map(|socket| scrape::get(socket, "/metrics").unwrap_or_default());
    let lines: Vec<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines
        .into_iter()
        .filter(|line| line.contains("event") && !line.starts_with('#'))
        .collect::<Vec<_>>()
        .join("\n")
}

fn finish(member: Member) {
    let Member { mut container, role, status } = member;
    if role == Role::Terminal {
        container.io.input().write(b"after\n");
        container.io.out().expect("got after");
    }
    if role == Role::Ends {
        container.exit_may_be_unseen();
    }
    let file = container.daemon.dir.join("io").join(&container.id);
    let out = (role == Role::Fifo).then(|| container.io.stdout.take()).flatten();
    assert_eq!(container.finish().status, status);
    if let Some(out) = out {
        check_lines(&out.text());
    }
    if role == Role::File {
        check_lines(&fs::read_to_string(file).unwrap());
    }
}
