//! A ttrpc client for one method.
//!
//! The number of a request and its place in the stream of bytes are given under one lock: Go's servers from containerd 1.7
//! on refuse requests whose numbers do not rise, and such an event would be lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protobuf::Message as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::task::AbortHandle;
use ttrpc::proto::KeyValue;
use ttrpc::{Request, Response};

use super::encode::Parcel;
use super::transport::{SendError, meaning};
use crate::containerd::socket;
use crate::server::frame;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer is waited for while the connection is open: a daemon that stands still would take every copy.
const ANSWER: Duration = Duration::from_secs(60);

/// A connection.
pub(super) struct Client {
    writer: AsyncMutex<Writer>,
    pending: Arc<Pending>,
    reader: AbortHandle,
}

struct Writer {
    half: OwnedWriteHalf,
    next: u32,
}

/// Who waits for an answer; none once the connection has closed.
struct Pending(Mutex<Option<HashMap<u32, oneshot::Sender<Response>>>>);

impl Pending {
    fn lock(&self) -> MutexGuard<'_, Option<HashMap<u32, oneshot::Sender<Response>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    pub(super) async fn connect(address: &str) -> Result<Self, SendError> {
        let unreachable = |text: String| SendError::Unreachable(format!("ttrpc at {address}: {text}"));
        let stream = match tokio::time::timeout(CONNECT, UnixStream::connect(socket(address))).await {
            Ok(connected) => connected.map_err(|error| unreachable(error.to_string()))?,
            Err(_) => return Err(unreachable("no connection in time".to_owned())),
        };
        let (read, half) = stream.into_split();
        let pending = Arc::new(Pending(Mutex::new(Some(HashMap::new()))));
        let reader = tokio::spawn(listen(read, Arc::clone(&pending))).abort_handle();
        Ok(Self { writer: AsyncMutex::new(Writer { half, next: 1 }), pending, reader })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.pending.lock().is_none()
    }

    pub(super) async fn forward(&self, parcel: &Parcel) -> Result<(), SendError> {
        let payload = request(parcel)?;
        let answer = self.begin(&payload).await?;
        match tokio::time::timeout(ANSWER, answer).await {
            Ok(Ok(response)) => match response.status.into_option() {
                None => Ok(()),
                Some(status) if status.code() == ttrpc::Code::OK => Ok(()),
                Some(status) => Err(meaning(status.code.value(), status.message)),
            },
            Ok(Err(_)) => Err(SendError::Unreachable("the connection closed before the answer".to_owned())),
            Err(_) => Err(SendError::Unreachable("no answer in time".to_owned())),
        }
    }

    /// Numbers a request and writes it; gives the answer to come.
    async fn begin(&self, payload: &[u8]) -> Result<oneshot::Receiver<Response>, SendError> {
        let closed = || SendError::Unreachable("the connection is closed".to_owned());
        let (tell, answer) = oneshot::channel();
        let mut writer = self.writer.lock().await;
        let number = writer.next;
        writer.next = number.checked_add(2).ok_or_else(closed)?;
        self.pending.lock().as_mut().ok_or_else(closed)?.insert(number, tell);
        if let Err(error) = frame::write(&mut writer.half, number, frame::REQUEST, payload).await {
            *self.pending.lock() = None;
            return Err(SendError::Unreachable(error.to_string()));
        }
        Ok(answer)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn request(parcel: &Parcel) -> Result<Vec<u8>, SendError> {
    let mut namespace = KeyValue::new();
    namespace.key = "containerd-namespace-ttrpc".to_owned();
    namespace.value = parcel.namespace.to_string();
    let mut request = Request::new();
    request.service = "containerd.services.events.ttrpc.v1.Events".to_owned();
    request.method = "Forward".to_owned();
    request.payload = parcel.request.to_vec();
    request.metadata = vec![namespace];
    request.write_to_bytes().map_err(|error| SendError::Refused(error.to_string()))
}

/// Hands out answers until the connection closes.
async fn listen(mut from: OwnedReadHalf, pending: Arc<Pending>) {
    while let Ok(Some(found)) = frame::read(&mut from).await {
        let Some(payload) = found.payload.filter(|_| found.kind == frame::RESPONSE) else { continue };
        let waiting = pending.lock().as_mut().and_then(|waiting| waiting.remove(&found.stream));
        if let (Some(waiting), Ok(response)) = (waiting, Response::parse_from_bytes(&payload)) {
            let _ = waiting.send(response);
        }
    }
    *pending.lock() = None;
}
