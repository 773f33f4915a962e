//! `delete`: what containerd runs when a container's connection has closed, after every normal deletion too.
//!
//! It asks the manager first, which deletes what is still there and remembers what is not. Where the manager is dead, it
//! cleans up by the container's record; for a sandbox also what is recorded of the pod's other containers (K10).

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use gam_task::cleanup;
use gam_task::exit::Exit;
use gam_task::id::{IdError, Key};
use gam_task::mount;
use gam_task::record::Record;
use gam_task::spec::Spec;
use protobuf::Message as _;

use crate::bootstrap;
use crate::cli::Flags;
use crate::config::{Config, ConfigError};
use crate::control::{Answer, Client, ControlError, Question};
use crate::group::{Group, Lock};
use crate::kept;
use crate::service::task::deleted;

/// How long the manager may take.
const PATIENCE: Duration = Duration::from_millis(3500);
/// How long all may take: containerd kills the command after 5 s, and then knows neither the pid nor the end, and leaves the
/// bundle. On a machine that is short of time some of them pass before the command has begun.
const LIMIT: Duration = Duration::from_millis(3500);

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
    let since = Instant::now();
    let key = Key::new(&flags.namespace, &flags.id)?;
    let bundle = flags.bundle_dir().unwrap_or_default();
    let (pid, exit) = end(flags, &key, &bundle, since)?;
    let answer =
        deleted(pid, exit).write_to_bytes().map_err(|error| DeleteError::Print(io::Error::other(error)))?;
    io::stdout().lock().write_all(&answer).map_err(DeleteError::Print)
}

/// What a bundle tells of its container.
enum Found {
    /// Its record.
    Record(Box<Record>),
    /// There is none: nothing was made, for the record comes before everything else.
    Nothing,
    /// There is one that is not understood.
    Unreadable,
}

impl Found {
    fn read(bundle: &Path) -> Self {
        match Record::read(bundle) {
            Ok(Some(record)) => Self::Record(Box::new(record)),
            Ok(None) => Self::Nothing,
            Err(error) => {
                eprintln!("{error}");
                Self::Unreadable
            }
        }
    }

    fn record(&self) -> Option<&Record> {
        match self {
            Self::Record(record) => Some(record),
            Self::Nothing | Self::Unreadable => None,
        }
    }

    /// Forgets the record's other name, now that the container has been seen to.
    fn forget(&self) {
        if let Some(record) = self.record()
            && let Some(sandbox) = &record.sandbox
        {
            kept::forget(&record.group, &record.key, sandbox);
        }
    }

    /// Init's pid and end as recorded; killed, if no end is.
    fn end(&self) -> (u32, Exit) {
        let pid = self.record().and_then(|record| record.init).map_or(0, |init| init.pid.unsigned_abs());
        let exit = self.record().and_then(|record| record.exit);
        (pid, exit.unwrap_or_else(|| Exit::now(Exit::KILLED)))
    }
}

/// Sees to the container's end.
fn end(flags: &Flags, key: &Key, bundle: &Path, since: Instant) -> Result<(u32, Exit), DeleteError> {
    let found = Found::read(bundle);
    if found.record().is_some_and(|record| record.deleted) {
        found.forget();
        return Ok(found.end());
    }
    match ask(flags, key, bundle, &found)? {
        Some(Answer::Deleted { pid, exit }) => Ok((pid, exit)),
        // An earlier container of that id is meant, which has gone: the one that is there now is not touched.
        Some(Answer::Another) => Ok(found.end()),
        // A manager that undid a creation meanwhile has written that down.
        _ => alone(key, bundle, Found::read(bundle), since).inspect(|_| found.forget()),
    }
}

/// Asks the manager; none if it is dead.
fn ask(flags: &Flags, key: &Key, bundle: &Path, found: &Found) -> Result<Option<Answer>, DeleteError> {
    let recorded = found.record().map(|record| record.group.clone());
    let directory = match recorded.filter(|group| !group.as_os_str().is_empty()) {
        Some(directory) => directory,
        None => {
            let spec = Spec::read(bundle).unwrap_or_default();
            Group::of(Config::load()?.grouping, &flags.address, &flags.namespace, &flags.id, &spec).directory
        }
    };
    let socket = Group::at("", &directory).control_socket();
    let Ok(mut client) = Client::connect(&socket, PATIENCE) else { return Ok(None) };
    let (namespace, id) = (key.namespace.to_string(), key.id.to_string());
    Ok(client.ask(&Question::Delete { namespace, id, pid: found.end().0 }).ok())
}

/// Cleans up without a manager.
fn alone(key: &Key, bundle: &Path, found: Found, since: Instant) -> Result<(u32, Exit), DeleteError> {
    match &found {
        Found::Record(record) if record.deleted => return Ok(found.end()),
        Found::Nothing if !bundle.join("init.pid").exists() => {
            mount::unmount_all(&bundle.join("rootfs")).map_err(cleanup::CleanupError::from)?;
            return Ok(found.end());
        }
        Found::Record(_) | Found::Nothing | Found::Unreadable => {}
    }
    let record = found.record().cloned();
    // Read before anything else takes its time: containerd may remove their bundles meanwhile.
    let orphans = record.as_ref().map(|record| orphans(key, bundle, record)).unwrap_or_default();
    // That they end comes before what they leave.
    record.iter().chain(orphans.iter().map(|(_, record)| record)).for_each(cleanup::kill_now);
    bury_manager(bundle, record.as_ref());
    let (sender, cleaned) = mpsc::channel();
    let (key, bundle) = (key.clone(), bundle.to_path_buf());
    thread::spawn(move || drop(sender.send(clean_up(&key, &bundle, record.as_ref(), orphans))));
    match cleaned.recv_timeout(LIMIT.saturating_sub(since.elapsed())) {
        Ok(end) => Ok(end?),
        // Everything has been killed. The runtime, which removes what is left of that, goes on without us.
        Err(_) => Ok(found.end()),
    }
}

/// Removes what a container and its orphans leave.
fn clean_up(
    key: &Key,
    bundle: &Path,
    record: Option<&Record>,
    orphans: Vec<(PathBuf, Record)>,
) -> Result<(u32, Exit), cleanup::CleanupError> {
    let end = cleanup::container(key, bundle, record);
    for (bundle, record) in orphans {
        if let Err(error) = cleanup::container(&record.key, &bundle, Some(&record)) {
            eprintln!("{error}");
        }
        kept::forget(&record.group, &record.key, &key.id);
    }
    end
}

/// The other containers of a sandbox for which containerd runs no `delete`, and nobody answers any more; a manager that
/// lives does.
fn orphans(key: &Key, bundle: &Path, record: &Record) -> Vec<(PathBuf, Record)> {
    if record.sandbox.as_deref() != Some(&*key.id) {
        return Vec::new();
    }
    let mut orphans = Vec::new();
    for (other, kept) in kept::of(&record.group, &key.namespace, &key.id) {
        let bundle = bundle.with_file_name(&*other.id);
        let found = match Record::read(&bundle) {
            // A bundle without a record is not gam's.
            Ok(None) => kept.filter(|_| !bundle.exists()),
            Ok(found) => found.filter(|found| !found.deleted && found.sandbox == record.sandbox),
            Err(_) => None,
        };
        match found {
            Some(found) => orphans.push((bundle, found)),
            // It has been deleted in order, or was never made.
            None => kept::forget(&record.group, &other, &key.id),
        }
    }
    orphans.retain(|(_, record)| is_orphaned(record));
    orphans
}

/// Whether the manager that wrote a record is there no more; another may be, of the same group.
fn is_orphaned(record: &Record) -> bool {
    let group = Group::at("", &record.group);
    let pid = std::fs::read_to_string(group.pid_file()).ok().and_then(|text| text.trim().parse::<u32>().ok());
    pid != Some(record.manager) || is_dead(&group)
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
