//! Looking for what is left. Nothing is changed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gam_task::id::Key;
use gam_task::mount;
use gam_task::record::{FILE, Record};
use gam_task::sys::proc;

use super::life::{self, Life};
use crate::bootstrap::DEFAULT_DIR;
use crate::group::Group;
use crate::kept::{self, Kept};
use crate::operator::OperatorError;

/// Where a containerd has its bundles, in its state directory.
const BUNDLES: &str = "io.containerd.runtime.v2.task";

/// Something that a dead manager left.
#[derive(Debug)]
pub(super) struct Finding {
    /// What it is.
    pub(super) thing: Thing,
    /// The directory of the manager's group.
    pub(super) group: PathBuf,
    /// How long the manager has been dead, at most.
    pub(super) dead_for: Duration,
    /// What of it is there.
    pub(super) left: Vec<String>,
}

/// What can be left.
#[derive(Debug)]
pub(super) enum Thing {
    /// A container, by its record in a bundle.
    Container {
        /// The bundle.
        bundle: PathBuf,
        /// The record.
        record: Box<Record>,
    },
    /// A record that was kept for a sandbox's `delete`.
    Kept {
        /// The sandbox.
        sandbox: String,
        /// The container.
        key: Key,
        /// The record; none where that is in the bundle alone.
        record: Option<Box<Record>>,
        /// Its bundle; it may have gone.
        bundle: PathBuf,
    },
    /// A socket that containerd dialed.
    Socket(PathBuf),
    /// A group's directory.
    Group,
}

impl Thing {
    /// A word for it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Container { .. } => "container",
            Self::Kept { .. } => "record",
            Self::Socket(_) => "socket",
            Self::Group => "group",
        }
    }
}

impl Finding {
    /// What it is called.
    pub(super) fn name(&self) -> String {
        match &self.thing {
            Thing::Container { record, .. } => record.key.to_string(),
            Thing::Kept { key, .. } => key.to_string(),
            Thing::Socket(path) => path.display().to_string(),
            Thing::Group => self.group.display().to_string(),
        }
    }
}

/// Everything that is left, in the order in which it is to be removed: containers, their records, sockets, groups.
///
/// # Errors
/// [`OperatorError::Read`] if the groups in `run` cannot be listed.
pub(super) fn all(run: &Path, states: &[PathBuf]) -> Result<Vec<Finding>, OperatorError> {
    let groups = entries(run).map_err(|source| OperatorError::Read { path: run.to_path_buf(), source })?;
    let mut found = Vec::new();
    let mut sockets = BTreeSet::new();
    for bundle in states.iter().flat_map(|state| bundles(state)) {
        found.extend(container(&bundle, &mut sockets));
    }
    for directory in groups.iter().filter(|path| is_named(path, Some("kept"))) {
        found.extend(records(&directory.with_extension(""), states));
    }
    let mut dead = Vec::new();
    for directory in groups.iter().filter(|path| is_group(path)) {
        let Life::Dead(dead_for) = life::of_group(directory) else { continue };
        let listed = fs::read_to_string(Group::at("", directory).sockets_file()).unwrap_or_default();
        sockets.extend(listed.lines().map(|line| (directory.clone(), PathBuf::from(line), dead_for)));
        let left = entries(directory).unwrap_or_default();
        let left =
            left.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
        dead.push(Finding { thing: Thing::Group, group: directory.clone(), dead_for, left });
    }
    let mut known = BTreeSet::new();
    for (group, path, dead_for) in sockets {
        if known.insert(path.clone()) && life::is_stale(&path) {
            found.push(Finding { thing: Thing::Socket(path), group, dead_for, left: vec!["socket".into()] });
        }
    }
    found.extend(dead);
    Ok(found)
}

/// Whether a directory is a group's: it has a name as gam gives them, and what every manager makes first. Whatever else is
/// where groups are is not gam's.
pub(super) fn is_group(path: &Path) -> bool {
    is_named(path, None) && ["lock", "pid"].iter().any(|name| path.join(name).is_file())
}

fn is_named(path: &Path, extension: Option<&str>) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let is_hash = name.len() == Group::HASH && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash && path.extension().and_then(|found| found.to_str()) == extension
}

type Sockets = BTreeSet<(PathBuf, PathBuf, Duration)>;

/// What is left of the container of a bundle; none if it was deleted, or its manager lives.
fn container(bundle: &Path, sockets: &mut Sockets) -> Option<Finding> {
    let record = match Record::read(bundle) {
        Ok(record) => record?,
        Err(error) => {
            eprintln!("gam: {error}");
            return None;
        }
    };
    let Life::Dead(dead_for) = life::of_writer(&record.group, record.manager, &bundle.join(FILE)) else {
        return None;
    };
    let group = record.group.clone();
    let address = fs::read_to_string(bundle.join("address")).unwrap_or_default();
    if let Some(socket) = address.trim().strip_prefix("unix://").map(PathBuf::from)
        && socket.parent() == Some(Path::new(DEFAULT_DIR))
    {
        sockets.insert((group.clone(), socket, dead_for));
    }
    if record.deleted {
        return None;
    }
    let left = left(&record, bundle);
    let thing = Thing::Container { bundle: bundle.to_path_buf(), record: Box::new(record) };
    Some(Finding { thing, group, dead_for, left })
}

/// What is kept for a group whose manager is dead.
fn records(group: &Path, states: &[PathBuf]) -> Vec<Finding> {
    let found = kept::all(group).into_iter().filter_map(|Kept { sandbox, key, record }| {
        let place = kept::place(group, &key, &sandbox)?;
        let life = match &record {
            Some(record) => life::of_writer(&record.group, record.manager, &place.join(FILE)),
            None => life::of_maker(group, &place),
        };
        let Life::Dead(dead_for) = life else { return None };
        let bundle = bundle_of(&key, states);
        let left = record.as_ref().map_or_else(Vec::new, |record| left(record, &bundle));
        let thing = Thing::Kept { sandbox, key, record: record.map(Box::new), bundle };
        Some(Finding { thing, group: group.to_path_buf(), dead_for, left })
    });
    found.collect()
}

/// Where a container's bundle is, or would be.
fn bundle_of(key: &Key, states: &[PathBuf]) -> PathBuf {
    let place = |state: &PathBuf| state.join(BUNDLES).join(&*key.namespace).join(&*key.id);
    let there = states.iter().map(place).find(|bundle| bundle.exists());
    there.or_else(|| states.first().map(place)).unwrap_or_default()
}

/// What is there of what a record names.
fn left(record: &Record, bundle: &Path) -> Vec<String> {
    let mut left = vec!["record".to_owned()];
    if let Some(init) = record.init
        && proc::start_time(init.pid).is_ok_and(|start| start == init.start_time)
    {
        left.push(format!("process {}", init.pid));
    }
    if record.cgroup.as_ref().is_some_and(gam_task::cgroup::Cgroup::exists) {
        left.push("cgroup".to_owned());
    }
    if record.options.runtime_root(&record.key.namespace).join(&*record.key.id).exists() {
        left.push("runtime state".to_owned());
    }
    if mount::is_mounted(&bundle.join("rootfs")).unwrap_or(false) {
        left.push("mounts".to_owned());
    }
    left
}

/// The bundles in a containerd's state directory.
fn bundles(state: &Path) -> Vec<PathBuf> {
    let namespaces = entries(&state.join(BUNDLES)).unwrap_or_default();
    namespaces.iter().flat_map(|namespace| entries(namespace).unwrap_or_default()).collect()
}

/// What is in a directory, in order; nothing if it is not there.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = match fs::read_dir(directory) {
        Ok(entries) => entries.flatten().map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    found.sort();
    Ok(found)
}
