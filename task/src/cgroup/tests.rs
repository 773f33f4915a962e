//! Cgroups on trees written by hand and on the machine's own.

mod fixture;
mod v1;
mod v2;

use super::*;

#[test]
fn a_record_keeps_where_it_is() {
    let v2 = r#"{"":"/sys/fs/cgroup/a.slice/b.scope"}"#;
    let cgroup: Cgroup = serde_json::from_str(v2).unwrap();
    assert!(cgroup.is_v2());
    assert_eq!(serde_json::to_string(&cgroup).unwrap(), v2);
    let v1 = r#"{"cpu":"/sys/fs/cgroup/cpu,cpuacct/b","cpuacct":"/sys/fs/cgroup/cpu,cpuacct/b"}"#;
    let cgroup: Cgroup = serde_json::from_str(v1).unwrap();
    assert!(!cgroup.is_v2());
    assert_eq!(serde_json::to_string(&cgroup).unwrap(), v1);
    assert_eq!(cgroup.directories(), [Path::new("/sys/fs/cgroup/cpu,cpuacct/b")]);
    // A hybrid machine's record, in which the empty v2 hierarchy has its place too.
    let hybrid: Cgroup = serde_json::from_str(r#"{"":"/sys/fs/cgroup/unified/b","pids":"/p/b"}"#).unwrap();
    assert_eq!(serde_json::to_string(&hybrid).unwrap(), r#"{"pids":"/p/b"}"#);
    for bad in [r#"{}"#, r#"{"":"relative"}"#, r#"{"cpu":"/sys/fs/cgroup/cpu/../../../etc"}"#, r#"{"":""}"#] {
        assert!(serde_json::from_str::<Cgroup>(bad).is_err(), "{bad}");
    }
}

#[test]
fn e8_a_cgroup_that_never_was_is_gone() {
    for controller in ["", "memory"] {
        let path = PathBuf::from("/sys/fs/cgroup/gam-never");
        let cgroup = Cgroup::from_paths(BTreeMap::from([(controller.to_owned(), path)])).unwrap();
        assert!(!cgroup.exists());
        assert!(matches!(cgroup.stats(), Err(CgroupError::Gone { .. })));
        assert!(cgroup.processes().unwrap().is_empty());
        assert!(cgroup.kill_all().is_ok());
    }
}

#[tokio::test]
async fn what_is_no_containers_cgroup_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("empty");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(directory.path().join("cgroup.freeze"), "").unwrap();
    let own = Host::live().own_directories().unwrap();
    for path in std::iter::once(directory.path().to_owned()).chain(own) {
        let cgroup = Cgroup::from_paths(BTreeMap::from([(String::new(), path.clone())])).unwrap();
        for outcome in [cgroup.freeze(), cgroup.thaw(), cgroup.kill_all()] {
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::PermissionDenied, "{}", path.display());
        }
        assert!(!cgroup.remove(Duration::from_secs(5)).await);
        assert!(path.exists());
    }
    assert!(inner.exists());
}

#[test]
fn a_process_in_our_own_cgroup_has_none_of_its_own() {
    let own = i32::try_from(std::process::id()).unwrap();
    assert!(matches!(Cgroup::of_process(own), Err(CgroupError::NotOwn { .. })));
    assert!(matches!(Cgroup::of_process(i32::MAX), Err(CgroupError::Gone { .. })));
}
