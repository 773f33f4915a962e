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

fn complaint(text: &str) -> Option<String> {
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
                return Some(line.msg.chars().take(TOLD).collect());
            }
            Ok(_) => {}
            Err(_) => drop(plain.get_or_insert_with(|| line.trim().chars().take(TOLD).collect::<String>())),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Log, complaint};

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
