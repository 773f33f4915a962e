//! What the kernel is asked, and the only place where `unsafe` is allowed.
//!
//! Each file has one subject and gives a safe function or type for it. Everything that makes a descriptor makes it
//! close-on-exec (BEHAVIOUR I6).

use std::io;

pub mod daemon;
pub mod inherit;
pub mod loop_device;
pub mod mount_attributes;
pub mod pass;
pub mod pidfd;
pub mod pipe;
pub mod polled;
pub mod proc;
pub mod spawn;
pub mod user_namespace;
pub mod wait;

/// The outcome of a C call that answers -1 and sets `errno`.
fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
