//! Unmounting a tree.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::MountError;
use super::kernel::Kernel;
use super::table::Mounted;

/// How often the table is read. A second time is needed where a mount hid others, a third one hardly ever.
const ROUNDS: usize = 64;

/// Unmounts what is at and below `target`.
///
/// The kernel detaches a mount together with all that is on it, so only the outermost ones are detached, the newest
/// first. A path of the table is used only if one of these mounts is what is found there: another mount may hide it, of
/// which a container's symlinks could lead to a mount of the host.
pub(super) fn all<K: Kernel>(kernel: &K, target: &Path) -> Result<(), MountError> {
    let Some(target) = real(target)? else { return Ok(()) };
    let mut first_error = None;
    let mut left = 0;
    for _ in 0..ROUNDS {
        let mounts = at_and_below(kernel, &target)?;
        left = mounts.len();
        if left == 0 {
            return Ok(());
        }
        let mut any_gone = false;
        for path in outermost(&mounts) {
            let ids: BTreeSet<_> = mounts.iter().map(|mount| mount.id).collect();
            let mut gone = BTreeSet::new();
            // Several may be stacked on the same directory.
            loop {
                match kernel.detach_one_of(path, &|id| ids.contains(&id)) {
                    Ok(Some(id)) if gone.insert(id) => any_gone = true,
                    Ok(_) => break,
                    Err(source) => {
                        let path = path.to_path_buf();
                        first_error.get_or_insert(MountError::Step { step: "unmount", path, source });
                        break;
                    }
                }
            }
        }
        if !any_gone {
            break;
        }
    }
    Err(first_error.unwrap_or(MountError::Left { target, count: left }))
}

/// Whether something is mounted at `target`.
pub(super) fn is_mounted<K: Kernel>(kernel: &K, target: &Path) -> Result<bool, MountError> {
    let Some(target) = real(target)? else { return Ok(false) };
    Ok(at_and_below(kernel, &target)?.iter().any(|mount| mount.path == target))
}

/// The path as the table has it, or none if its directory does not exist. The last component is not looked at: a dead
/// network file system may be there; and nothing can be mounted on a symlink.
fn real(target: &Path) -> Result<Option<PathBuf>, MountError> {
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        let reason = "it does not end with a name";
        return Err(MountError::Target { target: target.to_path_buf(), reason });
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    match parent.canonicalize() {
        Ok(parent) => Ok(Some(parent.join(name))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(source) => {
            Err(MountError::Step { step: "find the real path of", path: parent.to_path_buf(), source })
        }
    }
}

fn at_and_below<K: Kernel>(kernel: &K, target: &Path) -> Result<Vec<Mounted>, MountError> {
    let mut mounts = kernel.mounts().map_err(|source| MountError::Step {
        step: "read the mounts at and below",
        path: target.to_path_buf(),
        source,
    })?;
    mounts.retain(|mount| mount.path.starts_with(target));
    Ok(mounts)
}

/// Where the mounts are that are on none of the others, the newest first.
fn outermost(mounts: &[Mounted]) -> Vec<&Path> {
    let ids: BTreeSet<_> = mounts.iter().map(|mount| mount.id).collect();
    let mut paths: Vec<&Path> = Vec::new();
    for mount in mounts.iter().rev().filter(|mount| !ids.contains(&mount.parent)) {
        if !paths.contains(&mount.path.as_path()) {
            paths.push(&mount.path);
        }
    }
    paths
}
