//! The shim under test.

use std::path::{Path, PathBuf};

/// Which one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// This project's.
    Gam,
    /// containerd's own, as Debian packages it.
    Go,
}

impl Subject {
    /// The one that `GAM_E2E_SHIM` names.
    ///
    /// # Panics
    /// If it names none.
    #[must_use]
    pub fn chosen() -> Self {
        match std::env::var("GAM_E2E_SHIM").as_deref() {
            Err(_) | Ok("" | "gam") => Self::Gam,
            Ok("go") => Self::Go,
            Ok(other) => panic!("GAM_E2E_SHIM is {other:?}: neither gam nor go"),
        }
    }

    /// Its binary, under the name containerd would call it by.
    pub(super) fn binary(self, directory: &Path) -> PathBuf {
        if self == Self::Go {
            return PathBuf::from("/usr/bin/containerd-shim-runc-v2");
        }
        let source = std::env::var_os("GAM_E2E_BINARY").map_or_else(|| built("gam"), PathBuf::from);
        let name = directory.join("containerd-shim-gam-v2");
        if std::fs::hard_link(&source, &name).is_err() {
            let copied = std::fs::copy(&source, &name);
            copied.unwrap_or_else(|error| panic!("no binary of gam at {}: {error}", source.display()));
        }
        name
    }
}

/// A binary of this workspace, beside the running test.
pub(super) fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the running test has a path");
    let directory = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    directory.join(name)
}
