//! One connection: frames come in, each request is answered by a task of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{ConnectionId, Shared, call, frame};

/// How many calls of a connection may be unanswered; containerd has one Wait per process and little else.
const MOST_CALLS: usize = 4096;
/// How long a peer may leave a response unread before its connection is given up.
const UNREAD: Duration = Duration::from_secs(60);

/// What the calls of one connection share.
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) shared: Arc<Shared>,
    /// Cancelled when the connection has closed.
    pub(super) gone: CancellationToken,
    pub(super) calls: Arc<Semaphore>,
    writer: Mutex<OwnedWriteHalf>,
}

impl Connection {
    /// Sends one response. A connection that cannot be written to is gone.
    pub(super) async fn respond(&self, stream: u32, payload: &[u8]) {
        let write = async {
            let mut writer = self.writer.lock().await;
            frame::write(&mut *writer, stream, frame::RESPONSE, payload).await
        };
        match tokio::time::timeout(UNREAD, write).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(connection = self.id, %error, "response not delivered");
                self.gone.cancel();
            }
            Err(_) => {
                tracing::warn!(connection = self.id, "a peer that reads no responses is given up");
                self.gone.cancel();
            }
        }
    }
}

/// Serves a connection until it closes.
pub(super) async fn run(stream: UnixStream, id: ConnectionId, shared: Arc<Shared>) {
    let (mut reader, writer) = stream.into_split();
    let connection = Arc::new(Connection {
        id,
        gone: shared.closed.child_token(),
        shared,
        calls: Arc::new(Semaphore::new(MOST_CALLS)),
        writer: Mutex::new(writer),
    });
    loop {
        let frame = tokio::select! {
            () = connection.gone.cancelled() => break,
            frame = frame::read(&mut reader) => frame,
        };
        match frame {
            Ok(Some(frame)) => call::begin(&connection, frame),
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(connection = id, %error, "connection broke off");
                break;
            }
        }
    }
    connection.gone.cancel();
    connection.shared.observer.closed(id);
}
