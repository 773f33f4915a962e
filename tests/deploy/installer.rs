//! The installer, on trees of its own, as busybox and dash run it.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use gam_tests::suite::Test;
use gam_tests::target::{Containerd, gam_binary};
use tempfile::TempDir;

use crate::{deploy, outcome, run};

gam_tests::tests![
    a_tree_is_as_it_was_after_uninstalling,
    twice_changes_nothing,
    a_binary_that_runs_is_replaced,
    what_was_interrupted_is_completed_and_undone,
    a_configuration_is_added_to_and_restored,
    what_was_changed_since_is_left,
    a_configuration_that_cannot_be_added_to_is_left,
    what_is_commented_out_is_not_there,
    an_edit_whose_marks_are_no_pair_is_left,
    without_containerd_only_plain_tables_are_added_to,
    a_link_to_a_configuration_stays_one,
    nothing_is_uninstalled_under_managers,
    the_image_installs_and_uninstalls,
];

const SHELLS: [&[&str]; 2] = [&["/usr/bin/busybox", "sh"], &["/bin/sh"]];
const SHIM: &str = "usr/local/bin/containerd-shim-gam-v2";
const CONFIGURATION: &str = "etc/containerd/config.toml";

/// Where the installer finds containerd, of one generation, and programs.
pub(crate) fn path(containerd: Containerd) -> String {
    format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", containerd.directory().display())
}

/// The installer for a tree, run by one of the shells.
fn by(shell: &[&str], tree: &Path, action: &str) -> Command {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg(deploy("install.sh")).arg(action).env_clear();
    command.env("PATH", path(Containerd::V1_6)).env("DESTDIR", tree).env("GAM_BINARY", gam_binary());
    command
}

/// The installer for a tree.
pub(crate) fn command(tree: &Path, action: &str) -> Command {
    by(SHELLS[0], tree, action)
}

/// Installs into a tree.
pub(crate) fn install(tree: &Path) -> String {
    run(&mut command(tree, "install"))
}

/// A tree with what a node has.
pub(crate) fn tree() -> TempDir {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("etc/systemd/system")).unwrap();
    fs::create_dir_all(tree.path().join("usr/local/bin")).unwrap();
    fs::write(tree.path().join("usr/local/bin/other"), "other\n").unwrap();
    tree
}

/// A tree with a configuration of containerd besides.
fn with_configuration(text: &str) -> TempDir {
    let tree = tree();
    let file = tree.path().join(CONFIGURATION);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
    tree
}

/// Every path of a tree with its mode and content.
fn state(tree: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut next = vec![tree.to_path_buf()];
    while let Some(path) = next.pop() {
        let kind = path.symlink_metadata().unwrap();
        let content = if kind.is_dir() {
            next.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            String::new()
        } else if kind.file_type().is_socket() {
            "socket".to_owned()
        } else {
            run(Command::new("sha256sum").arg(&path))
        };
        found.push(format!("{} {:o} {content}", path.display(), kind.mode()));
    }
    found.sort();
    found
}

fn a_tree_is_as_it_was_after_uninstalling(_: &Test) {
    for shell in SHELLS {
        let tree = tree();
        let before = state(tree.path());
        run(&mut by(shell, tree.path(), "install"));
        let root = tree.path();
        assert_eq!(
            fs::metadata(root.join("usr/local/bin/gam")).unwrap().ino(),
            fs::metadata(root.join(SHIM)).unwrap().ino()
        );
        assert_eq!(fs::read(root.join(SHIM)).unwrap(), fs::read(gam_binary()).unwrap());
        assert_eq!(
            fs::read(root.join("etc/gam/config.toml")).unwrap(),
            fs::read(deploy("config.toml")).unwrap()
        );
        assert!(root.join("etc/systemd/system/gam-gc.timer").exists());
        run(&mut by(shell, tree.path(), "uninstall"));
        assert_eq!(state(tree.path()), before, "{shell:?}");
        let again = run(&mut by(shell, tree.path(), "uninstall"));
        assert!(again.contains("nothing is installed"), "{again}");
        assert_eq!(state(tree.path()), before, "{shell:?}");
    }
}

fn twice_changes_nothing(_: &Test) {
    let tree = tree();
    let first = install(tree.path());
    assert!(first.contains("containerd has to be restarted"), "{first}");
    let before = state(tree.path());
    let build = fs::metadata(tree.path().join(SHIM)).unwrap();
    let again = install(tree.path());
    assert!(!again.contains("containerd has to be restarted"), "{again}");
    assert_eq!(state(tree.path()), before);
    let same = fs::metadata(tree.path().join(SHIM)).unwrap();
    assert_eq!((same.ino(), same.mtime_nsec()), (build.ino(), build.mtime_nsec()), "it is no other build");
}

fn a_binary_that_runs_is_replaced(_: &Test) {
    let tree = tree();
    let shim = tree.path().join(SHIM);
    fs::copy("/usr/bin/sleep", &shim).unwrap();
    let mut busy = Command::new(&shim).arg("1000").stdout(Stdio::null()).spawn().unwrap();
    assert!(fs::write(&shim, "x").is_err(), "it cannot be written to while it runs");
    install(tree.path());
    assert!(busy.try_wait().unwrap().is_none(), "what runs goes on");
    assert_eq!(fs::read(&shim).unwrap(), fs::read(gam_binary()).unwrap());
    busy.kill().unwrap();
    busy.wait().unwrap();
}

fn what_was_interrupted_is_completed_and_undone(_: &Test) {
    let whole = tree();
    install(whole.path());
    // Every prefix of what is written, as far as a crash leaves it: a binary without its other name, half a copy, no list.
    let steps: [&dyn Fn(&Path); 3] = [
        &|root| fs::write(root.join("usr/local/bin/gam.gam-new"), "half").unwrap(),
        &|root| {
            fs::create_dir_all(root.join("etc/gam")).unwrap();
            fs::write(root.join("etc/gam/installed"), "dir /etc/gam\nfile /usr/local/bin/gam\n").unwrap();
            fs::copy(gam_binary(), root.join("usr/local/bin/gam")).unwrap();
        },
        &|root| {
            install(root);
            fs::remove_file(root.join(SHIM)).unwrap();
            fs::write(root.join("etc/containerd/config.toml.gam-new"), "version").unwrap();
        },
    ];
    for (number, step) in steps.iter().enumerate() {
        let tree = tree();
        let before = state(tree.path());
        step(tree.path());
        install(tree.path());
        let names = |root: &Path| {
            let strip = |line: String| line.replace(&root.display().to_string(), "");
            let lines = state(root).into_iter().map(strip);
            // The list itself has its lines in the order of the work.
            lines.filter(|line| !line.starts_with("/etc/gam/installed ")).collect::<Vec<_>>()
        };
        assert_eq!(names(tree.path()), names(whole.path()), "{number}");
        run(&mut command(tree.path(), "uninstall"));
        assert_eq!(state(tree.path()), before, "{number}");
    }
}

/// Configurations as nodes have them: Debian's, one without a newline at its end, one of version 3.
fn configurations() -> [(Containerd, String); 3] {
    let debian = "version = 2\n\n[plugins]\n  [plugins.\"io.containerd.grpc.v1.cri\"]\n    \
                  [plugins.\"io.containerd.grpc.v1.cri\".cni]\n      bin_dir = \"/usr/lib/cni\"\n\n\n";
    let cut = "# ours\nversion = 2\noom_score = -999";
    let later =
        "version = 3\n[plugins.\"io.containerd.cri.v1.runtime\".cni]\n  bin_dirs = [\"/usr/lib/cni\"]\n";
    [(Containerd::V1_6, debian.into()), (Containerd::V1_7, cut.into()), (Containerd::V2_1, later.into())]
}

fn a_configuration_is_added_to_and_restored(_: &Test) {
    for (containerd, text) in configurations() {
        for shell in SHELLS {
            let tree = tree();
            let file = tree.path().join("etc/containerd/config.toml");
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(&file, &text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
            let before = state(tree.path());
            run(by(shell, tree.path(), "install").env("PATH", path(containerd)));
            let after = fs::read_to_string(&file).unwrap();
            assert!(after.starts_with(&text), "{after}");
            assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o640);
            assert_eq!(fs::read_to_string(file.with_extension("toml.before-gam")).unwrap(), text);
            let mut dump = Command::new(containerd.directory().join("containerd"));
            let dumped = run(dump.arg("--config").arg(&file).args(["config", "dump"]));
            assert!(dumped.contains("io.containerd.gam.v2"), "{dumped}");
            run(&mut by(shell, tree.path(), "uninstall"));
            assert_eq!(state(tree.path()), before, "{shell:?}");
        }
    }
}

fn what_was_changed_since_is_left(_: &Test) {
    let tree = tree();
    let file = tree.path().join("etc/containerd/config.toml");
    let ours = tree.path().join("etc/gam/config.toml");
    install(tree.path());
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n[debug]\n  level = \"warn\"\n")).unwrap();
    fs::write(&ours, "grouping = \"pod\"\n").unwrap();
    install(tree.path());
    assert_eq!(fs::read_to_string(&ours).unwrap(), "grouping = \"pod\"\n");
    let said = run(&mut command(tree.path(), "uninstall"));
    assert!(said.contains("/etc/gam/config.toml was changed, and is left"), "{said}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "version = 2\n\n[debug]\n  level = \"warn\"\n");
    assert_eq!(fs::read_to_string(&ours).unwrap(), "grouping = \"pod\"\n");
    assert!(!tree.path().join(SHIM).exists());
}

fn a_configuration_that_cannot_be_added_to_is_left(_: &Test) {
    for (text, reason) in [
        ("[plugins.cri]\n  x = 1\n", "is of version 1"),
        (
            "version = 2\n[plugins]\n\"io.containerd.grpc.v1.cri\" = { containerd = { runtimes = {} } }\n",
            "does not take",
        ),
        ("version = 2\n[broken\n", "does not take"),
        (
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  default_runtime_name = \"other\"\n",
            "there is no runtime other",
        ),
    ] {
        let tree = tree();
        let file = tree.path().join("etc/containerd/config.toml");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        let before = state(tree.path());
        let (ok, said) = outcome(&mut command(tree.path(), "install"));
        assert!(!ok && said.contains(reason), "{text}: {said}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        run(&mut command(tree.path(), "uninstall"));
        assert_eq!(state(tree.path()), before, "{text}");
    }
}

fn what_is_commented_out_is_not_there(_: &Test) {
    let table = |name: &str| format!("[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.{name}]");
    for containerd in [Containerd::V1_6, Containerd::V1_7] {
        for (shell, name) in SHELLS.iter().flat_map(|shell| [(shell, "runc"), (shell, "gam")]) {
            let text = format!("version = 2\n# {}\n  #{}\n", table(name), table(name));
            let tree = with_configuration(&text);
            let before = state(tree.path());
            run(by(shell, tree.path(), "install").env("PATH", path(containerd)));
            let mut dump = Command::new(containerd.directory().join("containerd"));
            dump.arg("--config").arg(tree.path().join(CONFIGURATION)).args(["config", "dump"]);
            let dumped = run(&mut dump);
            assert!(dumped.contains(&table("runc")) && dumped.contains(&table("gam")), "{name}: {dumped}");
            run(&mut by(shell, tree.path(), "uninstall"));
            assert_eq!(state(tree.path()), before, "{name}");
        }
    }
}

/// Where a mark is gone, nobody can tell what between them is whose.
fn an_edit_whose_marks_are_no_pair_is_left(_: &Test) {
    let theirs = "[debug]\n  level = \"warn\"\n";
    for (shell, mark) in SHELLS.iter().flat_map(|shell| [(shell, "# gam: begin"), (shell, "# gam: end")]) {
        for tree in [tree(), with_configuration("version = 2\noom_score = -999\n")] {
            run(&mut by(shell, tree.path(), "install"));
            let file = tree.path().join(CONFIGURATION);
            let whole = fs::read_to_string(&file).unwrap();
            let lines = whole.lines().filter(|line| !line.starts_with(mark));
            let cut = lines.map(|line| format!("{line}\n")).collect::<String>();
            assert_ne!(cut, whole);
            fs::write(&file, format!("{cut}{theirs}")).unwrap();
            let before = state(tree.path());
            let (ok, said) = outcome(&mut by(shell, tree.path(), "uninstall"));
            assert!(!ok && said.contains("has only one of the lines"), "{mark}: {said}");
            assert_eq!(state(tree.path()), before, "{mark}: nothing is uninstalled");
            fs::write(&file, format!("{whole}{theirs}")).unwrap();
            run(&mut by(shell, tree.path(), "uninstall"));
            let left = fs::read_to_string(&file).unwrap();
            assert!(left.ends_with(theirs) && !left.contains("gam"), "{mark}: {left}");
        }
    }
}

/// As in the DaemonSet's image, where nothing reads the result.
fn without_containerd_only_plain_tables_are_added_to(_: &Test) {
    let image = tempfile::tempdir().unwrap();
    gam_tests::image::rootfs(image.path());
    let bin = image.path().join("bin");
    let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
    let runc = "runtime_type = \"io.containerd.runc.v2\"";
    let refused = [
        format!("[{cri}.containerd]\n  runtimes = {{}}\n"),
        format!("[{cri}.containerd]\n  runtimes.runc.{runc}\n"),
        format!("[{cri}.containerd.runtimes]\n  runc = {{ {runc} }}\n"),
        format!("[{cri}.containerd.runtimes]\n  # theirs\n  runc.{runc}\n"),
        format!("[{cri}.containerd.\"runtimes\".runc]\n  {runc}\n"),
        format!("[{cri}.containerd.runtimes . runc]\n  {runc}\n"),
        format!("[{cri}]\n  containerd = {{ snapshotter = \"native\" }}\n"),
        "[plugins]\n  \"io.containerd.grpc.v1.cri\" = {}\n".to_owned(),
        format!("{cri}.containerd.snapshotter = \"native\"\n"),
    ];
    let containerds = [Containerd::V1_6, Containerd::V1_7, Containerd::V2_1];
    let taken = containerds.map(|containerd| {
        let mut command = Command::new(containerd.directory().join("containerd"));
        run(command.args(["config", "default"]))
    });
    let marked = format!(
        "# runtimes = {{}}\n[{cri}.containerd.runtimes] # all\n\n  [{cri}.containerd.runtimes.\"runc\"]\n"
    );
    let taken = taken.into_iter().chain([format!("version = 2\n{marked}    {runc}\n")]);
    let refused = refused.iter().map(|text| format!("version = 2\n{text}"));
    for (text, good) in taken.map(|text| (text, true)).chain(refused.map(|text| (text, false))) {
        for shell in SHELLS {
            let tree = with_configuration(&text);
            let before = state(tree.path());
            let (ok, said) = outcome(by(shell, tree.path(), "install").env("PATH", &bin));
            assert_eq!(ok, good, "{text}: {said}");
            let after = fs::read_to_string(tree.path().join(CONFIGURATION)).unwrap();
            if good {
                assert!(said.contains("no containerd here"), "{said}");
                assert!(after.starts_with(&text) && after.contains("io.containerd.gam.v2"), "{after}");
            } else {
                assert!(said.contains("otherwise than by plain tables"), "{text}: {said}");
                assert_eq!(after, text);
            }
            run(by(shell, tree.path(), "uninstall").env("PATH", &bin));
            assert_eq!(state(tree.path()), before, "{text}");
        }
    }
}

/// A configuration that something else makes, and that is only linked to.
fn a_link_to_a_configuration_stays_one(_: &Test) {
    let tree = tree();
    let file = tree.path().join("etc/containerd/config.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(tree.path().join("etc/made.toml"), "version = 2\n").unwrap();
    std::os::unix::fs::symlink("../made.toml", &file).unwrap();
    let before = state(tree.path());
    let (ok, said) = outcome(&mut command(tree.path(), "install"));
    assert!(!ok && said.contains("is a symlink"), "{said}");
    assert!(file.is_symlink());
    run(&mut command(tree.path(), "uninstall"));
    assert_eq!(state(tree.path()), before);
}

fn nothing_is_uninstalled_under_managers(_: &Test) {
    let tree = tree();
    install(tree.path());
    let group = tree.path().join("run/gam/0123");
    fs::create_dir_all(&group).unwrap();
    // What a manager leaves that was killed.
    drop(UnixListener::bind(group.join("control.sock")).unwrap());
    let before = state(tree.path());
    let (ok, said) = outcome(&mut command(tree.path(), "uninstall"));
    assert!(!ok && said.contains("managers run") && said.contains("`gam gc` if they are dead"), "{said}");
    assert_eq!(state(tree.path()), before);
    run(command(tree.path(), "uninstall").env("GAM_FORCE", "1"));
    assert!(!tree.path().join(SHIM).exists());
}

/// What deploy/Containerfile makes, with Debian's busybox, as the DaemonSet's pods run it: without a capability, and with
/// the node's directories mounted where it says.
fn the_image_installs_and_uninstalls(_: &Test) {
    let image = tempfile::tempdir().unwrap();
    let root = image.path();
    gam_tests::image::rootfs(root);
    let text = fs::read_to_string(deploy("Containerfile")).unwrap();
    let mut entry = Vec::new();
    for line in text.lines() {
        if let Some((from, to)) = line.strip_prefix("COPY ").and_then(|rest| rest.split_once(' ')) {
            let to = root.join(to.trim_start_matches('/'));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            let from = if from == "dist/gam" { gam_binary() } else { deploy("..").join(from) };
            run(Command::new("cp").arg("-r").arg(from).arg(to));
        } else if let Some(words) = line.strip_prefix("ENTRYPOINT ") {
            entry = serde_json::from_str::<Vec<String>>(words).unwrap();
        }
    }
    for directory in ["usr/local/bin", "etc/gam", "etc/containerd", "run/gam"] {
        fs::create_dir_all(root.join("host").join(directory)).unwrap();
    }
    fs::write(root.join("host/etc/containerd/config.toml"), "version = 2\n").unwrap();
    let before = state(&root.join("host"));
    let run_in = |action: &str| {
        let mut command = Command::new("setpriv");
        // chroot(2) is the container runtime's part; nothing is left for the script.
        command
            .args(["--bounding-set=-all,+sys_chroot", "--inh-caps=-all", "--no-new-privs", "chroot"])
            .arg(root);
        run(command
            .args(&entry)
            .arg(action)
            .env_clear()
            .env("PATH", "/bin:/usr/sbin:/usr/bin")
            .env("DESTDIR", "/host"))
    };
    let said = run_in("install");
    assert!(said.contains("no containerd here"), "{said}");
    let config = fs::read_to_string(root.join("host/etc/containerd/config.toml")).unwrap();
    assert!(config.contains("io.containerd.gam.v2"), "{config}");
    assert_eq!(fs::read(root.join("host").join(SHIM)).unwrap(), fs::read(gam_binary()).unwrap());
    run_in("uninstall");
    assert_eq!(state(&root.join("host")), before);
}
