//! The kernel's count of kills in a cgroup.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::super::files::Text;
use super::super::{CgroupError, tree};

/// How many sub-cgroups are looked at on v1, where a tenant can make as many as it likes.
const MOST: usize = 256;

/// A count that begins at zero when it is made.
#[derive(Debug)]
pub(super) enum Counter {
    /// `memory.events`, which includes the sub-cgroups. It is held open, so that a cgroup of the same name that is made
    /// later is not taken for this one.
    V2 { file: Counted, seen: u64 },
    /// `memory.oom_control`, which counts only what is killed in that very cgroup: the sub-cgroups are asked one by one,
    /// and known by their inodes.
    V1 { file: Counted, directory: PathBuf, seen: HashMap<u64, u64> },
}

/// A file that holds a line `oom_kill NUMBER`.
#[derive(Debug)]
pub(super) struct Counted {
    file: File,
    path: PathBuf,
}

impl Counter {
    pub(super) fn v2(directory: &Path) -> Result<Self, CgroupError> {
        let file = Counted::open(directory.join("memory.events"))?;
        let seen = file.read()?;
        Ok(Self::V2 { file, seen })
    }

    pub(super) fn v1(directory: &Path) -> Result<Self, CgroupError> {
        let file = Counted::open(directory.join("memory.oom_control"))?;
        let mut counter = Self::V1 { file, directory: directory.to_owned(), seen: HashMap::new() };
        counter.growth()?;
        Ok(counter)
    }

    /// The open file that the kernel gives notice of.
    pub(super) fn file(&self) -> &Counted {
        match self {
            Self::V2 { file, .. } | Self::V1 { file, .. } => file,
        }
    }

    /// How many kills there were since this was asked last.
    pub(super) fn growth(&mut self) -> Result<u64, CgroupError> {
        match self {
            Self::V2 { file, seen } => {
                let count = file.read()?;
                Ok(count.saturating_sub(std::mem::replace(seen, count)))
            }
            Self::V1 { file, directory, seen } => {
                let mut counts = HashMap::from([(file.inode()?, file.read()?)]);
                let below =
                    tree::walk(directory, MOST).map_err(|error| CgroupError::reading(directory, error))?;
                for directory in below.into_iter().skip(1) {
                    let sub = Counted::open(directory.join("memory.oom_control"));
                    let count = sub.and_then(|sub| Ok((sub.inode()?, sub.read()?)));
                    match count {
                        Ok((inode, count)) => counts.insert(inode, count),
                        // It ended while we looked.
                        Err(CgroupError::Gone { .. }) => continue,
                        Err(error) => return Err(error),
                    };
                }
                let grown = |(inode, count): (&u64, &u64)| {
                    count.saturating_sub(seen.get(inode).copied().unwrap_or(0))
                };
                let growth = counts.iter().map(grown).fold(0, u64::saturating_add);
                *seen = counts;
                Ok(growth)
            }
        }
    }
}

impl Counted {
    pub(super) fn open(path: PathBuf) -> Result<Self, CgroupError> {
        match File::open(&path) {
            Ok(file) => Ok(Self { file, path }),
            Err(error) => Err(CgroupError::reading(&path, error)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn as_file(&self) -> &File {
        &self.file
    }

    /// The number now. Reading at offset 0 makes the kernel write the file anew.
    pub(super) fn read(&self) -> Result<u64, CgroupError> {
        let mut buffer = [0; 1024];
        let length = self.file.read_at(&mut buffer, 0).map_err(|error| self.reading(error))?;
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
        let text = Text::new(self.path.clone(), text);
        text.value("oom_kill")?.ok_or_else(|| text.refused("it has no oom_kill"))
    }

    fn inode(&self) -> Result<u64, CgroupError> {
        Ok(self.file.metadata().map_err(|error| self.reading(error))?.st_ino())
    }

    fn reading(&self, error: io::Error) -> CgroupError {
        CgroupError::reading(&self.path, error)
    }
}
