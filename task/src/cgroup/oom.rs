//! Who of the containers ran out of memory.
//!
//! One epoll descriptor in tokio's reactor serves the whole process (BEHAVIOUR I4). In it are one inotify descriptor,
//! with a watch per `memory.events` for v2, and an eventfd per container for v1. Any of them only says "look": what is
//! told is the growth of the kernel's count of kills since the last look, so that each kill is told once, whoever looks.
//!
//! kernfs keeps an inotify watch on a file whose cgroup is removed, and says nothing; a watch ends with its
//! [`OomWatch`]. What a wake-up costs is bounded by a pause after each: a tenant that thrashes at its limit changes its
//! files a hundred times a second.

mod counter;
mod pod;
mod watch;

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::epoll;
use rustix::fs::inotify;
use tokio::io::Interest;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use self::watch::{Look, Table, Watch};
use super::{Cgroup, CgroupError};
use crate::sys::polled::Polled;

/// The epoll token of the inotify descriptor; watches count from 1.
const INOTIFY: u64 = 0;
/// How long the monitor rests after it has looked.
const REST: Duration = Duration::from_millis(10);
/// v1 gives notice before it kills, and also where it will not kill: so the count is looked at again after these.
const LATER: [Duration; 6] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(2),
    Duration::from_secs(10),
];

/// Watches the cgroups of all containers of this process for kills by the kernel's OOM killer.
#[derive(Debug)]
pub struct OomMonitor {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// One container's watch. Dropping it ends it: nothing is told any more, and nothing of it is left in the kernel
/// (BEHAVIOUR E5).
#[derive(Debug)]
pub struct OomWatch {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
}

#[derive(Debug)]
struct Shared {
    epoll: Polled,
    inotify: OwnedFd,
    table: Mutex<Table>,
}

impl OomMonitor {
    /// Begins on the current tokio runtime, until the monitor is dropped.
    ///
    /// # Errors
    /// EMFILE, or where `fs.inotify.max_user_instances` is used up.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time enabled.
    pub fn new() -> io::Result<Arc<Self>> {
        let inotify = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &inotify, epoll::EventData::new_u64(INOTIFY), epoll::EventFlags::IN)?;
        let epoll = Polled::new(epoll, Interest::READABLE)?;
        let shared = Arc::new(Shared { epoll, inotify, table: Mutex::default() });
        let task = tokio::spawn(run(Arc::clone(&shared))).abort_handle();
        Ok(Arc::new(Self { shared, task }))
    }

    /// Begins to count the kills in `cgroup` and its sub-cgroups; those that were before are not told (BEHAVIOUR E6).
    /// It is to be called when the runtime's create is done, before the container is started (E2).
    ///
    /// `told` gets the number of new kills, more than zero, once each. It is called on a runtime's worker, or by
    /// whoever calls [`OomWatch::finish`], while the count is locked: it must not block, nor finish a watch (dropping
    /// one is allowed). A panic in it is caught.
    ///
    /// Where the kernel refuses to give notice (`fs.inotify.max_user_watches`; v1 on a PREEMPT_RT kernel) that is
    /// logged, and kills are told by `finish` only.
    ///
    /// # Errors
    /// [`CgroupError::Gone`] if the cgroup is, or has no memory controller; [`CgroupError::Read`] and
    /// [`CgroupError::Parse`] if its count of kills cannot be had (v1 has one since 4.13).
    pub fn watch(
        self: &Arc<Self>,
        cgroup: &Cgroup,
        told: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<OomWatch, CgroupError> {
        let watch = watch::begin(&self.shared, cgroup, Box::new(told))?;
        // A kill between the first count and the kernel's promise of notice.
        watch.look();
        Ok(OomWatch { shared: Arc::clone(&self.shared), watch })
    }

    /// How many watches there are.
    #[must_use]
    pub fn watched(&self) -> usize {
        self.shared.table.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for OomMonitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OomWatch {
    /// Ends it with a last look, and answers the kills that have not been told (BEHAVIOUR E3): after this `told` is not
    /// called any more, and is not running.
    ///
    /// If the cgroup is gone, its count is too (E4). In a pod of Kubernetes the pod's count is then asked, which includes
    /// those of its removed cgroups: the kills that none of its other watched containers knows of are answered.
    #[must_use]
    pub fn finish(self) -> u64 {
        match self.watch.finish() {
            Ok(kills) => kills,
            Err(_) => self.shared.unexplained(&self.watch),
        }
    }

    /// Whether the count can no longer be read, so that kills since the last look may never be known (BEHAVIOUR E4).
    #[must_use]
    pub fn is_blind(&self) -> bool {
        matches!(self.watch.look(), Look::Gone)
    }
}

impl Drop for OomWatch {
    fn drop(&mut self) {
        self.watch.close();
        self.shared.forget(&self.watch);
    }
}

/// Looks wherever the kernel gives notice.
async fn run(shared: Arc<Shared>) {
    let mut later: Vec<(Instant, u64, usize)> = Vec::new();
    loop {
        let next = later.iter().map(|(when, ..)| *when).min();
        let ready = tokio::select! {
            ready = shared.epoll.run(Interest::READABLE, ready) => match ready {
                Ok(ready) => ready,
                Err(error) => {
                    // Only at the end of the runtime, which ends this task too.
                    tracing::error!(%error, "the OOM monitor cannot wait for the kernel");
                    return;
                }
            },
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => Vec::new(),
        };
        let now = Instant::now();
        let (due, rest) = later.into_iter().partition(|(when, ..)| *when <= now);
        later = rest;
        for (_, id, step) in due {
            look_at_v1(&shared, id, step, &mut later);
        }
        for token in ready {
            if token == INOTIFY {
                shared.looked_at_v2();
            } else {
                later.retain(|(_, id, _)| *id != token);
                shared.drain(token);
                look_at_v1(&shared, token, 0, &mut later);
            }
        }
        sleep(REST).await;
    }
}

/// The tokens of the descriptors that are readable.
fn ready(epoll: &OwnedFd) -> io::Result<Vec<u64>> {
    let mut events = Vec::with_capacity(64);
    let none = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
    epoll::wait(epoll, rustix::buffer::spare_capacity(&mut events), Some(&none))?;
    if events.is_empty() {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Ok(events.into_iter().map(|event: epoll::Event| event.data.u64()).collect())
}

fn look_at_v1(shared: &Shared, id: u64, step: usize, later: &mut Vec<(Instant, u64, usize)>) {
    let Some(watch) = shared.watch(id) else { return };
    match watch.look() {
        Look::Grown => {}
        Look::Same => {
            if let Some(pause) = LATER.get(step) {
                later.push((Instant::now() + *pause, id, step + 1));
            }
        }
        // The eventfd is readable once more when the cgroup is removed.
        Look::Gone => shared.silence(&watch),
    }
}

impl Shared {
    /// Looks at every watch whose file has changed.
    fn looked_at_v2(&self) {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut changed = Vec::new();
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            let flags = event.events();
            let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
            if flags.contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                changed.extend(table.all());
            } else {
                changed.extend(table.of_file(event.wd()));
            }
            if flags.contains(inotify::ReadFlags::IGNORED) {
                table.forget_file(event.wd());
            }
        }
        changed.sort_unstable();
        changed.dedup();
        for id in changed {
            if let Some(watch) = self.watch(id) {
                watch.look();
            }
        }
    }
}
