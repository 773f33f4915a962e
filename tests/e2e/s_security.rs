//! What nobody learns who should not: secrets in specs, files, sockets.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use containerd_client::services::v1::ExecProcessRequest;
use containerd_client::types::Mount;
use gam_tests::case::{Builder, Container};
use gam_tests::client::Answer;
use gam_tests::daemon::{Daemon, Settings};
use gam_tests::spec::process_any;
use gam_tests::suite::Test;
use gam_tests::target::Containerd;
use gam_tests::{poll, scrape};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::wrapper::Wrapper;

gam_tests::tests![
    no_secret_is_told_anywhere,
    the_canary_is_found_where_it_is,
    every_file_is_its_owners_alone,
    another_user_is_hung_up_on,
];

/// What every secret begins with; the rest says where it was.
const CANARY: &str = "cAnArY";

/// A daemon whose gam writes all that it can.
fn loud() -> Arc<Daemon> {
    let mut settings = Settings { level: "trace", ..Settings::new() };
    settings.gam.push_str("log_level = \"trace\"\n");
    Daemon::start(settings)
}

/// Gives a container secrets wherever it may have one.
fn secretive(builder: Builder) -> Builder {
    builder.sh(&format!("echo {CANARY}-output; sleep 1000")).change(|spec| {
        spec.json["process"]["args"].as_array_mut().unwrap().push(json!(format!("{CANARY}-arg")));
        spec.json["process"]["env"] = json!(["PATH=/bin", format!("TOKEN={CANARY}-env")]);
        spec.annotate("example.com/password", &format!("{CANARY}-annotation"));
        spec.json["hostname"] = json!(format!("{CANARY}-hostname"));
        spec.json["vendor"] = json!({ "key": format!("{CANARY}-content") });
    })
}

fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut all: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
    all.push(format!("password={CANARY}-mount-option"));
    Mount { r#type: kind.into(), source: source.into(), options: all, ..Default::default() }
}

/// Everything that is told of what fails.
#[derive(Default)]
struct Told(Vec<String>);

impl Told {
    fn refused<T>(&mut self, what: &str, answer: Answer<T>) {
        let error = answer.err().unwrap_or_else(|| panic!("{what} is refused"));
        self.0.push(format!("{what}: {error}"));
    }
}

fn failing_creates(t: &Test, daemon: &Arc<Daemon>, told: &mut Told) {
    let new = || secretive(t.container_of(daemon));
    let failing = Wrapper::new(daemon, "fails", "[ $COMMAND = create ] && { echo refused >&2; exit 1; }");
    told.refused(
        "a runtime that fails",
        new().options(|options| options.binary_name = failing.binary()).try_create(),
    );
    told.refused(
        "a missing runtime",
        new().options(|options| options.binary_name = "/nonexistent".into()).try_create(),
    );
    told.refused("a missing program", {
        new().change(|spec| spec.json["process"]["args"][0] = json!("/nonexistent")).try_create()
    });
    told.refused("an option that tmpfs does not have", {
        let option = format!("password={CANARY}-mount-data");
        let mount = json!({ "destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": [option] });
        new().change(|spec| spec.json["mounts"].as_array_mut().unwrap().push(mount)).try_create()
    });
    told.refused(
        "an overlay as root",
        new()
            .rootfs(|mounts| *mounts = vec![mount("overlay", "overlay", &["lowerdir=/nonexistent"])])
            .try_create(),
    );
    told.refused("a network's file system as root", {
        new()
            .rootfs(|mounts| *mounts = vec![mount("cifs", "//127.0.0.1/share", &["username=user"])])
            .try_create()
    });
    told.refused("an option of containerd's as root", {
        let option = format!("X-containerd.key={CANARY}-containerd-option");
        new().rootfs(|mounts| *mounts = vec![mount("overlay", "overlay", &[&option])]).try_create()
    });
    told.refused("a map that is none", {
        new()
            .rootfs(|mounts| {
                *mounts = vec![mount("bind", "/", &[&format!("uidmap={CANARY}-map"), "gidmap=0:0:1"])]
            })
            .try_create()
    });
    let text = new().spec.json.to_string();
    told.refused("a spec that is cut off", new().raw_spec(&text.as_bytes()[..text.len() - 9]).try_create());
    // Later ones refuse it themselves, after they have announced it: the manager would expect it for a minute.
    if daemon.generation() < Containerd::V2_1 {
        let wrong = new().change(|spec| spec.json["process"]["env"] = json!(format!("{CANARY}-string")));
        match wrong.try_create() {
            // crun takes it for no environment.
            Ok(container) => container.end(),
            refused => told.refused("a spec that is wrong", refused),
        }
    }
}

fn failing_execs(container: &Container, told: &mut Told) {
    let mut exec = container.exec("exit 3");
    exec.process["env"] = json!(["PATH=/bin", format!("TOKEN={CANARY}-exec-env")]);
    exec.process["args"].as_array_mut().unwrap().push(json!(format!("{CANARY}-exec-arg")));
    assert_eq!(exec.run().finish().0.status, 3);
    let mut exec = container.exec("");
    exec.process["args"] = json!(["/nonexistent", format!("{CANARY}-exec-arg")]);
    exec.process["env"] = json!([format!("TOKEN={CANARY}-exec-env")]);
    let exec = exec.add();
    told.refused("an exec of a missing program", exec.try_start());
    exec.delete();
    for (id, text) in [
        ("cut-off", format!("{{\"args\": [\"/bin/true\"], \"env\": [\"TOKEN={CANARY}-exec-cut")),
        (
            "wrong",
            json!({ "args": ["/bin/true"], "cwd": "/", "env": format!("{CANARY}-exec-string") }).to_string(),
        ),
    ] {
        let mut spec = process_any(&json!(null));
        spec.value = text.into_bytes();
        let message = ExecProcessRequest {
            container_id: container.id.clone(),
            exec_id: id.into(),
            spec: Some(spec),
            ..Default::default()
        };
        let client = container.client();
        match client.exec(&container.namespace, message) {
            Ok(()) => {
                match client.start(&container.namespace, &container.id, id) {
                    // As above.
                    Ok(_) => {
                        assert_eq!(client.wait(&container.namespace, &container.id, id).unwrap().status, 0)
                    }
                    refused => told.refused(id, refused),
                }
                let _ = client.delete_exec(&container.namespace, &container.id, id);
            }
            refused => told.refused(id, refused),
        }
    }
}

/// Every regular file below `directory` but those that `skipped` names.
fn files(directory: &Path, skipped: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if skipped.iter().any(|name| entry.file_name() == *name) {
            continue;
        } else if kind.is_dir() {
            files(&entry.path(), skipped, found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

/// Where the canary is, of all that gam and containerd write of containers besides the specs themselves, and what the
/// manager shows of itself.
fn sightings(daemon: &Daemon, managers: &[u32], skipped: &[&str]) -> Vec<String> {
    let mut paths = vec![daemon.dir.join("log")];
    files(&daemon.dir.join("run"), &[], &mut paths);
    files(&daemon.dir.join("state/io.containerd.runtime.v2.task"), skipped, &mut paths);
    for pid in managers {
        paths.extend(["cmdline", "environ", "comm"].map(|file| PathBuf::from(format!("/proc/{pid}/{file}"))));
    }
    assert!(
        paths.iter().any(|path| path.ends_with("pid")) && paths.iter().any(|path| path.ends_with("gam.json"))
    );
    let mut found = Vec::new();
    for path in paths {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
        found.extend(
            text.lines()
                .filter(|line| line.contains(CANARY))
                .map(|line| format!("{}: {line}", path.display())),
        );
    }
    for socket in scrape::sockets(&daemon.dir.join("run")) {
        let text = scrape::get(&socket, "/metrics").unwrap();
        found
            .extend(text.lines().filter(|line| line.contains(CANARY)).map(|line| format!("metrics: {line}")));
    }
    found
}

/// The dump of the state, written on a signal.
fn dump(daemon: &Daemon, manager: u32) {
    kill(Pid::from_raw(manager.try_into().unwrap()), Signal::SIGUSR1).unwrap();
    poll::holds("the state is dumped", || {
        let groups = fs::read_dir(daemon.dir.join("run")).into_iter().flatten().flatten();
        groups.into_iter().any(|group| group.path().join("dump").exists())
    });
}

fn no_secret_is_told_anywhere(t: &Test) {
    let daemon = loud();
    let mut told = Told::default();
    // The kernel reads no options of a bind, so this one is mounted.
    let root = mount("bind", &daemon.dir.join("rootfs").display().to_string(), &["rbind", "rw"]);
    let container = secretive(t.container_of(&daemon)).rootfs(|mounts| *mounts = vec![root]).run();
    container.io.out().expect(&format!("{CANARY}-output"));
    failing_creates(t, &daemon, &mut told);
    failing_execs(&container, &mut told);
    let manager = container.shim();
    dump(&daemon, manager);
    // config.json and rootfs are the spec; runc's own files are not here.
    let mut found = sightings(&daemon, &[manager], &["config.json", "rootfs"]);
    found.extend(told.0.iter().filter(|text| text.contains(CANARY)).cloned());
    container.end();
    let log = String::from_utf8_lossy(&fs::read(daemon.dir.join("log")).unwrap()).into_owned();
    assert!(log.contains("level=debug") || log.contains("level=trace"), "gam's lines are there");
    found.extend(log.lines().filter(|line| line.contains(CANARY)).map(str::to_owned));
    found.sort();
    found.dedup();
    assert!(
        found.is_empty(),
        "{} sightings:\n{}\nof what was told:\n{}",
        found.len(),
        found.join("\n"),
        told.0.join("\n")
    );
}

/// The search itself: it finds the secrets in the spec.
fn the_canary_is_found_where_it_is(t: &Test) {
    let daemon = loud();
    let container = secretive(t.container_of(&daemon)).run();
    let found = sightings(&daemon, &[container.shim()], &["rootfs"]).join("\n");
    for place in ["arg", "env", "annotation", "hostname", "content"] {
        assert!(found.contains(&format!("{CANARY}-{place}")), "{place}: {found}");
    }
    container.end();
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn every_file_is_its_owners_alone(t: &Test) {
    let daemon = Daemon::start(Settings::new());
    let container = t.container_of(&daemon).run();
    dump(&daemon, container.shim());
    let run = daemon.dir.join("run");
    let mut kinds = Vec::new();
    for group in fs::read_dir(&run).unwrap().flatten() {
        assert_eq!(mode(&group.path()), 0o700, "{}", group.path().display());
        for entry in fs::read_dir(group.path()).unwrap().flatten() {
            // pid is for whoever may see the directory; all else is read or asked by the owner.
            let expected = if entry.file_name() == "pid" { 0o644 } else { 0o600 };
            assert_eq!(mode(&entry.path()), expected, "{}", entry.path().display());
            kinds.push(entry.file_name().into_string().unwrap());
        }
    }
    for name in ["pid", "lock", "control.sock", "metrics.sock", "dump"] {
        assert!(kinds.iter().any(|kind| kind == name), "{name}: {kinds:?}");
    }
    let sockets = daemon.sockets();
    assert!(!sockets.is_empty());
    for socket in sockets {
        assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
        assert_eq!(mode(&socket), 0o600, "{}", socket.display());
    }
    let bundle = daemon.bundle(&container.namespace, &container.id);
    for (name, expected) in [("gam.json", 0o600), ("address", 0o644), ("log", 0o700)] {
        assert_eq!(mode(&bundle.join(name)) & !expected, 0, "{name} is {:o}", mode(&bundle.join(name)));
    }
    assert_eq!(mode(&bundle) & 0o077, 0, "the bundle is {:o}", mode(&bundle));
    container.end();
}

/// Connects as a user and waits for the other end to hang up: 0 if it does, 3 if there is no connection, 4 after two seconds.
fn hung_up(user: &str, socket: &Path) -> i32 {
    let script = "my $s = IO::Socket::UNIX->new($ARGV[0]) or exit 3; $SIG{ALRM} = sub { exit 4 }; alarm 2; \
                  sysread($s, my $byte, 1); exit 0";
    let ids = [format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()];
    let mut command = Command::new("setpriv");
    command.args(ids).args(["perl", "-MIO::Socket::UNIX", "-e", script]).arg(socket);
    command.status().unwrap().code().unwrap()
}

/// Where modes do not keep another user out, the sockets do.
fn another_user_is_hung_up_on(t: &Test) {
    let daemon = Daemon::start(Settings::new());
    let container = t.container_of(&daemon).run();
    let groups = fs::read_dir(daemon.dir.join("run")).into_iter().flatten().flatten();
    let control = groups.map(|group| group.path().join("control.sock")).find(|path| path.exists()).unwrap();
    let open = Path::new("/run").join(daemon.name());
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    let task = open.join("task.sock");
    fs::hard_link(&daemon.sockets()[0], &task).unwrap();
    fs::set_permissions(&task, fs::Permissions::from_mode(0o666)).unwrap();
    for path in [control.as_path(), control.parent().unwrap(), &daemon.dir.join("run"), &daemon.dir] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let seen: Vec<_> =
        [&task, &control].iter().map(|path| (hung_up("65534", path), hung_up("0", path))).collect();
    fs::remove_dir_all(&open).unwrap();
    assert_eq!(seen, [(0, 4), (0, 4)]);
    container.end();
}
