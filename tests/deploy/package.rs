//! The Debian package: into a root of its own with a dpkg database of its own, and out again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gam_tests::daemon::{Daemon, Settings};
use gam_tests::image;
use gam_tests::suite::Test;
use gam_tests::target::workspace;
use tempfile::TempDir;

use crate::{outcome, run};

gam_tests::tests![
    the_package_has_what_it_says,
    it_is_installed_runs_a_container_and_is_purged,
    a_configuration_that_was_changed_stays_until_purge,
    it_is_not_removed_under_managers,
];

fn package() -> PathBuf {
    let path = workspace().join("dist/gam.deb");
    assert!(path.exists(), "{} is not there: make deb", path.display());
    path
}

/// A root with a shell, for the package's scripts, and an empty dpkg database.
fn root() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    image::rootfs(root.path());
    for directory in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "run"] {
        fs::create_dir_all(root.path().join(directory)).unwrap();
    }
    for file in ["status", "available"] {
        fs::write(root.path().join("var/lib/dpkg").join(file), "").unwrap();
    }
    root
}

/// dpkg on that root, with its log there.
fn dpkg(root: &Path) -> Command {
    let mut command = Command::new("dpkg");
    command.arg("--root").arg(root).arg("--log").arg(root.join("var/lib/dpkg/log"));
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

/// Every file of the root but dpkg's own.
fn files(root: &Path) -> Vec<String> {
    let text =
        run(Command::new("find").arg(root).args(["-path", "*/var/lib/dpkg", "-prune", "-o", "-print"]));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn the_package_has_what_it_says(_: &Test) {
    let list = run(Command::new("dpkg-deb").arg("-c").arg(package()));
    for line in [
        "./usr/bin/gam",
        "./usr/bin/containerd-shim-gam-v2 -> gam",
        "./etc/gam/config.toml",
        "./usr/lib/systemd/system/gam.slice",
        "./usr/lib/systemd/system/gam-gc.service",
        "./usr/lib/systemd/system/gam-gc.timer",
        "./usr/share/doc/gam/README.md",
        "./usr/share/doc/gam/SECURITY.md",
        "./usr/share/doc/gam/containerd/runtime.toml",
    ] {
        assert!(list.lines().any(|one| one.ends_with(line)), "{line} is not in\n{list}");
    }
    let dist = workspace().join("dist");
    for (made, packed) in [("man", "usr/share/man"), ("completions", "bash-completion/completions/gam")] {
        assert_eq!(dist.join(made).exists(), list.contains(packed), "{made}");
    }
    let control = run(Command::new("dpkg-deb").arg("-I").arg(package()).arg("conffiles"));
    assert_eq!(control.trim(), "/etc/gam/config.toml");
}

fn it_is_installed_runs_a_container_and_is_purged(t: &Test) {
    let root = root();
    let before = files(root.path());
    run(dpkg(root.path()).arg("-i").arg(package()));
    let status = run(dpkg(root.path()).args(["-s", "gam"]));
    assert!(status.contains("Status: install ok installed"), "{status}");
    let bin = root.path().join("usr/bin");
    let mut settings = Settings::new();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
    settings.environment = vec![
        ("PATH".into(), path),
        ("GAM_CONFIG".into(), root.path().join("etc/gam/config.toml").display().to_string()),
    ];
    let daemon = Daemon::start(settings);
    // The harness puts gam beside its daemon as well: only the package's can be found.
    fs::remove_file(daemon.dir.join("bin/containerd-shim-gam-v2")).unwrap();
    let container = t.container_of(&daemon).run();
    let program = fs::read_link(format!("/proc/{}/exe", container.shim())).unwrap();
    assert_eq!(program, bin.join("gam"));
    assert_eq!(container.exec("exit 7").run().finish().0.status, 7);
    container.end();
    let left = daemon.shutdown();
    assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
    run(dpkg(root.path()).args(["--purge", "gam"]));
    assert_eq!(files(root.path()), before);
}

fn a_configuration_that_was_changed_stays_until_purge(_: &Test) {
    let root = root();
    let before = files(root.path());
    run(dpkg(root.path()).arg("-i").arg(package()));
    let file = root.path().join("etc/gam/config.toml");
    fs::write(&file, "grouping = \"pod\"\n").unwrap();
    run(dpkg(root.path()).arg("-i").arg(package()));
    assert_eq!(fs::read_to_string(&file).unwrap(), "grouping = \"pod\"\n");
    run(dpkg(root.path()).args(["-r", "gam"]));
    assert!(file.exists() && !root.path().join("usr/bin/gam").exists());
    run(dpkg(root.path()).args(["--purge", "gam"]));
    assert_eq!(files(root.path()), before);
}

fn it_is_not_removed_under_managers(_: &Test) {
    let root = root();
    run(dpkg(root.path()).arg("-i").arg(package()));
    let group = root.path().join("run/gam/0123");
    fs::create_dir_all(&group).unwrap();
    fs::write(group.join("control.sock"), "").unwrap();
    let (ok, said) = outcome(dpkg(root.path()).args(["-r", "gam"]));
    assert!(!ok && said.contains("managers run"), "{said}");
    assert!(root.path().join("usr/bin/gam").exists());
}
