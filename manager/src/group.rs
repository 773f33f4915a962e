//! Groups: which manager a container belongs to, and the directory they meet in.
//!
//! A group's directory `/run/gam/<hash>/` holds: `lock`, which whoever starts or joins a manager holds meanwhile, and a
//! manager while it leaves; `pid`, the manager's; `control.sock`, over which `start`, `delete` and operators talk to it;
//! `metrics.sock`; `sockets`, a list of those that containerd dials; `log`, for lines that belong to no container; `dump`, written on SIGUSR1.

mod lock;

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use gam_task::spec::{Spec, annotation};
use sha2::{Digest as _, Sha256};

pub use lock::Lock;

use crate::config::Grouping;

/// Overrides where the groups' directories are.
pub const RUN_DIR_VARIABLE: &str = "GAM_RUN_DIR";
const RUN_DIR: &str = "/run/gam";

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What it is, for people: the grouping and the name.
    pub name: String,
    /// Where its manager is met.
    pub directory: PathBuf,
}

impl Group {
    /// How many hexadecimal digits the name of a group's directory has.
    pub const HASH: usize = 32;

    /// The group that a container belongs to. Groups are apart where their containerd is another (K7) and where the gam
    /// is another build, so that after an upgrade new pods get the new one.
    #[must_use]
    pub fn of(grouping: Grouping, containerd: &str, namespace: &str, id: &str, spec: &Spec) -> Self {
        let name = name(grouping, namespace, id, spec);
        let key = [containerd, &name, &build()].join("\0");
        let hash: String = hex(&Sha256::digest(key)).chars().take(Self::HASH).collect();
        Self { name, directory: run_dir().join(hash) }
    }

    /// The group whose manager is met in a directory.
    #[must_use]
    pub fn at(name: &str, directory: &Path) -> Self {
        Self { name: name.to_owned(), directory: directory.to_path_buf() }
    }

    /// Makes the directory, for its owner alone, and `/run/gam` too, which kubelet may have made for the installer's mount.
    ///
    /// # Errors
    /// What mkdir(2) and chmod(2) answer.
    pub fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        match self.directory.parent() {
            Some(above) if above == Path::new(RUN_DIR) => close(above),
            // One that the environment names is somebody's own.
            _ => Ok(()),
        }
    }

    /// The manager's pid file.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.directory.join("pid")
    }

    /// Says that the manager lives, by the time of its pid file: `gam gc` leaves alone what has not been dead for a while.
    pub fn show_life(&self) {
        let now = fs::FileTimes::new().set_modified(SystemTime::now());
        if let Err(error) = fs::File::open(self.pid_file()).and_then(|file| file.set_times(now)) {
            tracing::debug!(directory = %self.directory.display(), %error, "no sign of life is given");
        }
    }

    /// The list of the sockets that the manager serves containerd on, a line each.
    #[must_use]
    pub fn sockets_file(&self) -> PathBuf {
        self.directory.join("sockets")
    }

    /// The control socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// The socket that metrics are read from.
    #[must_use]
    pub fn metrics_socket(&self) -> PathBuf {
        self.directory.join("metrics.sock")
    }

    /// The file for lines that belong to no container.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The file for what SIGUSR1 asks for.
    #[must_use]
    pub fn dump_file(&self) -> PathBuf {
        self.directory.join("dump")
    }

    /// Removes everything of the group. The lock is held, so nobody is about to join.
    pub fn remove(&self, _lock: &Lock) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "the group's directory is left");
        }
    }

    /// What a socket's name is made from: the group, and the containerd namespace that its calls are for.
    #[must_use]
    pub fn socket_key(&self, namespace: &str) -> String {
        format!("{}\0{namespace}", self.directory.display())
    }
}

/// Keeps others out of a directory.
fn close(directory: &Path) -> io::Result<()> {
    let mode = fs::metadata(directory)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
}

/// Where the groups' directories are: `$GAM_RUN_DIR`, else `/run/gam`.
#[must_use]
pub fn run_dir() -> PathBuf {
    std::env::var_os(RUN_DIR_VARIABLE)
        .filter(|path| !path.is_empty())
        .map_or_else(|| RUN_DIR.into(), PathBuf::from)
}

fn name(grouping: Grouping, namespace: &str, id: &str, spec: &Spec) -> String {
    if let Some(group) = spec.annotation(annotation::GROUP) {
        return format!("group {namespace} {group}");
    }
    match grouping {
        Grouping::Pod => format!("pod {namespace} {}", spec.annotation(annotation::SANDBOX_ID).unwrap_or(id)),
        Grouping::Namespace => match spec.annotation(annotation::SANDBOX_NAMESPACE) {
            Some(tenant) => format!("namespace {namespace} {tenant}"),
            None => format!("namespace {namespace}"),
        },
        Grouping::Node => "node".to_owned(),
    }
}

/// What tells one build from another: its version, and the size and time of the executable.
fn build() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match fs::metadata("/proc/self/exe") {
        Ok(file) => format!("{version} {} {} {}", file.size(), file.mtime(), file.mtime_nsec()),
        Err(_) => version.to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Spec {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn k9_a_directory_that_others_may_enter_is_closed() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        close(place.path()).unwrap();
        assert_eq!(fs::metadata(place.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_grouping_decides_who_shares_a_manager() {
        let a = spec(
            r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"p1","io.kubernetes.cri.sandbox-namespace":"t"}}"#,
        );
        let b = spec(
            r#"{"annotations":{"io.kubernetes.cri.sandbox-id":"p2","io.kubernetes.cri.sandbox-namespace":"t"}}"#,
        );
        let bare = Spec::default();
        let of = |grouping, spec: &Spec, id| Group::of(grouping, "/c.sock", "k8s.io", id, spec);
        assert_eq!(of(Grouping::Namespace, &a, "1"), of(Grouping::Namespace, &b, "2"));
        assert_ne!(of(Grouping::Pod, &a, "1"), of(Grouping::Pod, &b, "2"));
        assert_eq!(of(Grouping::Pod, &a, "1"), of(Grouping::Pod, &a, "2"));
        assert_ne!(of(Grouping::Namespace, &a, "1"), of(Grouping::Namespace, &bare, "1"));
        assert_eq!(of(Grouping::Namespace, &bare, "1"), of(Grouping::Namespace, &bare, "2"));
        assert_eq!(of(Grouping::Node, &a, "1"), of(Grouping::Node, &bare, "2"));
        let overridden = spec(r#"{"annotations":{"io.containerd.runc.v2.group":"g"}}"#);
        assert_eq!(of(Grouping::Pod, &overridden, "1"), of(Grouping::Node, &overridden, "2"));
    }

    #[test]
    fn k7_another_containerd_is_another_group() {
        let of = |address| Group::of(Grouping::Node, address, "ns", "1", &Spec::default());
        assert_ne!(of("/a.sock").directory, of("/b.sock").directory);
    }
}
