//! Reading one group's metrics: over its socket, within a limit of time and of bytes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::group::Group;
use crate::metrics::http::GROUP;

/// How long one group may take.
const PATIENCE: Duration = Duration::from_millis(500);
/// How much one group may tell, in bytes.
const MOST: usize = 4 << 20;

/// What a group's directory has.
#[derive(Debug)]
pub(super) enum Fetched {
    /// Metrics.
    Page {
        /// The group's name.
        name: String,
        /// The text.
        text: String,
    },
    /// A manager without metrics, or one that is just coming or going.
    Nothing,
    /// No manager.
    Dead,
}

/// Why the metrics of a manager that is there could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// the socket cannot be connected to
    #[error("cannot connect to {path:?}: {source}")]
    Connect { path: PathBuf, source: io::Error },
    /// the exchange broke off
    #[error("cannot read the metrics at {path:?}: {source}")]
    Read { path: PathBuf, source: hyper::Error },
    /// an answer that is no metrics
    #[error("the metrics at {path:?} are not told: the answer is {status}")]
    Status { path: PathBuf, status: StatusCode },
    /// an answer that is too long
    #[error("the metrics at {path:?} are longer than {MOST} bytes")]
    TooLong { path: PathBuf },
    /// an answer that is no text
    #[error("the metrics at {path:?} are no text")]
    NoText { path: PathBuf },
    /// no answer
    #[error("the metrics at {path:?} are not told within {PATIENCE:?}")]
    Late { path: PathBuf },
}

/// Reads the metrics of the group whose directory this is.
pub(super) async fn fetch(directory: &Path) -> Result<Fetched, FetchError> {
    let group = Group::at("", directory);
    let path = group.metrics_socket();
    match tokio::time::timeout(PATIENCE, attempt(&group, &path)).await {
        Ok(fetched) => fetched,
        Err(_) => Err(FetchError::Late { path }),
    }
}

async fn attempt(group: &Group, path: &Path) -> Result<Fetched, FetchError> {
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(source) => match (source.kind(), UnixStream::connect(group.control_socket()).await) {
            (io::ErrorKind::NotFound, Ok(_)) => return Ok(Fetched::Nothing),
            (_, Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(Fetched::Dead),
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(Fetched::Nothing),
            _ => return Err(FetchError::Connect { path: path.to_owned(), source }),
        },
    };
    let broken = |source| FetchError::Read { path: path.to_owned(), source };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(64 << 10)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let exchange = async move {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = hyper::Uri::from_static("/metrics");
        request.headers_mut().insert(hyper::header::HOST, hyper::header::HeaderValue::from_static("gam"));
        let answer = sender.send_request(request).await.map_err(broken)?;
        read(answer, path).await
    };
    // The connection ends when the exchange has; what it says of its end is said by the exchange.
    tokio::join!(exchange, connection).0
}

async fn read(answer: Response<Incoming>, path: &Path) -> Result<Fetched, FetchError> {
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status { path: path.to_owned(), status: answer.status() });
    }
    let name = answer.headers().get(GROUP).map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
    let mut body = answer.into_body();
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(MOST).min(MOST);
    let mut text = Vec::with_capacity(announced);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| FetchError::Read { path: path.to_owned(), source })?;
        let bytes = frame.into_data().unwrap_or_default();
        if text.len() + bytes.len() > MOST {
            return Err(FetchError::TooLong { path: path.to_owned() });
        }
        text.extend_from_slice(&bytes);
    }
    match String::from_utf8(text) {
        Ok(text) => Ok(Fetched::Page { name: name.unwrap_or_default(), text }),
        Err(_) => Err(FetchError::NoText { path: path.to_owned() }),
    }
}
