//! Reading metrics, and what else is told over HTTP: from a manager's unix socket, or a TCP address.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::poll::slow;

/// The metrics sockets of the managers whose runtime directory is `run`.
#[must_use]
pub fn sockets(run: &Path) -> Vec<PathBuf> {
    let groups = fs::read_dir(run).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        groups.map(|group| group.path().join("metrics.sock")).filter(|path| path.exists()).collect();
    found.sort();
    found
}

/// The body of `GET path` at a unix socket.
///
/// # Errors
/// Where the socket does not answer, or not with status 200.
pub fn get(socket: &Path, path: &str) -> std::io::Result<String> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(slow(Duration::from_secs(10))))?;
    exchange(stream, &socket.display().to_string(), path)
}

/// The body of `GET path` at a TCP address.
///
/// # Errors
/// Where nothing answers there, or not with status 200.
pub fn get_at(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(slow(Duration::from_secs(10))))?;
    exchange(stream, &address.to_string(), path)
}

fn exchange(mut stream: impl Read + Write, whom: &str, path: &str) -> std::io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: gam\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200 ") {
        return Err(std::io::Error::other(format!("{whom}: GET {path}: {status}: {body}")));
    }
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        return Ok(unchunk(body));
    }
    Ok(body.to_owned())
}

fn unchunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let Some(chunk) = rest.get(..size) else { break };
        if size == 0 {
            break;
        }
        text.push_str(chunk);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        assert_eq!(unchunk("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n"), "abc0123456789");
        assert_eq!(unchunk("zz\r\nabc"), "");
    }
}
