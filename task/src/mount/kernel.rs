//! What is asked of the kernel for mounts.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use super::table;
use crate::sys::{loop_device, mount_attr};

/// What is mounted.
#[derive(Debug)]
pub enum Source {
    /// A path, or whatever the file system takes.
    Path(PathBuf),
    /// A loop device, which detaches itself when nobody has it any more.
    Loop(PathBuf, File),
}

impl Source {
    /// As mount(2) takes it.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Path(path) | Self::Loop(path, _) => path,
        }
    }
}

/// The kernel, or something in its place.
pub trait Kernel {
    /// Mounts; with a directory, relative paths in the data are of that directory.
    ///
    /// # Errors
    /// What mount(2) answers.
    fn mount(
        &self,
        source: &Source,
        target: &Path,
        kind: &str,
        flags: MountFlags,
        data: &str,
        directory: Option<&Path>,
    ) -> io::Result<()>;
    /// Sets the flags of a mount, with `recursive` also of those below it.
    ///
    /// # Errors
    /// What mount(2) and mount_setattr(2) answer.
    fn remount(&self, target: &Path, flags: MountFlags, recursive: bool) -> io::Result<()>;
    /// Sets how mounts spread.
    ///
    /// # Errors
    /// What mount(2) answers.
    fn propagate(&self, target: &Path, flags: MountPropagationFlags) -> io::Result<()>;
    /// Unmounts, at once for whoever looks, and for good when nobody uses it any more.
    ///
    /// # Errors
    /// What umount(2) answers; not that nothing is mounted there.
    fn unmount(&self, target: &Path) -> io::Result<()>;
    /// What is mounted, the newest last.
    ///
    /// # Errors
    /// If the table cannot be read.
    fn mounted(&self) -> io::Result<Vec<PathBuf>>;
    /// Attaches a file to a loop device.
    ///
    /// # Errors
    /// If there is none, or the kernel refuses.
    fn attach_loop(&self, file: &Path, read_only: bool) -> io::Result<Source>;
}

/// The kernel.
#[derive(Debug)]
pub struct Linux;

impl Kernel for Linux {
    fn mount(
        &self,
        source: &Source,
        target: &Path,
        kind: &str,
        flags: MountFlags,
        data: &str,
        directory: Option<&Path>,
    ) -> io::Result<()> {
        let data = CString::new(data)?;
        let mount = || rustix::mount::mount(source.path(), target, kind, flags, data.as_c_str());
        match directory {
            None => Ok(mount()?),
            Some(directory) => in_directory(directory, || Ok(mount()?)),
        }
    }

    fn remount(&self, target: &Path, flags: MountFlags, recursive: bool) -> io::Result<()> {
        if recursive {
            return mount_attr::read_only_below(target);
        }
        Ok(rustix::mount::mount_remount(target, flags | MountFlags::BIND, "")?)
    }

    fn propagate(&self, target: &Path, flags: MountPropagationFlags) -> io::Result<()> {
        Ok(rustix::mount::mount_change(target, flags)?)
    }

    fn unmount(&self, target: &Path) -> io::Result<()> {
        match rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn mounted(&self) -> io::Result<Vec<PathBuf>> {
        Ok(table::places(&std::fs::read("/proc/self/mountinfo")?))
    }

    fn attach_loop(&self, file: &Path, read_only: bool) -> io::Result<Source> {
        let (path, device) = loop_device::attach(file, read_only)?;
        Ok(Source::Loop(path, device))
    }
}

/// Works in another directory: on a thread of its own that shares neither with the others, and ends.
fn in_directory(directory: &Path, work: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    let directory = CString::new(directory.as_os_str().as_bytes())?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("gam-mount".to_owned()).spawn_scoped(scope, || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS)?;
            rustix::process::chdir(directory.as_c_str())?;
            work()
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that mounts panicked")))
    })
}
