//! The mounts of a root file system, as containerd sends them with a create.
//!
//! Whatever cannot be done as it was asked for is refused: an option that is passed over would give a container another
//! root than its snapshot (BEHAVIOUR J3). A mount call that fails takes back what it had mounted, and unmounting goes on
//! past errors, so that no mount keeps a snapshot busy (D11).
//!
//! The functions block. They may be called from any thread, with or without a tokio runtime.

#[cfg(fuzzing)]
pub mod fuzzing;
mod kernel;
mod layers;
mod linux;
mod make;
mod options;
mod table;
mod unmake;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::linux::Linux;

/// A mount as containerd sends it (`containerd.types.Mount`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// The file system's type.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Where, relative to the root file system; empty for the root itself.
    pub target: String,
    /// Options as of fstab(5), and containerd's own.
    pub options: Vec<String>,
}

/// Why something is not mounted, or is still mounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// An option that is wrong, or that means something which is not done here.
    #[error("the mount option `{option}` {reason}")]
    Option {
        /// The option, up to its value, which is not told.
        option: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A type of mount that the kernel cannot make by itself.
    #[error("a mount of type `{kind}` cannot be made: {reason}")]
    Kind {
        /// The type.
        kind: String,
        /// Why not.
        reason: &'static str,
    },
    /// A place where nothing may be mounted, or unmounted.
    #[error("cannot use {target:?} as a mount's target: {reason}")]
    Target {
        /// The place.
        target: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More options than mount(2) takes.
    #[error("the options of the {kind} mount on {target} are {length} bytes long; the kernel takes {limit}")]
    TooLong {
        /// The file system's type.
        kind: String,
        /// Where it was to be mounted.
        target: PathBuf,
        /// The length in bytes.
        length: usize,
        /// The most that is possible, in bytes.
        limit: usize,
    },
    /// mount(2) failed.
    #[error("cannot mount {kind} from {from:?} on {target}: {source}")]
    Mount {
        /// The file system's type.
        kind: String,
        /// What was to be mounted.
        from: PathBuf,
        /// Where.
        target: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another step failed.
    #[error("cannot {step} {path}: {source}")]
    Step {
        /// What was tried, as the words before the path.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Mounts that are there again, or still, after they were unmounted.
    #[error("{count} mounts are left at and below {target} although unmounting reported no error")]
    Left {
        /// The place.
        target: PathBuf,
        /// How many there are.
        count: usize,
    },
}

/// Makes `mounts` in their order, each at its own target below the directory `target`, which must exist. A mount's
/// target must exist by the time it is its turn; neither `..` nor a symlink leads out of the root file system. If one
/// fails, those before it are unmounted again.
///
/// # Errors
/// [`MountError`], of the first mount that fails.
pub fn mount_all(mounts: &[Mount], target: &Path) -> Result<(), MountError> {
    make::all(&Linux, mounts, target)
}

/// Unmounts everything that is mounted at `target` and below, whoever did it. Mounts of the host that are bound there
/// stay where they come from. It is no error if there is nothing, or no `target`.
///
/// # Errors
/// The first [`MountError`], if something is left in the end.
pub fn unmount_all(target: &Path) -> Result<(), MountError> {
    unmake::all(&Linux, target)
}

/// Whether something is mounted at `target` itself.
///
/// # Errors
/// [`MountError`] if that cannot be found out. A `target` that does not exist is just not mounted.
pub fn is_mounted(target: &Path) -> Result<bool, MountError> {
    unmake::is_mounted(&Linux, target)
}
