//! Section D: Delete, and what may be left: nothing.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use containerd_client::tonic::Code;
use containerd_client::types::v1::Status;
use gam_tests::case::Builder;
use gam_tests::daemon::{Daemon, Settings};
use gam_tests::events::Kind;
use gam_tests::suite::{NAMESPACE, Test};
use gam_tests::target::{self, Containerd};
use gam_tests::{image, leftovers, poll, processes};

use crate::wrapper::Wrapper;

gam_tests::tests![
    d1_delete_is_fast_and_is_answered_once,
    d2_deletes_that_race_answer_the_same,
    d3_no_shim_stays_after_churn,
    d5_containerd_dies_during_create,
    d6_a_failed_create_leaves_nothing,
    d7_the_socket_of_a_dead_shim_is_unlinked,
    d8_a_dead_shims_socket_is_replaced,
    d10_an_id_is_used_again_at_once,
    d11_mounts_below_the_rootfs_are_unmounted,
    d12_a_container_that_runc_deleted_is_deleted,
    d13_cgroups_of_many_processes_go,
    d14_the_exit_is_published_once,
    d15_a_failed_create_publishes_no_exit,
    d16_a_dead_shims_containers_are_reported_and_removed,
    d19_the_next_create_after_the_last_delete,
    d20_delete_of_a_running_task_is_refused,
    d21_an_image_runs_with_ctr,
];

fn d1_delete_is_fast_and_is_answered_once(t: &Test) {
    let container = t.container().sh("dd if=/dev/zero of=/tmp/file bs=1M count=20; sleep 1000").run();
    container.kill(9);
    container.wait();
    let begin = Instant::now();
    let deleted = container.delete();
    assert!(begin.elapsed() < poll::slow(Duration::from_secs(5)), "Delete took {:?}", begin.elapsed());
    assert_eq!((deleted.pid, deleted.exit.status), (container.pid, 137));
    assert_eq!(container.try_delete().unwrap_err().code(), Code::NotFound);
    container.check_gone();
}

fn d2_deletes_that_race_answer_the_same(t: &Test) {
    for _ in 0..5 {
        let container = t.container().sh("exit 6").run();
        container.wait();
        let answers: Vec<_> = thread::scope(|scope| {
            let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| container.try_delete())).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        assert!(answers.iter().any(Result::is_ok), "{answers:?}");
        for answer in answers {
            match answer {
                Ok(deleted) => assert_eq!((deleted.pid, deleted.exit.status), (container.pid, 6)),
                // containerd closes its connection when the first has been answered.
                Err(refused) if refused.message().contains("ttrpc: closed") => {}
                Err(refused) => assert_eq!(refused.code(), Code::NotFound, "{refused}"),
            }
        }
        container.check_gone();
    }
}

fn d5_containerd_dies_during_create(t: &Test) {
    let daemon = Daemon::start(Settings::new());
    let slow = Wrapper::new(&daemon, t.name, "[ $COMMAND = create ] && sleep 4");
    let id = t.id();
    let builder =
        Builder::new(&daemon, NAMESPACE, &id).options(|options| options.binary_name = slow.binary());
    thread::scope(|scope| {
        let created = scope.spawn(|| builder.try_create().map(drop));
        poll::holds("create has begun", || slow.count("create", &id) == 1);
        daemon.kill_9();
        assert!(created.join().unwrap().is_err());
    });
    daemon.launch();
    // What containerd still knows of it can be deleted, and then nothing is left.
    let client = daemon.client();
    poll::holds("the task is gone", || {
        let _ = client.kill(NAMESPACE, &id, "", 9, true);
        let _ = client.delete(NAMESPACE, &id);
        client.get(NAMESPACE, &id, "").err().is_some_and(|error| error.code() == Code::NotFound)
    });
    let _ = client.delete_container(NAMESPACE, &id);
    let left = || leftovers::of_container(&daemon.dir, NAMESPACE, &id, &daemon.cgroup(NAMESPACE, &id));
    poll::within(poll::LONG, || left().is_empty().then_some(()));
    assert_eq!(left(), Vec::<String>::new());
    // The id is free. Its events are those of two lives by now.
    let container = Builder::new(&daemon, NAMESPACE, &id).run();
    container.kill(9);
    assert_eq!(container.wait().status, 137);
    container.delete();
}

fn d3_no_shim_stays_after_churn(t: &Test) {
    let daemon = Daemon::start(Settings::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..6 {
                    t.container_of(&daemon).sh("exit 0").run().finish();
                }
            });
        }
    });
    poll::holds("no shim is left", || daemon.shims().is_empty());
    // The daemon's end finds whatever else is left: sockets, directories, mounts, cgroups.
}

fn d6_a_failed_create_leaves_nothing(t: &Test) {
    for _ in 0..3 {
        let id = t.id();
        let daemon = t.daemon();
        let refused = Builder::new(&daemon, NAMESPACE, &id).args(&["/does/not/exist"]).try_create();
        assert!(refused.is_err());
        let look = || leftovers::of_container(&daemon.dir, NAMESPACE, &id, &daemon.cgroup(NAMESPACE, &id));
        poll::within(poll::LONG, || look().is_empty().then_some(()));
        assert_eq!(look(), Vec::<String>::new());
    }
}

fn d8_a_dead_shims_socket_is_replaced(t: &Test) {
    let daemon = Daemon::start(Settings::new());
    let id = t.id();
    for _ in 0..3 {
        // containerd knows the dead one a moment longer than it says.
        let create = || match Builder::new(&daemon, NAMESPACE, &id).sandbox(t.name).try_create() {
            Ok(container) => Some(container),
            Err(refused) if refused.code() == Code::AlreadyExists => None,
            Err(refused) => panic!("creating {id}: {refused}"),
        };
        let container = poll::until("the id is free", create);
        container.start();
        processes::kill_9(container.shim());
        container.until_events("deleted", |events| events.iter().any(|event| event.kind == Kind::Delete));
        let code = || container.client().get(NAMESPACE, &id, "").err().map(|error| error.code());
        poll::holds("the task is gone", || code() == Some(Code::NotFound));
        container.client().delete_container(NAMESPACE, &id).unwrap();
    }
    let container = t.container_of(&daemon).sandbox(t.name).run();
    container.end();
    spare_go(t, &daemon);
}

/// Go leaves the socket of a killed shim; that is d7's subject.
fn spare_go(t: &Test, daemon: &Daemon) {
    if t.on_go() {
        daemon.forget_sockets();
    }
}

fn d7_the_socket_of_a_dead_shim_is_unlinked(t: &Test) {
    let daemon = Daemon::start(Settings::new());
    let container = t.container_of(&daemon).run();
    let sockets = daemon.sockets();
    assert!(!sockets.is_empty() && sockets.iter().all(|path| path.exists()), "{sockets:?}");
    processes::kill_9(container.shim());
    container.until_events("deleted", |events| events.iter().any(|event| event.kind == Kind::Delete));
    let gone = poll::within(poll::LONG, || sockets.iter().all(|path| !path.exists()).then_some(()));
    daemon.forget_sockets();
    if gone.is_none() {
        for socket in &sockets {
            let _ = fs::remove_file(socket);
        }
    }
    assert!(gone.is_some(), "{sockets:?} are left");
}

fn d10_an_id_is_used_again_at_once(t: &Test) {
    let daemon = t.daemon();
    let id = t.id();
    for round in 0..10 {
        let container = Builder::new(&daemon, NAMESPACE, &id).sh(&format!("exit {round}")).run();
        assert_eq!(container.wait().status, round);
        container.delete();
        container.client().delete_container(NAMESPACE, &id).unwrap();
    }
    let look = || leftovers::of_container(&daemon.dir, NAMESPACE, &id, &daemon.cgroup(NAMESPACE, &id));
    poll::within(poll::LONG, || look().is_empty().then_some(()));
    assert_eq!(look(), Vec::<String>::new());
    let exits: Vec<u32> = daemon
        .events
        .wait(NAMESPACE, &id, "ten lives", |events| {
            events.iter().filter(|event| event.kind == Kind::Delete).count() == 10
        })
        .iter()
        .filter(|event| event.kind == Kind::Exit)
        .map(|event| event.status)
        .collect();
    assert_eq!(exits, (0..10).collect::<Vec<_>>());
}

fn d11_mounts_below_the_rootfs_are_unmounted(t: &Test) {
    let container = t.container().run();
    let below = container.daemon.bundle(&container.namespace, &container.id).join("rootfs/root");
    let status = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&below).status().unwrap();
    assert!(status.success());
    container.end();
}

fn d12_a_container_that_runc_deleted_is_deleted(t: &Test) {
    let container = t.container().run();
    let root = [container.daemon.runc_root().join(&container.namespace), container.daemon.runc_root()]
        .into_iter()
        .find(|root| root.join(&container.id).exists())
        .expect("runc's state is below the root of the options");
    let deleted = Command::new(target::runtime_program())
        .arg("--root")
        .arg(&root)
        .args(["delete", "--force", &container.id])
        .output()
        .unwrap();
    assert!(deleted.status.success(), "{deleted:?}");
    container.finish();
}

fn d13_cgroups_of_many_processes_go(t: &Test) {
    let script = "i=0; while [ $i -lt 60 ]; do sleep 1000 & i=$((i+1)); done; echo ready; wait";
    let container = t.container().sh(script).run();
    container.io.out().expect("ready");
    container.end();
}

fn d14_the_exit_is_published_once(t: &Test) {
    let container = t.container().sh("exit 3").run();
    let (daemon, namespace, id) =
        (container.daemon.clone(), container.namespace.clone(), container.id.clone());
    container.finish();
    // A second one would come when containerd has seen the connection close and `delete` has run.
    thread::sleep(Duration::from_secs(2));
    let exits: Vec<_> =
        daemon.events.of(&namespace, &id).into_iter().filter(|event| event.kind == Kind::Exit).collect();
    assert_eq!((exits.len(), exits[0].status), (1, 3), "{exits:?}");
}

fn d15_a_failed_create_publishes_no_exit(t: &Test) {
    let daemon = t.daemon();
    let id = t.id();
    assert!(Builder::new(&daemon, NAMESPACE, &id).args(&["/does/not/exist"]).try_create().is_err());
    thread::sleep(Duration::from_secs(2));
    let events = daemon.events.of(NAMESPACE, &id);
    assert!(events.iter().all(|event| event.kind != Kind::Exit), "{events:?}");
}

fn d16_a_dead_shims_containers_are_reported_and_removed(t: &Test) {
    let daemon = Daemon::start(Settings::new());
    let container = t.container_of(&daemon).run();
    let begin = Instant::now();
    processes::kill_9(container.shim());
    let events =
        container.until_events("deleted", |events| events.iter().any(|event| event.kind == Kind::Delete));
    let exits: Vec<_> = events.iter().filter(|event| event.kind == Kind::Exit).collect();
    assert_eq!(exits.len(), 1, "{events:?}");
    assert_eq!((exits[0].pid, exits[0].status), (container.pid, 137));
    poll::holds("init is killed", || !processes::lives(container.pid));
    assert!(begin.elapsed() < poll::slow(Duration::from_secs(20)));
    container.check_gone();
    spare_go(t, &daemon);
}

fn d19_the_next_create_after_the_last_delete(t: &Test) {
    let daemon = Daemon::start(Settings::new());
    for _ in 0..5 {
        let container = t.container_of(&daemon).terminal().sh("echo hello").run();
        container.io.out().expect("hello");
        container.finish();
    }
}

fn d20_delete_of_a_running_task_is_refused(t: &Test) {
    let container = t.container().run();
    let exec = container.exec("sleep 1000").run();
    assert_eq!(container.try_delete().unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(exec.try_delete().unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(container.status(), Status::Running);
    assert!(processes::lives(container.pid));
    exec.try_kill(9).unwrap();
    exec.wait();
    exec.delete();
    container.end();
}

fn d21_an_image_runs_with_ctr(t: &Test) {
    let daemon = t.daemon();
    let directory = daemon.dir.join("image");
    fs::create_dir(&directory).unwrap();
    let archive = image::archive(&daemon.dir.join("rootfs"), &directory);
    let ctr = |args: &[&str]| {
        let output = Command::new(daemon.settings.containerd.directory().join("ctr"))
            .arg("--address")
            .arg(daemon.address())
            .args(["--namespace", t.name])
            .args(args)
            .envs(daemon.environment())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "ctr {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    };
    let archive = archive.display().to_string();
    let mut import = vec!["images", "import", "--snapshotter", "native"];
    if daemon.settings.containerd >= Containerd::V2_1 {
        // Its transfer service unpacks for the snapshotter of its configuration only.
        import.push("--local");
    }
    import.push(&archive);
    ctr(&import);
    let cgroup = daemon.cgroup(t.name, "image");
    let mut run = vec!["run", "--rm", "--snapshotter", "native", "--cgroup", &cgroup, "--runtime"];
    run.extend([daemon.settings.shim.runtime(), image::NAME, "image", "/bin/sh", "-c", "echo from an image"]);
    assert_eq!(ctr(&run), "from an image\n");
    let left = || leftovers::of_container(&daemon.dir, t.name, "image", &cgroup);
    poll::within(poll::LONG, || left().is_empty().then_some(()));
    assert_eq!(left(), Vec::<String>::new());
    ctr(&["images", "remove", image::NAME]);
    let _ = fs::remove_dir_all(directory);
}
