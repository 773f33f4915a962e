//! The client's ends of the FIFOs: readers that gather what comes, writers, and nothing that blocks for ever.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use crate::poll::{LONG, slow};

/// Makes a FIFO.
///
/// # Panics
/// Where it cannot.
pub fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o600))
        .unwrap_or_else(|error| panic!("making the FIFO {}: {error}", path.display()));
}

#[derive(Default)]
struct Gathered {
    data: Vec<u8>,
    eof: bool,
}

/// Gathers what comes out of a FIFO, on a thread of its own.
pub struct Reader {
    path: PathBuf,
    shared: Arc<(Mutex<Gathered>, Condvar)>,
    stop: Arc<AtomicBool>,
    held: Arc<AtomicBool>,
}

impl Reader {
    /// Opens the FIFO and begins to read.
    ///
    /// # Panics
    /// Where it cannot be opened.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)
            .unwrap_or_else(|error| panic!("opening {}: {error}", path.display()));
        let reader = Self {
            path: path.to_owned(),
            shared: Arc::default(),
            stop: Arc::default(),
            held: Arc::default(),
        };
        let (shared, stop, held) = (reader.shared.clone(), reader.stop.clone(), reader.held.clone());
        thread::spawn(move || gather(&file, &shared, &stop, &held));
        reader
    }

    /// Stops reading for a while, as a client that is stuck.
    pub fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    /// Reads on.
    pub fn release(&self) {
        self.held.store(false, Ordering::SeqCst);
    }

    /// What has come so far.
    ///
    /// # Panics
    /// Where the reading thread has.
    #[must_use]
    pub fn so_far(&self) -> Vec<u8> {
        self.shared.0.lock().unwrap().data.clone()
    }

    /// Whether the end has come.
    ///
    /// # Panics
    /// Where the reading thread has.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.shared.0.lock().unwrap().eof
    }

    fn until<T>(&self, what: &str, ask: impl Fn(&Gathered) -> Option<T>) -> T {
        let end = Instant::now() + slow(LONG);
        let mut gathered = self.shared.0.lock().unwrap();
        loop {
            if let Some(answer) = ask(&gathered) {
                return answer;
            }
            let tail = &gathered.data[gathered.data.len().saturating_sub(200)..];
            assert!(
                Instant::now() < end && !gathered.eof,
                "{}: {what} did not come; eof {}, {} bytes, the last: {:?}",
                self.path.display(),
                gathered.eof,
                gathered.data.len(),
                String::from_utf8_lossy(tail)
            );
            gathered = self.shared.1.wait_timeout(gathered, Duration::from_millis(100)).unwrap().0;
        }
    }

    /// Everything, when the end has come.
    ///
    /// # Panics
    /// Where it does not come.
    #[must_use]
    pub fn to_end(&self) -> Vec<u8> {
        self.until("the end", |gathered| gathered.eof.then(|| gathered.data.clone()))
    }

    /// Everything as text, when the end has come.
    ///
    /// # Panics
    /// Where it does not come.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.to_end()).into_owned()
    }

    /// Waits for some text.
    ///
    /// # Panics
    /// Where it does not come.
    pub fn expect(&self, text: &str) {
        self.until(text, |gathered| String::from_utf8_lossy(&gathered.data).contains(text).then_some(()));
    }

    /// Waits until there are so many bytes.
    ///
    /// # Panics
    /// Where they do not come.
    pub fn expect_bytes(&self, count: usize) {
        self.until("so many bytes", |gathered| (gathered.data.len() >= count).then_some(()));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn gather(mut file: &File, shared: &(Mutex<Gathered>, Condvar), stop: &AtomicBool, held: &AtomicBool) {
    let mut buffer = vec![0; 65536];
    while !stop.load(Ordering::SeqCst) {
        if held.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(20));
            continue;
        }
        // A FIFO that has had no writer yet says neither POLLIN nor POLLHUP: the first POLLHUP is the end.
        let mut polled = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut polled, PollTimeout::from(100u8)).unwrap_or(0);
        if ready == 0 {
            continue;
        }
        let count = match file.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => 0,
        };
        // A reader that has panicked needs no more.
        let Ok(mut gathered) = shared.0.lock() else { return };
        gathered.data.extend_from_slice(&buffer[..count]);
        gathered.eof = count == 0;
        shared.1.notify_all();
        if count == 0 {
            return;
        }
    }
}

/// The client's end of a stdin FIFO.
pub struct Writer {
    file: Option<File>,
}

impl Writer {
    /// Opens the FIFO, without waiting for a reader.
    ///
    /// # Panics
    /// Where it cannot be opened.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        // Read and write: opening for writing alone needs a reader.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap_or_else(|error| panic!("opening {}: {error}", path.display()));
        Self { file: Some(file) }
    }

    /// Writes all of it; blocks as a pipe does.
    ///
    /// # Panics
    /// Where it fails, or after `close`.
    pub fn write(&self, data: &[u8]) {
        self.file.as_ref().expect("still open").write_all(data).expect("writing to stdin");
    }

    /// Closes this end.
    pub fn close(&mut self) {
        self.file = None;
    }
}
