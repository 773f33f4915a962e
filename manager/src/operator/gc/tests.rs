use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::life::{self, Life};
use super::*;

/// A group's directory with a pid file; nobody has this pid.
fn group(run: &Path) -> PathBuf {
    let directory = run.join("0123");
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
fn times_are_seconds_or_have_units() {
    assert_eq!(time("90").unwrap(), Duration::from_secs(90));
    assert_eq!(time("1m30s").unwrap(), Duration::from_secs(90));
    assert!(time("soon").is_err());
}
