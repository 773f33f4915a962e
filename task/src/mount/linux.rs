//! The kernel itself.
//!
//! A place is opened before it is used, and named to the kernel as the descriptor's link in `/proc`: so nothing between
//! the check and the use can lead the use elsewhere.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::kernel::{Call, Kernel, Place};
use super::options::IdMap;
use super::table::{self, Mounted};
use crate::sys::loop_device::LoopDevice;
use crate::sys::{mount_attributes, user_namespace};

const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// This machine's kernel.
pub(super) struct Linux;

/// A held loop device.
pub(super) struct HeldLoop(LoopDevice);

impl AsRef<Path> for HeldLoop {
    fn as_ref(&self) -> &Path {
        self.0.path()
    }
}

impl Kernel for Linux {
    type Loop = HeldLoop;
    type Namespace = OwnedFd;
    type Tree = OwnedFd;

    fn mount(&self, place: &Place, call: &Call<'_>) -> io::Result<()> {
        let opened = find(place)?;
        let target = link(&opened);
        let make = || Ok(mount(call.source, &target, call.kind, call.flags, call.data)?);
        match call.cwd {
            None => make(),
            Some(cwd) => in_directory(cwd, make),
        }
    }

    fn flags(&self, place: &Place) -> io::Result<MsFlags> {
        let found = nix::sys::statvfs::fstatvfs(find(place)?)?;
        // The bits of ST_RDONLY, ST_NOSUID, ST_NODEV and ST_NOEXEC are those of the MS_ flags.
        let kept = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        Ok(MsFlags::from_bits_truncate(found.flags().bits()) & kept)
    }

    fn attach_loop(&self, file: &Path, readonly: bool, direct_io: bool) -> io::Result<Self::Loop> {
        LoopDevice::attach(file, readonly, direct_io).map(HeldLoop)
    }

    fn namespace(&self, map: &IdMap) -> io::Result<Self::Namespace> {
        user_namespace::create(&map.uids, &map.gids)
    }

    fn clone_tree(&self, place: &Place, recursive: bool) -> io::Result<Self::Tree> {
        let mut flags =
            OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
        Ok(open_tree(find(place)?, c"", flags)?)
    }

    fn map_tree(&self, tree: &Self::Tree, namespace: &Self::Namespace, private: bool) -> io::Result<()> {
        mount_attributes::set_idmap(tree, namespace, private)
    }

    fn attach_tree(&self, tree: Self::Tree, place: &Place) -> io::Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(move_mount(tree, c"", find(place)?, c"", flags)?)
    }

    fn set_readonly(&self, place: &Place) -> io::Result<()> {
        mount_attributes::set_readonly(find(place)?)
    }

    fn detach(&self, place: &Place) -> io::Result<()> {
        detach(&find(place)?)
    }

    fn mounts(&self) -> io::Result<Vec<Mounted>> {
        Ok(table::parse(&fs::read("/proc/self/mountinfo")?))
    }

    fn detach_one_of(&self, path: &Path, mounts: &dyn Fn(u64) -> bool) -> io::Result<Option<u64>> {
        let found =
            openat2(CWD, path, LOOK, Mode::empty(), ResolveFlags::NO_SYMLINKS).or_else(|error| match error {
                // Before Linux 5.6, and in a sandbox that does not know the call.
                rustix::io::Errno::NOSYS | rustix::io::Errno::PERM => open(path, LOOK, Mode::empty()),
                other => Err(other),
            });
        let found = match found {
            Ok(found) => found,
            // Something was mounted over the way to it.
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let id = mount_id(&found)?;
        if !mounts(id) {
            return Ok(None);
        }
        detach(&found)?;
        Ok(Some(id))
    }

    fn make_scratch(&self, parent: &Path) -> io::Result<PathBuf> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!(".layers-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| path),
            }
        }
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }
}

/// Opens what is at a place, without its content.
fn find(place: &Place) -> io::Result<OwnedFd> {
    let root = open(&place.root, LOOK, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&root)?.st_mode) == FileType::Symlink {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the root file system is a symlink"));
    }
    if place.below.as_os_str().is_empty() {
        return Ok(root);
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, &place.below, flags, Mode::empty(), resolve)?)
}

fn link(opened: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()))
}

/// The id of the mount that a descriptor is on.
fn mount_id(opened: impl AsFd) -> io::Result<u64> {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", opened.as_fd().as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    id.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no mnt_id in fdinfo"))
}

/// A bind of a shared tree is its peer: what is unmounted below the one is unmounted below the other too. So the mounts
/// leave their peer groups first. Nothing can have taken the place of what is opened, so the link may be followed.
fn detach(opened: &OwnedFd) -> io::Result<()> {
    let target = link(opened);
    mount(None::<&str>, &target, None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    umount2(&target, MntFlags::MNT_DETACH)?;
    Ok(())
}

/// Runs `call` in a thread whose working directory is its own: that of the process belongs to all threads.
fn in_directory(cwd: &Path, call: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    thread::scope(|scope| {
        let name = "gam-mount".to_owned();
        let thread = thread::Builder::new().name(name).spawn_scoped(scope, || {
            unshare(CloneFlags::CLONE_FS)?;
            rustix::process::chdir(cwd)?;
            call()
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))
    })
}
