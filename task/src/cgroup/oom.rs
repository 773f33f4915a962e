//! Seeing that memory ran out.
//!
//! Version 2 counts kills in `memory.events`, of a cgroup and those below it (E1, E6); one inotify instance watches the
//! files of all containers (I4). Version 1 counts them in `memory.oom_control` and wakes an eventfd when memory runs out,
//! which is before the kill and may be without one: so the count decides (E7), and is looked at again a moment later.
//!
//! The files stay open: one that the kernel has removed meanwhile answers what it last could, or ENODEV (E4).

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use tokio::io::Interest;
use tokio::task::AbortHandle;

use super::{Cgroup, CgroupError};
use crate::sys::polled::Polled;

/// When version 1's count is looked at again after memory ran out: the kill comes after the notice.
const LATER: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];

/// Watches the memory of all containers of a process.
pub struct OomMonitor {
    inotify: Arc<Polled>,
    /// By inotify's watch, version 2's; one file may be watched by several.
    watched: Mutex<HashMap<i32, Vec<Weak<Counter>>>>,
    /// How many watches there are.
    count: AtomicU64,
}

/// The count of one container.
struct Counter {
    file: Mutex<(File, u64)>,
    told: Box<dyn Fn(u64) + Send + Sync>,
}

impl Counter {
    fn new(file: File, told: impl Fn(u64) + Send + Sync + 'static) -> Self {
        let mut file = file;
        // What was killed before belongs to nobody (E6).
        let baseline = read(&mut file).unwrap_or_default();
        Self { file: Mutex::new((file, baseline)), told: Box::new(told) }
    }

    /// How many were killed since the last look. Each is answered once.
    fn look(&self) -> u64 {
        new(&mut self.file.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The lock is held until it has been told, so that a last look waits for that: what is known is said before the end
    /// that it caused (E3).
    fn tell(&self) {
        let mut locked = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let kills = new(&mut locked);
        if kills > 0 {
            (self.told)(kills);
        }
    }
}

/// How many more the file counts than were seen; they are seen now.
fn new((file, seen): &mut (File, u64)) -> u64 {
    let Some(now) = read(file) else { return 0 };
    let new = now.saturating_sub(*seen);
    *seen = now.max(*seen);
    new
}

/// The count in a file of either version; none if it has gone.
fn read(file: &mut File) -> Option<u64> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

/// A watch over one container. Dropped, nothing of it is left (E5).
pub struct OomWatch {
    monitor: Arc<OomMonitor>,
    counter: Arc<Counter>,
    how: How,
}

enum How {
    /// inotify's watch.
    V2(i32),
    /// The task that waits for the eventfd.
    V1(AbortHandle),
}

impl OomMonitor {
    /// Begins to watch, on the current tokio runtime.
    ///
    /// # Errors
    /// EMFILE, where the user has too many inotify instances.
    pub fn new() -> io::Result<Arc<Self>> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let inotify = Arc::new(Polled::new(inotify::init(flags)?, Interest::READABLE)?);
        let reading = Arc::clone(&inotify);
        let monitor = Arc::new(Self { inotify, watched: Mutex::default(), count: AtomicU64::new(0) });
        tokio::spawn(listen(reading, Arc::downgrade(&monitor)));
        Ok(monitor)
    }

    fn watched_files(&self) -> MutexGuard<'_, HashMap<i32, Vec<Weak<Counter>>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many watches there are.
    #[must_use]
    pub fn watches(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// Watches a cgroup from now on: `told` is called with the number of processes that were killed.
    ///
    /// # Errors
    /// [`CgroupError`] if it is gone, has no memory controller, or cannot be watched.
    pub fn watch(
        self: &Arc<Self>,
        cgroup: &Cgroup,
        told: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<OomWatch, CgroupError> {
        let directory = cgroup.directory("memory").ok_or(CgroupError::Gone)?;
        let (counter, how) = match cgroup {
            Cgroup::V2(_) => self.watch_v2(&directory.join("memory.events"), told)?,
            Cgroup::V1(_) => watch_v1(directory, told)?,
        };
        self.count.fetch_add(1, Ordering::SeqCst);
        Ok(OomWatch { monitor: Arc::clone(self), counter, how })
    }

    fn watch_v2(
        &self,
        path: &Path,
        told: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<(Arc<Counter>, How), CgroupError> {
        let file = File::open(path).map_err(watch_error(path))?;
        let mut watched = self.watched_files();
        let watch = inotify::add_watch(self.inotify.as_fd(), path, inotify::WatchFlags::MODIFY)
            .map_err(|error| watch_error(path)(error.into()))?;
        let counter = Arc::new(Counter::new(file, told));
        watched.entry(watch).or_default().push(Arc::downgrade(&counter));
        Ok((counter, How::V2(watch)))
    }

    fn changed(&self, watch: i32) {
        let counters: Vec<Arc<Counter>> =
            self.watched_files().get(&watch).into_iter().flatten().filter_map(Weak::upgrade).collect();
        for counter in counters {
            counter.tell();
        }
    }

    fn all(&self) -> Vec<i32> {
        self.watched_files().keys().copied().collect()
    }

    /// Ends a watch; inotify's own ends with the last on that file.
    fn forget(&self, watch: i32, counter: &Arc<Counter>) {
        let mut watched = self.watched_files();
        let Some(counters) = watched.get_mut(&watch) else { return };
        counters.retain(|known| known.as_ptr() != Arc::as_ptr(counter) && known.strong_count() > 0);
        if counters.is_empty() {
            watched.remove(&watch);
            let _ = inotify::remove_watch(self.inotify.as_fd(), watch);
        }
    }
}

/// Takes inotify's events until the monitor is gone.
async fn listen(reading: Arc<Polled>, monitor: Weak<OomMonitor>) {
    loop {
        let read = reading
            .run(Interest::READABLE, |fd| {
                let mut space = [std::mem::MaybeUninit::<u8>::uninit(); 4096];
                let mut events = inotify::Reader::new(fd.as_fd(), &mut space);
                let mut found = Vec::new();
                let mut lost = false;
                loop {
                    let event = events.next()?;
                    lost |= event.events().contains(inotify::ReadFlags::QUEUE_OVERFLOW);
                    found.push(event.wd());
                    if events.is_buffer_empty() {
                        return Ok((found, lost));
                    }
                }
            })
            .await;
        let Some(monitor) = monitor.upgrade() else { return };
        match read {
            Ok((found, false)) => found.into_iter().for_each(|watch| monitor.changed(watch)),
            Ok((_, true)) => monitor.all().into_iter().for_each(|watch| monitor.changed(watch)),
            Err(error) => {
                tracing::error!(%error, "out of memory will not be seen any more");
                return;
            }
        }
    }
}

/// Asks version 1's kernel to wake an eventfd.
fn watch_v1(
    directory: &Path,
    told: impl Fn(u64) + Send + Sync + 'static,
) -> Result<(Arc<Counter>, How), CgroupError> {
    let path = directory.join("memory.oom_control");
    let file = File::open(&path).map_err(watch_error(&path))?;
    let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|error| watch_error(&path)(error.into()))?;
    let asked = format!("{} {}", event.as_raw_fd(), file.as_raw_fd());
    let control = directory.join("cgroup.event_control");
    std::fs::write(&control, asked).map_err(watch_error(&control))?;
    let event = Polled::new(event, Interest::READABLE).map_err(watch_error(&path))?;
    let counter = Arc::new(Counter::new(file, told));
    let task = tokio::spawn(wake(event, Arc::downgrade(&counter), path)).abort_handle();
    Ok((counter, How::V1(task)))
}

/// Looks at the count each time that the kernel wakes; it also does when the cgroup is removed.
async fn wake(event: Polled, counter: Weak<Counter>, path: PathBuf) {
    loop {
        let mut count = [0_u8; 8];
        let woken = event.run(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut count)?)).await;
        if woken.is_err() || !path.exists() {
            return;
        }
        for pause in LATER {
            tokio::time::sleep(pause).await;
            let Some(counter) = counter.upgrade() else { return };
            counter.tell();
        }
    }
}

impl OomWatch {
    /// Ends the watch with a last look; how many were killed that have not been told (E3).
    #[must_use]
    pub fn finish(self) -> u64 {
        self.counter.look()
    }
}

impl Drop for OomWatch {
    fn drop(&mut self) {
        match &self.how {
            How::V2(watch) => self.monitor.forget(*watch, &self.counter),
            How::V1(task) => task.abort(),
        }
        self.monitor.count.fetch_sub(1, Ordering::SeqCst);
    }
}

fn watch_error(path: &Path) -> impl FnOnce(io::Error) -> CgroupError + use<> {
    let path = path.to_path_buf();
    move |source| {
        if super::is_gone(&source) { CgroupError::Gone } else { CgroupError::Watch { path, source } }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn e3_a_last_look_waits_for_what_is_being_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory.events");
        std::fs::write(&path, "oom_kill 0\n").unwrap();
        let (begun, has_begun) = mpsc::channel();
        let (told, is_told) = (Arc::new(AtomicU64::new(0)), Duration::from_millis(200));
        let done = Arc::clone(&told);
        let counter = Counter::new(File::open(&path).unwrap(), move |kills| {
            begun.send(()).unwrap();
            std::thread::sleep(is_told);
            done.store(kills, Ordering::SeqCst);
        });
        std::fs::write(&path, "oom_kill 2\n").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| counter.tell());
            has_begun.recv().unwrap();
            assert_eq!(counter.look(), 0);
            assert_eq!(told.load(Ordering::SeqCst), 2);
        });
    }
}
