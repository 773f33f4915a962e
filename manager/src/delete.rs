//! `delete`: what containerd runs when a container's connection has closed, after every normal deletion too.
//!
//! It asks the manager first, which deletes what is still there and remembers what is not. Where the manager is dead, it
//! cleans up by the container's record; for a sandbox also what is recorded of the pod's other containers (K10).

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gam_task::cleanup;
use gam_task::exit::Exit;
use gam_task::id::{IdError, Key};
use gam_task::record::Record;
use gam_task::spec::Spec;
use protobuf::Message as _;

use crate::bootstrap;
use crate::cli::Flags;
use crate::config::{Config, ConfigError};
use crate::control::{Answer, Client, ControlError, Question};
use crate::group::{Group, Lock};
use crate::service::task::deleted;

/// How long the manager may take: containerd gives the whole command 5 s.
const PATIENCE: Duration = Duration::from_millis(3500);

/// Why nothing can be answered.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// A name that containerd would refuse too.
    #[error(transparent)]
    Id(#[from] IdError),
    /// The configuration is not understood.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The container cannot be cleaned up.
    #[error(transparent)]
    Cleanup(#[from] cleanup::CleanupError),
    /// The answer cannot be encoded or printed.
    #[error("cannot print the answer: {0}")]
    Print(io::Error),
}

/// Carries out `delete`: the answer is the only thing on stdout.
///
/// # Errors
/// [`DeleteError`]; nothing has been printed then.
pub fn run(flags: &Flags) -> Result<(), DeleteError> {
    let key = Key::new(&flags.namespace, &flags.id)?;
    let bundle = flags.bundle_dir().unwrap_or_default();
    let record = || {
        Record::read(&bundle).unwrap_or_else(|error| {
            eprintln!("{error}");
            None
        })
    };
    let (pid, exit) = match ask(flags, &key, &bundle, record().as_ref())? {
        Some(end) => end,
        // A manager that undid a creation meanwhile has written that down.
        None => alone(&key, &bundle, record())?,
    };
    let answer =
        deleted(pid, exit).write_to_bytes().map_err(|error| DeleteError::Print(io::Error::other(error)))?;
    io::stdout().lock().write_all(&answer).map_err(DeleteError::Print)
}

/// Asks the manager; none if it is dead or does not know the container.
fn ask(
    flags: &Flags,
    key: &Key,
    bundle: &Path,
    record: Option<&Record>,
) -> Result<Option<(u32, Exit)>, DeleteError> {
    let directory =
        match record.map(|record| record.group.clone()).filter(|group| !group.as_os_str().is_empty()) {
            Some(directory) => directory,
            None => {
                let spec = Spec::read(bundle).unwrap_or_default();
                Group::of(Config::load()?.grouping, &flags.address, &flags.namespace, &flags.id, &spec)
                    .directory
            }
        };
    let socket = Group::at("", &directory).control_socket();
    let Ok(mut client) = Client::connect(&socket, PATIENCE) else { return Ok(None) };
    let question = Question::Delete { namespace: key.namespace.to_string(), id: key.id.to_string() };
    match client.ask(&question) {
        Ok(Answer::Deleted { pid, exit }) => Ok(Some((pid, exit))),
        Ok(_) | Err(_) => Ok(None),
    }
}

/// Cleans up without a manager.
fn alone(key: &Key, bundle: &Path, record: Option<Record>) -> Result<(u32, Exit), DeleteError> {
    if let Some(record) = record.as_ref().filter(|record| record.deleted) {
        let pid = record.init.map_or(0, |init| init.pid.unsigned_abs());
        return Ok((pid, record.exit.unwrap_or_else(|| Exit::now(Exit::KILLED))));
    }
    bury_manager(bundle, record.as_ref());
    let is_sandbox = record.as_ref().is_some_and(|record| record.sandbox.as_deref() == Some(&key.id));
    let end = cleanup::container(key, bundle, record.as_ref())?;
    // A manager that lives still answers for the pod's other containers.
    let orphaned = record.as_ref().is_some_and(|record| is_dead(&Group::at("", &record.group)));
    if is_sandbox && orphaned {
        for (bundle, record) in siblings(key, bundle) {
            if let Err(error) = cleanup::container(&record.key, &bundle, Some(&record)) {
                eprintln!("{error}");
            }
        }
    }
    Ok(end)
}

/// Removes what a dead manager left of itself: its socket (D7), and its group's directory. Whoever has the lock has started
/// another, or is about to.
fn bury_manager(bundle: &Path, record: Option<&Record>) {
    let Some(record) = record.filter(|record| !record.group.as_os_str().is_empty()) else { return };
    let group = Group::at("", &record.group);
    let Ok(Some(lock)) = Lock::try_take(&group) else { return };
    if !is_dead(&group) {
        return;
    }
    let address = std::fs::read_to_string(bundle.join("address")).unwrap_or_default();
    if let Some(socket) = address.strip_prefix("unix://").map(Path::new)
        && socket.parent() == Some(Path::new(bootstrap::DEFAULT_DIR))
    {
        let _ = std::fs::remove_file(socket);
    }
    group.remove(&lock);
}

/// Whether no manager of a group is there.
fn is_dead(group: &Group) -> bool {
    matches!(Client::connect(&group.control_socket(), PATIENCE), Err(ControlError::Absent { .. }))
}

/// The other containers of a sandbox whose records lie beside its own.
fn siblings(key: &Key, bundle: &Path) -> Vec<(PathBuf, Record)> {
    let Some(Ok(entries)) = bundle.parent().map(std::fs::read_dir) else { return Vec::new() };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path != bundle)
        .filter_map(|path| Record::read(&path).ok().flatten().map(|record| (path, record)))
        .filter(|(_, record)| record.sandbox.as_deref() == Some(&key.id) && !record.deleted)
        .collect()
}
