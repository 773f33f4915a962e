//! `/proc/self/mountinfo`: what is mounted where (proc_pid_mountinfo(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A mount in this process's mount namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mounted {
    /// The mount's id.
    pub(super) id: u64,
    /// The id of the mount that it is on.
    pub(super) parent: u64,
    /// Where it is, from this process's root.
    pub(super) path: PathBuf,
}

/// Reads the table, which is in the order in which mounts were made. Lines that are not of its form are left out.
pub(super) fn parse(table: &[u8]) -> Vec<Mounted> {
    table.split(|byte| *byte == b'\n').filter_map(line).collect()
}

fn line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    // Its device and the root within the file system come first.
    let path = unescape(fields.nth(2)?);
    Some(Mounted { id, parent, path: PathBuf::from(OsString::from_vec(path)) })
}

fn number(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Blanks, newlines and backslashes are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        if let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] = rest {
            bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_escapes() {
        let table = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            36 35 98:0 /mnt1 /mnt\\0402\\134\\011x rw shared:1 master:2 - ext3 /dev/root rw\n";
        let path = PathBuf::from("/mnt 2\\\tx");
        assert_eq!(
            parse(table),
            [
                Mounted { id: 22, parent: 27, path: PathBuf::from("/proc") },
                Mounted { id: 36, parent: 35, path }
            ]
        );
    }

    #[test]
    fn what_is_no_line_of_the_table_is_left_out() {
        assert_eq!(parse(b""), []);
        assert_eq!(parse(b"\n1\n1 2\nx 2 3 4 /a\n1 2 0:1 /\n"), []);
        assert_eq!(unescape(b"\\04"), b"\\04");
        assert_eq!(unescape(b"\\999"), b"\\999");
    }
}
