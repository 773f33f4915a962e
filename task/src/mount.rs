//! The mounts of a root file system.

use serde::{Deserialize, Serialize};

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
