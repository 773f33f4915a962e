//! mount_setattr(2), which no crate has.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::checked;

/// `struct mount_attr` of the kernel.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

const MOUNT_ATTR_RDONLY: u64 = 1;

/// Makes a mount and all below it read-only.
///
/// # Errors
/// ENOSYS before Linux 5.12, EPERM.
pub fn read_only_below(target: &Path) -> io::Result<()> {
    let path = CString::new(target.as_os_str().as_bytes())?;
    let attributes = MountAttr { attr_set: MOUNT_ATTR_RDONLY, ..MountAttr::default() };
    // SAFETY: the path ends with a NUL and the structure has the size that is told; the kernel reads both and keeps
    // neither.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}
