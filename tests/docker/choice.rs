//! How docker is told of gam.

use gam_tests::poll;
use gam_tests::suite::Test;
use gam_tests::target::Shim;

use crate::engine::{Engine, IMAGE, shared};

gam_tests::tests![the_shim_serves, a_runtime_of_daemon_json, an_unknown_runtime_is_refused];

fn the_shim_serves(_: &Test) {
    let engine = shared();
    let container = engine.start_container(&[], "sleep 1000");
    let shim = gam_tests::processes::parent(container.pid()).expect("init's parent");
    let served = std::fs::read_link(format!("/proc/{shim}/exe")).expect("the shim's program");
    assert_eq!(served, engine.daemon.dir.join("bin").join(Shim::from_env().binary_name()));
    container.end();
}

/// `runtimes` of daemon.json with runtimeType, and options that arrive.
fn a_runtime_of_daemon_json(_: &Test) {
    let engine = shared();
    assert!(engine.ok(&["info", "--format", "{{json .Runtimes}}"]).contains("\"named\""));
    let options = ["run", "--detach", "--network", "none", "--runtime", "named", "--name", "choice-named"];
    let mut all = options.to_vec();
    all.extend([IMAGE, "sleep", "1000"]);
    engine.ok(&all);
    let container = engine.container_named("choice-named");
    assert_eq!(container.inspect()["HostConfig"]["Runtime"], "named");
    // The option Root has arrived: runc's state is where it says.
    let root = engine.daemon.dir.join("runc").join("moby").join(&container.id);
    assert!(root.exists(), "{} does not exist", root.display());
    assert_eq!(container.exec(&[], "echo fine").stdout, "fine\n");
    container.end();
    poll::holds("runc's state is gone", || !root.exists());
}

fn an_unknown_runtime_is_refused(_: &Test) {
    let engine = shared();
    let options = ["--runtime", "io.containerd.nobody.v2"];
    let outcome = engine.docker(&Engine::arguments(&["run", "--rm"], &options, &["true"]));
    assert_eq!(outcome.status, 125, "{outcome:?}");
}
