//! Where Prometheus connects.

use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::net::{self, SocketAddr};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net as unix;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// An address that metrics are served at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The path of a unix socket.
    Unix(PathBuf),
    /// A TCP address; port 0 lets the kernel pick.
    Tcp(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

/// A socket that listens and is in no runtime yet.
pub(super) enum Bound {
    Unix(unix::UnixListener, SocketFile),
    Tcp(net::TcpListener),
}

/// A unix socket's file, which goes when this does.
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Bound {
    /// Listens at `address`.
    pub(super) fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Unix(path) => {
                let (listener, file) = bind_unix(path)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener, file))
            }
            Address::Tcp(address) => {
                let listener = net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(listener))
            }
        }
    }

    /// The address, with the port that the kernel picked.
    pub(super) fn address(&self) -> io::Result<Address> {
        match self {
            Self::Unix(_, file) => Ok(Address::Unix(file.path.clone())),
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
        }
    }
}

/// Binds a socket that only its owner can connect to, in the place of one that nobody listens at any more.
///
/// It is bound beside its place and moved there when its mode is set, so that nobody finds it half made.
fn bind_unix(path: &Path) -> io::Result<(unix::UnixListener, SocketFile)> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{path:?} is not a socket")));
        }
        Ok(_) if is_served(path)? => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{path:?} is being served")));
        }
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = unix::UnixListener::bind(&beside)?;
    let placed = fs::set_permissions(&beside, Permissions::from_mode(0o600))
        .and_then(|()| fs::symlink_metadata(&beside))
        .and_then(|made| fs::rename(&beside, path).map(|()| made));
    match placed {
        Ok(made) => {
            Ok((listener, SocketFile { path: path.to_owned(), device: made.dev(), inode: made.ino() }))
        }
        Err(e) => {
            let _ = fs::remove_file(&beside);
            Err(e)
        }
    }
}

/// Whether anybody listens there. One who is too busy to accept does, and is not waited for.
fn is_served(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another manager may have put its own there since.
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|at| (at.dev(), at.ino()) == (self.device, self.inode));
        if is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A socket that listens, in the runtime of the thread.
pub(super) enum Listener {
    Unix(UnixListener, #[expect(dead_code, reason = "held for what its end does")] SocketFile),
    Tcp(TcpListener),
}

/// A connection of either kind.
pub(super) enum Stream {
    Unix(TokioIo<UnixStream>),
    Tcp(TokioIo<TcpStream>),
}

impl Listener {
    /// Takes a bound socket into the runtime that calls this.
    pub(super) fn register(bound: Bound) -> io::Result<Self> {
        match bound {
            Bound::Unix(listener, file) => Ok(Self::Unix(UnixListener::from_std(listener)?, file)),
            Bound::Tcp(listener) => Ok(Self::Tcp(TcpListener::from_std(listener)?)),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener, _) => Ok(Stream::Unix(TokioIo::new(listener.accept().await?.0))),
            Self::Tcp(listener) => Ok(Stream::Tcp(TokioIo::new(listener.accept().await?.0))),
        }
    }
}
