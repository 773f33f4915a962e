//! Files that are appended to.
//!
//! A file opened with `O_APPEND` cannot be spliced to, and a write to a disk can take any time. So the bytes are copied,
//! on threads that may block, of which only a few can be busy here: a disk that hangs takes no worker and not all of the
//! threads that others need.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::StdioError;
use super::meter::Meter;
use super::pump::{self, CHUNK};
use crate::sys::polled::Polled;
use crate::telemetry::Stream;

/// How many threads may be in files at a time, in the whole process.
const THREADS: usize = 8;
/// How many chunks are copied before the thread is given back.
const TURN: usize = 16;

static BUSY: Semaphore = Semaphore::const_new(THREADS);

/// Opens the file at `path` for appending, and makes it (mode 0644) and the directories above it (0755).
pub(super) async fn open(stream: Stream, path: &Path) -> Result<Arc<File>, StdioError> {
    let place = path.to_owned();
    run(move || append_to(&place))
        .await
        .and_then(|opened| opened)
        .map(Arc::new)
        .map_err(|source| StdioError::Open { stream, path: path.to_owned(), source })
}

fn append_to(path: &PathBuf) -> io::Result<File> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    // Non-blocking, so that the open of a FIFO does not wait; it means nothing for a file.
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a FIFO, not a file"));
    }
    Ok(file)
}

/// Runs `work` on a thread that may block.
async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let permit = BUSY.acquire().await.map_err(io::Error::other)?;
    spawn_blocking(move || {
        let done = work();
        drop(permit);
        done
    })
    .await
    .map_err(io::Error::other)
}

/// What became of some bytes.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) copied: u64,
    pub(super) dropped: u64,
    /// The first error of the file.
    pub(super) error: Option<io::Error>,
}

impl Written {
    fn append(&mut self, mut file: &File, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match file.write(bytes) {
                Ok(count) if count > 0 => {
                    self.copied = self.copied.saturating_add(count as u64);
                    bytes = bytes.get(count..).unwrap_or_default();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                failed => {
                    self.dropped = self.dropped.saturating_add(bytes.len() as u64);
                    self.error.get_or_insert(failed.err().unwrap_or(io::ErrorKind::WriteZero.into()));
                    return;
                }
            }
        }
    }
}

/// Appends all that comes out of a pipe, and tells `written` of each turn. An error of the file ends nothing: what comes
/// later is tried again, because a full disk may be emptied.
pub(super) async fn append_all(
    source: &Arc<Polled>,
    file: &Arc<File>,
    meter: Meter<'_>,
    mut written: impl FnMut(Written),
) -> io::Result<()> {
    loop {
        pump::wait(source, Interest::READABLE).await?;
        let (from, to) = (Arc::clone(source), Arc::clone(file));
        let (turn, end) = run(move || copy_turn(&from, &to)).await?;
        written(turn);
        meter.pace().await;
        if end? {
            return Ok(());
        }
    }
}

/// Copies what is there, and tells whether that was all there ever will be.
fn copy_turn(source: &Polled, file: &File) -> (Written, io::Result<bool>) {
    let mut buffer = vec![0; CHUNK];
    let mut turn = Written::default();
    for _ in 0..TURN {
        match rustix::io::read(source, &mut buffer) {
            Ok(0) => return (turn, Ok(true)),
            Ok(count) => turn.append(file, buffer.get(..count).unwrap_or_default()),
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(error) => return (turn, Err(error.into())),
        }
    }
    (turn, Ok(false))
}

/// Appends `bytes`.
pub(super) async fn append(file: &Arc<File>, bytes: Vec<u8>) -> io::Result<Written> {
    let to = Arc::clone(file);
    run(move || {
        let mut written = Written::default();
        written.append(&to, &bytes);
        written
    })
    .await
}
