use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use gam_task::id::Key;
use gam_task::options::Options;
use gam_task::record::{FORMAT, Record, StreamNames};

use super::find::Thing;
use super::life::{self, Life};
use super::*;
use crate::kept;

/// A group's directory with a pid file; nobody has this pid.
fn group(run: &Path) -> PathBuf {
    let directory = run.join("0123".repeat(8));
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("pid"), i32::MAX.to_string()).unwrap();
    directory
}

fn is_dead(life: Life) -> bool {
    matches!(life, Life::Dead(_))
}

#[test]
fn a_manager_lives_while_it_listens_or_its_lock_is_held_or_its_process_is_there() {
    let run = tempfile::tempdir().unwrap();
    let directory = group(run.path());
    assert!(is_dead(life::of_group(&directory)));
    assert!(!directory.join("lock").exists(), "looking makes nothing");
    let listener = UnixListener::bind(directory.join("control.sock")).unwrap();
    assert_eq!(life::of_group(&directory), Life::Alive);
    drop(listener);
    assert!(is_dead(life::of_group(&directory)));
    let lock = crate::group::Lock::take(&crate::group::Group::at("", &directory)).unwrap();
    assert_eq!(life::of_group(&directory), Life::Alive);
    drop(lock);
    assert!(is_dead(life::of_group(&directory)));
    // It waits for its stdin, under the argument that managers have.
    let argument = format!("--directory={}", directory.display());
    let mut process = std::process::Command::new("sh")
        .args(["-c", "read word", &argument])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    fs::write(directory.join("pid"), process.id().to_string()).unwrap();
    while fs::read(format!("/proc/{}/cmdline", process.id())).unwrap().is_empty() {}
    assert_eq!(life::of_group(&directory), Life::Alive);
    assert_eq!(life::of_writer(&directory, process.id(), &directory.join("pid")), Life::Alive);
    drop(process.stdin.take());
    process.wait().unwrap();
    assert!(is_dead(life::of_group(&directory)));
}

#[test]
fn the_last_sign_of_life_is_that_of_the_pid_file() {
    let run = tempfile::tempdir().unwrap();
    let directory = group(run.path());
    let old = std::time::SystemTime::now() - Duration::from_secs(500);
    let file = fs::File::open(directory.join("pid")).unwrap();
    file.set_times(fs::FileTimes::new().set_modified(old)).unwrap();
    let Life::Dead(since) = life::of_group(&directory) else { panic!("it is dead") };
    assert!(since >= Duration::from_secs(499), "{since:?}");
    crate::group::Group::at("", &directory).show_life();
    let Life::Dead(since) = life::of_group(&directory) else { panic!("it is dead") };
    assert!(since < Duration::from_secs(400), "{since:?}");
}

#[test]
fn what_is_no_groups_is_left_alone() {
    let run = tempfile::tempdir().unwrap();
    for name in ["containerd", "0123", &"0123".repeat(8), &"g".repeat(32)] {
        fs::create_dir_all(run.path().join(name).join("io")).unwrap();
    }
    fs::write(run.path().join("containerd/pid"), "7").unwrap();
    assert!(find::all(run.path(), &[]).unwrap().is_empty());
    // With a pid file it is one, and goes.
    let directory = run.path().join("0123".repeat(8));
    fs::write(directory.join("pid"), i32::MAX.to_string()).unwrap();
    let found = find::all(run.path(), &[]).unwrap();
    assert_eq!(found.len(), 1);
    remove::one(&found[0]).unwrap();
    assert!(!directory.exists() && run.path().join("containerd/pid").exists());
}

#[test]
fn a_group_whose_directory_went_a_moment_ago_is_not_old_for_its_records_are() {
    let run = tempfile::tempdir().unwrap();
    let directory = group(run.path());
    let record = run.path().join("record");
    let old = std::time::SystemTime::now() - Duration::from_secs(500);
    let age = |path: &Path| fs::File::open(path).unwrap().set_times(fs::FileTimes::new().set_modified(old));
    fs::write(&record, "").unwrap();
    age(&record).unwrap();
    let life = || match life::of_writer(&directory, i32::MAX.unsigned_abs(), &record) {
        Life::Dead(since) => since,
        Life::Alive => panic!("it is dead"),
    };
    fs::remove_dir_all(&directory).unwrap();
    assert!(life() < Duration::from_secs(400));
    age(run.path()).unwrap();
    assert!(life() >= Duration::from_secs(499));
}

#[test]
fn times_are_seconds_or_have_units() {
    assert_eq!(time("90").unwrap(), Duration::from_secs(90));
    assert_eq!(time("1m30s").unwrap(), Duration::from_secs(90));
    assert!(time("soon").is_err());
}

/// A bundle in a containerd's state directory, with the record of a container of a sandbox whose manager is dead.
fn bundle(state: &Path, group: &Path, id: &str) -> PathBuf {
    let bundle = state.join("io.containerd.runtime.v2.task/gam-gc").join(id);
    fs::create_dir_all(&bundle).unwrap();
    let record = Record {
        format: FORMAT,
        key: Key::new("gam-gc", id).unwrap(),
        manager: i32::MAX.unsigned_abs(),
        group: group.to_path_buf(),
        sandbox: Some("pod".into()),
        options: Options { root: state.join("runc").display().to_string(), ..Options::default() },
        rootfs: Vec::new(),
        streams: StreamNames::default(),
        checkpoint: String::new(),
        state: "running".into(),
        init: None,
        exit: None,
        execs: Vec::new(),
        cgroup: None,
        deleted: false,
    };
    record.write(&bundle).unwrap();
    bundle
}

#[test]
fn bundles_records_sockets_and_groups_are_found_and_removed_in_an_order_that_lets_each_be_seen() {
    let place = tempfile::tempdir().unwrap();
    let (run, state) = (place.path().join("run"), place.path().join("state"));
    fs::create_dir(&run).unwrap();
    let group = group(&run);
    let socket = place.path().join("s");
    drop(UnixListener::bind(&socket).unwrap());
    fs::write(group.join("sockets"), format!("{}\n", socket.display())).unwrap();
    let (there, gone) = (bundle(&state, &group, "there"), bundle(&state, &group, "gone"));
    kept::keep(&group, &Key::new("gam-gc", "gone").unwrap(), "pod", &gone).unwrap();
    fs::remove_dir_all(&gone).unwrap();
    kept::expect(&group, &Key::new("gam-gc", "never").unwrap(), "pod").unwrap();
    let look = || find::all(&run, std::slice::from_ref(&state)).unwrap();
    let kinds = |found: &[Finding]| found.iter().map(|one| one.thing.kind()).collect::<Vec<_>>();
    let found = look();
    assert_eq!(kinds(&found), ["container", "record", "record", "socket", "group"]);
    assert_eq!(kinds(&look()), kinds(&found), "looking changes nothing");
    for finding in &found {
        assert_eq!(remove::one(finding), Ok(()), "{}", finding.name());
    }
    assert!(Record::read(&there).unwrap().unwrap().deleted, "the bundle is containerd's and stays");
    assert!(!socket.exists());
    assert_eq!(fs::read_dir(&run).unwrap().count(), 0, "no group and no record is left");
    assert!(look().is_empty());
}

#[test]
fn a_bundle_without_a_record_is_another_shims_although_one_of_that_id_is_kept() {
    let place = tempfile::tempdir().unwrap();
    let (run, state) = (place.path().join("run"), place.path().join("state"));
    fs::create_dir(&run).unwrap();
    let group = group(&run);
    let bundle = bundle(&state, &group, "web");
    kept::keep(&group, &Key::new("gam-gc", "web").unwrap(), "pod", &bundle).unwrap();
    fs::remove_file(bundle.join("gam.json")).unwrap();
    let found = find::all(&run, std::slice::from_ref(&state)).unwrap();
    let record = found.iter().find(|finding| finding.thing.kind() == "record").unwrap();
    assert_eq!(remove::one(record), Ok(()));
    assert!(!bundle.join("gam.json").exists(), "nothing was cleaned up there");
    assert!(find::all(&run, &[]).unwrap().iter().all(|finding| finding.thing.kind() != "record"));
}

#[test]
fn what_another_manager_has_taken_over_is_left() {
    let place = tempfile::tempdir().unwrap();
    let (run, state) = (place.path().join("run"), place.path().join("state"));
    fs::create_dir(&run).unwrap();
    let group = group(&run);
    let there = bundle(&state, &group, "there");
    let found = find::all(&run, std::slice::from_ref(&state)).unwrap();
    let mut record = Record::read(&there).unwrap().unwrap();
    record.manager -= 1;
    record.write(&there).unwrap();
    let _listener = UnixListener::bind(group.join("control.sock")).unwrap();
    for finding in &found {
        let is_there = matches!(finding.thing, Thing::Container { .. } | Thing::Group);
        assert!(is_there && remove::one(finding).is_err(), "{}", finding.name());
    }
    assert_eq!(Record::read(&there).unwrap().unwrap(), record);
    assert!(group.exists());
}
