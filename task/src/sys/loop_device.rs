//! Loop devices (loop(4)): block devices of which the blocks are in a file.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checked;

/// Requests and flags of `linux/loop.h`.
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;
const NAME: usize = 64;

/// How often another free device is asked for when somebody else has taken the last one.
const ATTEMPTS: u32 = 100;

/// A loop device that the kernel releases once nothing holds it open or has it mounted.
#[derive(Debug)]
pub struct LoopDevice {
    path: PathBuf,
    _held: File,
}

impl LoopDevice {
    /// Attaches `file` to a free loop device.
    ///
    /// # Errors
    /// What opening `file` answers; ENOENT or ENXIO where there are no loop devices, EINVAL before Linux 5.8, EBUSY if
    /// others have taken every free device that was tried.
    pub fn attach(file: &Path, readonly: bool, direct_io: bool) -> io::Result<Self> {
        let backing = OpenOptions::new().read(true).write(!readonly).open(file)?;
        let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
        let config = Config::new(&backing, file, readonly, direct_io);
        let mut attempt = 0;
        loop {
            match configure_free(&control, &config, readonly) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempt < ATTEMPTS => {
                    attempt += 1;
                    std::thread::sleep(Duration::from_millis(attempt.into()));
                }
                attached => return attached,
            }
        }
    }

    /// The device's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn configure_free(control: &File, config: &Config, readonly: bool) -> io::Result<LoopDevice> {
    // SAFETY: this request takes no argument and answers a number.
    let number = checked(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) }.into())?;
    let path = PathBuf::from(format!("/dev/loop{number}"));
    let device = OpenOptions::new().read(true).write(!readonly).open(&path)?;
    // SAFETY: this request reads one `struct loop_config`, which `config` is and which outlives the call.
    checked(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const *config) }.into())?;
    Ok(LoopDevice { path, _held: device })
}

/// `struct loop_config` of `linux/loop.h`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// `struct loop_info64` of `linux/loop.h`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; NAME],
    crypt_name: [u8; NAME],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Config {
    fn new(backing: &File, file: &Path, readonly: bool, direct_io: bool) -> Self {
        let mut flags = LO_FLAGS_AUTOCLEAR;
        if readonly {
            flags |= LO_FLAGS_READ_ONLY;
        }
        if direct_io {
            flags |= LO_FLAGS_DIRECT_IO;
        }
        // What losetup(8) shows; the kernel wants it to end with a NUL.
        let mut file_name = [0; NAME];
        let shown = file.as_os_str().as_encoded_bytes().iter().take(NAME - 1);
        file_name.iter_mut().zip(shown).for_each(|(to, from)| *to = *from);
        Self {
            fd: backing.as_raw_fd().unsigned_abs(),
            block_size: 0,
            info: Info {
                device: 0,
                inode: 0,
                rdevice: 0,
                offset: 0,
                size_limit: 0,
                number: 0,
                encrypt_type: 0,
                encrypt_key_size: 0,
                flags,
                file_name,
                crypt_name: [0; NAME],
                encrypt_key: [0; 32],
                init: [0; 2],
            },
            reserved: [0; 8],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<Info>(), 232);
        assert_eq!(size_of::<Config>(), 304);
    }
}
