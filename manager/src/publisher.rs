//! Events to containerd, in order, until it has them.
//!
//! - One queue for all events (F6), bounded in number and bytes. A container's next event is sent only after the one before
//!   was acknowledged or dropped (F4); different containers do not wait for each other.
//! - While containerd is away everything is kept and tried for ever (F3). Over the bounds the oldest event of the longest
//!   lane is dropped. Whatever is dropped is counted, with its reason: `overflow`, `refused` (containerd does not want it),
//!   `failed` (it said so too often), `unencodable`, `stopping`.
//! - An event may arrive twice: what was unanswered when a connection broke is sent again.
//! - It goes by ttrpc, else by gRPC, else by containerd's `publish` command, one process at a time.
//!
//! One task sends; each event in flight is one more, and their number is bounded.

mod binary;
mod courier;
mod dropped;
mod encode;
mod grpc;
mod link;
mod queue;
mod road;
mod ttrpc;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gam_task::event::{Event, EventSink};
use gam_task::id::Key;
use gam_task::reaper::Reaper;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use courier::Courier;
pub use dropped::Dropped;
pub(crate) use dropped::{EXIT, REASONS};
use queue::{Pushed, Queue};

/// The longest event, in bytes: a frame also holds the names of namespace, service and method.
const LONGEST: usize = ttrpc::MOST - 4096;

/// Where events can be sent.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// containerd's ttrpc socket (`TTRPC_ADDRESS`), with or without `unix://`; empty if there is none.
    pub ttrpc: String,
    /// containerd's gRPC socket (`-address`), with or without `unix://`; empty if there is none.
    pub grpc: String,
    /// The program whose `publish` command sends one event (`-publish-binary`); empty if there is none.
    pub binary: PathBuf,
}

/// How much is kept, and how long is waited.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most events that are pending.
    pub events: usize,
    /// The most bytes they have, encoded.
    pub bytes: usize,
    /// The most events in flight.
    pub in_flight: usize,
    /// How long an answer may take before it is called late; and how long the binary may run.
    pub answer: Duration,
    /// How long an answer is waited for while the connection is open.
    pub patience: Duration,
    /// An event that containerd answers with a failure so often is dropped.
    pub failures: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            events: 100_000,
            bytes: 64 << 20,
            in_flight: 64,
            answer: Duration::from_secs(5),
            patience: Duration::from_secs(60),
            failures: 60,
        }
    }
}

/// Learns what becomes of events. Nothing in here may block, panic, or call the publisher.
pub trait Observer: Send + Sync + 'static {
    /// So many events and bytes are pending now.
    fn queued(&self, now: usize, bytes: usize);
    /// An event was delivered by `transport`: `ttrpc`, `grpc` or `binary`.
    fn sent(&self, transport: &'static str);
    /// An attempt was in vain, and its event will be sent again.
    fn retried(&self);
    /// Events were dropped. The reasons are in this module's description.
    fn dropped(&self, reason: &'static str, dropped: Dropped);
    /// An event with `topic` was acknowledged `since` it happened.
    fn acknowledged(&self, topic: &'static str, since: Duration);
}

/// Sends events to one containerd.
pub struct Publisher {
    shared: Arc<Shared>,
}

/// What the publisher and its task share.
struct Shared {
    queue: Mutex<Queue>,
    status: Mutex<Status>,
    observer: Arc<dyn Observer>,
    limits: Limits,
    /// There may be something to send.
    wake: Notify,
    /// Nothing is pending.
    empty: Notify,
    ending: CancellationToken,
}

/// What can be said about the sending.
struct Status {
    transport: &'static str,
    in_flight: usize,
    last_error: Option<String>,
}

impl Publisher {
    /// Begins to send, on the current tokio runtime, until it is stopped or dropped.
    pub fn start(
        addresses: Addresses,
        limits: Limits,
        reaper: Arc<Reaper>,
        observer: Arc<dyn Observer>,
    ) -> Arc<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::new(limits.events, limits.bytes)),
            status: Mutex::new(Status { transport: "none", in_flight: 0, last_error: None }),
            observer,
            limits,
            wake: Notify::new(),
            empty: Notify::new(),
            ending: CancellationToken::new(),
        });
        tokio::spawn(Courier::new(Arc::clone(&shared), addresses, reaper).run());
        Arc::new(Self { shared })
    }

    /// How many events have been neither acknowledged nor dropped.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shared.lock().len()
    }

    /// Waits until nothing is pending, for as long as `limit`; whether that is so (F7).
    pub async fn flush(&self, limit: Duration) -> bool {
        let flushed = async {
            loop {
                let mut empty = std::pin::pin!(self.shared.empty.notified());
                empty.as_mut().enable();
                if self.pending() == 0 {
                    return;
                }
                empty.await;
            }
        };
        tokio::time::timeout(limit, flushed).await.is_ok()
    }

    /// Waits until nothing is pending, for as long as `limit`, and stops. What is still pending, and what is published from
    /// then on, is dropped as `stopping`.
    pub async fn stop(&self, limit: Duration) {
        if !self.flush(limit).await {
            tracing::warn!(events = self.pending(), "events are dropped, because the manager stops");
        }
        self.shared.end();
    }

    /// Stops as [`stop`](Self::stop) does, but at once drops init's exits and deletes that have not been sent: when a shim's
    /// connection closes, containerd publishes these itself, and twice would be wrong (D14). Exits of execs it does not
    /// publish, so they are sent.
    pub async fn stop_leaving_exits(&self, limit: Duration) {
        self.shared.change(|queue| self.shared.count("stopping", queue.leave()));
        self.stop(limit).await;
    }

    /// What is pending for which container, and how the sending goes, for a person to read.
    #[must_use]
    pub fn dump(&self) -> serde_json::Value {
        let (events, bytes, containers) = {
            let queue = self.shared.lock();
            let lengths: BTreeMap<String, usize> =
                queue.lengths().map(|(key, length)| (key.to_string(), length)).collect();
            (queue.len(), queue.bytes(), lengths)
        };
        let status = self.shared.status();
        serde_json::json!({
            "transport": status.transport,
            "in_flight": status.in_flight,
            "last_error": status.last_error,
            "events": events,
            "bytes": bytes,
            "containers": containers,
        })
    }
}

impl EventSink for Publisher {
    fn publish(&self, event: Event) {
        let parcel = match encode::encode(&event) {
            Ok(parcel) if parcel.request.len() <= LONGEST => Arc::new(parcel),
            Ok(parcel) => {
                let bytes = parcel.request.len();
                tracing::error!(container = %event.container, bytes, "an event too long to be sent is dropped");
                return self.shared.count("unencodable", Dropped::event(&event));
            }
            Err(error) => {
                tracing::error!(container = %event.container, %error, "an event that cannot be encoded is dropped");
                return self.shared.count("unencodable", Dropped::event(&event));
            }
        };
        match self.shared.change(|queue| queue.push(&event.container, parcel)) {
            Pushed::Kept => {}
            Pushed::Stopping(dropped) => self.shared.count("stopping", dropped),
            Pushed::Overflow { dropped, news } => {
                if news {
                    tracing::error!("more events than can be kept: the oldest are dropped");
                }
                self.shared.count("overflow", dropped);
            }
        }
        self.shared.wake.notify_one();
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the queue and tells its length, in the order of the changes.
    fn change<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.lock();
        let made = change(&mut queue);
        self.observer.queued(queue.len(), queue.bytes());
        if queue.len() == 0 {
            self.empty.notify_waiters();
        }
        made
    }

    /// The event of `key` that is in flight is done with, unless it was given up before; `tell` tells it before a flush can
    /// end.
    fn done(&self, key: &Key, tell: impl FnOnce(&dyn Observer)) {
        self.change(|queue| {
            if queue.done(key) {
                tell(self.observer.as_ref());
            }
        });
    }

    fn end(&self) {
        self.change(|queue| self.count("stopping", queue.close()));
        self.ending.cancel();
    }

    fn count(&self, reason: &'static str, dropped: Dropped) {
        if dropped.events > 0 {
            self.observer.dropped(reason, dropped);
        }
    }
}

#[cfg(test)]
mod tests;
