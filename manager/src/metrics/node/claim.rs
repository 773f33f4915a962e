//! Who has the node's address: one manager at a time, by a lock that the kernel lets go of with the process.
//!
//! The lock tells another manager, which is as it should be, from a stranger. Over a unix socket's path it also keeps two
//! managers from taking the place of each other's: its file is beside the socket, so that this holds for managers with
//! different runtime directories too. That of a TCP address is among the groups' directories, whose metrics are served there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::metrics::listener::{Address, Bound};

/// What came of trying.
pub(super) enum Attempt {
    /// The address is this manager's for as long as it has both. The socket is to go first.
    Ours(Bound, Lock),
    /// Another manager has it.
    Theirs,
}

/// The lock of an address. Its file goes with it.
pub(super) struct Lock {
    path: PathBuf,
    #[expect(dead_code, reason = "held for what its end does")]
    file: Flock<File>,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // It is still locked, so the file is this one's: whoever waits for it sees that it has gone.
        let _ = fs::remove_file(&self.path);
    }
}

/// Takes `address` for the groups in `run`, if nobody has it.
///
/// # Errors
/// Where something other than a manager is in the way.
pub(super) fn attempt(address: &Address, run: &Path) -> io::Result<Attempt> {
    match take(lock_file(address, run))? {
        Some(lock) => Ok(Attempt::Ours(Bound::bind(address)?, lock)),
        None => Ok(Attempt::Theirs),
    }
}

fn lock_file(address: &Address, run: &Path) -> PathBuf {
    match address {
        Address::Unix(path) => {
            let mut name = path.clone().into_os_string();
            name.push(".lock");
            name.into()
        }
        Address::Tcp(address) => {
            let name = address.to_string().replace(|one: char| !one.is_ascii_alphanumeric(), "-");
            run.join(format!("metrics-{name}.lock"))
        }
    }
}

/// None where another has it, or has just let go of it.
fn take(path: PathBuf) -> io::Result<Option<Lock>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, error)) => return Err(error.into()),
    };
    let held = file.metadata()?;
    let is_there = fs::metadata(&path).is_ok_and(|at| (at.dev(), at.ino()) == (held.dev(), held.ino()));
    // A lock on a file that its owner has removed is nobody's.
    Ok(is_there.then_some(Lock { path, file }))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn one_has_it_at_a_time_and_nothing_is_left() {
        let run = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for address in [Address::Tcp(free), Address::Unix(run.path().join("m.sock"))] {
            let Attempt::Ours(bound, lock) = attempt(&address, run.path()).unwrap() else { panic!() };
            assert!(matches!(attempt(&address, run.path()), Ok(Attempt::Theirs)), "{address}");
            drop((bound, lock));
            assert_eq!(fs::read_dir(run.path()).unwrap().count(), 0, "{address}");
            assert!(matches!(attempt(&address, run.path()), Ok(Attempt::Ours(..))), "{address}");
        }
    }

    #[test]
    fn a_stranger_at_the_address_is_an_error_and_keeps_it() {
        let run = tempfile::tempdir().unwrap();
        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(stranger.local_addr().unwrap());
        let error = attempt(&address, run.path()).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let path = run.path().join("m.sock");
        // Its backlog is full: a connect that waited would wait for ever.
        let stranger = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&stranger, 0).unwrap();
        let _waiting = std::os::unix::net::UnixStream::connect(&path).unwrap();
        let error = attempt(&Address::Unix(path), run.path()).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_lock_of_a_process_that_died_is_taken_over() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join("x.lock");
        fs::write(&path, "").unwrap();
        assert!(take(path).unwrap().is_some());
    }
}
