//! The log that a runtime command writes, and what it says went wrong.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Deserialize;

/// How much of a log is read, from its end, in bytes.
const MOST: u64 = 64 << 10;
/// How much of it is told, in characters.
const TOLD: usize = 4096;

/// A log file of one command, removed with it.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    own: bool,
}

impl Log {
    /// A name that no other command has, in `directory`. Where that has gone there is no log: what a command prints has to
    /// do, for no other directory is safe from other users' links (K8).
    pub(super) fn new(directory: &Path, command: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".gam-{}-{number}-{command}.log", std::process::id());
        let own = directory.is_dir();
        Self { path: if own { directory.join(name) } else { "/dev/null".into() }, own }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the command says went wrong: its last line of level error, or the end of a log that is not JSON.
    pub(super) fn complaint(&self) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST))).ok()?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes).ok()?;
        complaint(&String::from_utf8_lossy(&bytes))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if self.own {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// How runc says which options a file system was given, up to 1.1 and since.
const MOUNT_DATA: [&str; 2] = [", data: ", ", data="];

/// A complaint without the options that a file system was given: runc tells those of a mount that fails, and they may hold
/// a password (J10). `mount A:B (via C), data: OPTIONS: REASON` ends the message, or `mount src=A, dst=B, data=OPTIONS: REASON`.
pub(super) fn without_mount_data(text: &str) -> String {
    let found =
        MOUNT_DATA.iter().filter_map(|mark| text.split_once(mark)).min_by_key(|(before, _)| before.len());
    match found {
        Some((before, rest)) => match rest.rsplit_once(": ") {
            Some((_, reason)) => format!("{before}: {reason}"),
            None => before.to_owned(),
        },
        None => text.to_owned(),
    }
}

/// What a log says: its last line of level error, or the end of one that is not JSON.
pub(super) fn complaint(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(default)]
        level: String,
        #[serde(default)]
        msg: String,
    }
    let mut plain = None;
    for line in text.lines().rev().filter(|line| !line.trim().is_empty()) {
        match serde_json::from_str::<Line>(line) {
            Ok(line)
                if matches!(line.level.as_str(), "error" | "fatal" | "panic") && !line.msg.is_empty() =>
            {
                return Some(without_mount_data(&line.msg).chars().take(TOLD).collect());
            }
            Ok(_) => {}
            Err(_) => {
                let told = || without_mount_data(line.trim()).chars().take(TOLD).collect::<String>();
                plain.get_or_insert_with(told);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Log, complaint, without_mount_data};

    #[test]
    fn j10_the_data_of_a_mount_that_fails_is_not_told() {
        let told = "error mounting \"t\" to rootfs at \"/m\": mount t:/m (via /proc/self/fd/6), flags: 0x2";
        for data in ["password=s3cret", "a=1,password=s3: cret,b", ""] {
            let text = format!("{told}, data: {data}: invalid argument");
            assert_eq!(without_mount_data(&text), format!("{told}: invalid argument"));
            let line = format!("{{\"level\":\"error\",\"msg\":{text:?}}}");
            assert_eq!(complaint(&line), Some(format!("{told}: invalid argument")));
            assert_eq!(complaint(&text), Some(format!("{told}: invalid argument")));
            let later = format!("mount src=t, dst=/m, flags=MS_NOSUID, data={data}: invalid argument");
            assert_eq!(without_mount_data(&later), "mount src=t, dst=/m, flags=MS_NOSUID: invalid argument");
        }
        assert_eq!(without_mount_data("x, data: s3cret"), "x");
        assert_eq!(without_mount_data("exec: \"/x\": no such file"), "exec: \"/x\": no such file");
    }

    #[test]
    fn k8_without_a_bundle_nothing_is_written() {
        let log = Log::new(Path::new("/nonexistent/bundle"), "delete");
        assert_eq!(log.path(), Path::new("/dev/null"));
        assert_eq!(log.complaint(), None);
        drop(log);
        assert!(Path::new("/dev/null").exists());
    }

    #[test]
    fn the_last_error_counts_and_other_lines_do_not() {
        let log = "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"last\"}\n{\"level\":\"warning\",\"msg\":\"w\"}\n";
        assert_eq!(complaint(log).as_deref(), Some("last"));
        assert_eq!(complaint("{\"level\":\"warning\",\"msg\":\"w\"}\n"), None);
        assert_eq!(complaint(""), None);
        assert_eq!(complaint("a\nplain words\n\n").as_deref(), Some("plain words"));
        assert_eq!(
            complaint(&format!("{{\"level\":\"error\",\"msg\":\"{}\"}}", "x".repeat(9000))).unwrap().len(),
            4096
        );
    }
}
