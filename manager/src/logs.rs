//! Where log lines go: each container's to the `log` FIFO of its own bundle, which containerd copies to its log.
//!
//! A line belongs to the container that a field `container` names, as [`Key`] displays it, on the event or on a span
//! round it. A line of no container goes to the `log` of any live bundle; where none takes it, to a bounded file in the
//! group's directory.
//!
//! Nothing here blocks (C15): FIFOs are not waited for, and what a full one does not take is dropped and counted.

mod fifo;
mod file;
mod layer;
mod line;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockWriteGuard};

use gam_task::id::Key;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use fifo::Fifo;
use file::BoundedFile;
pub(crate) use line::timestamp;

/// The name of the FIFO in a bundle.
const FIFO_NAME: &str = "log";

/// How many bundles are tried for a line of no container.
const TRIES: usize = 3;

/// The names of the levels, from that which logs nothing to that which logs all.
pub const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The levels in the order of [`LEVELS`].
const ALL: [LevelFilter; 6] = [
    LevelFilter::OFF,
    LevelFilter::ERROR,
    LevelFilter::WARN,
    LevelFilter::INFO,
    LevelFilter::DEBUG,
    LevelFilter::TRACE,
];

/// The level of that name.
#[must_use]
pub fn level_named(name: &str) -> Option<LevelFilter> {
    LEVELS.iter().zip(ALL).find(|(known, _)| **known == name).map(|(_, level)| level)
}

fn place(level: LevelFilter) -> usize {
    ALL.iter().position(|known| *known == level).unwrap_or_default()
}

/// The sinks of the log; a handle, whose clones are the same. It is the `tracing` layer, too.
#[derive(Clone)]
pub struct Logs {
    shared: Arc<Shared>,
}

/// What all handles share.
struct Shared {
    /// The place of the level in [`ALL`].
    level: AtomicUsize,
    /// The bundles' FIFOs by the container's key as text, the form in which lines name it.
    bundles: RwLock<BTreeMap<String, Fifo>>,
    file: Mutex<BoundedFile>,
    dropped: AtomicU64,
}

impl Logs {
    /// Sinks without a bundle yet; `group_log` is the file for what no bundle takes, made with the first such line.
    #[must_use]
    pub fn new(group_log: PathBuf, debug: bool) -> Self {
        Self::with_level(group_log, if debug { LevelFilter::DEBUG } else { LevelFilter::INFO })
    }

    /// The same for lines down to `level`.
    #[must_use]
    pub fn with_level(group_log: PathBuf, level: LevelFilter) -> Self {
        let shared = Shared {
            level: AtomicUsize::new(place(level)),
            bundles: RwLock::default(),
            file: Mutex::new(BoundedFile::new(group_log)),
            dropped: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Down to which level lines are written.
    #[must_use]
    pub fn level(&self) -> LevelFilter {
        ALL.get(self.shared.level.load(Ordering::Relaxed)).copied().unwrap_or(LevelFilter::INFO)
    }

    /// Writes lines down to `level` from now on. What is not written still costs one comparison: whoever logs is told anew
    /// which lines are wanted.
    pub fn set_level(&self, level: LevelFilter) {
        self.shared.level.store(place(level), Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    /// Makes this the process's log, of the `log` crate's records as well.
    ///
    /// # Errors
    /// Where the process has one already.
    pub fn install(&self) -> Result<(), TryInitError> {
        tracing_subscriber::registry().with(self.clone()).try_init()
    }

    /// Sends the lines of `key` to the FIFO `log` in `bundle` from now on. Where there is no FIFO they go where lines of
    /// no container go.
    pub fn add(&self, key: &Key, bundle: &Path) {
        let path = bundle.join(FIFO_NAME);
        // Opened before the lock is taken: every thread that logs takes it.
        match Fifo::open(&path) {
            Ok(fifo) => {
                self.write_bundles().insert(key.to_string(), fifo);
            }
            Err(e) => {
                self.remove(key);
                tracing::debug!(container = %key, path = %path.display(), error = %e, "the bundle has no log to write to");
            }
        }
    }

    /// Closes the FIFO of `key`.
    pub fn remove(&self, key: &Key) {
        let closed = self.write_bundles().remove(&key.to_string());
        drop(closed);
    }

    /// How many lines no sink took.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    fn write_bundles(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Fifo>> {
        self.shared.bundles.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `line`, which ends in a newline, where lines of `container` go.
    fn write(&self, container: Option<&str>, line: &[u8]) {
        let bundles = self.shared.bundles.read().unwrap_or_else(PoisonError::into_inner);
        let taken = match container.and_then(|container| bundles.get(container)) {
            Some(own) => own.write(line),
            None => {
                let by_bundle = bundles.values().take(TRIES).any(|fifo| fifo.write(line));
                drop(bundles);
                by_bundle || self.shared.file.lock().unwrap_or_else(PoisonError::into_inner).write(line)
            }
        };
        if !taken {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
