//! Files that output is appended to. A disk may hang, so the writes are made on the threads that may block.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use super::StdioError;

/// A file that is appended to; clones share the open file.
#[derive(Clone, Debug)]
pub(super) struct Append(Arc<File>);

impl Append {
    /// Opens a file for appending; it and its directories are made if they are missing, as containerd's shim makes them.
    pub(super) fn open(path: &Path) -> Result<Self, StdioError> {
        if let Some(directory) = path.parent() {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(directory);
            made.map_err(StdioError::open("make directory", directory))?;
        }
        // Non-blocking, in case it is a FIFO that nobody reads.
        let opened = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o644)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path);
        Ok(Self(Arc::new(opened.map_err(StdioError::open("open file", path))?)))
    }

    /// Appends bytes.
    pub(super) async fn append(&self, bytes: Vec<u8>) -> io::Result<()> {
        let file = Arc::clone(&self.0);
        let written = tokio::task::spawn_blocking(move || (&*file).write_all(&bytes)).await;
        written.map_err(io::Error::other)?
    }
}
