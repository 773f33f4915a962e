//! A ttrpc server that many tenants can share.
//!
//! Wire format, services and methods are the ttrpc crate's; the loop is our own, because its promises are the product's:
//!
//! - A request is work, not a conversation: it runs to its end even if its caller leaves or its deadline passes. Only
//!   calls that change nothing (a Wait, say) end with their connection (H7).
//! - A handler that panics answers INTERNAL, and nobody else notices (K5).
//! - What is not served answers UNIMPLEMENTED, the one code containerd falls back on (H3); a frame that is too large
//!   answers RESOURCE_EXHAUSTED (J7).
//! - Only root and the manager's own user are served (K9), and a connection costs one task and no thread.
//! - Whoever asks learns which connection a request came over, and when it has closed.

mod accept;
mod call;
mod calls;
mod connection;
pub(crate) mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use ttrpc::asynchronous::Service;

pub use call::connection_of;
pub use calls::{Call, Calls, Stack};

/// A connection's number; none is given twice.
pub type ConnectionId = u64;

/// Learns what the server does. Nothing in here may block or panic.
pub trait Observer: Send + Sync + 'static {
    /// A call was answered with `code` (`OK`, `NOT_FOUND`, ...), `took` after it came. `method` is `unknown` for one
    /// that is not served.
    fn answered(&self, method: &str, code: &'static str, took: Duration);
    /// A connection has closed.
    fn closed(&self, connection: ConnectionId);
}

/// A server at work.
pub struct Server {
    shared: Arc<Shared>,
}

/// What every connection needs.
struct Shared {
    services: HashMap<String, Service>,
    observer: Arc<dyn Observer>,
    calls: Arc<Calls>,
    /// Cancelled when no new connection is to be accepted.
    closing: CancellationToken,
    /// Cancelled when connections are to close.
    closed: CancellationToken,
    /// Calls that change something and have not been answered.
    working: AtomicUsize,
    idle: Notify,
}

impl Server {
    /// Serves `services` to whoever connects to `listener`, and lists in `calls` what is at work. Must be called inside a tokio runtime.
    pub fn start(
        listener: UnixListener,
        services: HashMap<String, Service>,
        observer: Arc<dyn Observer>,
        calls: Arc<Calls>,
    ) -> Self {
        let shared = Arc::new(Shared {
            services,
            observer,
            calls,
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
            working: AtomicUsize::new(0),
            idle: Notify::new(),
        });
        tokio::spawn(accept::run(listener, Arc::clone(&shared)));
        Self { shared }
    }

    /// Accepts no more, lets what is at work end for as long as `patience`, and closes every connection. Replies that
    /// have been made are on the wire then.
    pub async fn stop(&self, patience: Duration) {
        self.shared.closing.cancel();
        let idle = async {
            loop {
                let changed = self.shared.idle.notified();
                if self.shared.working.load(Ordering::SeqCst) == 0 {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(patience, idle).await.is_err() {
            tracing::warn!("requests are still at work while the server stops");
        }
        self.shared.closed.cancel();
    }
}

/// Counts a call that changes something for as long as it is at work.
struct Working(Arc<Shared>);

impl Working {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.working.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(shared))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if self.0.working.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
