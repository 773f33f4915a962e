//! FIFOs as a client holds them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::stat::Mode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

/// Makes a FIFO.
///
/// # Panics
/// If that fails.
pub fn make(path: &Path) {
    nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o600)).expect("mkfifo");
}

/// Reads a FIFO into memory for as long as it lives; holds both ends, so that it never sees an end.
pub struct Collector {
    path: PathBuf,
    text: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Collector {
    /// Makes the FIFO if there is none, and begins.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn start(path: &Path) -> Self {
        if !path.exists() {
            make(path);
        }
        let mut end = pipe::OpenOptions::new().read_write(true).open_receiver(path).expect("FIFO");
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&text);
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 65536];
            while let Ok(count) = end.read(&mut buffer).await {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        Self { path: path.to_owned(), text, task }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What came so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    /// Waits until `part` has come.
    pub async fn until(&self, part: &str) {
        super::until(&format!("{part:?} in {}", self.path.display()), || self.text().contains(part)).await;
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens a FIFO for writing although nobody reads it.
///
/// # Panics
/// If it cannot be opened.
#[must_use]
pub fn hold(path: &Path) -> pipe::Sender {
    pipe::OpenOptions::new().read_write(true).open_sender(path).expect("FIFO")
}

/// Fills a FIFO until nothing more goes in.
pub async fn stuff(end: &pipe::Sender) {
    let patience = std::time::Duration::from_millis(200);
    while let Ok(Ok(())) = tokio::time::timeout(patience, end.writable()).await {
        let _ = end.try_write(&[b'x'; 4096]);
    }
}

/// Opens a FIFO for writing once somebody reads it, and writes.
///
/// # Errors
/// Where nobody reads it for 20 s, or writing fails.
pub async fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    for _ in 0..2000 {
        if let Ok(mut end) = pipe::OpenOptions::new().open_sender(path) {
            return end.write_all(bytes).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "nobody opened the FIFO for reading"))
}
