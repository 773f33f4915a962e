//! mount_setattr(2): what mount(2) cannot change of a mount. Linux 5.12.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::checked;

/// `MOUNT_ATTR_RDONLY` of `linux/mount.h`.
const RDONLY: u64 = 0x0000_0001;
/// `MOUNT_ATTR_IDMAP` of `linux/mount.h`.
const IDMAP: u64 = 0x0010_0000;
/// `MS_PRIVATE` of `linux/mount.h`.
const PRIVATE: u64 = 1 << 18;

/// `struct mount_attr` of `linux/mount.h`, in its first version.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Makes the mount that `mount` is open on, and every mount below it, read-only.
///
/// # Errors
/// ENOSYS before Linux 5.12, EINVAL if `mount` is not the root of a mount, EPERM.
pub fn set_readonly(mount: impl AsFd) -> io::Result<()> {
    set(mount, &Attributes { set: RDONLY, ..Attributes::default() })
}

/// Maps the owners of files in the detached mount `tree`, and in every mount below it, as `user_namespace` says. With
/// `private`, the mounts also leave their peer groups.
///
/// # Errors
/// ENOSYS before Linux 5.12; EINVAL if a file system of the tree cannot be mapped, or the tree is attached; EPERM if it
/// is mapped already or the namespace is the initial one.
pub fn set_idmap(tree: impl AsFd, user_namespace: impl AsFd, private: bool) -> io::Result<()> {
    let fd = user_namespace.as_fd().as_raw_fd();
    let attributes = Attributes {
        set: IDMAP,
        propagation: if private { PRIVATE } else { 0 },
        user_namespace: fd.unsigned_abs().into(),
        ..Attributes::default()
    };
    set(tree, &attributes)
}

fn set(mount: impl AsFd, attributes: &Attributes) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is a NUL-terminated string and the attributes are a whole struct of the size that is told; both
    // are only read, and outlive the call like the borrowed descriptors.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const *attributes,
            size_of::<Attributes>(),
        )
    })?;
    Ok(())
}
