//! A manager is killed at full work: whatever ran under it is reported dead once, and nothing of it is left (K10).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use containerd_client::types::v1::Status;
use gam_tests::case::Container;
use gam_tests::client::{Answer, Client};
use gam_tests::cri::{ContainerId, ContainerLinux, Empty, List};
use gam_tests::cri_node::Node;
use gam_tests::cri_pod::Pod;
use gam_tests::daemon::{Daemon, Settings};
use gam_tests::events::{Event, Kind, Recorder, assert_order};
use gam_tests::suite::{NAMESPACE, Test};
use gam_tests::target::Containerd;
use gam_tests::{leftovers, poll, processes};

gam_tests::tests![
    k10_killed_at_work_on_1_6,
    k10_killed_at_work_on_1_7,
    k10_killed_at_work_on_2_1,
    k10_pods_killed_at_work_on_1_6,
    k10_pods_killed_at_work_on_1_7,
    k10_pods_killed_at_work_on_2_1,
];

fn k10_killed_at_work_on_1_6(t: &Test) {
    killed_at_work(t, Containerd::V1_6);
}

fn k10_killed_at_work_on_1_7(t: &Test) {
    killed_at_work(t, Containerd::V1_7);
}

fn k10_killed_at_work_on_2_1(t: &Test) {
    killed_at_work(t, Containerd::V2_1);
}

fn k10_pods_killed_at_work_on_1_6(_: &Test) {
    pods_killed_at_work(Containerd::V1_6);
}

fn k10_pods_killed_at_work_on_1_7(_: &Test) {
    pods_killed_at_work(Containerd::V1_7);
}

fn k10_pods_killed_at_work_on_2_1(_: &Test) {
    pods_killed_at_work(Containerd::V2_1);
}

/// One at a time: containerd gives each of all the `delete`s that it begins at once five seconds.
static TURN: Mutex<()> = Mutex::new(());

const PODS: usize = 5;
const CONTAINERS: usize = 50;
/// How many execs and lives have ended well when the manager is killed amid the next.
const ENOUGH: usize = 6;
/// How long nothing more may come after everything has.
const QUIET: Duration = Duration::from_secs(1);

fn at_work(execs: &AtomicUsize, lives: &AtomicUsize) -> bool {
    execs.load(Ordering::Relaxed) >= ENOUGH && lives.load(Ordering::Relaxed) >= ENOUGH
}

/// How many events of one kind there are of an init.
fn count(events: &[Event], kind: Kind) -> usize {
    events.iter().filter(|event| event.kind == kind && event.exec.is_empty()).count()
}

/// Reported dead once, and in order. Nobody is left to tell of the ends of execs.
fn assert_once(events: &[Event], pid: u32) {
    assert_order(&events.iter().filter(|event| event.exec.is_empty()).cloned().collect::<Vec<_>>());
    let exit = events.iter().find(|event| event.kind == Kind::Exit && event.exec.is_empty());
    assert_eq!(exit.map(|exit| (exit.pid, exit.status)), Some((pid, 137)), "{events:#?}");
    assert_eq!((count(events, Kind::Exit), count(events, Kind::Delete)), (1, 1), "{events:#?}");
}

fn killed_at_work(t: &Test, containerd: Containerd) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let daemon = Daemon::start(Settings { containerd, ..Settings::new() }.grouping("node"));
    let quiet = [false; 3];
    let running: Vec<Container> = thread::scope(|scope| {
        let daemon = &daemon;
        let pod = move || {
            let sandbox = t.container_of(daemon).sandbox("red").streams(quiet).run_told();
            let member = |_| t.container_of(daemon).in_pod("red", &sandbox.id).streams(quiet).run_told();
            let mut pod: Vec<_> = (1..CONTAINERS / PODS).map(member).collect();
            pod.push(sandbox);
            pod
        };
        let pods: Vec<_> = (0..PODS).map(|_| scope.spawn(pod)).collect();
        pods.into_iter().flat_map(|pod| pod.join().unwrap()).collect()
    });
    let manager = running[0].shim();
    assert!(running.iter().all(|container| container.shim() == manager), "one manager");
    let (execs, lives, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    // Those that come and go when it happens, with or without a task.
    let moving = Mutex::new(Vec::new());
    let ids = Mutex::new(Vec::new());
    let goes_on = || !over.load(Ordering::SeqCst);
    thread::scope(|scope| {
        let (execs, lives, moving, ids, goes_on, daemon) = (&execs, &lives, &moving, &ids, &goes_on, &daemon);
        for container in running.iter().step_by(12) {
            scope.spawn(move || {
                while goes_on() {
                    let Ok(exec) = container.exec("sleep 0.1").streams(quiet).try_add() else { continue };
                    let ended = exec.try_start().and_then(|_| exec.try_wait());
                    execs.fetch_add(usize::from(ended.is_ok()), Ordering::Relaxed);
                    let _ = exec.try_delete();
                }
            });
        }
        for container in running.iter().take(3) {
            scope.spawn(move || {
                while goes_on() {
                    let builder = t.container_of(daemon).in_pod("red", &container.id).streams(quiet);
                    ids.lock().unwrap().push(builder.id.clone());
                    let Ok(container) = builder.try_create() else { continue };
                    let done = container.try_start().and_then(|_| container.try_kill(9));
                    let done = done.and_then(|()| container.client().wait(NAMESPACE, &container.id, ""));
                    let done = done.and_then(|_| container.try_delete());
                    lives.fetch_add(usize::from(done.is_ok()), Ordering::Relaxed);
                    moving.lock().unwrap().push(container);
                }
            });
        }
        poll::within(poll::LONG, || at_work(execs, lives).then_some(()));
        over.store(true, Ordering::SeqCst);
        processes::kill_9(manager);
    });
    assert!(at_work(&execs, &lives), "too little was at work");
    for container in &running {
        container.until_events("deleted", |events| count(events, Kind::Delete) > 0);
        poll::holds("init is killed", || !processes::lives(container.pid));
    }
    let next = t.container_of(&daemon).sandbox("red").run();
    assert_eq!(next.exec("echo fine").run().finish().1, "fine\n");
    thread::sleep(QUIET);
    for container in &running {
        assert_once(&container.events(), container.pid);
        let look = || leftovers::of_container(&daemon.dir, NAMESPACE, &container.id, &container.cgroup);
        poll::within(poll::LONG, || look().is_empty().then_some(()));
        assert!(look().is_empty(), "{:?}", look());
    }
    let moving = moving.into_inner().unwrap();
    let (execs, lives) = (execs.into_inner(), lives.into_inner());
    println!("{containerd:?}: killed amid {CONTAINERS} containers, {execs} execs, {lives} lives");
    // Dropping them ends those that a new manager has.
    drop(moving);
    for id in ids.into_inner().unwrap() {
        let events = daemon.events.of(NAMESPACE, &id);
        // containerd tells once more of one that had ended, and was not deleted, when its manager died.
        let exits: Vec<_> = events.iter().filter(|event| event.kind == Kind::Exit).collect();
        assert!(exits.len() <= 2 && exits.iter().all(|exit| *exit == exits[0]), "{events:#?}");
        assert!(count(&events, Kind::Delete) <= 1, "{events:#?}");
        let look = || leftovers::of_container(&daemon.dir, NAMESPACE, &id, &daemon.cgroup(NAMESPACE, &id));
        poll::within(poll::LONG, || look().is_empty().then_some(()));
        assert!(look().is_empty(), "{:?}, after {events:#?}", look());
    }
    assert_eq!(next.status(), Status::Running);
    next.end();
    let left = daemon.shutdown();
    assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
}

const FOREVER: &str = "while :; do sleep 0.1; done";

/// Whether a list of CRI has all of these.
fn listed<'a>(node: &Node, method: &str, mut ids: impl Iterator<Item = &'a String>) -> bool {
    let list: List = node.cri().call(method, Empty {}).unwrap();
    ids.all(|id| list.items.iter().any(|item| item.id == *id))
}

/// Creates, starts, stops and removes a container.
fn life(node: &Node, pod: &Pod<'_>, name: &str) -> Answer<()> {
    let ContainerId { id } = pod.create(pod.config_of(name, FOREVER, ContainerLinux::default()))?;
    let _: Empty = node.cri().call("StartContainer", ContainerId { id: id.clone() })?;
    pod.stop_container(&id, 0)?;
    let _: Empty = node.cri().call("RemoveContainer", ContainerId { id })?;
    Ok(())
}

fn pods_killed_at_work(containerd: Containerd) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let node = Node::start_on("node", containerd);
    let client = Client::connect(&node.dir.join("c.sock")).unwrap();
    let events = Recorder::default();
    events.attach(&client);
    let pods: Vec<(Pod<'_>, Vec<String>)> = thread::scope(|scope| {
        let node = &node;
        let pod = move || {
            let pod = node.pod("gam", node.pod_config("default"));
            let containers =
                (0..4).map(|number| pod.container(&format!("c{number}"), FOREVER, ContainerLinux::default()));
            let containers = containers.collect();
            (pod, containers)
        };
        let pods: Vec<_> = (0..3).map(|_| scope.spawn(pod)).collect();
        pods.into_iter().map(|pod| pod.join().unwrap()).collect()
    });
    let pids: Vec<(String, u32)> = pods
        .iter()
        .flat_map(|(pod, ids)| {
            ids.iter()
                .map(|id| (id.clone(), pod.pid_of(id)))
                .chain([(pod.id.clone(), pod.pid())])
                .collect::<Vec<_>>()
        })
        .collect();
    let (execs, lives, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let (execs, lives, over, node) = (&execs, &lives, &over, &node);
        for (pod, ids) in &pods {
            scope.spawn(move || {
                while !over.load(Ordering::SeqCst) {
                    let done = pod.exec(&ids[0], "sleep 0.1", 10);
                    execs.fetch_add(usize::from(done.is_ok()), Ordering::Relaxed);
                }
            });
            scope.spawn(move || {
                for number in 0.. {
                    if over.load(Ordering::SeqCst) {
                        return;
                    }
                    let done = life(node, pod, &format!("moving{number}"));
                    lives.fetch_add(usize::from(done.is_ok()), Ordering::Relaxed);
                }
            });
        }
        poll::within(poll::LONG, || at_work(execs, lives).then_some(()));
        over.store(true, Ordering::SeqCst);
        let managers = node.managers();
        assert_eq!(managers.len(), 1, "one manager");
        managers.into_iter().for_each(processes::kill_9);
    });
    assert!(at_work(&execs, &lives), "too little was at work");
    let (execs, lives) = (execs.into_inner(), lives.into_inner());
    println!("{containerd:?}: killed amid {} of CRI's containers, {execs} execs, {lives} lives", pids.len());
    for (pod, ids) in &pods {
        for id in ids {
            // 255 where containerd's wait for it broke with the connection before it heard of the end.
            assert!(matches!(pod.ended(id).exit_code, 137 | 255));
        }
        poll::holds("the sandbox is not ready", || !pod.ready());
    }
    assert!(listed(&node, "ListContainers", pods.iter().flat_map(|(_, ids)| ids)));
    assert!(listed(&node, "ListPodSandbox", pods.iter().map(|(pod, _)| &pod.id)));
    pods.iter().for_each(|(pod, _)| node.forget(&pod.id));
    // The next pod starts beside the remains.
    let next = node.pod("gam", node.pod_config("default"));
    let id = next.container("next", "exit 9", ContainerLinux::default());
    assert_eq!(next.ended(&id).exit_code, 9);
    for (id, _) in &pids {
        events.wait("k8s.io", id, "deleted", |events| count(events, Kind::Delete) > 0);
    }
    thread::sleep(QUIET);
    for (id, pid) in &pids {
        assert_once(&events.of("k8s.io", id), *pid);
        assert!(!processes::lives(*pid), "{id} lives");
    }
    for (pod, _) in &pods {
        poll::until("a dead pod is removed", || pod.remove().ok());
    }
    drop(next);
    drop(pods);
    let left = node.shutdown();
    assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
}
