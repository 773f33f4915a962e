//! Unary gRPC calls over one HTTP/2 connection on a unix socket.
//!
//! A message has five bytes before it (0 for "not compressed", and its length, big-endian); the status comes in the
//! trailers, or in the headers of an answer without a body (gRPC's PROTOCOL-HTTP2.md).

use std::io;
use std::path::PathBuf;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, TE};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;

use super::{Error, socket};

/// The longest answer, in bytes.
const MOST: usize = 4 << 20;
/// The bytes before a message.
const PREFIX: usize = 5;
/// gRPC's code for an answer that has none.
const UNKNOWN: i32 = 2;

/// A connection to containerd. It closes when it is dropped and no call is unanswered.
#[derive(Debug)]
pub struct Channel {
    path: PathBuf,
    sender: SendRequest<Full<Bytes>>,
}

impl Channel {
    /// Connects to `address`, a socket's path or `unix://` and that. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Connect`] and [`Error::Broken`].
    pub async fn connect(address: &str) -> Result<Self, Error> {
        let path = socket(address).to_owned();
        let stream = match UnixStream::connect(&path).await {
            Ok(stream) => stream,
            Err(source) => return Err(Error::Connect { path, source }),
        };
        let (sender, connection) = match http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await {
            Ok(made) => made,
            Err(source) => return Err(Error::Broken { path, source }),
        };
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to containerd ended");
            }
        });
        Ok(Self { path, sender })
    }

    /// Whether the connection is closed, so that every further call fails.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Calls `method` (`/package.Service/Method`) with an encoded message, and gives the encoded answer. There is no time
    /// limit: whoever stops waiting drops the future, which cancels the call.
    ///
    /// # Errors
    /// [`Error::Broken`], [`Error::Status`] and [`Error::Malformed`].
    pub async fn unary(
        &self,
        method: &'static str,
        namespace: Option<&str>,
        message: Bytes,
    ) -> Result<Bytes, Error> {
        let malformed = |why: String| Error::Malformed { method, why };
        let request = request(method, namespace, &message)
            .map_err(|error| malformed(format!("the request cannot be made: {error}")))?;
        let broken = |source| Error::Broken { path: self.path.clone(), source };
        let (parts, body) = self.sender.clone().send_request(request).await.map_err(broken)?.into_parts();
        if parts.status != StatusCode::OK {
            return Err(malformed(format!("HTTP status {}", parts.status)));
        }
        if parts.headers.contains_key("grpc-status") {
            status(method, &parts.headers)?;
        }
        let body = match Limited::new(body, MOST + PREFIX).collect().await {
            Ok(body) => body,
            Err(error) => {
                return Err(match error.downcast::<hyper::Error>() {
                    Ok(error) => broken(*error),
                    Err(error) => malformed(error.to_string()),
                });
            }
        };
        if !parts.headers.contains_key("grpc-status") {
            status(method, body.trailers().unwrap_or(&HeaderMap::new()))?;
        }
        open(&body.to_bytes()).map_err(malformed)
    }
}

fn request(
    method: &str,
    namespace: Option<&str>,
    message: &[u8],
) -> Result<Request<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
    let length = u32::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut body = Vec::with_capacity(PREFIX + message.len());
    body.push(0);
    body.extend_from_slice(&length.to_be_bytes());
    body.extend_from_slice(message);
    let mut request = Request::post(format!("http://localhost{method}"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .body(Full::new(Bytes::from(body)))?;
    if let Some(namespace) = namespace {
        request.headers_mut().insert("containerd-namespace", HeaderValue::from_str(namespace)?);
    }
    Ok(request)
}

/// The status in headers or trailers, as an error unless it is OK.
fn status(method: &'static str, headers: &HeaderMap) -> Result<(), Error> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let code = text("grpc-status").and_then(|code| code.parse().ok());
    match code {
        Some(0) => Ok(()),
        Some(code) => {
            let message = decode(text("grpc-message").unwrap_or_default());
            Err(Error::Status { method, code, message })
        }
        None => {
            Err(Error::Status { method, code: UNKNOWN, message: "an answer without a status".to_owned() })
        }
    }
}

/// The only message of a body.
fn open(body: &Bytes) -> Result<Bytes, String> {
    let (Some(&[compressed, l0, l1, l2, l3]), Some(length)) =
        (body.first_chunk::<PREFIX>(), body.len().checked_sub(PREFIX))
    else {
        return Err(format!("{} bytes are no message", body.len()));
    };
    let said = u32::from_be_bytes([l0, l1, l2, l3]);
    if compressed != 0 {
        return Err("the message is compressed".to_owned());
    }
    if usize::try_from(said) != Ok(length) {
        return Err(format!("the message should have {said} bytes and has {length}"));
    }
    Ok(body.slice(PREFIX..))
}

/// Undoes the percent-encoding of `grpc-message`.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, others)) = rest.split_first() {
        let hex = others.first_chunk::<2>().and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = others.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_its_prefix_says() {
        assert_eq!(open(&Bytes::from_static(b"\0\0\0\0\x02ab")), Ok(Bytes::from_static(b"ab")));
        assert_eq!(open(&Bytes::from_static(b"\0\0\0\0\0")), Ok(Bytes::new()));
        for bad in [&b""[..], b"\0\0\0\0", b"\x01\0\0\0\x01a", b"\0\0\0\0\x01", b"\0\0\0\0\x01ab"] {
            assert!(open(&Bytes::from_static(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_status_is_an_error_unless_it_is_ok() {
        let headers = |pairs: &[(&'static str, &str)]| -> HeaderMap {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
        };
        assert!(status("/m", &headers(&[("grpc-status", "0")])).is_ok());
        let refused = status("/m", &headers(&[("grpc-status", "3"), ("grpc-message", "a%20b%zz%")]));
        assert!(
            matches!(refused, Err(Error::Status { code: 3, ref message, .. }) if message == "a b%zz%"),
            "{refused:?}"
        );
        assert!(matches!(status("/m", &headers(&[])), Err(Error::Status { code: 2, .. })));
    }
}
