//! What mounting asks of the kernel, so that a test can give other answers.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use super::options::IdMap;
use super::table::Mounted;

/// A place to mount at, or the mount that is on top there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The root file system's directory, which is trusted but for its last component: that must not be a symlink.
    pub(super) root: PathBuf,
    /// A path in the root file system, which symlinks do not lead out of; empty for the root itself.
    pub(super) below: PathBuf,
}

impl Place {
    /// The place `root` itself.
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_path_buf(), below: PathBuf::new() }
    }

    /// Its path, as long as no symlink is in it.
    pub(super) fn path(&self) -> PathBuf {
        if self.below.as_os_str().is_empty() { self.root.clone() } else { self.root.join(&self.below) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

/// One call of mount(2).
#[derive(Clone, Debug)]
pub(super) struct Call<'a> {
    /// The working directory for the call; none keeps the process's.
    pub(super) cwd: Option<&'a Path>,
    pub(super) source: Option<&'a Path>,
    pub(super) kind: Option<&'a str>,
    pub(super) flags: MsFlags,
    pub(super) data: Option<&'a str>,
}

impl Call<'_> {
    /// A change of flags of what is mounted.
    pub(super) fn change(flags: MsFlags) -> Self {
        Self { cwd: None, source: None, kind: None, flags, data: None }
    }
}

/// The system calls. Each resolves its place anew, since the last call may have mounted something there.
pub(super) trait Kernel {
    /// A loop device, for as long as it is held.
    type Loop: AsRef<Path>;
    /// A user namespace.
    type Namespace;
    /// A tree of mounts that is attached nowhere.
    type Tree;

    /// mount(2) of what `call` says, on top of what is at `place`; or a change of that.
    fn mount(&self, place: &Place, call: &Call<'_>) -> io::Result<()>;

    /// Which of the flags of mount(2) hold for the mount at `place`.
    fn flags(&self, place: &Place) -> io::Result<MsFlags>;

    /// Attaches a file to a loop device.
    fn attach_loop(&self, file: &Path, readonly: bool, direct_io: bool) -> io::Result<Self::Loop>;

    /// Makes a user namespace.
    fn namespace(&self, map: &IdMap) -> io::Result<Self::Namespace>;

    /// Copies the mount at `place` from there downwards; with `recursive` the mounts below too.
    fn clone_tree(&self, place: &Place, recursive: bool) -> io::Result<Self::Tree>;

    /// Maps the owners in `tree`; with `private` it also leaves its peer groups.
    fn map_tree(&self, tree: &Self::Tree, namespace: &Self::Namespace, private: bool) -> io::Result<()>;

    /// Attaches `tree` at `place`.
    fn attach_tree(&self, tree: Self::Tree, place: &Place) -> io::Result<()>;

    /// Makes the mounts at and below `place` read-only.
    fn set_readonly(&self, place: &Place) -> io::Result<()>;

    /// Makes the mount at `place` and those below it private and detaches them.
    fn detach(&self, place: &Place) -> io::Result<()>;

    /// What is mounted, in the order in which it was.
    fn mounts(&self) -> io::Result<Vec<Mounted>>;

    /// As [`detach`](Self::detach), if one of `mounts` is what is really at `path`, of which no component is a symlink.
    /// Answers its id, or none if it is something else.
    fn detach_one_of(&self, path: &Path, mounts: &dyn Fn(u64) -> bool) -> io::Result<Option<u64>>;

    /// Makes an empty directory in `parent` that only root can enter.
    fn make_scratch(&self, parent: &Path) -> io::Result<PathBuf>;

    /// Makes a directory.
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
}
