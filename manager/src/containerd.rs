//! What the manager asks containerd itself, by gRPC on containerd's socket.

mod channel;
mod known;

use std::io;
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gam_protos::version::VersionResponse;
use hyper::body::Bytes;
use protobuf::Message as _;

pub use channel::Channel;
pub use known::Known;

/// Why containerd did not answer, or what it answered instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket cannot be connected to.
    #[error("cannot connect to {path}: {source}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or was never one of HTTP/2.
    #[error("the connection to {path} broke: {source}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: hyper::Error,
    },
    /// The call was answered with an error.
    #[error("{method} answered {message:?} (gRPC code {code})")]
    Status {
        /// The method as in the request's path.
        method: &'static str,
        /// The gRPC status code.
        code: i32,
        /// What the server says about it.
        message: String,
    },
    /// The answer is none of gRPC.
    #[error("the answer of {method} cannot be understood: {why}")]
    Malformed {
        /// The method as in the request's path.
        method: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// There was no answer in time.
    #[error("{path} did not answer {method} within {limit:?}")]
    Late {
        /// The socket.
        path: PathBuf,
        /// The method as in the request's path.
        method: &'static str,
        /// How long was waited.
        limit: Duration,
    },
}

/// Which containerd it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its version, such as `1.6.20~ds1`.
    pub version: String,
    /// The revision it was built from.
    pub revision: String,
}

/// Asks the containerd at `address` (a socket's path, or `unix://` and that) for its version.
///
/// # Errors
/// [`Error`], and [`Error::Late`] if it takes longer than `limit` in all.
pub async fn version(address: &str, limit: Duration) -> Result<Version, Error> {
    const METHOD: &str = "/containerd.services.version.v1.Version/Version";
    let ask = async {
        let answer = Channel::connect(address).await?.unary(METHOD, None, Bytes::new()).await?;
        VersionResponse::parse_from_bytes(&answer)
            .map_err(|error| Error::Malformed { method: METHOD, why: error.to_string() })
    };
    let late = |_| Error::Late { path: socket(address).to_owned(), method: METHOD, limit };
    let answer = tokio::time::timeout(limit, ask).await.map_err(late)??;
    Ok(Version { version: answer.version, revision: answer.revision })
}

/// What tells a socket from one that is made later at the same path: device, inode, and when it was made.
pub type Identity = (u64, u64, i64, i64);

/// The socket that is at `address` now; none if there is none. A containerd that starts makes its sockets anew.
#[must_use]
pub fn identity(address: &str) -> Option<Identity> {
    let meta = std::fs::metadata(socket(address)).ok()?;
    Some((meta.st_dev(), meta.st_ino(), meta.st_ctime(), meta.st_ctime_nsec()))
}

/// The path of the socket that `address` names, with or without `unix://` before it.
#[must_use]
pub fn socket(address: &str) -> &Path {
    Path::new(address.strip_prefix("unix://").unwrap_or(address))
}
