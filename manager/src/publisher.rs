//! Events to containerd: kept until it has them, in order for each container.
//!
//! A container's events wait in a lane and are sent one after the other (F4); lanes are sent side by side. ttrpc is the
//! way to send, gRPC where there is no ttrpc, and containerd's publish binary where a daemon takes neither. While none
//! works events wait, bounded and counted (F3).

mod binary;
mod dispatch;
mod encode;
mod grpc;
mod lanes;
mod transport;
mod ttrpc;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gam_task::event::{Event, EventSink};
use gam_task::reaper::Reaper;
use serde_json::json;
use tokio::sync::Notify;

use self::lanes::Lanes;

/// Where events go.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// containerd's ttrpc socket, with or without `unix://`; empty for none.
    pub ttrpc: String,
    /// containerd's gRPC socket, with or without `unix://`; empty for none.
    pub grpc: String,
    /// containerd's publish binary; empty for none.
    pub binary: PathBuf,
}

/// How many events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most events.
    pub events: usize,
    /// The most bytes.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { events: 100_000, bytes: 64 << 20 }
    }
}

/// Learns what becomes of events. Nothing in here may block or panic.
pub trait Observer: Send + Sync + 'static {
    /// So many events, of so many bytes, are kept now.
    fn queued(&self, events: usize, bytes: usize);
    /// containerd has taken an event over `transport`.
    fn sent(&self, transport: &'static str);
    /// An event is to be sent again.
    fn retried(&self);
    /// Events are lost, for a reason.
    fn dropped(&self, reason: &'static str, count: u64);
    /// containerd has taken an event of a process's exit, `since` that exit.
    fn exit_acknowledged(&self, since: Duration);
}

/// Sends events.
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    addresses: Addresses,
    limits: Limits,
    reaper: Arc<Reaper>,
    observer: Arc<dyn Observer>,
    lanes: Mutex<Lanes>,
    /// Something is to be sent.
    work: Notify,
    /// Something has been sent or dropped.
    progress: Notify,
    /// How events are sent, for a dump.
    way: Mutex<String>,
}

impl Shared {
    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self, lanes: &Lanes) {
        self.observer.queued(lanes.events(), lanes.bytes());
    }

    fn set_way(&self, way: String) {
        *self.way.lock().unwrap_or_else(PoisonError::into_inner) = way;
    }
}

impl Publisher {
    /// Begins to send, on the current tokio runtime.
    #[must_use]
    pub fn start(
        addresses: Addresses,
        limits: Limits,
        reaper: Arc<Reaper>,
        observer: Arc<dyn Observer>,
    ) -> Arc<Self> {
        let shared = Arc::new(Shared {
            addresses,
            limits,
            reaper,
            observer,
            lanes: Mutex::default(),
            work: Notify::new(),
            progress: Notify::new(),
            way: Mutex::new("not connected".to_owned()),
        });
        tokio::spawn(dispatch::run(Arc::clone(&shared)));
        Arc::new(Self { shared })
    }

    /// How many events containerd has not taken.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shared.lanes().events()
    }

    /// Waits until containerd has every event, `limit` at most; whether it has (F7).
    pub async fn flush(&self, limit: Duration) -> bool {
        let flushed = async {
            loop {
                let progress = self.shared.progress.notified();
                if self.pending() == 0 {
                    return;
                }
                progress.await;
            }
        };
        tokio::time::timeout(limit, flushed).await.is_ok()
    }

    /// Flushes, and counts what is left as lost.
    pub async fn stop(&self, limit: Duration) {
        if self.flush(limit).await {
            return;
        }
        let left = self.pending();
        tracing::warn!(events = left, "events are lost: containerd does not take them");
        self.shared.observer.dropped("stopping", u64::try_from(left).unwrap_or_default());
    }

    /// What waits, and how it is sent.
    #[must_use]
    pub fn dump(&self) -> serde_json::Value {
        let lanes = self.shared.lanes();
        let way = self.shared.way.lock().unwrap_or_else(PoisonError::into_inner).clone();
        json!({"events": lanes.events(), "bytes": lanes.bytes(), "way": way, "lanes": lanes.describe()})
    }
}

impl EventSink for Publisher {
    fn publish(&self, event: Event) {
        let key = event.container.clone();
        let Some(parcel) = encode::parcel(event) else {
            self.shared.observer.dropped("encoding", 1);
            return;
        };
        let mut lanes = self.shared.lanes();
        let lost = lanes.push(key, parcel, self.shared.limits);
        self.shared.observe(&lanes);
        drop(lanes);
        if lost > 0 {
            self.shared.observer.dropped("overflow", lost);
        }
        self.shared.work.notify_one();
    }
}

#[cfg(test)]
mod tests;
