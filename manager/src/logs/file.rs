//! The group's own log file, for lines that no bundle takes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use nix::fcntl::OFlag;

/// How large the file may grow, in bytes. The one before it is kept, so twice this is on disk at most.
pub(super) const MAX_SIZE: u64 = 1 << 20;

/// A file that begins anew when it is full; what it held until then is beside it, with `.1` after its name.
pub(super) struct BoundedFile {
    path: PathBuf,
    open: Option<Open>,
}

/// The file while it is open.
struct Open {
    file: File,
    size: u64,
}

impl BoundedFile {
    /// A file at `path`, made when there is something to write.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// Appends a line; whether it was taken.
    pub(super) fn write(&mut self, line: &[u8]) -> bool {
        self.try_write(line).is_ok()
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.reopen()?,
        };
        if open.size > 0 && open.size + length > MAX_SIZE {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            fs::rename(&self.path, old)?;
            open = self.reopen()?;
        }
        open.file.write_all(line)?;
        open.size += length;
        self.open = Some(open);
        Ok(())
    }

    /// Opens the file where it is, for appending.
    fn reopen(&self) -> io::Result<Open> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(flags.bits())
            .open(&self.path)?;
        let size = file.metadata()?.len();
        Ok(Open { file, size })
    }
}
