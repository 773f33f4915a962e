//! Taking connections.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

use super::{Shared, connection};

/// How long accepting pauses when it fails: with no descriptor left it would fail again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the server closes.
pub(super) async fn run(listener: UnixListener, shared: Arc<Shared>) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    loop {
        let accepted = tokio::select! {
            () = shared.closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, _)| admit(stream)) {
            Ok(Some(stream)) => {
                let id = NEXT.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(connection::run(stream, id, Arc::clone(&shared)));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Lets in root and the user the manager runs as, nobody else (K9).
fn admit(stream: UnixStream) -> io::Result<Option<UnixStream>> {
    let peer = stream.peer_cred()?;
    if peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw() {
        return Ok(Some(stream));
    }
    tracing::warn!(uid = peer.uid(), pid = peer.pid(), "connection of another user refused");
    Ok(None)
}
