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
pub(super) struct Log(PathBuf);

impl Log {
    /// A name that no other command has, in `directory` if that is there.
    pub(super) fn new(directory: &Path, command: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".gam-{}-{number}-{command}.log", std::process::id());
        let directory = if directory.is_dir() { directory } else { Path::new("/tmp") };
        Self(directory.join(name))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// What the command says went wrong: its last line of level error, or the end of a log that is not JSON.
    pub(super) fn complaint(&self) -> Option<String> {
        let mut file = File::open(&self.0).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST))).ok()?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes).ok()?;
        complaint(&String::from_utf8_lossy(&bytes))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
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
    use super::complaint;

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
