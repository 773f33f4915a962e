//! Section H: what each generation of containerd is told, and calls.

use std::fs;

use gam_tests::daemon::{Daemon, Settings};
use gam_tests::suite::Test;
use gam_tests::target::{Containerd, gam_configuration};

gam_tests::tests![h4_task_v3_is_told_to_those_who_take_it];

/// With `task_api = 3`, containerd 2.x calls task v3 and finds its containers again by that; to older ones it makes no
/// difference.
fn h4_task_v3_is_told_to_those_who_take_it(t: &Test) {
    let mut settings = Settings::new();
    if !gam_configuration().contains("task_api") {
        settings.gam.push_str("task_api = 3\n");
    }
    let daemon = Daemon::start(settings);
    let container = t.container_of(&daemon).run();
    let bundle = daemon.bundle(&container.namespace, &container.id);
    if !t.on_go() {
        let told = fs::read_to_string(bundle.join("bootstrap.json"));
        match daemon.settings.containerd {
            Containerd::V1_6 => assert!(told.is_err(), "{told:?}"),
            Containerd::V1_7 => assert!(told.is_err() || told.unwrap().contains("\"version\":2")),
            Containerd::V2_1 => assert!(told.unwrap().contains("\"version\":3")),
        }
    }
    assert_eq!(container.exec("exit 4").run().finish().0.status, 4);
    daemon.kill_9();
    daemon.launch();
    assert_eq!(container.exec("exit 5").run().finish().0.status, 5);
    container.end();
}
