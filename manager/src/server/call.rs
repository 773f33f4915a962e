//! One call, from its frame to its response.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use protobuf::Message as _;
use tokio::sync::OwnedSemaphorePermit;
use ttrpc::asynchronous::{MethodHandler, TtrpcContext};
use ttrpc::{Code, MessageHeader, Request, Response, get_status};

use super::connection::Connection;
use super::frame::{self, Frame};
use super::{ConnectionId, Working};

/// The methods that change nothing: nobody needs them once their connection has closed.
const QUERIES: [&str; 5] = ["Wait", "State", "Pids", "Stats", "Connect"];

tokio::task_local! {
    static CONNECTION: ConnectionId;
}

/// The connection over which the request came that this task answers; 0 outside of one.
#[must_use]
pub fn connection_of() -> ConnectionId {
    CONNECTION.try_with(|connection| *connection).unwrap_or_default()
}

/// Begins the call that a frame holds.
pub(super) fn begin(connection: &Arc<Connection>, frame: Frame) {
    if frame.kind != frame::REQUEST {
        tracing::debug!(connection = connection.id, kind = frame.kind, "frame that is no request ignored");
        return;
    }
    let reply = Reply::new(connection, frame.stream);
    match parse(frame, connection) {
        Ok((request, permit)) => {
            drop(tokio::spawn(CONNECTION.scope(connection.id, answer(reply, request, permit))))
        }
        Err((code, text)) => drop(tokio::spawn(reply.refuse(code, text))),
    }
}

fn parse(frame: Frame, connection: &Connection) -> Result<(Request, OwnedSemaphorePermit), (Code, String)> {
    if frame.stream % 2 != 1 {
        return Err((Code::INVALID_ARGUMENT, format!("stream {} of a request is not odd", frame.stream)));
    }
    let Some(payload) = frame.payload else {
        return Err((Code::RESOURCE_EXHAUSTED, format!("the request is longer than {} bytes", frame::MOST)));
    };
    let request = Request::parse_from_bytes(&payload)
        .map_err(|error| (Code::INVALID_ARGUMENT, format!("the request cannot be decoded: {error}")))?;
    let permit = Arc::clone(&connection.calls).try_acquire_owned().map_err(|_| {
        (Code::RESOURCE_EXHAUSTED, "too many calls of this connection are unanswered".to_owned())
    })?;
    Ok((request, permit))
}

/// Finds the method, runs it, answers. The answer comes at the deadline at the latest; work that changes something goes
/// on even so.
async fn answer(mut reply: Reply, mut request: Request, _permit: OwnedSemaphorePermit) {
    let connection = Arc::clone(&reply.connection);
    let service = connection.shared.services.get(&request.service);
    let Some(method) = service.and_then(|service| service.methods.get(&request.method)) else {
        let text = format!("{}/{} is not served", request.service, request.method);
        return reply.refuse(Code::UNIMPLEMENTED, text).await;
    };
    reply.method.clone_from(&request.method);
    let limit = deadline(&request);
    let ctx = context(reply.stream, &mut request);
    let is_query = QUERIES.contains(&request.method.as_str());
    let call = connection.shared.calls.begin(std::mem::take(&mut request.method));
    let answered = async {
        if is_query {
            query(reply, method.as_ref(), ctx, request, limit).await;
        } else {
            change(reply, method.as_ref(), ctx, request, limit).await;
        }
    };
    call.work.scope(answered).await;
}

/// Runs a method that changes nothing: it ends with its connection.
async fn query(
    reply: Reply,
    method: &(dyn MethodHandler + Send + Sync),
    ctx: TtrpcContext,
    request: Request,
    limit: Option<Duration>,
) {
    let gone = reply.connection.gone.clone();
    tokio::select! {
        outcome = method.handler(ctx, request) => reply.finish(outcome).await,
        () = passed(limit) => reply.refuse(Code::DEADLINE_EXCEEDED, "the deadline has passed".into()).await,
        () = gone.cancelled() => reply.forget(),
    }
}

/// Runs a method that changes something: it goes on to its end, whoever still waits for it.
async fn change(
    reply: Reply,
    method: &(dyn MethodHandler + Send + Sync),
    ctx: TtrpcContext,
    request: Request,
    limit: Option<Duration>,
) {
    let _working = Working::begin(&reply.connection.shared);
    let mut work = std::pin::pin!(method.handler(ctx, request));
    tokio::select! {
        outcome = &mut work => return reply.finish(outcome).await,
        () = passed(limit) => {}
    }
    let name = reply.method.clone();
    reply.refuse(Code::DEADLINE_EXCEEDED, "the deadline has passed; the work goes on".into()).await;
    if let Err(error) = work.await {
        tracing::warn!(method = name, %error, "work that outlived its deadline failed");
    }
}

fn deadline(request: &Request) -> Option<Duration> {
    u64::try_from(request.timeout_nano).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
}

/// Completes after `limit`; never without one.
async fn passed(limit: Option<Duration>) {
    match limit {
        Some(limit) => tokio::time::sleep(limit).await,
        None => std::future::pending().await,
    }
}

fn context(stream: u32, request: &mut Request) -> TtrpcContext {
    let mut metadata: HashMap<String, Vec<String>> = HashMap::new();
    for pair in std::mem::take(&mut request.metadata) {
        metadata.entry(pair.key).or_default().push(pair.value);
    }
    let mh = MessageHeader { stream_id: stream, ..Default::default() };
    TtrpcContext { mh, metadata, timeout_nano: request.timeout_nano, ..Default::default() }
}

/// The duty to answer. Dropped without an answer, which only a panic does, it answers INTERNAL.
struct Reply {
    connection: Arc<Connection>,
    stream: u32,
    method: String,
    since: Instant,
    owed: bool,
}

impl Reply {
    fn new(connection: &Arc<Connection>, stream: u32) -> Self {
        let connection = Arc::clone(connection);
        Self { connection, stream, method: "unknown".to_owned(), since: Instant::now(), owed: true }
    }

    async fn finish(self, outcome: ttrpc::Result<Response>) {
        match outcome {
            Ok(response) => self.send(response).await,
            Err(ttrpc::Error::RpcStatus(status)) => self.refuse(status.code(), status.message).await,
            // The generated code could not decode what the request holds.
            Err(error) => self.refuse(Code::INVALID_ARGUMENT, error.to_string()).await,
        }
    }

    async fn refuse(self, code: Code, text: String) {
        let mut response = Response::new();
        response.set_status(get_status(code, text));
        self.send(response).await;
    }

    async fn send(mut self, response: Response) {
        self.owed = false;
        let mut code = response.status.as_ref().map_or(Code::OK, |status| status.code());
        let payload = match response.write_to_bytes() {
            Ok(payload) if payload.len() <= frame::MOST => payload,
            _ => {
                code = Code::RESOURCE_EXHAUSTED;
                too_long()
            }
        };
        self.connection.shared.observer.answered(&self.method, name(code), self.since.elapsed());
        self.connection.respond(self.stream, &payload).await;
    }

    /// Leaves unanswered: nobody is there any more.
    fn forget(mut self) {
        self.owed = false;
        self.connection.shared.observer.answered(&self.method, name(Code::CANCELLED), self.since.elapsed());
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.owed {
            return;
        }
        tracing::error!(method = self.method, "a request was not answered by its handler, which panicked");
        let reply = Self {
            connection: Arc::clone(&self.connection),
            stream: self.stream,
            method: std::mem::take(&mut self.method),
            since: self.since,
            // One that cannot be spawned any more is dropped in its turn, and owes nothing.
            owed: false,
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(reply.refuse(Code::INTERNAL, "the handler of the request panicked".to_owned()));
        } else {
            reply.forget();
        }
    }
}

fn too_long() -> Vec<u8> {
    let mut response = Response::new();
    let text = format!("the response is longer than {} bytes", frame::MOST);
    response.set_status(get_status(Code::RESOURCE_EXHAUSTED, text));
    response.write_to_bytes().unwrap_or_default()
}

/// A code's name, as metrics have it.
fn name(code: Code) -> &'static str {
    match code {
        Code::OK => "OK",
        Code::CANCELLED => "CANCELLED",
        Code::INVALID_ARGUMENT => "INVALID_ARGUMENT",
        Code::DEADLINE_EXCEEDED => "DEADLINE_EXCEEDED",
        Code::NOT_FOUND => "NOT_FOUND",
        Code::ALREADY_EXISTS => "ALREADY_EXISTS",
        Code::PERMISSION_DENIED => "PERMISSION_DENIED",
        Code::RESOURCE_EXHAUSTED => "RESOURCE_EXHAUSTED",
        Code::FAILED_PRECONDITION => "FAILED_PRECONDITION",
        Code::ABORTED => "ABORTED",
        Code::OUT_OF_RANGE => "OUT_OF_RANGE",
        Code::UNIMPLEMENTED => "UNIMPLEMENTED",
        Code::INTERNAL => "INTERNAL",
        Code::UNAVAILABLE => "UNAVAILABLE",
        Code::DATA_LOSS => "DATA_LOSS",
        Code::UNAUTHENTICATED => "UNAUTHENTICATED",
        _ => "UNKNOWN",
    }
}
