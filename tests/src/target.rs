//! What is tested, and on what: the switches of the suite, all in the environment.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The shim under test: `GAM_E2E_SHIM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shim {
    /// This project's.
    Gam,
    /// containerd's own, to prove that the suite is right.
    Go,
}

impl Shim {
    /// `gam` unless `GAM_E2E_SHIM` says `go`.
    ///
    /// # Panics
    /// Where it says something else.
    #[must_use]
    pub fn from_env() -> Self {
        match env::var("GAM_E2E_SHIM").as_deref() {
            Err(_) | Ok("" | "gam") => Self::Gam,
            Ok("go") => Self::Go,
            Ok(other) => panic!("GAM_E2E_SHIM is {other:?}; it is gam or go"),
        }
    }

    /// The runtime's name to containerd.
    #[must_use]
    pub fn runtime(self) -> &'static str {
        match self {
            Self::Gam => "io.containerd.gam.v2",
            Self::Go => "io.containerd.runc.v2",
        }
    }

    /// The binary that containerd looks for.
    #[must_use]
    pub fn binary_name(self) -> &'static str {
        match self {
            Self::Gam => "containerd-shim-gam-v2",
            Self::Go => "containerd-shim-runc-v2",
        }
    }
}

/// The containerd that runs it: `GAM_E2E_CONTAINERD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Containerd {
    /// The distribution's own.
    V1_6,
    /// Unpacked by `tests/unpack trixie containerd`.
    V1_7,
    /// Unpacked by `tests/unpack sid containerd`.
    V2_1,
}

impl Containerd {
    /// 1.6 unless `GAM_E2E_CONTAINERD` says 1.7 or 2.1.
    ///
    /// # Panics
    /// Where it says something else.
    #[must_use]
    pub fn from_env() -> Self {
        match env::var("GAM_E2E_CONTAINERD").as_deref() {
            Err(_) | Ok("" | "1.6") => Self::V1_6,
            Ok("1.7") => Self::V1_7,
            Ok("2.1") => Self::V2_1,
            Ok(other) => panic!("GAM_E2E_CONTAINERD is {other:?}; it is 1.6, 1.7 or 2.1"),
        }
    }

    /// Where its programs are.
    ///
    /// # Panics
    /// Where they are not unpacked.
    #[must_use]
    pub fn directory(self) -> PathBuf {
        let directory = match self {
            Self::V1_6 => PathBuf::from("/usr/bin"),
            Self::V1_7 => target().join("debian/trixie/usr/bin"),
            Self::V2_1 => target().join("debian/sid/usr/bin"),
        };
        assert!(
            directory.join("containerd").exists(),
            "{} has no containerd: run tests/unpack SUITE containerd",
            directory.display()
        );
        directory
    }
}

/// What gam's configuration begins with: managers stay a second; `GAM_E2E_TASK_API` says which Task service containerd is
/// told to call, 2 or 3.
#[must_use]
pub fn gam_configuration() -> String {
    let api = env::var("GAM_E2E_TASK_API").ok().filter(|number| !number.is_empty());
    let api = api.map(|number| format!("task_api = {number}\n")).unwrap_or_default();
    format!("linger = \"1s\"\n{api}")
}

/// The OCI runtime that containers have where a test does not choose: `GAM_E2E_RUNTIME`, a name in PATH or a path, such
/// as `crun`; none is containerd's default, runc.
#[must_use]
pub fn runtime() -> Option<String> {
    env::var("GAM_E2E_RUNTIME").ok().filter(|name| !name.is_empty())
}

/// The same, as what a test runs.
#[must_use]
pub fn runtime_program() -> String {
    runtime().unwrap_or_else(|| "runc".into())
}

/// The directory of the workspace.
///
/// # Panics
/// Never: the crate is inside it.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a workspace")
}

/// Cargo's target directory.
fn target() -> PathBuf {
    let named = env::var_os("CARGO_TARGET_DIR").filter(|path| !path.is_empty());
    named.map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The gam binary: `GAM_E2E_BINARY`, or the workspace's debug build.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn gam_binary() -> PathBuf {
    let path = env::var_os("GAM_E2E_BINARY").map_or_else(|| target().join("debug/gam"), PathBuf::from);
    assert!(path.exists(), "{} does not exist: cargo build, or set GAM_E2E_BINARY", path.display());
    path
}

/// The Go shim: `GAM_E2E_GO`, or the distribution's, of containerd 1.6, on every containerd.
#[must_use]
pub fn go_binary() -> PathBuf {
    env::var_os("GAM_E2E_GO").map_or_else(|| "/usr/bin/containerd-shim-runc-v2".into(), PathBuf::from)
}

/// Replaces the program `path` by another build of itself, as an installation does: written aside, and renamed. It does what
/// the first did, for what comes after the end of an ELF file is not looked at.
///
/// # Panics
/// Where it cannot be written.
pub fn another_build(path: &Path) {
    let aside = path.with_extension("new");
    let mut bytes = fs::read(path).expect("the build that is installed");
    bytes.extend_from_slice(b"another build\n");
    fs::write(&aside, bytes).expect("writing another build");
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).expect("its mode");
    fs::rename(&aside, path).expect("installing another build");
}
