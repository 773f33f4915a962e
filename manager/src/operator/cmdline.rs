//! What the command line of a manager says of it: also of one that hangs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The group of the manager with this pid, as `start` wrote it; none if the process is no manager.
pub(super) fn group(pid: u32) -> Option<String> {
    group_in(&read(pid)?)
}

/// The same, if it is the manager of this directory: another process may have the pid by now.
pub(super) fn group_of(directory: &Path, pid: u32) -> Option<String> {
    let line = read(pid)?;
    let its = Path::new(OsStr::from_bytes(flag(&line, b"--directory=")?));
    (its == directory).then(|| group_in(&line)).flatten()
}

fn read(pid: u32) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{pid}/cmdline")).ok()
}

fn group_in(line: &[u8]) -> Option<String> {
    Some(String::from_utf8_lossy(flag(line, b"--group=")?).into_owned())
}

fn flag<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    line.split(|byte| *byte == 0).find_map(|word| word.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_asked_for_its_own_directory_only() {
        // That it has printed says that it has its command line.
        let words =
            ["-c", "echo; read line", "manager", "--directory=/run/gam/7", "--group=namespace ns shop"];
        let (stdin, stdout) = (Stdio::piped(), Stdio::piped());
        let mut child = Command::new("/bin/sh").args(words).stdin(stdin).stdout(stdout).spawn().unwrap();
        child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
        let pid = child.id();
        let found =
            (group(pid), group_of(Path::new("/run/gam/7"), pid), group_of(Path::new("/run/gam/8"), pid));
        drop(child.stdin.take());
        child.wait().unwrap();
        let name = Some("namespace ns shop".to_owned());
        assert_eq!(found, (name.clone(), name, None));
        assert_eq!(group(std::process::id()), None);
    }
}
