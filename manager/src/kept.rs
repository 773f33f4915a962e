//! Records of containers for which containerd will not run `delete`, kept where their bundle's end does not reach them.
//!
//! With task v3 containerd runs `start` and `delete` for a pod's sandbox only. If the manager dies, it drops the bundles of
//! the pod's other containers within a millisecond, and their records with them, before the sandbox's `delete` has begun.
//! So those records have a second name, beside the group's directory: `GROUP.kept/NAMESPACE/SANDBOX/CONTAINER/gam.json`.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use gam_task::id::Key;
use gam_task::record::{FILE, Record};

/// How often a directory is made that another's end removes at the same time.
const TRIES: usize = 5;

/// Notes that a container of `sandbox` is about to be made, whose record is in its bundle alone until it is kept.
///
/// # Errors
/// What the kernel answers.
pub fn expect(group: &Path, key: &Key, sandbox: &str) -> io::Result<PathBuf> {
    let Some(above) = of_sandbox(group, &key.namespace, sandbox) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the sandbox's id is none"));
    };
    let directory = above.join(&*key.id);
    let mut made = make(&directory);
    for _ in 0..TRIES {
        match &made {
            // Another container's end has just removed a directory above.
            Err(error) if error.kind() == io::ErrorKind::NotFound => made = make(&directory),
            _ => break,
        }
    }
    made.map(|()| directory)
}

/// Keeps the record of a container of `sandbox` as it is now.
///
/// # Errors
/// What the kernel answers.
pub fn keep(group: &Path, key: &Key, sandbox: &str, bundle: &Path) -> io::Result<()> {
    let directory = expect(group, key, sandbox)?;
    let (from, to) = (bundle.join(FILE), directory.join(FILE));
    let _ = fs::remove_file(&to);
    // The record's file is only ever replaced, so a link keeps what it holds now. On another file system it is copied.
    fs::hard_link(&from, &to)
        .or_else(|_| fs::copy(&from, &to).map(drop))
        .inspect_err(|_| forget(group, key, sandbox))
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Forgets a container; one that was never kept is no error.
pub fn forget(group: &Path, key: &Key, sandbox: &str) {
    let Some(sandbox) = of_sandbox(group, &key.namespace, sandbox) else { return };
    let directory = sandbox.join(&*key.id);
    let _ = fs::remove_file(directory.join(FILE));
    // Each goes with the last that was in it.
    for directory in directory.ancestors().take(4) {
        if fs::remove_dir(directory).is_err() {
            return;
        }
    }
}

/// The containers of a sandbox that are kept, each with its record unless that is in its bundle alone.
#[must_use]
pub fn of(group: &Path, namespace: &str, sandbox: &str) -> Vec<(Key, Option<Record>)> {
    let directory = of_sandbox(group, namespace, sandbox);
    let entries = directory.map(fs::read_dir).into_iter().flatten().flatten().flatten();
    let of = |entry: fs::DirEntry| {
        let key = Key::new(namespace, entry.file_name().to_str()?).ok()?;
        let record = Record::read(&entry.path()).ok().flatten().filter(|record| record.key == key);
        Some((key, record))
    };
    entries.filter_map(of).collect()
}

/// Where the record of a container of `sandbox` is kept; none if the sandbox's name is none.
#[must_use]
pub fn place(group: &Path, key: &Key, sandbox: &str) -> Option<PathBuf> {
    Some(of_sandbox(group, &key.namespace, sandbox)?.join(&*key.id))
}

/// Every record that is kept for a group, and the sandbox that it is kept for.
#[must_use]
pub fn all(group: &Path) -> Vec<(String, Record)> {
    let below = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let sandboxes =
        below(&group.with_extension("kept")).flat_map(|namespace| below(&namespace).collect::<Vec<_>>());
    let containers = sandboxes.flat_map(|sandbox| {
        let name = sandbox.file_name().unwrap_or_default().to_string_lossy().into_owned();
        below(&sandbox).map(move |container| (name.clone(), container)).collect::<Vec<_>>()
    });
    containers.filter_map(|(sandbox, path)| Some((sandbox, Record::read(&path).ok().flatten()?))).collect()
}

/// The directory of a sandbox; none if the annotation that names it holds no id, which could lead elsewhere (K8).
fn of_sandbox(group: &Path, namespace: &str, sandbox: &str) -> Option<PathBuf> {
    let key = Key::new(namespace, sandbox).ok()?;
    Some(group.with_extension("kept").join(&*key.namespace).join(&*key.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k10_a_record_outlives_its_bundle_and_goes_when_it_is_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let (group, bundle) = (place.path().join("0123"), place.path().join("bundle"));
        fs::create_dir(&bundle).unwrap();
        let key = |id: &str| Key::new("ns", id).unwrap();
        for id in ["a", "b"] {
            let text = format!(
                r#"{{"format":1,"key":{{"namespace":"ns","id":"{id}"}},"manager":1,"group":"/g","sandbox":"s","options":{},"rootfs":[],"streams":{{"terminal":false,"stdin":"","stdout":"","stderr":""}},"checkpoint":"","init":null,"cgroup":null,"state":"created","exit":null,"execs":[],"deleted":false}}"#,
                serde_json::to_string(&gam_task::options::Options::default()).unwrap()
            );
            gam_task::record::replace(&bundle.join(FILE), text.as_bytes(), 0o600).unwrap();
            keep(&group, &key(id), "s", &bundle).unwrap();
        }
        fs::remove_dir_all(&bundle).unwrap();
        expect(&group, &key("early"), "s").unwrap();
        let mut found = of(&group, "ns", "s");
        found.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
        let ids: Vec<(&str, bool)> = found.iter().map(|(key, record)| (&*key.id, record.is_some())).collect();
        assert_eq!(ids, [("a", true), ("b", true), ("early", false)]);
        forget(&group, &key("early"), "s");
        assert!(of(&group, "ns", "other").is_empty());
        let mut all: Vec<_> =
            all(&group).into_iter().map(|(sandbox, record)| (sandbox, record.key)).collect();
        all.sort();
        assert_eq!(all, [("s".to_owned(), key("a")), ("s".to_owned(), key("b"))]);
        forget(&group, &key("a"), "s");
        forget(&group, &key("never"), "s");
        assert!(keep(&group, &key("c"), "../../elsewhere", place.path()).is_err());
        assert!(keep(&group, &key("c"), "s", &place.path().join("gone")).is_err(), "its bundle has gone");
        assert_eq!(of(&group, "ns", "s").len(), 1);
        forget(&group, &key("b"), "s");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing of it is left");
    }
}
