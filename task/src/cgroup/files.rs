//! The files of a cgroup, and the few shapes their text has (`Documentation/admin-guide/cgroup-v2.rst`, "Format").

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};

use super::CgroupError;

/// The most of a line that an error repeats.
const QUOTED: usize = 80;

/// One directory. It is held open, so that a cgroup of the same name that is made meanwhile is not mixed in.
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    pub(super) fn open(path: &Path) -> Result<Self, CgroupError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path: path.to_owned() }),
            Err(error) => Err(CgroupError::reading(path, error.into())),
        }
    }

    /// The text of a file; none if the kernel has no such file here, or does not account what it would tell.
    pub(super) fn text(&self, name: &str) -> Result<Option<Text>, CgroupError> {
        let path = self.path.join(name);
        match self.read(name) {
            Ok(text) => Ok(Some(Text { path, text })),
            // EOPNOTSUPP: pressure where PSI is switched off (psi=0), or in a threaded cgroup.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP)) => Ok(None),
            Err(error) => Err(CgroupError::reading(&path, error)),
        }
    }

    /// The number that a file consists of.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, CgroupError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.number(text.text.trim()).map(Some)
    }

    /// The sizes of huge pages for which there is a file `hugetlb.SIZE.LAST`, as the kernel writes them.
    pub(super) fn page_sizes(&self, last: &str) -> Result<Vec<String>, CgroupError> {
        let entries =
            std::fs::read_dir(&self.path).map_err(|error| CgroupError::reading(&self.path, error))?;
        let mut sizes: Vec<String> = entries
            .filter_map(|entry| {
                let name = entry.ok()?.file_name();
                let size = name.to_str()?.strip_prefix("hugetlb.")?.strip_suffix(last)?.strip_suffix('.')?;
                // `hugetlb.SIZE.rsvd.LAST` are reservations.
                (!size.contains('.')).then(|| size.to_owned())
            })
            .collect();
        sizes.sort_unstable();
        Ok(sizes)
    }

    fn read(&self, name: &str) -> io::Result<String> {
        let fd = openat(&self.fd, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = Vec::with_capacity(4096);
        File::from(fd).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// What a file says.
pub(super) struct Text {
    path: PathBuf,
    text: String,
}

impl Text {
    pub(super) fn new(path: PathBuf, text: String) -> Self {
        Self { path, text }
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines().map(str::trim).filter(|line| !line.is_empty())
    }

    /// Lines of `KEY VALUE`.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines().filter_map(|line| line.split_once(' '))
    }

    /// The value of one of the pairs.
    pub(super) fn value(&self, key: &str) -> Result<Option<u64>, CgroupError> {
        let found = self.pairs().find(|(known, _)| *known == key);
        found.map(|(_, value)| self.number(value)).transpose()
    }

    /// A number as containerd takes it: `max` is the greatest there is, and below zero is zero.
    pub(super) fn number(&self, value: &str) -> Result<u64, CgroupError> {
        let value = value.trim();
        match value {
            "max" => Ok(u64::MAX),
            _ if value.strip_prefix('-').is_some_and(|rest| rest.parse::<u64>().is_ok()) => Ok(0),
            _ => value.parse().map_err(|_| self.refused(value)),
        }
    }

    /// Lines of `NAME KEY=VALUE KEY=VALUE...`. Some kernels print the names of devices that have nothing to tell before
    /// the next device's on one line: the last name is the one that the values belong to.
    pub(super) fn nested(&self) -> impl Iterator<Item = (&str, Vec<(&str, &str)>)> {
        self.lines().filter_map(|line| {
            let (values, names): (Vec<&str>, Vec<&str>) =
                line.split_ascii_whitespace().partition(|word| word.contains('='));
            let values = values.into_iter().filter_map(|word| word.split_once('=')).collect();
            names.last().map(|name| (*name, values))
        })
    }

    /// `rdma.current` or `rdma.max`: handles and objects of each device.
    pub(super) fn rdma(&self) -> Result<Vec<(String, u32, u32)>, CgroupError> {
        let mut found = Vec::new();
        for (device, values) in self.nested() {
            let (mut handles, mut objects) = (0, 0);
            for (key, value) in values {
                let target = match key {
                    "hca_handle" => &mut handles,
                    "hca_object" => &mut objects,
                    _ => continue,
                };
                *target = u32::try_from(self.number(value)?).unwrap_or(u32::MAX);
            }
            found.push((device.to_owned(), handles, objects));
        }
        Ok(found)
    }

    /// A device's numbers, `MAJOR:MINOR`.
    pub(super) fn device(&self, word: &str) -> Result<(u64, u64), CgroupError> {
        let (major, minor) = word.split_once(':').ok_or_else(|| self.refused(word))?;
        Ok((self.number(major)?, self.number(minor)?))
    }

    pub(super) fn refused(&self, line: &str) -> CgroupError {
        CgroupError::Parse { path: self.path.clone(), line: line.chars().take(QUOTED).collect() }
    }
}

/// Adds the values of a text's pairs to fields of a message, and passes over the keys that it does not name.
macro_rules! fill {
    ($text:expr, $message:expr, { $($($key:literal)|+ => $field:ident,)+ }) => {
        for (key, value) in $text.pairs() {
            match key {
                $($($key)|+ => $message.$field = $message.$field.saturating_add($text.number(value)?),)+
                _ => {}
            }
        }
    };
}
pub(super) use fill;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Text {
        Text::new("/f".into(), text.into())
    }

    #[test]
    fn numbers_are_taken_as_containerd_takes_them() {
        let text = text("a 1\nb max\nc -9\nd many\nalone\n");
        assert_eq!(text.value("a").unwrap(), Some(1));
        assert_eq!(text.value("b").unwrap(), Some(u64::MAX));
        assert_eq!(text.value("c").unwrap(), Some(0));
        assert_eq!(text.value("d").unwrap_err().to_string(), "/f is not understood: \"many\"");
        assert_eq!(text.value("e").unwrap(), None);
        assert!(text.number("--1").is_err());
        assert!(text.number("").is_err());
    }

    #[test]
    fn rdma_and_devices() {
        let found = text("mlx4_0 hca_handle=2 hca_object=max new=1\nocrdma1 hca_handle=3 hca_object=4\n");
        let expected = vec![("mlx4_0".to_owned(), 2, u32::MAX), ("ocrdma1".to_owned(), 3, 4)];
        assert_eq!(found.rdma().unwrap(), expected);
        assert!(text("mlx4_0 hca_handle=x\n").rdma().is_err());
        assert_eq!(text("").device("8:16").unwrap(), (8, 16));
        assert!(text("").device("8").is_err());
    }

    #[test]
    fn what_is_missing_is_absent_and_what_cannot_be_read_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("a.directory")).unwrap();
        let open = Dir::open(directory.path()).unwrap();
        assert_eq!(open.number("memory.current").unwrap(), None);
        assert!(matches!(open.number("a.directory"), Err(CgroupError::Read { .. })));
        assert!(matches!(Dir::open(&directory.path().join("none")), Err(CgroupError::Gone { .. })));
        for name in ["hugetlb.2MB.current", "hugetlb.1GB.current", "hugetlb.2MB.rsvd.current", "hugetlb.x"] {
            std::fs::write(directory.path().join(name), "0\n").unwrap();
        }
        assert_eq!(open.page_sizes("current").unwrap(), ["1GB", "2MB"]);
    }
}
