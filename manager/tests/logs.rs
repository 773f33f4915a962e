//! The log as the process's own: installed once, so in a process of its own. Records of the `log` crate arrive too.

use std::fs;

use gam_manager::logs::Logs;

#[test]
fn records_of_the_log_crate_become_lines() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    let logs = Logs::new(path.clone(), true);
    logs.install().expect("the first");
    assert!(logs.install().is_err(), "there is one already");
    log::warn!(target: "ttrpc::asynchronous::server", "accept failed");
    log::info!(target: "ttrpc::asynchronous::server", "a frame");
    log::debug!(target: "other", "of another crate");
    log::trace!(target: "other", "too much");
    tracing::info!("of our own");
    let text = fs::read_to_string(&path).expect("the file");
    let ends: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once("Z\" ")?.1)).collect();
    assert_eq!(
        ends,
        [
            "level=warning msg=\"accept failed\"",
            "level=debug msg=\"of another crate\"",
            "level=info msg=\"of our own\""
        ]
    );
}
