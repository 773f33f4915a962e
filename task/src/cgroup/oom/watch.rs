//! One container's watch, and the table of all.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::inotify;

use super::super::place::Host;
use super::super::{Cgroup, CgroupError, Place, tree};
use super::Shared;
use super::counter::Counter;
use super::pod::Pod;

type Told = Box<dyn Fn(u64) + Send + Sync>;

/// What a look at a count has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Grown,
    Same,
    /// The cgroup has been removed, or its count cannot be read any more.
    Gone,
}

pub(super) struct Watch {
    id: u64,
    counter: Mutex<Counter>,
    closed: AtomicBool,
    told: Told,
    /// v1's way to give notice.
    eventfd: Option<OwnedFd>,
    pod: Option<Arc<Pod>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Watch {
    /// Tells what is new. The count stays locked meanwhile, so that a last look waits until it has been told.
    pub(super) fn look(&self) -> Look {
        let mut counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed.load(Ordering::Acquire) {
            return Look::Grown;
        }
        match self.growth(&mut counter) {
            Ok(0) => Look::Same,
            Ok(kills) => {
                if catch_unwind(AssertUnwindSafe(|| (self.told)(kills))).is_err() {
                    tracing::error!(kills, "telling of a kill has panicked");
                }
                Look::Grown
            }
            Err(error) => {
                tracing::debug!(%error, "a container's count of kills has ended");
                Look::Gone
            }
        }
    }

    /// The last look.
    pub(super) fn finish(&self) -> Result<u64, CgroupError> {
        let mut counter = self.counter.lock().unwrap_or_else(PoisonError::into_inner);
        self.close();
        self.growth(&mut counter)
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn growth(&self, counter: &mut Counter) -> Result<u64, CgroupError> {
        let kills = counter.growth()?;
        if let Some(pod) = &self.pod {
            pod.explain(kills);
        }
        Ok(kills)
    }
}

/// All watches.
#[derive(Debug, Default)]
pub(super) struct Table {
    last: u64,
    watches: HashMap<u64, Arc<Watch>>,
    /// inotify's watches, which are per file: two of ours may share one.
    files: HashMap<i32, Vec<u64>>,
    pods: HashMap<PathBuf, Weak<Pod>>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.watches.len()
    }

    pub(super) fn all(&self) -> Vec<u64> {
        self.watches.keys().copied().collect()
    }

    pub(super) fn of_file(&self, wd: i32) -> Vec<u64> {
        self.files.get(&wd).cloned().unwrap_or_default()
    }

    pub(super) fn forget_file(&mut self, wd: i32) {
        self.files.remove(&wd);
    }

    /// The pod that a container's cgroup is in, if its count can be had.
    fn pod(&mut self, container: &Path) -> Option<Arc<Pod>> {
        let directory = Pod::directory(container)?;
        self.pods.retain(|_, pod| pod.strong_count() > 0);
        if let Some(pod) = self.pods.get(&directory).and_then(Weak::upgrade) {
            return Some(pod);
        }
        let pod = Arc::new(Pod::open(&directory).ok()?);
        self.pods.insert(directory, Arc::downgrade(&pod));
        Some(pod)
    }
}

/// Begins a watch and enters it.
pub(super) fn begin(shared: &Shared, cgroup: &Cgroup, told: Told) -> Result<Arc<Watch>, CgroupError> {
    let mut table = shared.table.lock().unwrap_or_else(PoisonError::into_inner);
    table.last = table.last.saturating_add(1);
    let id = table.last;
    let closed = AtomicBool::new(false);
    let watch = match &cgroup.0 {
        Place::V2(directory) => {
            let directory = whole(directory);
            let pod = table.pod(&directory);
            let counter = Counter::v2(&directory)?;
            let path = counter.file().path().to_owned();
            let watch = Watch { id, counter: Mutex::new(counter), closed, told, eventfd: None, pod };
            match inotify::add_watch(&shared.inotify, &path, inotify::WatchFlags::MODIFY) {
                Ok(wd) => table.files.entry(wd).or_default().push(id),
                Err(error) => silent(&path, error.into()),
            }
            watch
        }
        Place::V1(paths) => {
            let gone = || CgroupError::Gone { path: cgroup.first().to_owned() };
            let directory = paths.get("memory").ok_or_else(gone)?;
            let counter = Counter::v1(directory)?;
            let eventfd = match notice(shared, id, &counter, directory) {
                Ok(eventfd) => Some(eventfd),
                Err(error) => {
                    silent(directory, error);
                    None
                }
            };
            Watch { id, counter: Mutex::new(counter), closed, told, eventfd, pod: None }
        }
    };
    let watch = Arc::new(watch);
    table.watches.insert(id, Arc::clone(&watch));
    Ok(watch)
}

fn silent(path: &Path, error: io::Error) {
    tracing::warn!(path = %path.display(), %error, "the kernel gives no notice of kills; they are told at the end");
}

/// The scope of a container whose runtime has put it into a sub-cgroup of that scope, where kills in the scope itself
/// would not be counted (BEHAVIOUR E6); else the cgroup itself, whose count on v2 includes its sub-cgroups.
fn whole(directory: &Path) -> PathBuf {
    let scope = |path: &Path| path.extension().is_some_and(|extension| extension == "scope");
    let above = directory.parent().filter(|above| scope(above) && !scope(directory));
    let ours = |above: &Path| {
        // A scope that we are in too, such as a login session's, is not the container's.
        let own = Host::live().own_directories().unwrap_or_default();
        own.iter().any(|own| own.starts_with(above))
    };
    above.filter(|above| !ours(above)).unwrap_or(directory).to_owned()
}

/// Has v1 make an eventfd readable when the cgroup is out of memory: `EVENTFD FILE` is written to `cgroup.event_control`
/// (`Documentation/admin-guide/cgroup-v1/memory.rst`, "OOM Control"). Closing the eventfd takes that back.
fn notice(shared: &Shared, id: u64, counter: &Counter, directory: &Path) -> io::Result<OwnedFd> {
    let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let request = format!("{} {}", eventfd.as_raw_fd(), counter.file().as_file().as_raw_fd());
    tree::write(&directory.join("cgroup.event_control"), &request)?;
    epoll::add(&shared.epoll, &eventfd, epoll::EventData::new_u64(id), epoll::EventFlags::IN)?;
    Ok(eventfd)
}

impl Shared {
    pub(super) fn watch(&self, id: u64) -> Option<Arc<Watch>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).watches.get(&id).cloned()
    }

    /// Takes the notice, so that the eventfd is no longer readable.
    pub(super) fn drain(&self, id: u64) {
        if let Some(eventfd) = self.watch(id).as_ref().and_then(|watch| watch.eventfd.as_ref()) {
            let _ = rustix::io::read(eventfd, &mut [0; 8]);
        }
    }

    /// Expects no more notice from v1.
    pub(super) fn silence(&self, watch: &Watch) {
        if let Some(eventfd) = &watch.eventfd {
            // It may have been taken out before.
            let _ = epoll::delete(&self.epoll, eventfd);
        }
    }

    /// Takes the watch out of the table and out of the kernel.
    pub(super) fn forget(&self, watch: &Watch) {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.watches.remove(&watch.id);
        let mut unused = Vec::new();
        table.files.retain(|wd, ids| {
            let before = ids.len();
            ids.retain(|id| *id != watch.id);
            if ids.is_empty() && before > 0 {
                unused.push(*wd);
            }
            !ids.is_empty()
        });
        for wd in unused {
            // EINVAL: the kernel has done so itself.
            let _ = inotify::remove_watch(&self.inotify, wd);
        }
        drop(table);
        self.silence(watch);
    }

    /// The kills of a watch's pod that no container of the pod accounts for.
    pub(super) fn unexplained(&self, watch: &Watch) -> u64 {
        let Some(pod) = &watch.pod else { return 0 };
        // A kill is counted in the container's cgroup before it is in the pod's: what is in this number can be explained.
        let Ok(count) = pod.count() else { return 0 };
        let siblings: Vec<Arc<Watch>> = {
            let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
            let same = |other: &&Arc<Watch>| {
                other.id != watch.id && other.pod.as_ref().is_some_and(|other| Arc::ptr_eq(other, pod))
            };
            table.watches.values().filter(same).cloned().collect()
        };
        for sibling in siblings {
            sibling.look();
        }
        pod.take_rest(count)
    }
}
