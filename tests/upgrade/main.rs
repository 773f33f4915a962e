//! What containers and pods live through on three generations of containerd: upgrades of containerd in place, of gam, and
//! the death of managers.
//!
//! `make upgrade` unpacks the three generations of Debian and runs it with gam.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod builds;
mod killed;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use containerd_client::types::v1::Status;
use gam_tests::case::Container;
use gam_tests::daemon::{Daemon, Settings};
use gam_tests::suite::{Test, main_of};
use gam_tests::target::Containerd;
use gam_tests::{poll, processes};

gam_tests::tests![upgrade_in_place, upgrade_in_place_with_task_v3];

fn main() {
    let all = [tests(), builds::tests(), killed::tests()].into_iter().flatten().collect();
    main_of(all, &[], Duration::from_secs(120), Vec::new)
}

/// The generations in turn, the last of them a step back.
const STEPS: [Containerd; 3] = [Containerd::V1_7, Containerd::V2_1, Containerd::V1_7];

fn upgrade_in_place(t: &Test) {
    upgrade(t, "");
}

/// A manager that was started by 1.6 is told of by its bundles; from 2.1 on new containers are served as task v3.
fn upgrade_in_place_with_task_v3(t: &Test) {
    upgrade(t, "task_api = 3\n");
}

fn upgrade(t: &Test, configuration: &str) {
    let mut settings = Settings { containerd: Containerd::V1_6, level: "trace", ..Settings::new() };
    settings.gam.push_str(configuration);
    let daemon = Daemon::start(settings.grouping("node"));
    let mut steady =
        t.container_of(&daemon).stdin().sh("while read line; do echo got $line; done; exit 8").run_told();
    let mut terminal =
        t.container_of(&daemon).terminal().sh("while read line; do echo hello $line; done").run_told();
    let paused = t.container_of(&daemon).run_told();
    daemon.client().pause(&paused.namespace, &paused.id).unwrap();
    let manager = steady.shim();
    let mut of_every_step = Vec::new();
    for (number, generation) in STEPS.into_iter().enumerate() {
        let ends = ends(t, &daemon);
        if number % 2 == 0 {
            daemon.stop()
        } else {
            daemon.kill_9()
        }
        let before = daemon.received("/tasks/exit");
        end(&ends);
        daemon.launch_as(generation);
        poll::holds("the new daemon has the exit", || daemon.received("/tasks/exit") > before);
        ends.exit_may_be_unseen();
        assert_eq!(ends.finish().status, 41, "{generation:?}");
        for container in of_every_step.iter().chain([&steady, &terminal]) {
            assert_eq!(container.status(), Status::Running, "{generation:?}");
            assert!(container.pids().contains(&container.pid));
            assert_eq!(container.shim(), manager, "the manager is the same");
            assert_eq!(container.exec("exit 5").run().finish().0.status, 5);
        }
        assert_eq!(paused.status(), Status::Paused, "{generation:?}");
        for container in [&mut steady, &mut terminal] {
            let word = format!("{generation:?}.{number}");
            container.io.input().write(format!("{word}\n").as_bytes());
            container.io.out().expect(&word);
        }
        of_every_step.push(t.container_of(&daemon).run_told());
    }
    daemon.client().resume(&paused.namespace, &paused.id).unwrap();
    of_every_step.into_iter().chain([paused, terminal]).for_each(Container::end);
    steady.io.input().close();
    daemon.client().close_stdin(&steady.namespace, &steady.id, "").unwrap();
    assert_eq!(steady.finish().status, 8);
    let left = daemon.shutdown();
    assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
}

/// A container that ends when it is told so.
fn ends(t: &Test, daemon: &Arc<Daemon>) -> Container {
    t.container_of(daemon).sh("while [ ! -e /tmp/go ]; do sleep 0.05; done; exit 41").run_told()
}

fn end(container: &Container) {
    fs::write(format!("/proc/{}/root/tmp/go", container.pid), "").unwrap();
    poll::holds("it has ended", || !processes::lives(container.pid));
}
