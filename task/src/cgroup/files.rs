//! Reading the kernel's small files.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::{CgroupError, is_gone};

/// The text of a file; none where there is no such file, as of a controller that is not enabled.
pub(super) fn text(directory: &Path, name: &str) -> Result<Option<String>, CgroupError> {
    let path = directory.join(name);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        // Some files of the root and of version 1's kernel memory are there and cannot be read.
        Err(error) if is_gone(&error) || error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(source) => Err(CgroupError::Read { path, source }),
    }
}

/// A file of one number, in which `max` is the largest; 0 where there is no such file.
pub(super) fn number(directory: &Path, name: &str) -> Result<u64, CgroupError> {
    let Some(text) = text(directory, name)? else { return Ok(0) };
    parse(text.trim()).ok_or_else(|| CgroupError::Parse { path: directory.join(name) })
}

/// A file of lines of a key and a number.
pub(super) fn pairs(directory: &Path, name: &str) -> Result<HashMap<String, u64>, CgroupError> {
    let text = text(directory, name)?.unwrap_or_default();
    let pair = |line: &str| {
        let (key, value) = line.split_once([' ', '\t'])?;
        Some((key.to_owned(), parse(value.trim())?))
    };
    Ok(text.lines().filter_map(pair).collect())
}

/// A number as the kernel writes it; one below zero, as an unlimited limit of version 1 may be, is the largest.
pub(super) fn parse(text: &str) -> Option<u64> {
    if text == "max" || text.starts_with('-') { Some(u64::MAX) } else { text.parse().ok() }
}

/// The page sizes for which a directory has files `hugetlb.SIZE.usage_in_bytes` or the like.
pub(super) fn page_sizes(directory: &Path, suffix: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut sizes: Vec<String> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
            (!size.contains('.')).then(|| size.to_owned())
        })
        .collect();
    sizes.sort_unstable();
    sizes
}

/// The lines of an rdma file: device, handles, objects.
pub(super) fn rdma(directory: &Path, name: &str) -> Result<Vec<(String, u32, u32)>, CgroupError> {
    let text = text(directory, name)?.unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let device = words.next()?.to_owned();
        let (mut handles, mut objects) = (0, 0);
        for word in words {
            let (key, value) = word.split_once('=')?;
            let value = if value == "max" { u32::MAX } else { value.parse().ok()? };
            match key {
                "hca_handle" => handles = value,
                "hca_object" => objects = value,
                _ => {}
            }
        }
        Some((device, handles, objects))
    };
    Ok(text.lines().filter_map(line).collect())
}
