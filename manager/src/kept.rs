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

/// Keeps the record of a container of `sandbox` as it is now.
///
/// # Errors
/// What the kernel answers.
pub fn keep(group: &Path, key: &Key, sandbox: &str, bundle: &Path) -> io::Result<()> {
    let directory = of_sandbox(group, &key.namespace, sandbox).join(&*key.id);
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    let (from, to) = (bundle.join(FILE), directory.join(FILE));
    let _ = fs::remove_file(&to);
    // The record's file is only ever replaced, so a link keeps what it holds now. On another file system it is copied.
    fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(drop))
}

/// Forgets a container; one that was never kept is no error.
pub fn forget(group: &Path, key: &Key, sandbox: &str) {
    let sandbox = of_sandbox(group, &key.namespace, sandbox);
    let directory = sandbox.join(&*key.id);
    if fs::remove_file(directory.join(FILE)).is_err() {
        return;
    }
    let _ = fs::remove_dir(&directory);
    // Each goes with the last that was in it.
    for above in sandbox.ancestors().take(3) {
        if fs::remove_dir(above).is_err() {
            return;
        }
    }
}

/// The containers of a sandbox that are kept.
#[must_use]
pub fn of(group: &Path, namespace: &str, sandbox: &str) -> Vec<Record> {
    let entries = fs::read_dir(of_sandbox(group, namespace, sandbox)).into_iter().flatten().flatten();
    entries.filter_map(|entry| Record::read(&entry.path()).ok().flatten()).collect()
}

fn of_sandbox(group: &Path, namespace: &str, sandbox: &str) -> PathBuf {
    group.with_extension("kept").join(namespace).join(sandbox)
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
        let mut ids: Vec<String> =
            of(&group, "ns", "s").iter().map(|record| record.key.id.to_string()).collect();
        ids.sort();
        assert_eq!(ids, ["a", "b"]);
        assert!(of(&group, "ns", "other").is_empty());
        forget(&group, &key("a"), "s");
        forget(&group, &key("never"), "s");
        assert_eq!(of(&group, "ns", "s").len(), 1);
        forget(&group, &key("b"), "s");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0, "nothing of it is left");
    }
}
