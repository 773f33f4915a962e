//! The table of mounts, `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// The mount points of a table, in the order in which they were mounted.
pub(super) fn places(table: &[u8]) -> Vec<PathBuf> {
    let place = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(unescape);
    table.split(|byte| *byte == b'\n').filter_map(place).collect()
}

/// Undoes the kernel's octal escapes of space, tab, newline and backslash.
fn unescape(text: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte == b'\\'
            && let Some(digits) = after.get(..3)
            && let Some(octal) =
                std::str::from_utf8(digits).ok().and_then(|text| u8::from_str_radix(text, 8).ok())
        {
            bytes.push(octal);
            rest = after.get(3..).unwrap_or_default();
        } else {
            bytes.push(*byte);
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        let table = b"1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /a\\040b\\134c rw - tmpfs x rw\nbroken\n";
        assert_eq!(places(table), [PathBuf::from("/"), PathBuf::from("/a b\\c")]);
    }
}
