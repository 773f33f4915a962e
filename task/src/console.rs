//! Terminals: the socket over which the runtime sends one.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UnixListener;

use crate::sys::{pass, pipe};

/// Where sockets are made that are too long beside the bundle: a unix socket's path has 107 bytes at most.
const SHORT: &str = "/tmp";
const LONGEST: usize = 107;

/// A socket on which one terminal is expected, in a directory of its own that only its owner may enter.
#[derive(Debug)]
pub struct ConsoleSocket {
    directory: PathBuf,
    path: PathBuf,
    listener: UnixListener,
}

impl ConsoleSocket {
    /// Listens in a new directory below `directory`, or below `/tmp` where the path would be too long.
    ///
    /// # Errors
    /// What mkdir(2) and bind(2) answer.
    pub fn new(directory: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("gam-pty-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut own = directory.join(&name);
        if own.as_os_str().len() + "/pty.sock".len() > LONGEST {
            own = Path::new(SHORT).join(&name);
        }
        DirBuilder::new().mode(0o700).create(&own)?;
        let path = own.join("pty.sock");
        match UnixListener::bind(&path) {
            Ok(listener) => Ok(Self { directory: own, path, listener }),
            Err(error) => {
                let _ = fs::remove_dir(&own);
                Err(error)
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for the terminal, and makes it non-blocking.
    ///
    /// # Errors
    /// If what connects sends no descriptor.
    pub async fn receive(&self) -> io::Result<OwnedFd> {
        let (stream, _) = self.listener.accept().await?;
        let master = pass::receive(&stream).await?;
        pipe::set_nonblocking(&master, true)?;
        Ok(master)
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_dir(&self.directory);
    }
}
