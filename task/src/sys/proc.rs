//! What `/proc` tells of processes.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;

/// A few fields of `/proc/PID/stat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The state's letter; `Z` is a zombie, also while other threads of it live.
    pub state: char,
    /// The pid of the parent.
    pub parent: i32,
    /// When the process started, in clock ticks since boot. With the pid it names a process for as long as the machine
    /// runs.
    pub start_time: u64,
}

/// Reads the stat of `pid`, of which a zombie has one too.
///
/// # Errors
/// `NotFound` if there is no such process, `InvalidData` if the kernel's line is not understood.
pub fn stat(pid: i32) -> io::Result<Stat> {
    let path = format!("/proc/{pid}/stat");
    let line = fs::read(&path).map_err(|error| match error.raw_os_error() {
        Some(libc::ESRCH) => io::ErrorKind::NotFound.into(),
        _ => error,
    })?;
    parse(&line)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{path} is not understood")))
}

/// The start time of `pid`, in clock ticks since boot.
///
/// # Errors
/// Those of [`stat`].
pub fn start_time(pid: i32) -> io::Result<u64> {
    Ok(stat(pid)?.start_time)
}

/// The children of this process, zombies included. A child that is made or ends meanwhile may be missing.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn children() -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    let mut listed = false;
    for task in fs::read_dir("/proc/self/task")? {
        match fs::read_to_string(task?.path().join("children")) {
            Ok(list) => {
                listed = true;
                found.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
            }
            // The thread has ended, or the kernel has no such file (CONFIG_PROC_CHILDREN).
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => continue,
            Err(error) => return Err(error),
        }
    }
    if listed { Ok(found) } else { children_by_parent() }
}

/// The same by asking every process for its parent.
fn children_by_parent() -> io::Result<Vec<i32>> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if stat(pid).is_ok_and(|stat| stat.parent.unsigned_abs() == own) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// The processes that have `argument` among their arguments.
///
/// # Errors
/// If `/proc` cannot be read.
pub fn with_argument(argument: &OsStr) -> io::Result<Vec<i32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if has_argument(pid, argument) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Whether a process has `argument` among its arguments; a zombie has none.
#[must_use]
pub fn has_argument(pid: i32, argument: &OsStr) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|one| one == argument.as_bytes())
}

/// The command's name stands in brackets and may itself hold brackets and spaces, so fields are counted after the last
/// closing one: state is field 3, the parent 4, the start time 22 (proc_pid_stat(5)).
fn parse(line: &[u8]) -> Option<Stat> {
    let end = line.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(line.get(end.checked_add(1)?..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let start_time = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, parent, start_time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_and_spaces_do_not_shift_the_fields() {
        let line = b"42 (a) b (c) Z 7 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 0 0\n";
        assert_eq!(parse(line), Some(Stat { state: 'Z', parent: 7, start_time: 987_654 }));
        assert_eq!(parse(b"42 (short) Z 7"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn a_process_is_found_by_an_argument_and_by_no_part_of_one() {
        let mut child = std::process::Command::new("sleep").args(["1000.25", "0.5"]).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let found = |argument: &str| with_argument(argument.as_ref()).unwrap().contains(&pid);
        // A spawn is over a moment before the new program's arguments can be read.
        let since = std::time::Instant::now();
        while !found("0.5") {
            assert!(since.elapsed().as_secs() < 5, "it has no arguments");
        }
        assert!(found("1000.25"));
        assert!(!found("1000") && !found("1000.25 0.5"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!found("1000.25"));
    }

    #[test]
    fn own_stat_is_read() {
        let own = i32::try_from(std::process::id()).unwrap();
        let first = stat(own).unwrap();
        assert_eq!(start_time(own).unwrap(), first.start_time);
        assert!(first.start_time > 0);
        assert_eq!(stat(i32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
