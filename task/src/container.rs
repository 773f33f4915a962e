//! A container: what is asked of it, one file per request.
//!
//! The pure [`state`](crate::state) machine decides what may happen; its inputs enter through [`Container::apply`], which
//! announces what follows in one step with the change, so that events are in the order of the states. Nothing here holds
//! a lock while the runtime works: a slow command of one request keeps no other waiting, and State, Wait, Pids, Stats and
//! Connect are answered from memory and the kernel's files.

mod checkpoint;
mod create;
mod delete;
mod effect;
mod error;
mod exec;
mod inspect;
mod kill;
mod member;
mod pause;
mod query;
mod recording;
mod start;
mod update;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

pub use checkpoint::CheckpointRequest;
pub use create::CreateRequest;
pub use error::ContainerError;
pub use exec::ExecRequest;
pub use query::{Listed, Report, Status};

use self::member::Member;
use crate::admission::Admission;
use crate::cgroup::{Cgroup, OomMonitor, OomWatch};
use crate::event::EventSink;
use crate::id::Key;
use crate::options::Options;
use crate::process::Core;
use crate::reaper::Reaper;
use crate::runtime::Runtime;
use crate::state::{ExecId, State};
use crate::telemetry::Telemetry;
use crate::tenant::{Account, Accounts, Taken, Tenant};

/// What all containers of a manager share.
pub struct Host {
    /// Reaps their processes.
    pub reaper: Arc<Reaper>,
    /// Takes their events.
    pub events: Arc<dyn EventSink>,
    /// Counts what they do.
    pub telemetry: Arc<dyn Telemetry>,
    /// Lets their runtime commands run.
    pub admission: Admission,
    /// What their tenants have.
    pub accounts: Accounts,
    /// The directory of the group, for whoever looks for the manager by a record.
    pub group: PathBuf,
    /// Whether a pod shares the threads of a core with no other (`SCHED_CORE`).
    pub core_scheduling: bool,
    /// Sees when their memory runs out; none where the kernel does not tell.
    pub oom: Option<Arc<OomMonitor>>,
}

/// One container.
pub struct Container {
    key: Key,
    bundle: PathBuf,
    sandbox: Option<String>,
    account: Arc<Account>,
    options: Options,
    rootfs: Vec<crate::mount::Mount>,
    /// With whom it shares the threads of a core; none with anybody.
    core: Option<Core>,
    created_at: SystemTime,
    /// The checkpoint's directory that it is restored from; empty for none.
    checkpoint: String,
    host: Arc<Host>,
    runtime: Runtime,
    init: Arc<Member>,
    inner: Mutex<Inner>,
    /// Lets one record be written at a time, the newest last; true when that was the last of all.
    recorder: Mutex<bool>,
    /// Lets one deletion work at a time.
    deletion: tokio::sync::Mutex<()>,
    /// Kills that are not answered yet.
    kills: AtomicUsize,
    /// How many of its processes were killed for lack of memory.
    oom_kills: AtomicU64,
}

/// What changes.
struct Inner {
    state: State,
    execs: BTreeMap<ExecId, Arc<Member>>,
    /// That it counts as one of its tenant's containers.
    taken: Option<Taken>,
    cgroup: Option<Cgroup>,
    oom: Option<OomWatch>,
}

impl Container {
    /// Whose container it is.
    #[must_use]
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Its bundle's directory.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// The id of the sandbox it belongs to, which for a sandbox is its own; none outside of Kubernetes.
    #[must_use]
    pub fn sandbox(&self) -> Option<&str> {
        self.sandbox.as_deref()
    }

    /// Whose it is.
    #[must_use]
    pub fn tenant(&self) -> &Tenant {
        self.account.tenant()
    }

    /// How the runtime is called for it.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Locks what changes, for a few instructions; never across an await.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process a request is about: init, or an exec.
    fn member(&self, exec: Option<&str>) -> Result<Arc<Member>, ContainerError> {
        match exec {
            None => Ok(Arc::clone(&self.init)),
            Some(id) => self.inner().execs.get(id).cloned().ok_or_else(|| ContainerError::no_exec(id)),
        }
    }
}
