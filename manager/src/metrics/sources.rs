//! Who is asked at a scrape.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use gam_task::cgroup::Usage;
use gam_task::id::Key;
use gam_task::tenant::Tenant;

use crate::logs::Logs;

/// Knows the tasks of the manager. Called on the metrics' thread at each scrape.
pub trait Tasks: Send + Sync + 'static {
    /// How many tasks are in each state.
    fn by_state(&self) -> Vec<(&'static str, usize)>;
    /// How many containers each tenant has.
    fn by_tenant(&self) -> Vec<(Tenant, usize)>;
    /// What the containers use: of `most` of them, always the same ones, and how many others there are.
    fn usage(&self, most: usize) -> (Vec<ContainerUsage>, usize);
}

/// Knows the requests at work. Called on the metrics' thread at each scrape.
pub trait Requests: Send + Sync + 'static {
    /// How long the oldest request has been at work that is no Wait; zero if there is none.
    fn oldest(&self) -> Duration;
}

/// What one container uses.
#[derive(Clone, Debug)]
pub struct ContainerUsage {
    /// Whose it is.
    pub tenant: Tenant,
    /// Which it is.
    pub key: Key,
    /// The id of its pod's sandbox; none outside of Kubernetes.
    pub sandbox: Option<String>,
    /// What its cgroup uses.
    pub usage: Usage,
    /// How many of its processes were killed for lack of memory.
    pub oom_kills: u64,
}

/// All that are asked.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) tasks: OnceLock<Arc<dyn Tasks>>,
    pub(super) requests: OnceLock<Arc<dyn Requests>>,
    pub(super) logs: OnceLock<Logs>,
    /// Held during a scrape, as gauges are set and read in it.
    pub(super) scraping: Mutex<()>,
}
