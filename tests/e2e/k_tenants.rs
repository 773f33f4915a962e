//! Section K: many tenants in one process.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use containerd_client::types::v1::Status;
use gam_tests::case::{Builder, Container};
use gam_tests::daemon::{Daemon, Settings};
use gam_tests::events::{Kind, assert_order};
use gam_tests::suite::{NAMESPACE, Test};
use gam_tests::{poll, processes, scrape, stdio};

gam_tests::tests![
    k1_the_same_id_in_two_namespaces,
    k2_starts_that_race_make_one_manager,
    k3_starts_while_the_manager_leaves,
    k4_fifty_containers_at_once,
    k4_execs_of_one_tenant_do_not_delay_another,
    k5_one_tenants_trouble_is_nobody_elses,
    k6_a_flood_costs_the_manager_little,
    k7_two_containerds_do_not_share_a_manager,
    k8_ids_from_outside_are_refused,
    k10_a_killed_managers_containers_are_reported_once,
    k11_grouping_by_pod,
    k11_grouping_by_namespace,
    k11_grouping_by_node,
    k12_metrics_are_served,
];

fn k1_the_same_id_in_two_namespaces(t: &Test) {
    let (daemon, id) = (t.daemon(), t.id());
    let one = Builder::new(&daemon, "e2e-one", &id).sh("echo one; sleep 1000").run();
    let two = Builder::new(&daemon, "e2e-two", &id).sh("echo two; sleep 1000").run();
    one.io.out().expect("one");
    two.io.out().expect("two");
    assert_eq!(one.exec("echo exec-one").id("e").run().finish().1, "exec-one\n");
    assert_eq!(two.exec("echo exec-two").id("e").run().finish().1, "exec-two\n");
    one.kill(9);
    one.finish();
    assert_eq!(two.status(), Status::Running);
    assert!(processes::lives(two.pid));
    two.end();
}

/// The processes that serve these containers.
fn shims(containers: &[Container]) -> BTreeSet<u32> {
    containers.iter().map(Container::shim).collect()
}

fn end_all(containers: Vec<Container>) {
    thread::scope(|scope| {
        for container in containers {
            scope.spawn(|| container.end());
        }
    });
}

fn at_once(count: usize, make: impl Fn(usize) -> Container + Sync) -> Vec<Container> {
    thread::scope(|scope| {
        let make = &make;
        let made: Vec<_> = (0..count).map(|number| scope.spawn(move || make(number))).collect();
        made.into_iter().map(|made| made.join().unwrap()).collect()
    })
}

fn k2_starts_that_race_make_one_manager(t: &Test) {
    let daemon = Daemon::start(Settings::new().grouping("node"));
    for _ in 0..3 {
        let containers = at_once(6, |_| t.container_of(&daemon).run());
        assert_eq!(shims(&containers).len(), if t.on_go() { 6 } else { 1 });
        end_all(containers);
        poll::holds("the manager leaves", || daemon.shims().is_empty());
    }
}

fn k3_starts_while_the_manager_leaves(t: &Test) {
    let mut settings = Settings::new();
    settings.gam = "linger = \"200ms\"\n".into();
    let daemon = Daemon::start(settings);
    for round in 0..16 {
        t.container_of(&daemon).sh("exit 0").run().finish();
        thread::sleep(Duration::from_millis(100 + round * 15));
    }
}

fn k4_fifty_containers_at_once(t: &Test) {
    let daemon = t.daemon();
    let other = Builder::new(&daemon, "e2e-k4-other", &t.id()).run();
    let containers = thread::scope(|scope| {
        let made = scope.spawn(|| at_once(50, |_| t.container().streams([false; 3]).run()));
        let client = other.client();
        while !made.is_finished() {
            let begin = Instant::now();
            client.get(&other.namespace, &other.id, "").unwrap();
            assert!(
                begin.elapsed() < poll::slow(Duration::from_secs(2)),
                "another's State took {:?}",
                begin.elapsed()
            );
            thread::sleep(Duration::from_millis(20));
        }
        made.join().unwrap()
    });
    let waits: Vec<_> = containers.iter().map(Container::wait_aside).collect();
    for container in &containers {
        container.kill(9);
    }
    for wait in waits {
        assert_eq!(wait.join().unwrap().unwrap().status, 137);
    }
    thread::scope(|scope| {
        for container in containers {
            scope.spawn(|| container.finish());
        }
    });
    other.end();
}

fn k4_execs_of_one_tenant_do_not_delay_another(t: &Test) {
    let daemon = Daemon::start(Settings::new().grouping("node"));
    let busy = t.container_of(&daemon).sandbox("busy").run();
    let other = t.container_of(&daemon).sandbox("other").run();
    thread::scope(|scope| {
        let execs: Vec<_> = (0..40)
            .map(|_| {
                let exec = busy.exec("exit 0").streams([false; 3]);
                scope.spawn(move || exec.run().finish())
            })
            .collect();
        let client = other.client();
        for _ in 0..10 {
            let begin = Instant::now();
            assert_eq!(client.get(&other.namespace, &other.id, "").unwrap().status(), Status::Running);
            assert!(begin.elapsed() < Duration::from_secs(2), "another's State took {:?}", begin.elapsed());
        }
        let begin = Instant::now();
        other.kill(9);
        assert_eq!(other.wait().status, 137);
        assert!(begin.elapsed() < Duration::from_secs(10), "another's Kill took {:?}", begin.elapsed());
        for exec in execs {
            assert_eq!(exec.join().unwrap().0.status, 0);
        }
    });
    other.finish();
    busy.end();
}

fn k5_one_tenants_trouble_is_nobody_elses(t: &Test) {
    let daemon = t.daemon();
    let good = t.container().run();
    // A bundle that is no longer there, a spec that is none, a FIFO that is none, a runtime that is none.
    let broken = t.container().run();
    fs::write(daemon.bundle(NAMESPACE, &broken.id).join("config.json"), "{ not json").unwrap();
    let _ = broken.exec("exit 0").try_add().and_then(|exec| exec.try_start());
    assert!(
        t.container().options(|options| options.binary_name = "/does/not/exist".into()).try_create().is_err()
    );
    assert!(t.container().change(|spec| spec.json["linux"] = "nonsense".into()).try_create().is_err());
    assert!(t.container().uris(["", "nonsense://x", ""]).try_create().is_err());
    assert_eq!(good.status(), Status::Running);
    assert_eq!(good.exec("echo fine").run().finish().1, "fine\n");
    broken.kill_all();
    broken.finish();
    good.end();
}

/// What a process uses of a processor in a second, in hundredths.
fn load(pid: u32) -> u64 {
    let before = processes::cpu_ticks(pid).unwrap();
    thread::sleep(Duration::from_secs(1));
    processes::cpu_ticks(pid).unwrap() - before
}

fn k6_a_flood_costs_the_manager_little(t: &Test) {
    let daemon = t.daemon();
    // A namespace of its own, and so a manager that serves nothing else.
    let flood = || Builder::new(&daemon, t.name, &t.id()).sh("yes");
    let (fifo, terminal) = (flood().create(), flood().terminal().create());
    let manager = fifo.shim();
    for container in [&fifo, &terminal] {
        container.io.out().hold();
        container.start();
    }
    thread::sleep(Duration::from_millis(500));
    let stuck = load(manager);
    assert!(stuck <= 5, "{stuck} % of a processor for readers that do not read");
    for container in [fifo, terminal] {
        container.kill(9);
        container.io.out().release();
        container.finish();
    }
    for terminal in [false, true] {
        let path = daemon.dir.join("io").join(t.id());
        stdio::fifo(&path);
        let mut reader = Command::new("cat").arg(&path).stdout(Stdio::null()).spawn().unwrap();
        let builder = if terminal { flood().terminal() } else { flood() };
        let container = builder.uris(["", &path.display().to_string(), ""]).run();
        let manager = container.shim();
        let used = load(manager);
        println!("a flood of a {}: {used} %", if terminal { "terminal" } else { "FIFO" });
        assert!(t.on_go() || used <= 110, "{used} % of a processor for one flood");
        let begin = Instant::now();
        assert_eq!(container.exec("echo fine").run().finish().1, "fine\n");
        assert!(begin.elapsed() < poll::slow(Duration::from_secs(5)), "an exec took {:?}", begin.elapsed());
        container.end();
        assert!(reader.wait().unwrap().success(), "the end of the output has come");
    }
}

fn k7_two_containerds_do_not_share_a_manager(t: &Test) {
    let first = t.daemon();
    let mut settings = Settings::new();
    // The same runtime directory: only the address tells the groups apart.
    let run = first.dir.join("run").display().to_string();
    settings.environment.push(("GAM_RUN_DIR".into(), run));
    let second = Daemon::start(settings);
    let one = t.container_of(&first).run();
    let two = t.container_of(&second).run();
    assert_ne!(one.shim(), two.shim());
    one.end();
    assert_eq!(two.status(), Status::Running);
    two.end();
}

fn k8_ids_from_outside_are_refused(t: &Test) {
    let client = t.daemon().client();
    for id in ["../x", "a/b", "..", &"x".repeat(77)] {
        assert!(client.get(NAMESPACE, id, "").is_err());
    }
    let container = t.container().run();
    for id in ["../x", "a/b", "..", &"x".repeat(77)] {
        let refused =
            container.exec("exit 0").id(id).streams([false; 3]).try_add().err().map(|error| error.code());
        assert!(refused.is_some(), "the exec id {id:?} was taken");
    }
    container.end();
}

fn k10_a_killed_managers_containers_are_reported_once(t: &Test) {
    let daemon = Daemon::start(Settings::new().grouping("node"));
    let sandbox = t.container_of(&daemon).sandbox(t.name).run();
    let mut containers = at_once(9, |_| t.container_of(&daemon).in_pod(t.name, &sandbox.id).run());
    containers.push(sandbox);
    let managers = shims(&containers);
    assert_eq!(managers.len(), 1);
    managers.into_iter().for_each(processes::kill_9);
    for container in &containers {
        let events =
            container.until_events("deleted", |events| events.iter().any(|event| event.kind == Kind::Delete));
        assert_order(&events);
        let exits: Vec<_> = events.iter().filter(|event| event.kind == Kind::Exit).collect();
        assert_eq!((exits.len(), exits[0].pid, exits[0].status), (1, container.pid, 137));
        poll::holds("init is killed", || !processes::lives(container.pid));
    }
    // The next start works.
    let next = t.container_of(&daemon).sandbox("another").run();
    assert_eq!(next.exec("echo fine").run().finish().1, "fine\n");
    next.end();
    for container in &containers {
        container.check_gone();
    }
    if t.on_go() {
        // Go leaves the socket of a killed shim; that is d7's subject.
        daemon.forget_sockets();
    }
}

/// Two tenants with two pods of two containers each; how many processes serve them.
fn served_by(t: &Test, grouping: &str) -> usize {
    let daemon = Daemon::start(Settings::new().grouping(grouping));
    let mut containers = Vec::new();
    for tenant in ["red", "blue"] {
        for _ in 0..2 {
            let sandbox = t.container_of(&daemon).sandbox(tenant).run();
            let member = t.container_of(&daemon).in_pod(tenant, &sandbox.id).run();
            assert_eq!(member.exec("echo fine").run().finish().1, "fine\n");
            containers.extend([member, sandbox]);
        }
    }
    let count = shims(&containers).len();
    assert_eq!(daemon.shims().len(), count, "no other shim runs");
    // Members first, as CRI does.
    for container in containers {
        container.end();
    }
    poll::holds("the managers leave", || daemon.shims().is_empty());
    count
}

fn k11_grouping_by_pod(t: &Test) {
    assert_eq!(served_by(t, "pod"), 4);
}

fn k11_grouping_by_namespace(t: &Test) {
    assert_eq!(served_by(t, "namespace"), if t.on_go() { 4 } else { 2 });
}

fn k11_grouping_by_node(t: &Test) {
    assert_eq!(served_by(t, "node"), if t.on_go() { 4 } else { 1 });
}

fn k12_metrics_are_served(t: &Test) {
    if t.on_go() {
        return;
    }
    let container = t.container().run();
    let sockets = scrape::sockets(&container.daemon.dir.join("run"));
    assert!(!sockets.is_empty(), "no manager has a metrics socket");
    for socket in sockets {
        if let Ok(text) = scrape::get(&socket, "/metrics") {
            assert!(text.lines().any(|line| line.starts_with("# TYPE ")), "{text}");
        }
    }
    container.end();
}
