//! systemd's units, by systemd's own checks.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use gam_tests::suite::Test;
use gam_tests::target::gam_binary;

use crate::{deploy, outcome};

gam_tests::tests![
    units_are_verified,
    a_misspelt_setting_is_noticed,
    what_gc_may_do_is_no_more_than_recorded,
    nothing_of_gc_needs_a_mount_namespace,
];

const UNITS: [&str; 3] = ["gam.slice", "gam-gc.service", "gam-gc.timer"];

/// The exposure of gam-gc.service by `systemd-analyze security` of systemd 252, times ten. Most of it is what its file says that
/// it keeps, and why.
const EXPOSURE: u32 = 41;

/// A tree with the units, the distribution's own, and gam.
fn tree(directory: &Path) {
    let units = directory.join("usr/lib/systemd/system");
    fs::create_dir_all(&units).unwrap();
    fs::create_dir_all(directory.join("usr/bin")).unwrap();
    symlink("usr/lib", directory.join("lib")).unwrap();
    for file in fs::read_dir("/lib/systemd/system").unwrap().flatten() {
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), units.join(file.file_name())).unwrap();
        }
    }
    for unit in UNITS {
        fs::copy(deploy("systemd").join(unit), units.join(unit)).unwrap();
    }
    fs::copy(gam_binary(), directory.join("usr/bin/gam")).unwrap();
}

fn verify(directory: &Path, unit: &str) -> (bool, String) {
    let mut root = std::ffi::OsString::from("--root=");
    root.push(directory);
    outcome(Command::new("systemd-analyze").arg("verify").arg(root).args(["--recursive-errors=no", unit]))
}

fn units_are_verified(_: &Test) {
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path());
    for unit in UNITS {
        let (ok, text) = verify(directory.path(), unit);
        assert!(ok && text.is_empty(), "{unit}: {text}");
    }
}

fn a_misspelt_setting_is_noticed(_: &Test) {
    let directory = tempfile::tempdir().unwrap();
    tree(directory.path());
    let path = directory.path().join("usr/lib/systemd/system/gam-gc.service");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("ProtectClock=", "ProtectClok=")).unwrap();
    let (ok, text) = verify(directory.path(), "gam-gc.service");
    assert!(!ok && text.contains("ProtectClok"), "{text}");
}

fn what_gc_may_do_is_no_more_than_recorded(_: &Test) {
    let security = |threshold: u32| {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=yes", "--no-pager", &format!("--threshold={threshold}")]);
        outcome(command.arg(deploy("systemd/gam-gc.service")))
    };
    let (ok, text) = security(EXPOSURE);
    assert!(ok, "the exposure has grown:\n{text}");
    let (ok, _) = security(EXPOSURE - 1);
    assert!(!ok, "the exposure is less than {EXPOSURE}: record it");
}

/// What it unmounts has to be the host's, so no setting may give it a mount namespace.
fn nothing_of_gc_needs_a_mount_namespace(_: &Test) {
    let text = fs::read_to_string(deploy("systemd/gam-gc.service")).unwrap();
    let keys: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once('=')?.0))
        .collect();
    assert!(keys.contains(&"CapabilityBoundingSet"));
    for key in [
        "PrivateMounts",
        "PrivateTmp",
        "PrivateDevices",
        "PrivateIPC",
        "PrivateNetwork",
        "ProtectSystem",
        "ProtectHome",
        "ProtectProc",
        "ProcSubset",
        "ProtectControlGroups",
        "ProtectKernelTunables",
        "ProtectKernelModules",
        "ProtectKernelLogs",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "InaccessiblePaths",
        "TemporaryFileSystem",
        "BindPaths",
        "BindReadOnlyPaths",
        "RootDirectory",
        "RootImage",
        "MountFlags",
        "ExecPaths",
        "NoExecPaths",
        "DynamicUser",
    ] {
        assert!(!keys.contains(&key), "{key} makes a mount namespace");
    }
}
