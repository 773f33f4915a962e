//! The console socket: where the runtime hands over the master of a container's terminal.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::termios::{Winsize, isatty, tcsetwinsize};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use crate::sys::{pass, pipe};

/// The longest path of a unix socket, in bytes: `sun_path` has 108, of which one ends it (unix(7)).
const LONGEST_PATH: usize = 107;
/// How long a connection may take to send its descriptor.
const SEND_LIMIT: Duration = Duration::from_secs(5);
/// How long to wait before accepting again after accept(2) failed, as it does while descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many taken names are passed over before giving up.
const NAMES: usize = 1000;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// A listening socket in a directory of its own that only we may enter. Both are removed with it.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    place: Place,
}

impl Socket {
    /// Listens below `parent`, which is made if it is missing; or below the system's directory for temporary files if
    /// the path would be too long for a socket.
    ///
    /// # Errors
    /// What mkdir(2), bind(2) and listen(2) answer.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn bind(parent: &Path) -> io::Result<Self> {
        let place = match Place::make(parent) {
            Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => {
                Place::make(&std::env::temp_dir())?
            }
            made => made?,
        };
        Ok(Self { listener: UnixListener::bind(&place.socket)?, place })
    }

    /// What the runtime is given as `--console-socket`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.place.socket
    }

    /// Waits for a terminal's master and makes it non-blocking. A connection that brings something else, or nothing, is
    /// closed and the next one awaited.
    pub async fn receive(self) -> OwnedFd {
        loop {
            let connection = match self.listener.accept().await {
                Ok((connection, _)) => connection,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on a console socket");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match take(&connection).await {
                Ok(master) => return master,
                Err(error) => tracing::warn!(%error, "a connection to a console socket brought no terminal"),
            }
        }
    }
}

async fn take(connection: &UnixStream) -> io::Result<OwnedFd> {
    let master = timeout(SEND_LIMIT, pass::receive(connection)).await??;
    if !isatty(&master) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the descriptor is no terminal"));
    }
    pipe::set_nonblocking(&master, true)?;
    Ok(master)
}

/// Sets the size of a terminal, in characters; what a terminal cannot have is the most it can.
///
/// # Errors
/// What ioctl(2) with `TIOCSWINSZ` answers.
pub fn resize(terminal: impl AsFd, width: u32, height: u32) -> io::Result<()> {
    let clamp = |wanted: u32| u16::try_from(wanted).unwrap_or(u16::MAX);
    let size = Winsize { ws_row: clamp(height), ws_col: clamp(width), ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// A directory and the socket in it, removed when dropped.
#[derive(Debug)]
struct Place {
    directory: PathBuf,
    socket: PathBuf,
}

impl Place {
    fn make(parent: &Path) -> io::Result<Self> {
        for _ in 0..NAMES {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let directory = parent.join(format!("pty-{}-{number}", std::process::id()));
            let socket = directory.join("pty.sock");
            if socket.as_os_str().as_bytes().len() > LONGEST_PATH {
                return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
            }
            match private().create(&directory) {
                Ok(()) => return Ok(Self { directory, socket }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && !parent.exists() => {
                    private().recursive(true).create(parent)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

fn private() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

impl Drop for Place {
    fn drop(&mut self) {
        // Either may be gone already, with the directory they are in.
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_dir(&self.directory);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_console_socket_is_private_and_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let deep = parent.path().join("run");
        let socket = Socket::bind(&deep).unwrap();
        let directory = socket.path().parent().unwrap().to_owned();
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(socket.path().starts_with(&deep));
        drop(socket);
        assert_eq!(fs::read_dir(&deep).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_path_too_long_for_a_socket_is_made_elsewhere() {
        let parent = tempfile::tempdir().unwrap();
        let long = parent.path().join("d".repeat(100));
        let socket = Socket::bind(&long).unwrap();
        assert!(socket.path().starts_with(std::env::temp_dir()));
        assert!(!long.exists());
    }

    #[tokio::test]
    async fn what_is_no_terminal_is_not_taken() {
        let parent = tempfile::tempdir().unwrap();
        let socket = Socket::bind(parent.path()).unwrap();
        let path = socket.path().to_owned();
        let receiving = tokio::spawn(socket.receive());
        drop(UnixStream::connect(&path).await.unwrap());
        sleep(Duration::from_millis(20)).await;
        assert!(!receiving.is_finished());
        receiving.abort();
        assert!(receiving.await.unwrap_err().is_cancelled());
        assert!(!path.exists());
    }
}
