//! The manager of a pod that runs: its later containers go there too, though by now another build of gam is installed.
//!
//! The build is part of what tells groups apart, so that new pods get the new one. A container that joins a pod would be
//! served by a second manager then, whose life and memory the pod does not need.

use std::path::Path;

use gam_task::id::Key;
use gam_task::record::Record;
use gam_task::spec::{Spec, annotation};

use crate::cli::Flags;
use crate::config::Grouping;
use crate::group::Group;

/// Where the sandbox of a container is served, if that is not `group`, to which the container belongs. A sandbox that the
/// configuration would put into another group than its container is not followed.
pub(super) fn elsewhere(
    flags: &Flags,
    grouping: Grouping,
    bundle: &Path,
    spec: &Spec,
    group: &Group,
) -> Option<Group> {
    let sandbox = spec.annotation(annotation::SANDBOX_ID).filter(|sandbox| *sandbox != flags.id)?;
    // The id becomes a part of a path (K8).
    let key = Key::new(&flags.namespace, sandbox).ok()?;
    let beside = bundle.with_file_name(&*key.id);
    let record = Record::read(&beside).ok().flatten()?;
    let served = record.group.is_absolute() && record.group != group.directory && !record.deleted;
    let own = Spec::read(&beside).ok().filter(|_| served)?;
    let belongs = Group::of(grouping, &flags.address, &flags.namespace, &key.id, &own);
    (belongs == *group).then(|| Group::at(&group.name, &record.group))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A sandbox `s` that the manager of `/run/gam/old` serves, and what a container of its pod is told.
    fn told(sandbox: &str, deleted: bool) -> Option<Group> {
        let place = tempfile::tempdir().unwrap();
        let spec = |id: &str, tenant: &str| {
            format!(
                r#"{{"annotations":{{"io.kubernetes.cri.sandbox-id":"{id}","io.kubernetes.cri.sandbox-namespace":"{tenant}"}}}}"#
            )
        };
        for (id, tenant) in [("s", "red"), ("other", "blue")] {
            let bundle = place.path().join(id);
            fs::create_dir(&bundle).unwrap();
            fs::write(bundle.join("config.json"), spec(id, tenant)).unwrap();
            let record = format!(
                r#"{{"format":1,"key":{{"namespace":"ns","id":"{id}"}},"manager":1,"group":"/run/gam/old","sandbox":"{id}","options":{},"rootfs":[],"streams":{{"terminal":false,"stdin":"","stdout":"","stderr":""}},"checkpoint":"","init":null,"cgroup":null,"state":"running","exit":null,"execs":[],"deleted":{deleted}}}"#,
                serde_json::to_string(&gam_task::options::Options::default()).unwrap()
            );
            fs::write(bundle.join(gam_task::record::FILE), record).unwrap();
        }
        let flags =
            Flags { namespace: "ns".into(), id: "c".into(), address: "/c.sock".into(), ..Flags::default() };
        let spec: Spec = serde_json::from_str(&spec(sandbox, "red")).unwrap();
        let group = Group::of(Grouping::Namespace, "/c.sock", "ns", "c", &spec);
        elsewhere(&flags, Grouping::Namespace, &place.path().join("c"), &spec, &group)
    }

    #[test]
    fn h1_a_container_follows_its_sandbox_to_the_manager_of_another_build() {
        assert_eq!(told("s", false).unwrap().directory, Path::new("/run/gam/old"));
        assert_eq!(told("s", true), None, "it has been deleted");
        assert_eq!(told("other", false), None, "it is of another group");
        assert_eq!(told("missing", false), None);
        assert_eq!(told("../s", false), None);
        assert_eq!(told("c", false), None, "it is its own sandbox");
    }
}
