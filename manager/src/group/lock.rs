//! The lock of a group: one at a time starts, joins or leaves it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};

use nix::fcntl::{Flock, FlockArg};

use super::Group;

/// The lock, held until it is dropped; the kernel lets go of it with the process.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "it is held by being there")] Flock<File>);

impl Lock {
    /// Waits for the lock of a group, whose directory is made if it is missing.
    ///
    /// # Errors
    /// What open(2) and flock(2) answer.
    pub fn take(group: &Group) -> io::Result<Self> {
        loop {
            group.make()?;
            if let Some(lock) = attempt(group, FlockArg::LockExclusive)? {
                return Ok(lock);
            }
        }
    }

    /// Waits for the lock of a group; none where the group is there no more.
    ///
    /// # Errors
    /// What open(2) and flock(2) answer.
    pub fn take_existing(group: &Group) -> io::Result<Option<Self>> {
        attempt(group, FlockArg::LockExclusive)
    }

    /// Takes the lock if nobody has it.
    ///
    /// # Errors
    /// What open(2) and flock(2) answer.
    pub fn try_take(group: &Group) -> io::Result<Option<Self>> {
        attempt(group, FlockArg::LockExclusiveNonblock)
    }
}

/// None where somebody has it, or where the file was removed meanwhile by a manager that left: a lock on that is nobody's.
fn attempt(group: &Group, how: FlockArg) -> io::Result<Option<Lock>> {
    let path = group.directory.join("lock");
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let held = match Flock::lock(file, how) {
        Ok(held) => held,
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, error)) => return Err(error.into()),
    };
    let own = held.metadata()?.ino();
    let same = std::fs::metadata(&path).is_ok_and(|found| found.ino() == own);
    Ok(same.then_some(Lock(held)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k3_a_lock_on_a_group_that_left_is_nobodys() {
        let run = tempfile::tempdir().unwrap();
        let group = Group::at("g", &run.path().join("g"));
        let first = Lock::take(&group).unwrap();
        assert!(Lock::try_take(&group).unwrap().is_none());
        let waiter = std::thread::spawn({
            let group = group.clone();
            move || Lock::take(&group).unwrap()
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        group.remove(&first);
        drop(first);
        let _second = waiter.join().unwrap();
        assert!(group.directory.join("lock").exists());
        assert!(Lock::try_take(&group).unwrap().is_none());
        let never = Group::at("n", &run.path().join("n"));
        assert!(Lock::take_existing(&never).unwrap().is_none());
        assert!(!never.directory.exists());
    }
}
