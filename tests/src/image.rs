//! What containers run: a root filesystem of busybox, and the same as an image archive.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::json;

/// The name of the image that [`archive`] holds.
pub const NAME: &str = "docker.io/library/gam-e2e:latest";

/// Makes a root filesystem of busybox at `path`.
///
/// # Panics
/// Where it cannot.
pub fn rootfs(path: &Path) {
    for directory in ["bin", "dev", "proc", "sys", "tmp", "etc", "root"] {
        fs::create_dir_all(path.join(directory)).expect("a directory of the root filesystem");
    }
    let busybox = path.join("bin/busybox");
    fs::copy("/usr/bin/busybox", &busybox).expect("busybox-static is installed");
    fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755)).expect("its mode");
    // Not the copy: a child that another test's thread makes just now may still have it open for writing.
    let list = Command::new("/usr/bin/busybox").arg("--list").output().expect("busybox runs");
    for applet in String::from_utf8_lossy(&list.stdout).lines().filter(|applet| *applet != "busybox") {
        std::os::unix::fs::symlink("busybox", path.join("bin").join(applet)).expect("a link to busybox");
    }
    fs::write(path.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/:/bin/sh\n")
        .expect("etc/passwd");
    fs::write(path.join("etc/group"), "root:x:0:\nuser:x:1000:\n").expect("etc/group");
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("running {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes a docker archive of the root filesystem `rootfs` in `directory`; its path.
///
/// # Panics
/// Where it cannot.
#[must_use]
pub fn archive(rootfs: &Path, directory: &Path) -> std::path::PathBuf {
    archive_of(rootfs, directory, &["/bin/sh"])
}

/// The same with `command` as what the image runs.
///
/// # Panics
/// Where it cannot.
#[must_use]
pub fn archive_of(rootfs: &Path, directory: &Path, command: &[&str]) -> std::path::PathBuf {
    let layer = directory.join("layer.tar");
    run(Command::new("tar").arg("-C").arg(rootfs).arg("-cf").arg(&layer).arg("."));
    let sum = run(Command::new("sha256sum").arg(&layer));
    let digest = format!("sha256:{}", sum.split(' ').next().expect("a digest"));
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": { "Cmd": command, "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [digest] }
    });
    fs::write(directory.join("config.json"), config.to_string()).expect("config.json");
    let manifest = json!([{ "Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"] }]);
    fs::write(directory.join("manifest.json"), manifest.to_string()).expect("manifest.json");
    let image = directory.join("image.tar");
    run(Command::new("tar").arg("-C").arg(directory).arg("-cf").arg(&image).args([
        "manifest.json",
        "config.json",
        "layer.tar",
    ]));
    image
}
