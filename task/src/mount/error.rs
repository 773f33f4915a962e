//! Why a root file system is not mounted, or stays mounted.

use std::io;
use std::path::PathBuf;

/// The reason.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A target that leads out of the root file system.
    #[error("mount target {0:?} leads out of the root file system")]
    Target(String),
    /// A type that needs a helper program.
    #[error("mounts of type {0} need a helper program and are not made")]
    Kind(String),
    /// An option that is not served.
    #[error("mount option {0:?} is not served")]
    Option(String),
    /// Data that the kernel does not take.
    #[error("the options of a mount of type {kind} have {length} bytes, more than a page")]
    TooLong {
        /// The type.
        kind: String,
        /// The length.
        length: usize,
    },
    /// The kernel refused a mount.
    #[error("cannot mount {mounted:?} of type {kind:?} at {target}: {source}")]
    Mount {
        /// The type.
        kind: String,
        /// What was to be mounted.
        mounted: String,
        /// Where.
        target: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused to change a mount that was made.
    #[error("cannot change the mount at {target}: {source}")]
    Change {
        /// Where.
        target: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused to unmount.
    #[error("cannot unmount {target}: {source}")]
    Unmount {
        /// Where.
        target: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// What is mounted cannot be learnt.
    #[error("cannot read the table of mounts: {0}")]
    Table(io::Error),
}

impl MountError {
    /// Whether what was asked for is wrong, rather than what was found.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        matches!(self, Self::Target(_) | Self::Kind(_) | Self::Option(_) | Self::TooLong { .. })
    }
}
