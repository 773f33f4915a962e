//! Section E: OOM, statistics, limits.

use std::fs;
use std::thread;
use std::time::Duration;

use containerd_client::types::v1::Status;
use gam_protos::{cgroups_v1, cgroups_v2};
use gam_tests::case::Container;
use gam_tests::events::Kind;
use gam_tests::suite::Test;
use gam_tests::{cgroup, processes};
use protobuf::Message;
use serde_json::json;

gam_tests::tests![
    e2_an_oom_of_init_is_reported,
    e3_an_oom_is_reported_before_the_exit,
    e5_watchers_are_removed,
    e7_no_oom_without_one,
    e8_stats_before_start_and_after_exit,
    e9_stats_while_containers_end,
    e10_stats_have_their_type_and_fields,
    e12_update_changes_the_limits,
    e13_oom_score_of_shim_and_container,
];

const HOG: &str = "exec dd if=/dev/zero of=/dev/null bs=300M count=1";

fn oom_events(t: &Test, script: &str) -> Vec<Kind> {
    let mut container = t.container().stdin().sh(script).change(|spec| spec.memory(32 << 20)).run();
    // For scripts that wait until Start has been answered.
    container.io.input().write(b"go\n");
    let (daemon, namespace, id) =
        (container.daemon.clone(), container.namespace.clone(), container.id.clone());
    container.finish();
    daemon.events.of(&namespace, &id).iter().map(|event| event.kind).collect()
}

fn e2_an_oom_of_init_is_reported(t: &Test) {
    let kinds = oom_events(t, HOG);
    assert!(kinds.contains(&Kind::Oom), "{kinds:?}");
}

fn e3_an_oom_is_reported_before_the_exit(t: &Test) {
    for _ in 0..5 {
        let kinds = oom_events(t, &format!("read line; {HOG}"));
        let place = |kind| kinds.iter().position(|one| *one == kind);
        assert!(place(Kind::Oom).is_some(), "{kinds:?}");
        assert!(place(Kind::Oom) < place(Kind::Exit), "{kinds:?}");
    }
    // A child's OOM is one too, and the container lives on.
    let script = format!("read line; ({HOG}); sleep 1000");
    let mut container = t.container().stdin().sh(&script).change(|spec| spec.memory(32 << 20)).run();
    container.io.input().write(b"go\n");
    container.until_events("oom", |events| events.iter().any(|event| event.kind == Kind::Oom));
    assert_eq!(container.status(), Status::Running);
    container.end();
}

fn e5_watchers_are_removed(t: &Test) {
    let sandbox = gam_tests::case::Builder::new(&t.daemon(), t.name, &t.id()).sandbox(t.name).run();
    let count = || {
        let descriptors = processes::descriptors(sandbox.shim());
        let of_kind =
            |kind: &str| descriptors.iter().filter(|(_, to)| to.to_string_lossy().contains(kind)).count();
        (of_kind("anon_inode:[eventfd]"), of_kind("anon_inode:inotify"), of_kind("memory.oom_control"))
    };
    let one = || {
        let builder = gam_tests::case::Builder::new(&sandbox.daemon, t.name, &t.id());
        builder.in_pod(t.name, &sandbox.id).sh("exit 0").run().finish();
    };
    one();
    let before = count();
    (0..8).for_each(|_| one());
    let fewer = || {
        let now = count();
        (now.0 <= before.0 && now.1 <= before.1 && now.2 <= before.2).then_some(())
    };
    let settled = gam_tests::poll::within(Duration::from_secs(10), fewer);
    assert!(settled.is_some(), "before {before:?}, after {:?}", count());
    sandbox.end();
}

fn e7_no_oom_without_one(t: &Test) {
    let script = "dd if=/dev/zero of=/dev/null bs=8M count=20; exit 0";
    let kinds = oom_events(t, script);
    assert!(!kinds.contains(&Kind::Oom), "{kinds:?}");
}

/// What both versions of the statistics tell.
#[derive(Debug)]
struct Stats {
    pids: u64,
    /// In nanoseconds on v1, in microseconds on v2.
    cpu: u64,
    memory: u64,
    memory_limit: u64,
}

fn stats(container: &Container) -> Option<Stats> {
    let any = container.client().metrics(&container.namespace, &container.id).unwrap()?;
    let version = any.type_url.rsplit('/').next();
    if cgroup::is_v2() {
        assert_eq!(version, Some("io.containerd.cgroups.v2.Metrics"));
        let metrics = cgroups_v2::Metrics::parse_from_bytes(&any.value).unwrap();
        return Some(Stats {
            pids: metrics.pids.current,
            cpu: metrics.cpu.usage_usec,
            memory: metrics.memory.usage,
            memory_limit: metrics.memory.usage_limit,
        });
    }
    assert_eq!(version, Some("io.containerd.cgroups.v1.Metrics"));
    let metrics = cgroups_v1::Metrics::parse_from_bytes(&any.value).unwrap();
    Some(Stats {
        pids: metrics.pids.current,
        cpu: metrics.cpu.usage.total,
        memory: metrics.memory.usage.usage,
        memory_limit: metrics.memory.usage.limit,
    })
}

fn e8_stats_before_start_and_after_exit(t: &Test) {
    let container = t.container().create();
    assert!(stats(&container).is_some(), "a created container has statistics");
    container.start();
    assert!(stats(&container).is_some());
    container.kill(9);
    container.wait();
    let _ = stats(&container);
    assert_eq!(container.status(), Status::Stopped);
    container.finish();
}

fn e9_stats_while_containers_end(t: &Test) {
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let container = t.container().sh("sleep 0.1").run();
                    while container.status() == Status::Running {
                        let _ = stats(&container);
                    }
                    let _ = stats(&container);
                    container.finish();
                }
            });
        }
    });
}

fn e10_stats_have_their_type_and_fields(t: &Test) {
    let script =
        "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; sleep 1000 & sleep 1000 & echo ready; wait";
    let container = t.container().sh(script).change(|spec| spec.memory(64 << 20)).run();
    container.io.out().expect("ready");
    let stats = stats(&container).expect("statistics");
    assert_eq!(stats.pids, 3);
    // What the kernel's own files say afterwards: they only grow, and memory does not change by much.
    let (cpu, memory) = if cgroup::is_v2() {
        let cpu = cgroup::value(&container.cgroup, "cpu.stat", "usage_usec");
        (cpu, cgroup::number(&container.cgroup, "memory.current"))
    } else {
        let cpu = cgroup::number(&container.cgroup, "cpuacct.usage");
        (cpu, cgroup::number(&container.cgroup, "memory.usage_in_bytes"))
    };
    assert!(stats.cpu > 0 && stats.cpu <= cpu.expect("a number"), "{stats:?}, {cpu:?}");
    assert!(
        stats.memory > 0 && stats.memory.abs_diff(memory.expect("a number")) < 4 << 20,
        "{stats:?}, {memory:?}"
    );
    assert_eq!(stats.memory_limit, 64 << 20);
    container.end();
}

fn e12_update_changes_the_limits(t: &Test) {
    let container = t.container().change(|spec| spec.memory(64 << 20)).run();
    let client = container.client();
    let resources =
        json!({ "memory": { "limit": 48 << 20 }, "pids": { "limit": 77 }, "cpu": { "shares": 512 } });
    client.update(&container.namespace, &container.id, &resources).unwrap();
    let file = |name: &str| cgroup::read(&container.cgroup, name).unwrap_or_default().trim().to_owned();
    assert_eq!(file("pids.max"), "77");
    if cgroup::is_v2() {
        assert_eq!(file("memory.max"), (48 << 20).to_string());
        // 512 shares of 2..262144 are this weight of 1..10000, as every runtime converts them.
        assert_eq!(file("cpu.weight"), (1 + ((512 - 2) * 9999) / 262_142).to_string());
    } else {
        assert_eq!(file("memory.limit_in_bytes"), (48 << 20).to_string());
        assert_eq!(file("cpu.shares"), "512");
    }
    container.end();
}

fn e13_oom_score_of_shim_and_container(t: &Test) {
    let score = |pid: u32| -> i32 {
        fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse().unwrap()
    };
    let container = t.container().run();
    let daemon = score(container.daemon.pid().expect("a pid"));
    assert_eq!(score(container.shim()), (daemon + 1).min(1000));
    assert_eq!(score(container.pid), daemon, "the container did not inherit the shim's");
    let exec = container.exec("sleep 1000").run();
    let nice = |pid: u32| -> i32 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name.split_whitespace().nth(16).unwrap().parse().unwrap()
    };
    let daemon = nice(container.daemon.pid().expect("a pid"));
    assert_eq!([nice(container.pid), nice(exec.try_state().unwrap().pid)], [daemon; 2], "nor its priority");
    exec.try_kill(9).unwrap();
    exec.finish();
    container.end();
}
