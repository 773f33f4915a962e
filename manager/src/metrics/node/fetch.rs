//! Reading one group's metrics: over its socket, within a limit of time and of bytes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::group::Group;
use crate::metrics::http::GROUP;

/// What is sent: a request after whose answer the connection is closed.
const REQUEST: &[u8] = b"GET /metrics HTTP/1.0\r\nHost: gam\r\n\r\n";
/// How large the head of an answer may be, in bytes.
const HEAD: usize = 16 << 10;
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
    Read { path: PathBuf, source: io::Error },
    /// an answer that is no metrics
    #[error("the answer at {path:?} is not the metrics: {why}")]
    Answer { path: PathBuf, why: &'static str },
    /// an answer that is too long
    #[error("the metrics at {path:?} are longer than {MOST} bytes")]
    TooLong { path: PathBuf },
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
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        Err(source) => match (source.kind(), UnixStream::connect(group.control_socket()).await) {
            (io::ErrorKind::NotFound, Ok(_)) => return Ok(Fetched::Nothing),
            (_, Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(Fetched::Dead),
            (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(Fetched::Nothing),
            _ => return Err(FetchError::Connect { path: path.to_owned(), source }),
        },
    };
    let broken = |source| FetchError::Read { path: path.to_owned(), source };
    stream.write_all(REQUEST).await.map_err(broken)?;
    let mut answer = Vec::new();
    let most = HEAD + MOST;
    stream.take(most as u64 + 1).read_to_end(&mut answer).await.map_err(broken)?;
    if answer.len() > most {
        return Err(FetchError::TooLong { path: path.to_owned() });
    }
    understand(answer).map_err(|why| FetchError::Answer { path: path.to_owned(), why })
}

/// Takes an answer apart. A manager tells the length of what follows the head, so one that broke off is known.
fn understand(answer: Vec<u8>) -> Result<Fetched, &'static str> {
    let mut text = String::from_utf8(answer).map_err(|_| "it is no text")?;
    let end = text.find("\r\n\r\n").ok_or("it has no head")?;
    let body = text.split_off(end + 4);
    let (status, headers) = text.split_once("\r\n").ok_or("it has no head")?;
    if status.split(' ').nth(1) != Some("200") {
        return Err("its status is not 200");
    }
    let header = |name: &str| {
        let mut lines = headers.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    if header("content-length").and_then(|length| length.parse().ok()) != Some(body.len()) {
        return Err("it is not as long as it says");
    }
    let name = header(GROUP.as_str()).unwrap_or_default().to_owned();
    Ok(Fetched::Page { name, text: body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_a_status_a_length_and_a_name() {
        let good = "HTTP/1.0 200 OK\r\nGam-Group: namespace a\r\ncontent-length: 4\r\n\r\nx 1\n";
        match understand(good.into()) {
            Ok(Fetched::Page { name, text }) => assert_eq!((&*name, &*text), ("namespace a", "x 1\n")),
            other => panic!("{other:?}"),
        }
        let bad = ["", "x\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n"];
        let changed = [good.replace(" 200", " 500"), good.replace("x 1", "x"), good.replace("x 1", "x 11")];
        for bad in bad.into_iter().chain(changed.iter().map(String::as_str)) {
            assert!(understand(bad.into()).is_err(), "{bad:?}");
        }
        assert_eq!(understand(vec![0xff]).unwrap_err(), "it is no text");
    }
}
