//! The path that containerd dials.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::BootstrapError;

/// The directory of sockets where none is given, containerd's own.
pub const DEFAULT_DIR: &str = "/run/containerd/s";

/// The longest directory of sockets, in bytes: with a slash and 64 hexadecimal digits it makes 107, and
/// `sockaddr_un.sun_path` holds 108 with the NUL that ends it (unix(7)).
const MAX_DIR: usize = 42;

/// Where the manager of a group listens: one path for each containerd and group.
///
/// # Errors
/// [`BootstrapError`] where `socket_dir` is relative, or so long that names under it would not fit a socket's address.
pub fn socket_path(
    containerd_address: &str,
    group_key: &str,
    socket_dir: Option<&str>,
) -> Result<PathBuf, BootstrapError> {
    let dir = socket_dir.unwrap_or(DEFAULT_DIR);
    if !dir.starts_with('/') || dir.contains('\0') {
        return Err(BootstrapError::DirectoryNotAbsolute(dir.chars().take(128).collect()));
    }
    if dir.len() > MAX_DIR {
        return Err(BootstrapError::DirectoryTooLong {
            path: dir.chars().take(128).collect(),
            length: dir.len(),
            max: MAX_DIR,
        });
    }
    let mut digest = Sha256::new();
    digest.update(containerd_address.as_bytes());
    // A byte that neither can hold keeps ("a", "bc") and ("ab", "c") apart.
    digest.update([0]);
    digest.update(group_key.as_bytes());
    let mut name = String::with_capacity(64);
    for byte in digest.finalize() {
        let _ = write!(name, "{byte:02x}");
    }
    Ok(Path::new(dir).join(name))
}

/// A socket's path as an address: what `start` answers, and what an `address` file holds, without a newline.
#[must_use]
pub fn address_of(socket: &Path) -> String {
    format!("unix://{}", String::from_utf8_lossy(socket.as_os_str().as_bytes()))
}
