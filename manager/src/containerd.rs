//! containerd's gRPC API, as far as a shim needs it: unary calls over a unix socket.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// What comes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// The status that says that something is not served.
pub const UNIMPLEMENTED: u32 = 12;

/// Why a call fails.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// There is no connection, or it broke.
    #[error("cannot reach containerd at {address}: {source}")]
    Connection {
        /// The address.
        address: String,
        /// What is wrong.
        source: io::Error,
    },
    /// containerd answered with a status that is not OK.
    #[error("containerd answers status {code}: {text}")]
    Status {
        /// The gRPC status.
        code: u32,
        /// What it says.
        text: String,
    },
}

/// A connection; clones share it.
#[derive(Clone, Debug)]
pub struct Channel {
    address: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Channel {
    /// Connects to a unix socket, with or without `unix://`.
    ///
    /// # Errors
    /// [`GrpcError::Connection`].
    pub async fn connect(address: &str) -> Result<Self, GrpcError> {
        let error = |source| GrpcError::Connection { address: address.to_owned(), source };
        let connect = async {
            let stream = UnixStream::connect(socket(address)).await?;
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(io::Error::other)
        };
        let (sender, connection) = match tokio::time::timeout(CONNECT, connect).await {
            Ok(connected) => connected.map_err(error)?,
            Err(_) => return Err(error(io::ErrorKind::TimedOut.into())),
        };
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to containerd ended");
            }
        });
        Ok(Self { address: address.to_owned(), sender })
    }

    /// Whether the connection has closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Calls `/service/method` with a message, and answers the one that comes back.
    ///
    /// # Errors
    /// [`GrpcError::Status`] if containerd refuses, else [`GrpcError::Connection`].
    pub async fn call(&self, path: &str, namespace: &str, message: &[u8]) -> Result<Bytes, GrpcError> {
        let broken = |source| GrpcError::Connection { address: self.address.clone(), source };
        let mut body = Vec::with_capacity(message.len().saturating_add(PREFIX));
        body.push(0);
        body.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
        body.extend_from_slice(message);
        let request = Request::post(format!("http://containerd{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("containerd-namespace", namespace)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| broken(io::Error::other(error)))?;
        let mut sender = self.sender.clone();
        sender.ready().await.map_err(|error| broken(io::Error::other(error)))?;
        let response = sender.send_request(request).await.map_err(|error| broken(io::Error::other(error)))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| broken(io::Error::other(error)))?;
        // A call that fails at once has its status in the head.
        let trailers = body.trailers().cloned().unwrap_or_default();
        let field = |name| {
            trailers.get(name).or_else(|| head.headers.get(name)).and_then(|value| value.to_str().ok())
        };
        match field("grpc-status").and_then(|code| code.parse().ok()) {
            Some(0) => {
                let bytes = body.to_bytes();
                Ok(if bytes.len() >= PREFIX { bytes.slice(PREFIX..) } else { Bytes::new() })
            }
            Some(code) => {
                Err(GrpcError::Status { code, text: field("grpc-message").unwrap_or_default().to_owned() })
            }
            None => {
                Err(broken(io::Error::other(format!("HTTP status {} without a gRPC status", head.status))))
            }
        }
    }
}

/// The path of a socket's address.
#[must_use]
pub fn socket(address: &str) -> &str {
    address.strip_prefix("unix://").or_else(|| address.strip_prefix("unix:")).unwrap_or(address)
}
