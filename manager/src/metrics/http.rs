//! The HTTP server: `GET /metrics` and `GET /healthz`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioTimer;
use prometheus::TEXT_FORMAT;
use tokio::sync::Semaphore;

use super::listener::{Listener, Stream};
use super::node::Node;
use super::{Metrics, MetricsError};

/// The header in which a manager tells the name of its group.
pub(super) const GROUP: HeaderName = HeaderName::from_static("gam-group");

/// How long to wait after an accept that failed, which is for lack of descriptors or memory.
const BACK_OFF: Duration = Duration::from_millis(200);

/// What is served at an address.
#[derive(Clone)]
pub(super) enum Content {
    /// One manager's metrics.
    Group {
        /// The name of its group.
        name: Arc<str>,
        /// Its metrics.
        metrics: Arc<Metrics>,
    },
    /// Those of every manager of the node.
    Node(Arc<Node>),
}

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
        Self { connections: 16, head: Duration::from_secs(1), whole: Duration::from_secs(30) }
    }
}

/// Accepts connections for ever.
pub(super) async fn accept(listener: &Listener, content: &Content, limits: Limits) {
    let free = Arc::new(Semaphore::new(limits.connections));
    // The semaphore is never closed, so this goes on until it is dropped.
    while let Ok(permit) = Arc::clone(&free).acquire_owned().await {
        match listener.accept().await {
            Ok(stream) => {
                let content = content.clone();
                tokio::spawn(async move {
                    let _permit = permit;
                    let _ = tokio::time::timeout(limits.whole, connection(stream, content, limits)).await;
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "cannot accept a connection for metrics");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Answers one request and closes.
async fn connection(stream: Stream, content: Content, limits: Limits) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.head).keep_alive(false).max_buf_size(16 << 10);
    let service = service_fn(|request| {
        let content = &content;
        async move { Ok::<_, Infallible>(answer(&request, content).await) }
    });
    let ended = match stream {
        Stream::Unix(stream) => http.serve_connection(stream, service).await,
        Stream::Tcp(stream) => http.serve_connection(stream, service).await,
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "a connection for metrics ended early");
    }
}

async fn answer(request: &Request<Incoming>, content: &Content) -> Response<Full<Bytes>> {
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
    match content {
        Content::Group { name, metrics } => {
            let mut response = page(metrics.scrape());
            // A name with what no header may hold is told without it.
            let name: String = name.chars().filter(|one| !one.is_control()).collect();
            if let Ok(name) = HeaderValue::from_bytes(name.as_bytes()) {
                response.headers_mut().insert(GROUP, name);
            }
            response
        }
        Content::Node(node) => page(node.scrape().await),
    }
}

fn page(metrics: Result<String, MetricsError>) -> Response<Full<Bytes>> {
    match metrics {
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
