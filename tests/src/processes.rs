//! Other processes, by /proc: whose they are, what they cost.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Every pid there is.
#[must_use]
pub fn all() -> Vec<u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// The processes that have to do with `directory`: their program is in it, or their arguments or the environment that they
/// began with name something in it. Zombies have none of these.
#[must_use]
pub fn of_directory(directory: &Path) -> Vec<u32> {
    let (whole, inside) = (directory.display().to_string(), format!("{}/", directory.display()));
    let names = |text: Vec<u8>| {
        String::from_utf8_lossy(&text).split(['\0', '=']).any(|word| word == whole || word.contains(&inside))
    };
    let is = |pid: &u32| {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.starts_with(directory))
            || fs::read(format!("/proc/{pid}/environ")).is_ok_and(names)
            || fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(names)
    };
    all().into_iter().filter(is).collect()
}

/// The command line, with spaces between the words.
#[must_use]
pub fn command(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}

/// The path of a process's program, where that is or was before another was put in its place.
#[must_use]
pub fn program(pid: u32) -> PathBuf {
    let path = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let text = path.to_string_lossy();
    text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from)
}

fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses: the fields begin after the last of them.
    Some(text.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
}

/// The parent's pid.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// The state's letter, such as `S` or `Z`.
#[must_use]
pub fn state(pid: u32) -> Option<char> {
    stat(pid)?.first()?.chars().next()
}

/// Whether there is such a process and it is no zombie.
#[must_use]
pub fn lives(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// CPU time used so far, user and system, in clock ticks (100 a second).
#[must_use]
pub fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = stat(pid)?;
    Some(stat.get(11)?.parse::<u64>().ok()? + stat.get(12)?.parse::<u64>().ok()?)
}

/// The children, zombies too.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    all().into_iter().filter(|child| parent(*child) == Some(pid)).collect()
}

fn rollup(pid: u32, key: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// Proportional set size in KiB.
#[must_use]
pub fn pss(pid: u32) -> Option<u64> {
    rollup(pid, "Pss:")
}

/// Memory that is no file's, in KiB: unlike the proportional set size it does not depend on who else runs the same program.
#[must_use]
pub fn anonymous(pid: u32) -> Option<u64> {
    rollup(pid, "Anonymous:")
}

/// How many threads.
#[must_use]
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// Open descriptors and what they are.
#[must_use]
pub fn descriptors(pid: u32) -> Vec<(u32, PathBuf)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse().ok()?, fs::read_link(entry.path()).ok()?))
        })
        .collect();
    found.sort();
    found
}

/// Kills a process for good; one that is gone already is no error.
pub fn kill_9(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}
