//! The HTTP server: `GET /metrics` and `GET /healthz`, on a thread and a runtime of its own, so that neither a scrape
//! nor who scrapes slowly costs a container anything.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioTimer;
use prometheus::TEXT_FORMAT;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Metrics;
use super::listener::{Address, Bound, Listener, Stream};

/// The stack of the thread, in bytes: a page or two of it are used.
const STACK: usize = 256 << 10;

/// How long to wait after an accept that failed, which is for lack of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(200);

/// What a client may take up.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once; more wait in the kernel.
    pub(super) connections: usize,
    /// Time from a connection to the end of its request's head.
    pub(super) head: Duration,
    /// Time from a connection to the end of its answer.
    pub(super) whole: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 8, head: Duration::from_secs(5), whole: Duration::from_secs(30) }
    }
}

/// A server at work. It ends, and its socket's file goes, when this is dropped.
pub struct Handle {
    address: Address,
    closing: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Where it listens, with the port that the kernel picked if it was to.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.closing.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves `metrics` at `address` on a new thread. A unix socket gets mode 0600 and takes the place of one that nobody
/// listens at; its path, also with the extension `new`, has to fit a socket's address of 107 bytes.
///
/// # Errors
/// Where the socket cannot be bound or the thread cannot be made; `AddrInUse` where another serves there.
pub fn serve(address: &Address, metrics: Arc<Metrics>) -> io::Result<Handle> {
    serve_within(address, metrics, Limits::default())
}

/// [`serve`] with other limits.
pub(super) fn serve_within(address: &Address, metrics: Arc<Metrics>, limits: Limits) -> io::Result<Handle> {
    let bound = Bound::bind(address)?;
    let address = bound.address()?;
    let closing = CancellationToken::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        Listener::register(bound)?
    };
    let until = closing.clone();
    let thread = thread::Builder::new().name("gam-metrics".into()).stack_size(STACK).spawn(move || {
        // What is at work when the loop ends goes with the runtime.
        runtime.block_on(accept(listener, metrics, limits, until));
    })?;
    Ok(Handle { address, closing, thread: Some(thread) })
}

/// Accepts connections until `closing`.
async fn accept(listener: Listener, metrics: Arc<Metrics>, limits: Limits, closing: CancellationToken) {
    let free = Arc::new(Semaphore::new(limits.connections));
    let serve = async {
        // The semaphore is never closed, so this goes on until it is dropped.
        while let Ok(permit) = Arc::clone(&free).acquire_owned().await {
            match listener.accept().await {
                Ok(stream) => {
                    let metrics = Arc::clone(&metrics);
                    tokio::spawn(async move {
                        let _permit = permit;
                        let _ = tokio::time::timeout(limits.whole, connection(stream, metrics, limits)).await;
                    });
                }
                Err(e) => {
                    tracing::warn!(error = %e, "cannot accept a connection for metrics");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    };
    closing.run_until_cancelled(serve).await;
}

/// Answers one request and closes.
async fn connection(stream: Stream, metrics: Arc<Metrics>, limits: Limits) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).keep_alive(false).max_buf_size(16 << 10);
    let service = service_fn(move |request| {
        let answer = answer(&request, &metrics);
        async move { Ok::<_, Infallible>(answer) }
    });
    let ended = match stream {
        Stream::Unix(stream) => http.serve_connection(stream, service).await,
        Stream::Tcp(stream) => http.serve_connection(stream, service).await,
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "a connection for metrics ended early");
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if !matches!(path, "/metrics" | "/healthz") {
        return text(StatusCode::NOT_FOUND, "there are /metrics and /healthz\n".into());
    }
    if request.method() != Method::GET {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return response;
    }
    if path == "/healthz" {
        return text(StatusCode::OK, "ok\n".into());
    }
    match metrics.scrape() {
        Ok(body) => {
            let mut response = text(StatusCode::OK, body);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT_FORMAT));
            response
        }
        Err(e) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
