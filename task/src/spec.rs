//! The few facts of a bundle's `config.json` that a shim needs; the rest is the runtime's.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The longest `config.json` that is read, in bytes.
pub const MOST: u64 = 16 << 20;

/// Why a spec is not known. The message holds nothing of what the file says.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is longer than [`MOST`].
    #[error("{0} is longer than {MOST} bytes")]
    TooLong(PathBuf),
    /// The file is no spec.
    #[error("{path} is not understood at line {line}, column {column}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
}

/// What a shim wants to know of a container's spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// The annotations, which say what pod the container belongs to.
    #[serde(deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    linux: Linux,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Linux {
    #[serde(deserialize_with = "or_default")]
    namespaces: Vec<Namespace>,
    #[serde(deserialize_with = "or_default")]
    cgroups_path: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

/// Go writes `null` for what is empty.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Spec {
    /// Reads the `config.json` of a bundle.
    ///
    /// # Errors
    /// [`SpecError`] says what is wrong with the file.
    pub fn read(bundle: &Path) -> Result<Self, SpecError> {
        let path = bundle.join("config.json");
        let mut text = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(MOST.saturating_add(1)).read_to_end(&mut text))
            .map_err(|source| SpecError::Read { path: path.clone(), source })?;
        if u64::try_from(text.len()).is_ok_and(|length| length > MOST) {
            return Err(SpecError::TooLong(path));
        }
        Self::parse(&text, path)
    }

    /// Reads `text`, which is what the file at `path` holds.
    ///
    /// # Errors
    /// [`SpecError::Malformed`] where it is no spec.
    pub fn parse(text: &[u8], path: PathBuf) -> Result<Self, SpecError> {
        serde_json::from_slice(text).map_err(|error| SpecError::Malformed {
            path,
            line: error.line(),
            column: error.column(),
        })
    }

    /// Whether processes may outlive init: the kernel kills them with it only in a pid namespace of their own.
    #[must_use]
    pub fn has_survivors(&self) -> bool {
        !self.linux.namespaces.iter().any(|namespace| namespace.kind == "pid" && namespace.path.is_empty())
    }

    /// The cgroup asked for: a path, or `slice:prefix:name` for systemd.
    #[must_use]
    pub fn cgroups_path(&self) -> &str {
        &self.linux.cgroups_path
    }

    /// An annotation, if it is there and not empty.
    #[must_use]
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// The annotations that kubelet's containers have, and containerd's own for grouping.
pub mod annotation {
    /// `sandbox` for a pod's first container, `container` for the others.
    pub const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";
    /// The id of the pod's sandbox.
    pub const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";
    /// The Kubernetes namespace of the pod.
    pub const SANDBOX_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";
    /// Overrides the group.
    pub const GROUP: &str = "io.containerd.runc.v2.group";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Spec, SpecError> {
        let bundle = tempfile::tempdir().unwrap();
        std::fs::write(bundle.path().join("config.json"), text).unwrap();
        Spec::read(bundle.path())
    }

    #[test]
    fn a6_only_a_private_pid_namespace_keeps_processes_from_surviving() {
        let private = r#"{"linux":{"namespaces":[{"type":"mount"},{"type":"pid"}],"cgroupsPath":"/a"}}"#;
        let shared =
            r#"{"linux":{"namespaces":[{"type":"pid","path":"/proc/1/ns/pid"}]},"annotations":null}"#;
        assert!(!read(private).unwrap().has_survivors());
        assert_eq!(read(private).unwrap().cgroups_path(), "/a");
        assert!(read(shared).unwrap().has_survivors());
        assert!(read("{}").unwrap().has_survivors());
        assert!(read(r#"{"linux":null}"#).unwrap().has_survivors());
    }

    #[test]
    fn j10_an_error_shows_nothing_of_the_spec() {
        let error = read(r#"{"annotations": {"token": s3cret}}"#).unwrap_err();
        assert!(!format!("{error:?}{error}").contains("s3cret"), "{error:?}");
        assert!(matches!(read("").unwrap_err(), SpecError::Malformed { .. }));
        assert!(matches!(Spec::read(Path::new("/nonexistent")).unwrap_err(), SpecError::Read { .. }));
    }
}
