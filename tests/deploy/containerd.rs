//! The configurations of containerd, each read by the daemons that it is for, and pods that run by it.

use std::fs;
use std::path::Path;
use std::process::Command;

use gam_tests::cri_node::Node;
use gam_tests::cri_setup::plain;
use gam_tests::suite::Test;
use gam_tests::target::Containerd;

use crate::{deploy, installer, run};

gam_tests::tests![
    every_containerd_reads_what_it_is_for,
    the_installer_adds_what_the_file_says,
    an_import_replaces_before_containerd_2,
    a_pod_runs_as_installed_on_1_6,
    a_pod_runs_as_installed_on_1_7,
    a_pod_runs_as_installed_on_2_1,
    a_pod_runs_by_the_drop_in_on_2_1,
];

const ALL: [Containerd; 3] = [Containerd::V1_6, Containerd::V1_7, Containerd::V2_1];
const GAM: &str = "runtime_type = \"io.containerd.gam.v2\"";

/// What a containerd makes of a configuration.
fn dump(containerd: Containerd, file: &Path) -> String {
    let program = containerd.directory().join("containerd");
    // TOML has two kinds of quotes, and the daemons do not agree.
    run(Command::new(program).arg("--config").arg(file).args(["config", "dump"])).replace('\'', "\"")
}

fn every_containerd_reads_what_it_is_for(_: &Test) {
    for containerd in ALL {
        let dumped = dump(containerd, &deploy("containerd/runtime.toml"));
        assert!(
            dumped.contains("containerd.runtimes.gam]") && dumped.contains(GAM),
            "{containerd:?}: {dumped}"
        );
    }
    for containerd in [Containerd::V1_7, Containerd::V2_1] {
        let dumped = dump(containerd, &deploy("containerd/runtime-path.toml"));
        let path = "runtime_path = \"/usr/local/bin/containerd-shim-gam-v2\"";
        assert!(dumped.contains(path), "{containerd:?}: {dumped}");
    }
    let dumped = dump(Containerd::V2_1, &deploy("containerd/conf.d-gam.toml"));
    assert!(dumped.contains(GAM), "{dumped}");
}

fn the_installer_adds_what_the_file_says(_: &Test) {
    let tree = installer::tree();
    installer::install(tree.path());
    let made = fs::read_to_string(tree.path().join("etc/containerd/config.toml")).unwrap();
    let file = fs::read_to_string(deploy("containerd/runtime.toml")).unwrap();
    let plain = |text: &str| {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(plain(&made), plain(&file));
}

/// Why the installer imports no file there.
fn an_import_replaces_before_containerd_2(_: &Test) {
    let directory = tempfile::tempdir().unwrap();
    let main = directory.path().join("config.toml");
    let import = deploy("containerd/runtime.toml");
    let text = "[plugins.\"io.containerd.grpc.v1.cri\".cni]\n  conf_dir = \"/our/net\"\n";
    fs::write(&main, format!("version = 2\nimports = [{import:?}]\n{text}")).unwrap();
    for containerd in ALL {
        let dumped = dump(containerd, &main);
        assert!(dumped.contains(GAM), "{containerd:?}: {dumped}");
        assert_eq!(dumped.contains("/our/net"), containerd == Containerd::V2_1, "{containerd:?}: {dumped}");
    }
}

/// A pod with a container, by the handler `gam`, on a node with this configuration.
fn pod(containerd: Containerd, configure: &dyn Fn(&Path) -> String) {
    let node = Node::start_as(containerd, "namespace", configure);
    // The harness sees to it that gam serves it.
    let pod = node.pod("gam", node.pod_config("payments"));
    let id = pod.container("web", "sleep 1000", Default::default());
    assert_eq!(pod.output(&id, "echo $((6 * 7))"), "42");
    pod.remove().unwrap();
    drop(pod);
    let left = node.shutdown();
    assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
}

/// Puts a configuration into a tree, has the installer add the runtime, and answers what is there then.
fn installed(containerd: Containerd, dir: &Path, before: &str) -> String {
    let tree = dir.join("tree");
    let file = tree.join("etc/containerd/config.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, before).unwrap();
    let said = run(installer::command(&tree, "install").env("PATH", installer::path(containerd)));
    assert!(!said.contains("no containerd here"), "{said}");
    fs::read_to_string(&file).unwrap()
}

fn a_pod_runs_as_installed_on_1_6(_: &Test) {
    pod(Containerd::V1_6, &|dir| installed(Containerd::V1_6, dir, &plain(dir)));
}

fn a_pod_runs_as_installed_on_1_7(_: &Test) {
    pod(Containerd::V1_7, &|dir| installed(Containerd::V1_7, dir, &plain(dir)));
}

/// The same configuration as containerd 2 writes it.
fn version_3(dir: &Path) -> String {
    let old = dir.join("version-2.toml");
    fs::write(&old, plain(dir)).unwrap();
    let program = Containerd::V2_1.directory().join("containerd");
    let output =
        Command::new(program).arg("--config").arg(&old).args(["config", "migrate"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("version = 3"), "{text}");
    text
}

fn a_pod_runs_as_installed_on_2_1(_: &Test) {
    pod(Containerd::V2_1, &|dir| {
        let after = installed(Containerd::V2_1, dir, &version_3(dir));
        assert!(after.contains("# gam: begin"), "{after}");
        after
    });
}

fn a_pod_runs_by_the_drop_in_on_2_1(_: &Test) {
    pod(Containerd::V2_1, &|dir| {
        let drops = dir.join("tree/etc/containerd/conf.d");
        let before = version_3(dir);
        assert!(before.contains("\nimports = []\n"), "{before}");
        let before =
            before.replace("\nimports = []\n", &format!("\nimports = [\"{}/*.toml\"]\n", drops.display()));
        let after = installed(Containerd::V2_1, dir, &before);
        assert_eq!(after, before, "the main configuration is not touched");
        assert_eq!(
            fs::read(drops.join("gam.toml")).unwrap(),
            fs::read(deploy("containerd/conf.d-gam.toml")).unwrap()
        );
        after
    });
}
