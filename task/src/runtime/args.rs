//! Command lines, as pure functions of what is wanted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::options::Options;

/// What is the same in every command for a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The runtime: a path, or a name to look for in PATH.
    pub binary: PathBuf,
    /// Where it keeps its state.
    pub root: PathBuf,
    /// Whether systemd makes the cgroups.
    pub systemd_cgroup: bool,
    /// Whether MS_MOVE is used in the place of pivot_root.
    pub no_pivot: bool,
    /// Whether no session keyring is made.
    pub no_new_keyring: bool,
}

impl Settings {
    /// What `options` mean in a containerd namespace.
    #[must_use]
    pub fn new(options: &Options, namespace: &str) -> Self {
        Self {
            binary: options.runtime_binary().into(),
            root: options.runtime_root(namespace),
            systemd_cgroup: options.systemd_cgroup,
            no_pivot: options.no_pivot_root,
            no_new_keyring: options.no_new_keyring,
        }
    }
}

/// What a container is restored from.
#[derive(Clone, Debug, Default)]
pub struct Restore {
    /// The checkpoint's directory.
    pub image_path: PathBuf,
    /// criu's work directory; the runtime chooses if none.
    pub work_path: Option<PathBuf>,
}

/// What a checkpoint is to be.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// Where it is written.
    pub image_path: PathBuf,
    /// criu's work directory, which is kept; one that is removed if none.
    pub work_path: Option<PathBuf>,
    /// The checkpoint before this one.
    pub parent_path: Option<PathBuf>,
    /// Whether the container ends.
    pub exit: bool,
    /// Whether open TCP connections are allowed.
    pub open_tcp: bool,
    /// Whether connected unix sockets are allowed.
    pub external_unix_sockets: bool,
    /// Whether a terminal is allowed.
    pub terminal: bool,
    /// Whether file locks are kept.
    pub file_locks: bool,
    /// How cgroups are restored; the runtime's default if empty.
    pub cgroups_mode: String,
    /// Namespaces that are restored empty.
    pub empty_namespaces: Vec<String>,
}

/// A command line that grows.
struct Line(Vec<OsString>);

impl Line {
    fn new(command: &str) -> Self {
        Self(vec![command.into()])
    }

    fn flag(mut self, name: &str, wanted: bool) -> Self {
        if wanted {
            self.0.push(name.into());
        }
        self
    }

    fn value(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.0.extend([name.into(), value.into()]);
        self
    }

    fn optional(self, name: &str, value: Option<&Path>) -> Self {
        match value {
            Some(value) => self.value(name, value),
            None => self,
        }
    }

    fn end(mut self, last: &[&str]) -> Vec<OsString> {
        self.0.extend(last.iter().map(OsString::from));
        self.0
    }
}

/// What comes before the command.
pub(super) fn global(settings: &Settings, log: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> =
        vec!["--root".into(), settings.root.clone().into(), "--log".into(), log.into()];
    args.extend(["--log-format".into(), "json".into()]);
    if settings.systemd_cgroup {
        args.push("--systemd-cgroup".into());
    }
    args
}

pub(super) fn create(
    settings: &Settings,
    id: &str,
    bundle: &Path,
    pid_file: &Path,
    console: Option<&Path>,
) -> Vec<OsString> {
    Line::new("create")
        .value("--bundle", bundle)
        .value("--pid-file", pid_file)
        .optional("--console-socket", console)
        .flag("--no-pivot", settings.no_pivot)
        .flag("--no-new-keyring", settings.no_new_keyring)
        .end(&[id])
}

pub(super) fn restore(
    settings: &Settings,
    id: &str,
    bundle: &Path,
    pid_file: &Path,
    console: Option<&Path>,
    restore: &Restore,
) -> Vec<OsString> {
    Line::new("restore")
        .flag("--detach", true)
        .value("--image-path", &restore.image_path)
        .optional("--work-path", restore.work_path.as_deref())
        .value("--bundle", bundle)
        .value("--pid-file", pid_file)
        .optional("--console-socket", console)
        .flag("--no-pivot", settings.no_pivot)
        .flag("--no-subreaper", true)
        .end(&[id])
}

pub(super) fn start(id: &str) -> Vec<OsString> {
    of("start", id)
}

pub(super) fn exec(
    _settings: &Settings,
    id: &str,
    process: &Path,
    pid_file: &Path,
    console: Option<&Path>,
) -> Vec<OsString> {
    Line::new("exec")
        .value("--process", process)
        .flag("--detach", true)
        .value("--pid-file", pid_file)
        .optional("--console-socket", console)
        .end(&[id])
}

pub(super) fn kill(id: &str, signal: u32, all: bool) -> Vec<OsString> {
    Line::new("kill").flag("--all", all).end(&[id, &signal.to_string()])
}

pub(super) fn delete(id: &str, force: bool) -> Vec<OsString> {
    Line::new("delete").flag("--force", force).end(&[id])
}

pub(super) fn update(id: &str, resources: &Path) -> Vec<OsString> {
    Line::new("update").value("--resources", resources).end(&[id])
}

pub(super) fn checkpoint(
    _settings: &Settings,
    id: &str,
    wanted: &Checkpoint,
    work: Option<&Path>,
) -> Vec<OsString> {
    let mut line = Line::new("checkpoint")
        .value("--image-path", &wanted.image_path)
        .optional("--work-path", work)
        .optional("--parent-path", wanted.parent_path.as_deref())
        .flag("--leave-running", !wanted.exit)
        .flag("--tcp-established", wanted.open_tcp)
        .flag("--ext-unix-sk", wanted.external_unix_sockets)
        .flag("--shell-job", wanted.terminal)
        .flag("--file-locks", wanted.file_locks);
    if !wanted.cgroups_mode.is_empty() {
        line = line.value("--manage-cgroups-mode", &wanted.cgroups_mode);
    }
    for namespace in &wanted.empty_namespaces {
        line = line.value("--empty-ns", namespace);
    }
    line.end(&[id])
}

/// A command that needs nothing but the id.
pub(super) fn of(command: &str, id: &str) -> Vec<OsString> {
    Line::new(command).end(&[id])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        let options = Options { no_pivot_root: true, no_new_keyring: true, ..Options::default() };
        Settings::new(&options, "ns")
    }

    fn text(args: Vec<OsString>) -> String {
        args.into_iter().map(|arg| arg.into_string().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn options_become_flags() {
        let plain = Settings::new(&Options::default(), "ns");
        assert_eq!(plain.binary, Path::new("runc"));
        assert_eq!(
            text(global(&plain, Path::new("/l"))),
            "--root /run/containerd/runc/ns --log /l --log-format json"
        );
        let systemd = Options {
            systemd_cgroup: true,
            root: "/r".into(),
            binary_name: "/usr/bin/crun".into(),
            ..Options::default()
        };
        let systemd = Settings::new(&systemd, "ns");
        assert_eq!(systemd.binary, Path::new("/usr/bin/crun"));
        let expected = "--root /r/ns --log /l --log-format json --systemd-cgroup";
        assert_eq!(text(global(&systemd, Path::new("/l"))), expected);
    }

    #[test]
    fn each_command_has_its_line() {
        let (b, p, c) = (Path::new("/b"), Path::new("/b/init.pid"), Path::new("/c.sock"));
        assert_eq!(
            text(create(&settings(), "c", b, p, Some(c))),
            "create --bundle /b --pid-file /b/init.pid --console-socket /c.sock --no-pivot --no-new-keyring c"
        );
        let plain = Settings::new(&Options::default(), "ns");
        assert_eq!(text(create(&plain, "c", b, p, None)), "create --bundle /b --pid-file /b/init.pid c");
        assert_eq!(
            text(exec(&plain, "c", Path::new("/s"), p, None)),
            "exec --process /s --detach --pid-file /b/init.pid c"
        );
        assert_eq!(text(kill("c", 64, false)), "kill c 64");
        assert_eq!(text(kill("c", 9, true)), "kill --all c 9");
        assert_eq!(text(delete("c", true)), "delete --force c");
        assert_eq!(text(delete("c", false)), "delete c");
        assert_eq!(text(update("c", Path::new("/r"))), "update --resources /r c");
        assert_eq!(text(of("pause", "c")), "pause c");
    }

    #[test]
    fn j5_checkpoints_have_every_option() {
        let all = Checkpoint {
            image_path: "/i".into(),
            work_path: None,
            parent_path: Some("../p".into()),
            exit: false,
            open_tcp: true,
            external_unix_sockets: true,
            terminal: true,
            file_locks: true,
            cgroups_mode: "soft".into(),
            empty_namespaces: vec!["network".into()],
        };
        assert_eq!(
            text(checkpoint(&settings(), "c", &all, Some(Path::new("/w")))),
            "checkpoint --image-path /i --work-path /w --parent-path ../p --leave-running --tcp-established \
             --ext-unix-sk --shell-job --file-locks --manage-cgroups-mode soft --empty-ns network c"
        );
        let ends = Checkpoint { image_path: "/i".into(), exit: true, ..Checkpoint::default() };
        assert_eq!(text(checkpoint(&settings(), "c", &ends, None)), "checkpoint --image-path /i c");
        let from = Restore { image_path: "/i".into(), work_path: Some("/w".into()) };
        assert_eq!(
            text(restore(&settings(), "c", Path::new("/b"), Path::new("/b/init.pid"), None, &from)),
            "restore --detach --image-path /i --work-path /w --bundle /b --pid-file /b/init.pid --no-pivot \
             --no-subreaper c"
        );
    }
}
