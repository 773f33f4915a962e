//! Section A: start, exit and reaping.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use containerd_client::tonic::Code;
use containerd_client::types::v1::Status;
use gam_tests::events::{Kind, assert_order};
use gam_tests::suite::Test;
use gam_tests::{cgroup, poll, processes};

gam_tests::tests![
    a1_start_is_published_before_exit,
    a1_exec_start_is_published_before_its_exit,
    a2_exec_that_ends_with_its_container_is_published_first,
    a3_parallel_execs_all_end,
    a4_init_exit_waits_for_running_execs,
    a4_execs_that_start_while_init_dies,
    a5_exec_does_not_start_in_a_dead_container,
    a6_shared_pid_namespace_leaves_no_process,
    a7_init_killed_after_create,
    a8_forty_parallel_execs,
    a9_exits_under_load,
    a10_status_of_a_fast_failure,
    a12_pid_of_an_exec_is_known,
    a13_an_exec_id_is_taken_once,
    a14_a_failed_exec_start_does_not_hold_inits_exit,
    a15_kill_of_an_exec_that_does_not_run,
    a16_orphans_are_reaped,
];

fn a1_start_is_published_before_exit(t: &Test) {
    thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || {
                for round in 0..5 {
                    let status = worker * 5 + round;
                    let container = t.container().sh(&format!("exit {status}")).run();
                    assert_eq!(container.finish().status, status);
                }
            });
        }
    });
}

fn a1_exec_start_is_published_before_its_exit(t: &Test) {
    let container = t.container().run();
    for number in 0..15 {
        let exec = container.exec(&format!("exit {number}")).run();
        assert_eq!(exec.finish().0.status, number);
    }
    container.end();
}

fn a2_exec_that_ends_with_its_container_is_published_first(t: &Test) {
    for round in 0..20u64 {
        let container = t.container().sh("read line; exit 0").stdin().run();
        let exec = container.exec("sleep 1000").run();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(round % 5));
                let _ = exec.try_kill(9);
            });
            let _ = container.try_kill(9);
        });
        let exit = exec.wait();
        assert_eq!(exit.status, 137);
        container.finish();
    }
}

fn parallel_execs(t: &Test, count: u32) {
    let container = t.container().run();
    let client = container.client();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let state = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::SeqCst) {
                let begin = std::time::Instant::now();
                client.get(&container.namespace, &container.id, "").unwrap();
                longest = longest.max(begin.elapsed());
                thread::sleep(Duration::from_millis(10));
            }
            longest
        });
        let execs: Vec<_> = (0..count)
            .map(|number| {
                let exec = container.exec(&format!("echo out-{number}; exit {number}"));
                scope.spawn(move || {
                    let (exit, out) = exec.run().finish();
                    assert_eq!((exit.status, out), (number, format!("out-{number}\n")));
                })
            })
            .collect();
        let outcomes: Vec<_> = execs.into_iter().map(|exec| exec.join()).collect();
        done.store(true, Ordering::SeqCst);
        let longest = state.join().unwrap();
        assert!(outcomes.iter().all(Result::is_ok), "an exec went wrong");
        assert!(longest < poll::slow(Duration::from_secs(10)), "State took {longest:?} beside {count} execs");
    });
    container.end();
}

fn a3_parallel_execs_all_end(t: &Test) {
    parallel_execs(t, 15);
}

fn a8_forty_parallel_execs(t: &Test) {
    parallel_execs(t, 40);
}

fn a4_init_exit_waits_for_running_execs(t: &Test) {
    for shared in [false, true] {
        let mut builder = t.container();
        if shared {
            builder = builder.change(|spec| spec.without_namespace("pid"));
        }
        let container = builder.run();
        let execs: Vec<_> = (0..5).map(|_| container.exec("sleep 1000").run()).collect();
        container.kill(9);
        for exec in &execs {
            assert_eq!(exec.wait().status, 137);
        }
        container.wait();
        let events = container.until_events("ended", |events| {
            events.iter().any(|event| event.kind == Kind::Exit && event.exec.is_empty())
        });
        assert_order(&events);
        drop(execs);
        container.finish();
    }
}

fn a4_execs_that_start_while_init_dies(t: &Test) {
    for round in 0..20u64 {
        let mut builder = t.container();
        if round % 2 == 1 {
            builder = builder.change(|spec| spec.without_namespace("pid"));
        }
        let container = builder.run();
        thread::scope(|scope| {
            for _ in 0..4 {
                let exec = container.exec("sleep 1000");
                scope.spawn(move || {
                    let Ok(exec) = exec.try_add() else { return };
                    if exec.try_start().is_ok() {
                        // One that started ends; its exit may be told as gone where init's Delete was faster.
                        let _ = exec.try_wait();
                    }
                });
            }
            thread::sleep(Duration::from_millis(round * 7));
            container.kill(9);
        });
        // finish() checks that each start has its exit, and that init's comes last.
        container.finish();
    }
}

fn a5_exec_does_not_start_in_a_dead_container(t: &Test) {
    for shared in [false, true] {
        let mut builder = t.container();
        if shared {
            builder = builder.change(|spec| spec.without_namespace("pid"));
        }
        let container = builder.run();
        let exec = container.exec("sleep 1000").add();
        container.kill(9);
        container.wait();
        assert_eq!(exec.try_start().unwrap_err().code(), Code::FailedPrecondition);
        assert!(cgroup::pids(&container.cgroup).is_empty());
        drop(exec);
        container.finish();
    }
}

fn a6_shared_pid_namespace_leaves_no_process(t: &Test) {
    let script = "for i in 1 2 3; do setsid sleep 1000 & done; echo ready; read line";
    let container = t.container().sh(script).stdin().change(|spec| spec.without_namespace("pid")).run();
    container.io.out().expect("ready");
    assert!(cgroup::pids(&container.cgroup).len() >= 4);
    container.kill(9);
    container.wait();
    poll::holds("the cgroup is empty", || cgroup::pids(&container.cgroup).is_empty());
    container.finish();
}

fn a7_init_killed_after_create(t: &Test) {
    let container = t.container().create();
    processes::kill_9(container.pid);
    container.until_status(Status::Stopped);
    assert!(container.try_start().is_err());
    assert_eq!(container.delete().exit.status, 137);
    container.check_gone();
}

fn a9_exits_under_load(t: &Test) {
    let containers: Vec<_> = thread::scope(|scope| {
        let made: Vec<_> = (0..20).map(|_| scope.spawn(|| t.container().run())).collect();
        made.into_iter().map(|made| made.join().unwrap()).collect()
    });
    let waits: Vec<_> = containers.iter().map(|container| container.wait_aside()).collect();
    for container in &containers {
        processes::kill_9(container.pid);
    }
    for wait in waits {
        assert_eq!(wait.join().unwrap().unwrap().status, 137);
    }
    for container in containers {
        container.finish();
    }
}

fn a10_status_of_a_fast_failure(t: &Test) {
    let container = t.container().run();
    thread::scope(|scope| {
        for number in 1..=20 {
            let mut exec = container.exec("");
            exec.process["args"] = serde_json::json!(["/bin/false"]);
            if number % 2 == 0 {
                exec.process["args"] = serde_json::json!(["/bin/sh", "-c", format!("exit {number}")]);
            }
            let expected = if number % 2 == 0 { number } else { 1 };
            scope.spawn(move || assert_eq!(exec.run().finish().0.status, expected));
        }
    });
    container.end();
}

fn a12_pid_of_an_exec_is_known(t: &Test) {
    let container = t.container().run();
    for _ in 0..5 {
        let exec = container.exec("sleep 1000").run();
        let pid = exec.try_state().unwrap().pid;
        assert!(pid > 0 && processes::lives(pid));
        exec.try_kill(9).unwrap();
        assert_eq!(exec.wait().status, 137);
        assert_eq!(exec.delete().pid, pid);
    }
    container.end();
}

fn a13_an_exec_id_is_taken_once(t: &Test) {
    let container = t.container().run();
    let exec = container.exec("sleep 1000").id("same").streams([false; 3]).run();
    let second = container.exec("sleep 1000").id("same").streams([false; 3]).try_add();
    assert_eq!(second.err().expect("a refusal").code(), Code::AlreadyExists);
    exec.try_kill(9).unwrap();
    assert_eq!(exec.wait().status, 137);
    exec.delete();
    // Of several at once, one is taken.
    for round in 0..5 {
        let id = format!("race-{round}");
        let outcomes: Vec<_> = thread::scope(|scope| {
            let tries: Vec<_> = (0..4)
                .map(|_| {
                    let exec = container.exec("exit 0").id(&id).streams([false; 3]);
                    scope.spawn(move || {
                        exec.try_add().map(|exec| exec.id.clone()).map_err(|error| error.code())
                    })
                })
                .collect();
            tries.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|one| one.is_ok()).count(), 1, "{outcomes:?}");
        assert_eq!(
            outcomes.iter().filter(|one| **one == Err(Code::AlreadyExists)).count(),
            3,
            "{outcomes:?}"
        );
        container.client().delete_exec(&container.namespace, &container.id, &id).unwrap();
    }
    container.end();
}

fn a14_a_failed_exec_start_does_not_hold_inits_exit(t: &Test) {
    let container = t.container().run();
    for _ in 0..3 {
        let mut builder = container.exec("");
        builder.process["args"] = serde_json::json!(["/does/not/exist"]);
        let exec = builder.add();
        assert!(exec.try_start().is_err());
        let _ = exec.try_delete();
    }
    container.end();
}

fn a15_kill_of_an_exec_that_does_not_run(t: &Test) {
    let container = t.container().run();
    let exec = container.exec("exit 0").add();
    assert_eq!(exec.try_kill(9).unwrap_err().code(), Code::FailedPrecondition);
    exec.start();
    exec.wait();
    assert_eq!(exec.try_kill(9).unwrap_err().code(), Code::NotFound);
    exec.delete();
    assert_eq!(exec.try_kill(9).unwrap_err().code(), Code::NotFound);
    container.end();
}

fn a16_orphans_are_reaped(t: &Test) {
    let container = t.container().change(|spec| spec.without_namespace("pid")).run();
    let shim = container.shim();
    for _ in 0..5 {
        let exec = container.exec("for i in 1 2 3; do (setsid sleep 0.2 >/dev/null 2>&1 &) ; done").run();
        exec.finish();
    }
    let zombies = || {
        let mut children = processes::children(shim);
        children.retain(|child| processes::state(*child) == Some('Z'));
        children
    };
    // Others' processes end too, and are zombies for a moment: none stays one.
    let first = zombies();
    poll::holds("no zombie stays", || zombies().iter().all(|pid| !first.contains(pid)));
    poll::holds("the orphans are gone", || cgroup::pids(&container.cgroup).len() == 1);
    container.end();
}
