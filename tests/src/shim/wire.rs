//! Connections to a shim, typed and raw.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use ttrpc::asynchronous::Client;
use ttrpc::asynchronous::transport::Socket;

/// The path in an address as `start` answers it.
#[must_use]
pub fn socket(address: &str) -> PathBuf {
    PathBuf::from(address.strip_prefix("unix://").unwrap_or(address))
}

/// The address in the answer of `start`: plain, or JSON.
///
/// # Errors
/// Where it is neither.
pub fn parse_answer(text: &str) -> Result<String, String> {
    if text.starts_with("unix://") && !text.contains(char::is_whitespace) {
        return Ok(text.to_owned());
    }
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("start answered {text:?}: {error}"))?;
    let address = value.get("address").and_then(serde_json::Value::as_str);
    address.map(str::to_owned).ok_or_else(|| format!("start answered {text:?} without an address"))
}

/// Connects, once, as containerd does.
///
/// # Errors
/// Where nobody listens.
pub async fn dial(address: &str) -> io::Result<Client> {
    let stream = UnixStream::connect(socket(address)).await?;
    Ok(Client::new(Socket::new(stream)))
}

/// A connection on which anything can be written.
pub struct Raw(UnixStream);

impl Raw {
    /// Connects.
    ///
    /// # Errors
    /// Where nobody listens.
    pub async fn dial(address: &str) -> io::Result<Self> {
        UnixStream::connect(socket(address)).await.map(Self)
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// Where the peer has closed.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }

    /// Writes a frame: type 1 is a request.
    ///
    /// # Errors
    /// Where the peer has closed.
    pub async fn frame(&mut self, stream: u32, kind: u8, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut header = [0; 10];
        header[..4].copy_from_slice(&length.to_be_bytes());
        header[4..8].copy_from_slice(&stream.to_be_bytes());
        header[8] = kind;
        self.0.write_all(&header).await?;
        self.0.write_all(payload).await
    }

    /// Reads a frame: its stream and payload; none if the peer closes.
    ///
    /// # Errors
    /// Where nothing comes in 10 s.
    pub async fn answer(&mut self) -> io::Result<Option<(u32, Vec<u8>)>> {
        let read = async {
            let mut header = [0; 10];
            self.0.read_exact(&mut header).await?;
            let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
            let stream = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await?;
            io::Result::Ok(Some((stream, payload)))
        };
        match tokio::time::timeout(Duration::from_secs(10), read).await {
            Ok(Err(error))
                if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) =>
            {
                Ok(None)
            }
            Ok(other) => other,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in 10 s")),
        }
    }
}
