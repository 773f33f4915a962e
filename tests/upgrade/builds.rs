//! Another build of gam is installed over one that runs: pods keep their manager, new pods get the new build, and the old
//! manager leaves with its last container. What the old build's containers need of a shim's commands the new build does.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use containerd_client::types::v1::Status;
use gam_tests::case::Container;
use gam_tests::cri::{ContainerLinux, RUNNING};
use gam_tests::cri_node::Node;
use gam_tests::cri_pod::Pod;
use gam_tests::daemon::{Daemon, Settings};
use gam_tests::events::{Kind, assert_order};
use gam_tests::suite::Test;
use gam_tests::target::Containerd;
use gam_tests::{poll, processes};

gam_tests::tests![
    two_builds_on_1_6,
    two_builds_on_1_7,
    two_builds_on_2_1,
    two_builds_on_2_1_with_task_v3,
    builds_are_installed_while_pods_start,
    pods_of_two_builds_on_1_6,
    pods_of_two_builds_on_1_7,
    pods_of_two_builds_on_2_1,
];

fn two_builds_on_1_6(t: &Test) {
    two_builds(t, Containerd::V1_6, "");
}

fn two_builds_on_1_7(t: &Test) {
    two_builds(t, Containerd::V1_7, "");
}

fn two_builds_on_2_1(t: &Test) {
    two_builds(t, Containerd::V2_1, "");
}

fn two_builds_on_2_1_with_task_v3(t: &Test) {
    two_builds(t, Containerd::V2_1, "task_api = 3\n");
}

fn pods_of_two_builds_on_1_6(_: &Test) {
    pods_of_two_builds(Containerd::V1_6);
}

fn pods_of_two_builds_on_1_7(_: &Test) {
    pods_of_two_builds(Containerd::V1_7);
}

fn pods_of_two_builds_on_2_1(_: &Test) {
    pods_of_two_builds(Containerd::V2_1);
}

/// Counts, so that a gap or a new beginning is seen.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done";

/// A sandbox and a container that counts.
struct Pair {
    tenant: &'static str,
    sandbox: Container,
    counts: Container,
    manager: u32,
    /// The group's directory.
    group: PathBuf,
}

impl Pair {
    fn run(t: &Test, daemon: &Arc<Daemon>, tenant: &'static str) -> Self {
        let sandbox = t.container_of(daemon).sandbox(tenant).run();
        let counts = t.container_of(daemon).in_pod(tenant, &sandbox.id).sh(COUNT).run_told();
        let record = fs::read(daemon.bundle(&sandbox.namespace, &sandbox.id).join("gam.json")).unwrap();
        let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
        let group = PathBuf::from(record["group"].as_str().unwrap());
        let manager = sandbox.shim();
        assert_eq!(counts.shim(), manager, "one manager to a pod");
        assert!(group.join("pid").exists(), "{}", group.display());
        Self { tenant, sandbox, counts, manager, group }
    }

    /// Another container of the pod.
    fn joined(&self, t: &Test) -> Container {
        t.container_of(&self.sandbox.daemon).in_pod(self.tenant, &self.sandbox.id).run()
    }

    /// The pod runs as ever, under its manager.
    fn is_well(&self) {
        for container in [&self.sandbox, &self.counts] {
            assert_eq!(container.status(), Status::Running);
            assert!(container.pids().contains(&container.pid));
            assert_eq!(container.shim(), self.manager, "the manager is the same");
            assert_eq!(container.exec("echo fine; exit 5").run().finish().1, "fine\n");
        }
        let read = || String::from_utf8(self.counts.io.out().so_far()).unwrap();
        let before = read().lines().count();
        poll::holds("it counts on", || read().lines().count() > before + 2);
        let text = read();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for (at, line) in whole.lines().enumerate() {
            assert_eq!(line, (at + 1).to_string(), "a line is lost");
        }
    }

    fn end(self) {
        self.counts.end();
        self.sandbox.end();
        poll::holds("the manager leaves", || !processes::lives(self.manager));
        assert!(!self.group.exists(), "{} is left", self.group.display());
    }
}

fn two_builds(t: &Test, containerd: Containerd, more: &str) {
    let mut settings = Settings { containerd, ..Settings::new() };
    settings.gam.push_str(more);
    let daemon = Daemon::start(settings.grouping("namespace"));
    let (red, blue) = (Pair::run(t, &daemon, "red"), Pair::run(t, &daemon, "blue"));
    let alone = t.container_of(&daemon).run();
    let mut later = Vec::new();
    daemon.install_another_build();
    let new = Pair::run(t, &daemon, "red");
    assert!(new.manager != red.manager && new.group != red.group, "a new pod has the new build");
    let also_alone = t.container_of(&daemon).run();
    assert_ne!(also_alone.shim(), alone.shim());
    for pair in [&red, &blue] {
        later.push(pair.joined(t));
        assert_eq!(later.last().unwrap().shim(), pair.manager, "a pod has one manager");
        pair.is_well();
    }
    daemon.kill_9();
    daemon.launch();
    [&red, &blue, &new].into_iter().for_each(Pair::is_well);
    // The new build's delete, beside the old manager and without it.
    processes::kill_9(blue.manager);
    for container in [&blue.sandbox, &blue.counts, &later[1]] {
        let events =
            container.until_events("deleted", |events| events.iter().any(|event| event.kind == Kind::Delete));
        assert_order(&events);
        poll::holds("init is killed", || !processes::lives(container.pid));
        container.check_gone();
    }
    poll::holds("the dead manager's directory goes", || !blue.group.exists());
    [&red, &new].into_iter().for_each(Pair::is_well);
    let once_more = red.joined(t);
    assert_eq!(once_more.shim(), red.manager, "another's death changes nothing");
    once_more.end();
    later.swap_remove(0).end();
    drop((later, blue));
    red.end();
    new.is_well();
    new.end();
    alone.end();
    also_alone.end();
    let left = daemon.shutdown();
    assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
}

fn builds_are_installed_while_pods_start(t: &Test) {
    let daemon = Daemon::start(Settings { containerd: Containerd::V1_6, ..Settings::new() }.grouping("pod"));
    let over = AtomicBool::new(false);
    let installed = thread::scope(|scope| {
        let installing = scope.spawn(|| {
            let mut installed = 0;
            while !over.load(Ordering::SeqCst) {
                daemon.install_another_build();
                installed += 1;
            }
            installed
        });
        // Whatever comes of it, the installing has to end.
        let pods = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..15 {
                let sandbox = t.container_of(&daemon).sandbox("red").run();
                let member = t.container_of(&daemon).in_pod("red", &sandbox.id).sh("exit 4").run();
                assert_eq!(member.finish().status, 4);
                sandbox.end();
            }
        }));
        over.store(true, Ordering::SeqCst);
        pods.unwrap_or_else(|panic| resume_unwind(panic));
        installing.join().unwrap()
    });
    assert!(installed > 15, "{installed} builds");
    let left = daemon.shutdown();
    assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
}

/// How far the pod's counting container has come, by its log.
fn count(pod: &Pod<'_>) -> usize {
    let text = fs::read_to_string(pod.log("counts")).unwrap_or_default();
    let numbers: Vec<usize> = text.lines().filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
    assert!(numbers.iter().zip(1..).all(|(number, expected)| *number == expected), "a line is lost");
    numbers.len()
}

/// The container runs as ever, under its manager.
fn is_well(node: &Node, pod: &Pod<'_>, counts: &str, manager: u32) {
    assert!(pod.ready());
    assert_eq!(pod.status(counts).state, RUNNING);
    assert_eq!(node.manager_of(pod.pid()), Some(manager), "the manager is the same");
    assert_eq!(pod.output(counts, "echo fine"), "fine");
    let before = count(pod);
    poll::holds("it counts on", || count(pod) > before + 2);
}

fn pods_of_two_builds(containerd: Containerd) {
    let node = Node::start_on("namespace", containerd);
    let run = |tenant| {
        let pod = node.pod("gam", node.pod_config(tenant));
        let counts = pod.container("counts", COUNT, ContainerLinux::default());
        let manager = node.manager_of(pod.pid()).unwrap();
        (pod, counts, manager)
    };
    let (red, reds, manager) = run("red");
    let (blue, blues, killed) = run("blue");
    node.install_another_build();
    // That a pod has one manager, and each group of each build its own, is seen to by the node.
    let (new, news, other) = run("red");
    assert!(other != manager && other != killed);
    let third = red.container("third", "exit 6", ContainerLinux::default());
    assert_eq!(red.ended(&third).exit_code, 6);
    let fourth = blue.container("fourth", COUNT, ContainerLinux::default());
    is_well(&node, &red, &reds, manager);
    node.kill_9();
    node.launch();
    is_well(&node, &red, &reds, manager);
    is_well(&node, &new, &news, other);
    processes::kill_9(killed);
    for id in [&blues, &fourth] {
        assert_ne!(blue.ended(id).exit_code, 0);
    }
    poll::holds("the sandbox is not ready", || !blue.ready());
    // containerd may be at the dead manager's remains still; kubelet asks again too.
    poll::until("the dead manager's pod is removed", || blue.remove().ok());
    drop(blue);
    is_well(&node, &red, &reds, manager);
    red.remove().unwrap();
    drop(red);
    poll::holds("the old manager leaves", || !processes::lives(manager));
    is_well(&node, &new, &news, other);
    let (again, agains, its) = run("blue");
    is_well(&node, &again, &agains, its);
    drop((new, again));
    let left = node.shutdown();
    assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
}
