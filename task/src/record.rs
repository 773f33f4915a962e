//! What is known of a container, on disk: `gam.json` in its bundle.
//!
//! It is what a successor needs (`delete` of a dead manager's container is one), so it is written before the answer that
//! tells of what it holds. The file is JSON in one line, mode 0600, replaced by rename, not synced: it has to survive the
//! manager, not the machine, whose restart ends every container anyway. Fields are added, never changed; a reader
//! refuses a format that is newer than its own.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::exit::Exit;
use crate::id::Key;
use crate::mount::Mount;
use crate::options::Options;

/// The file's name in a bundle.
pub const FILE: &str = "gam.json";
/// The format that is written.
pub const FORMAT: u32 = 1;

/// Why a record is not known.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be read or written.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is no record.
    #[error("{path} is no record of a container")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where it is not understood.
        source: serde_json::Error,
    },
    /// The file is of a later gam.
    #[error("{path} has format {format}, later than {FORMAT}")]
    Later {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
}

/// A process, named so that a recycled pid is not taken for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessName {
    /// Its pid.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

/// The standard streams a process was asked to have, as URIs; empty for none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamNames {
    /// Whether the process has a terminal.
    pub terminal: bool,
    /// Where its input comes from.
    pub stdin: String,
    /// Where its output goes.
    pub stdout: String,
    /// Where its complaints go.
    pub stderr: String,
}

/// An exec that has been started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRecord {
    /// Its id.
    pub id: String,
    /// Its process, once it has one.
    pub process: Option<ProcessName>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Its streams.
    pub streams: StreamNames,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The format of the file.
    pub format: u32,
    /// Whose record it is.
    pub key: Key,
    /// The pid of the manager that wrote it.
    pub manager: u32,
    /// The directory of the manager's group.
    pub group: PathBuf,
    /// The id of the sandbox it belongs to; its own for a sandbox, none outside of Kubernetes.
    pub sandbox: Option<String>,
    /// How the runtime is called for it.
    pub options: Options,
    /// What is mounted as its root file system, at `rootfs` in the bundle, without options: they may hold a password, and what
    /// is there is unmounted whatever they were.
    pub rootfs: Vec<Mount>,
    /// Its streams.
    pub streams: StreamNames,
    /// The checkpoint it is restored from; empty for none.
    pub checkpoint: String,
    /// The word for its state.
    pub state: String,
    /// Its first process, once it has one.
    pub init: Option<ProcessName>,
    /// How init ended.
    pub exit: Option<Exit>,
    /// Its execs.
    pub execs: Vec<ExecRecord>,
    /// Its cgroup.
    pub cgroup: Option<Cgroup>,
    /// Whether it has been deleted: then there is nothing left to clean up.
    pub deleted: bool,
}

impl Record {
    /// Reads the record of a bundle; none if it has none.
    ///
    /// # Errors
    /// [`RecordError`] says what is wrong with the file.
    pub fn read(bundle: &Path) -> Result<Option<Self>, RecordError> {
        let path = bundle.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RecordError::File { action: "read", path, source }),
        };
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let malformed = |source| RecordError::Malformed { path: path.clone(), source };
        let Format { format } = serde_json::from_slice(&text).map_err(malformed)?;
        if format > FORMAT {
            return Err(RecordError::Later { path, format });
        }
        serde_json::from_slice(&text).map(Some).map_err(malformed)
    }

    /// Writes the record into a bundle. A bundle that has gone is not made again (D10).
    ///
    /// # Errors
    /// [`RecordError`] says what the kernel refused.
    pub fn write(&self, bundle: &Path) -> Result<(), RecordError> {
        let path = bundle.join(FILE);
        let text = serde_json::to_vec(self)
            .map_err(|source| RecordError::Malformed { path: path.clone(), source })?;
        replace(&path, &text, 0o600).map_err(|source| RecordError::File { action: "write", path, source })
    }
}

/// Replaces a file by one with this content and mode, in one step.
///
/// # Errors
/// What open(2), write(2) and rename(2) answer.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let new = path.with_file_name(name);
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&new)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn record() -> Record {
        Record {
            format: FORMAT,
            key: Key::new("ns", "c").unwrap(),
            manager: 1,
            group: "/run/gam/g".into(),
            sandbox: Some("pod".into()),
            options: Options::default(),
            rootfs: vec![Mount { kind: "bind".into(), ..Mount::default() }],
            streams: StreamNames { stdout: "/fifo".into(), ..StreamNames::default() },
            checkpoint: String::new(),
            state: "running".into(),
            init: Some(ProcessName { pid: 7, start_time: 9 }),
            exit: Some(Exit::now(3)),
            execs: Vec::new(),
            cgroup: None,
            deleted: false,
        }
    }

    #[test]
    fn what_is_written_is_read_and_only_its_owner_may() {
        let bundle = tempfile::tempdir().unwrap();
        assert_eq!(Record::read(bundle.path()).unwrap(), None);
        record().write(bundle.path()).unwrap();
        assert_eq!(
            Record::read(bundle.path()).unwrap(),
            Some(record()).map(|mut expected| {
                expected.exit = Record::read(bundle.path()).unwrap().unwrap().exit;
                expected
            })
        );
        let mode = fs::metadata(bundle.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(bundle.path()).unwrap().count(), 1);
    }

    #[test]
    fn d10_a_removed_bundle_is_not_made_again() {
        let bundle = tempfile::tempdir().unwrap();
        let gone = bundle.path().join("gone");
        assert!(record().write(&gone).is_err());
        assert!(!gone.exists());
    }

    #[test]
    fn a_later_format_and_garbage_are_refused() {
        let bundle = tempfile::tempdir().unwrap();
        fs::write(bundle.path().join(FILE), r#"{"format":2,"what":1}"#).unwrap();
        assert!(matches!(Record::read(bundle.path()), Err(RecordError::Later { format: 2, .. })));
        for garbage in ["", "{", "[]", r#"{"format":1}"#] {
            fs::write(bundle.path().join(FILE), garbage).unwrap();
            assert!(matches!(Record::read(bundle.path()), Err(RecordError::Malformed { .. })), "{garbage}");
        }
    }
}
