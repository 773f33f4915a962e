//! The mounts of a root file system: containerd's options, and undoing what was mounted.
//!
//! What is asked of the kernel goes through [`Kernel`], of which tests have one that only records.

mod error;
mod flags;
mod kernel;
mod lowerdirs;
mod table;

use std::path::{Component, Path, PathBuf};

use rustix::mount::MountPropagationFlags;
use serde::{Deserialize, Serialize};

pub use error::MountError;
pub use kernel::{Kernel, Linux};

use self::flags::Options;
use self::lowerdirs::Shortened;

/// The longest data of a mount, in bytes: the kernel takes a page, with the NUL.
const LONGEST: usize = 4095;

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

/// Mounts all of `mounts` at `target`, in order. Where one fails, those before it are unmounted again. It may block.
///
/// # Errors
/// [`MountError`] says which mount failed, and why.
pub fn mount_all(mounts: &[Mount], target: &Path) -> Result<(), MountError> {
    mount_all_with(&Linux, mounts, target)
}

/// The same, asked of `kernel`.
///
/// # Errors
/// Those of [`mount_all`].
pub fn mount_all_with(kernel: &dyn Kernel, mounts: &[Mount], target: &Path) -> Result<(), MountError> {
    let mut done: Vec<PathBuf> = Vec::new();
    for mount in mounts {
        let made = place(target, &mount.target).and_then(|place| {
            let begun = mount_one(kernel, mount, &place);
            match &begun {
                // It may be there, and only what comes after it have failed.
                Err(MountError::Change { .. }) => done.push(place),
                Ok(()) => done.push(place),
                Err(_) => {}
            }
            begun
        });
        if let Err(error) = made {
            for place in done.iter().rev() {
                if let Err(error) = kernel.unmount(place) {
                    tracing::warn!(target = %place.display(), %error, "a mount is left");
                }
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Unmounts everything at and below `target`, the newest first. That nothing is mounted there, or nothing is there, is no
/// error. Mounts that are shared with the host are taken out of the sharing first: theirs stay. It may block.
///
/// # Errors
/// [`MountError`] is the first thing that failed; what else can be unmounted is.
pub fn unmount_all(target: &Path) -> Result<(), MountError> {
    unmount_all_with(&Linux, target)
}

/// The same, asked of `kernel`.
///
/// # Errors
/// Those of [`unmount_all`].
pub fn unmount_all_with(kernel: &dyn Kernel, target: &Path) -> Result<(), MountError> {
    // The table has real paths. Were the target itself a link, what is mounted where it leads is not ours to unmount.
    let parent = target.parent().unwrap_or(target);
    let real = match (parent.canonicalize(), target.file_name()) {
        (Ok(real), Some(name)) => real.join(name),
        (Err(error), _) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        _ => target.to_path_buf(),
    };
    let mounted = kernel.mounted().map_err(MountError::Table)?;
    let below: Vec<&PathBuf> = mounted.iter().filter(|place| place.starts_with(&real)).collect();
    let mut first = None;
    for place in &below {
        let _ = kernel.propagate(place, MountPropagationFlags::PRIVATE);
    }
    for place in below.iter().rev() {
        if let Err(source) = kernel.unmount(place) {
            first.get_or_insert(MountError::Unmount { target: place.to_path_buf(), source });
        }
    }
    first.map_or(Ok(()), Err)
}

/// Whether something is mounted at `target`.
///
/// # Errors
/// If the table of mounts cannot be read.
pub fn is_mounted(target: &Path) -> Result<bool, MountError> {
    Ok(Linux.mounted().map_err(MountError::Table)?.iter().any(|place| place == target))
}

/// Where a mount goes: below the root file system, never out of it, through no symbolic link.
fn place(root: &Path, target: &str) -> Result<PathBuf, MountError> {
    let mut place = root.to_path_buf();
    for part in Path::new(target).components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                place.push(name);
                if place.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
                    return Err(MountError::Target(target.to_owned()));
                }
            }
            Component::ParentDir | Component::Prefix(_) => return Err(MountError::Target(target.to_owned())),
        }
    }
    Ok(place)
}

fn mount_one(kernel: &dyn Kernel, mount: &Mount, target: &Path) -> Result<(), MountError> {
    let helper = ["fuse.", "fuse3.", "mount."].iter().any(|prefix| mount.kind.starts_with(prefix));
    if helper {
        return Err(MountError::Kind(mount.kind.clone()));
    }
    let options = Options::parse(mount)?;
    let shortened = Shortened::of(&mount.kind, &options.data);
    let (data, directory) = match &shortened {
        Some(shortened) => (shortened.data.clone(), Some(shortened.directory.as_path())),
        None => (options.data.join(","), None),
    };
    if data.len() > LONGEST {
        return Err(MountError::TooLong { kind: mount.kind.clone(), length: data.len() });
    }
    let asked = |source| MountError::Mount {
        kind: mount.kind.clone(),
        mounted: mount.source.clone(),
        target: target.to_path_buf(),
        source,
    };
    let changed = |source| MountError::Change { target: target.to_path_buf(), source };
    let source = if options.on_loop {
        kernel.attach_loop(Path::new(&mount.source), options.is_read_only()).map_err(asked)?
    } else {
        kernel::Source::Path(mount.source.clone().into())
    };
    kernel.mount(&source, target, &mount.kind, options.first_flags(), &data, directory).map_err(asked)?;
    // A bind takes no other flags at first, and propagation is always a call of its own.
    if let Some(flags) = options.remount_flags() {
        kernel.remount(target, flags, options.recursive_read_only).map_err(changed)?;
    }
    if let Some(propagation) = options.propagation {
        kernel.propagate(target, propagation).map_err(changed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
