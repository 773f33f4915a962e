//! Sequences of calls, on a kernel that records them and fails where it is told to.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;

use super::kernel::{Call, Kernel, Place};
use super::options::IdMap;
use super::table::Mounted;
use super::{Mount, MountError, make, unmake};

/// Records calls as lines and keeps a stack of what is mounted.
#[derive(Default)]
struct Double {
    calls: RefCell<Vec<String>>,
    mounted: RefCell<Vec<Mounted>>,
    next: Cell<u64>,
    /// The number of the call that fails, from 1.
    fail_at: Cell<usize>,
    flags: Cell<u64>,
    /// Paths that cannot be detached.
    stuck: RefCell<Vec<PathBuf>>,
    directories: Cell<i32>,
    loops: std::rc::Rc<Cell<i32>>,
}

struct DoubleLoop(std::rc::Rc<Cell<i32>>);

impl AsRef<Path> for DoubleLoop {
    fn as_ref(&self) -> &Path {
        Path::new("/dev/loop7")
    }
}

impl Drop for DoubleLoop {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Double {
    /// A call that can fail.
    fn call(&self, line: String) -> io::Result<()> {
        self.calls.borrow_mut().push(line);
        if self.calls.borrow().len() == self.fail_at.get() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(())
    }

    /// A call that takes something back, which does not fail by number.
    fn undo(&self, line: String) {
        self.calls.borrow_mut().push(line);
    }

    fn push(&self, path: PathBuf) -> u64 {
        let id = self.next.get() + 100;
        self.next.set(self.next.get() + 1);
        let parent = self.on(&path).unwrap_or(1);
        self.mounted.borrow_mut().push(Mounted { id, parent, path });
        id
    }

    /// The mount that a path is on: of those above it or at it the innermost, and of these the newest.
    fn on(&self, path: &Path) -> Option<u64> {
        let mounted = self.mounted.borrow();
        let above = mounted.iter().filter(|mount| path.starts_with(&mount.path));
        above.max_by_key(|mount| (mount.path.components().count(), mount.id)).map(|mount| mount.id)
    }

    fn remove(&self, id: u64) {
        let mut gone = vec![id];
        self.mounted.borrow_mut().retain(|mount| {
            let goes = mount.id == id || gone.contains(&mount.parent);
            if goes {
                gone.push(mount.id);
            }
            !goes
        });
    }

    fn top(&self, path: &Path) -> Option<u64> {
        self.mounted.borrow().iter().rev().find(|mount| mount.path == path).map(|mount| mount.id)
    }

    fn lines(&self) -> Vec<String> {
        self.calls.borrow().clone()
    }

    #[track_caller]
    fn assert_clean(&self) {
        assert_eq!(*self.mounted.borrow(), [], "after {:#?}", self.lines());
        assert_eq!(self.directories.get(), 0, "after {:#?}", self.lines());
        assert_eq!(self.loops.get(), 0);
    }
}

impl Kernel for Double {
    type Loop = DoubleLoop;
    type Namespace = String;
    type Tree = PathBuf;

    fn mount(&self, place: &Place, call: &Call<'_>) -> io::Result<()> {
        let mut line = match (call.kind, call.source) {
            (Some(kind), Some(source)) => format!("mount {kind} {}", source.display()),
            _ => "change".to_owned(),
        };
        line += &format!(" {place}");
        if !call.flags.is_empty() {
            line +=
                &format!(" {}", call.flags.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join("|"));
        }
        if let Some(data) = call.data {
            line += &format!(" -o {data}");
        }
        if let Some(cwd) = call.cwd {
            line += &format!(" in {}", cwd.display());
        }
        self.call(line)?;
        if call.kind.is_some() && !call.flags.contains(MsFlags::MS_REMOUNT) {
            self.push(place.path());
        }
        Ok(())
    }

    fn flags(&self, place: &Place) -> io::Result<MsFlags> {
        self.call(format!("flags {place}"))?;
        Ok(MsFlags::from_bits_truncate(self.flags.get() as _))
    }

    fn attach_loop(&self, file: &Path, readonly: bool, direct_io: bool) -> io::Result<DoubleLoop> {
        self.call(format!("loop {} readonly={readonly} direct_io={direct_io}", file.display()))?;
        self.loops.set(self.loops.get() + 1);
        Ok(DoubleLoop(self.loops.clone()))
    }

    fn namespace(&self, map: &IdMap) -> io::Result<String> {
        self.call(format!("namespace {}+{}", map.uids.len(), map.gids.len()))?;
        Ok("namespace".to_owned())
    }

    fn clone_tree(&self, place: &Place, recursive: bool) -> io::Result<PathBuf> {
        self.call(format!("clone {place} recursive={recursive}"))?;
        Ok(place.path())
    }

    fn map_tree(&self, tree: &PathBuf, _: &String, private: bool) -> io::Result<()> {
        self.call(format!("map {} private={private}", tree.display()))
    }

    fn attach_tree(&self, tree: PathBuf, place: &Place) -> io::Result<()> {
        self.call(format!("attach {} {place}", tree.display()))?;
        self.push(place.path());
        Ok(())
    }

    fn set_readonly(&self, place: &Place) -> io::Result<()> {
        self.call(format!("readonly {place}"))
    }

    fn detach(&self, place: &Place) -> io::Result<()> {
        self.call(format!("detach {place}"))?;
        let id = self.top(&place.path()).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        self.remove(id);
        Ok(())
    }

    fn mounts(&self) -> io::Result<Vec<Mounted>> {
        self.call("table".to_owned())?;
        Ok(self.mounted.borrow().clone())
    }

    fn detach_one_of(&self, path: &Path, mounts: &dyn Fn(u64) -> bool) -> io::Result<Option<u64>> {
        if self.stuck.borrow().iter().any(|stuck| stuck == path) {
            self.undo(format!("stuck {}", path.display()));
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        // What is seen at the path is the mount on top of what is on top on the way to it.
        let seen = self.on(path).filter(|id| mounts(*id));
        match seen {
            Some(id) if self.top(path) == Some(id) => {
                self.undo(format!("detach {}", path.display()));
                self.remove(id);
                Ok(Some(id))
            }
            _ => Ok(None),
        }
    }

    fn make_scratch(&self, parent: &Path) -> io::Result<PathBuf> {
        self.call(format!("scratch {}", parent.display()))?;
        self.directories.set(self.directories.get() + 1);
        Ok(parent.join("scratch"))
    }

    fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.call(format!("mkdir {}", path.display()))
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.call(format!("rmdir {}", path.display()))?;
        if self.top(path).is_some() {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        self.directories.set(self.directories.get() - 1);
        Ok(())
    }
}

fn mount(kind: &str, source: &str, target: &str, options: &[&str]) -> Mount {
    Mount {
        kind: kind.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        options: options.iter().map(ToString::to_string).collect(),
    }
}

fn make(kernel: &Double, mounts: &[Mount]) -> Result<(), MountError> {
    make::all(kernel, mounts, Path::new("/b/rootfs"))
}

fn lines_of(mounts: &[Mount]) -> Vec<String> {
    let kernel = Double::default();
    make(&kernel, mounts).unwrap();
    kernel.lines()
}

/// Every kind of mount at once.
fn every_kind() -> Vec<Mount> {
    vec![
        mount(
            "overlay",
            "overlay",
            "",
            &["lowerdir=/s/2:/s/1", "uidmap=0:100:10", "gidmap=0:100:10", "rslave"],
        ),
        mount("bind", "/src", "a", &["rbind", "ro", "uidmap=0:100:10", "gidmap=0:100:10"]),
        mount("ext4", "/image", "/b", &["loop", "ro", "direct-io", "discard"]),
        mount("tmpfs", "tmpfs", "c", &["size=1m", "rro", "private", "shared"]),
    ]
}

#[test]
fn a_plain_mount_is_one_call() {
    assert_eq!(
        lines_of(&[mount("overlay", "overlay", "", &["index=off", "upperdir=/u", "lowerdir=/l", "ro"])]),
        ["mount overlay overlay /b/rootfs MS_RDONLY -o index=off,upperdir=/u,lowerdir=/l"]
    );
}

#[test]
fn a_bind_gets_its_flags_by_a_second_call_which_keeps_those_it_has() {
    let kernel = Double::default();
    kernel.flags.set(MsFlags::MS_NOSUID.bits());
    make(&kernel, &[mount("bind", "/s", "", &["rbind", "ro", "noexec"])]).unwrap();
    assert_eq!(
        kernel.lines(),
        [
            "mount bind /s /b/rootfs MS_BIND|MS_REC",
            "flags /b/rootfs",
            "change /b/rootfs MS_RDONLY|MS_NOSUID|MS_NOEXEC|MS_REMOUNT|MS_BIND",
            "change /b/rootfs MS_REC|MS_SLAVE",
        ]
    );
    assert_eq!(
        lines_of(&[mount("bind", "/s", "", &["rw", "rbind"])]),
        ["mount bind /s /b/rootfs MS_BIND|MS_REC", "change /b/rootfs MS_REC|MS_SLAVE"]
    );
    assert_eq!(
        lines_of(&[mount("bind", "/s", "", &[])]),
        ["mount bind /s /b/rootfs MS_BIND", "change /b/rootfs MS_SLAVE"]
    );
}

#[test]
fn propagation_comes_last_and_by_calls_of_its_own() {
    assert_eq!(
        lines_of(&[mount("bind", "/s", "x", &["rslave", "shared", "bind"])]),
        [
            "mount bind /s /b/rootfs/x MS_BIND",
            "change /b/rootfs/x MS_REC|MS_SLAVE",
            "change /b/rootfs/x MS_SHARED",
        ]
    );
}

#[test]
fn a_remount_mounts_nothing() {
    let kernel = Double::default();
    make(&kernel, &[mount("tmpfs", "tmpfs", "", &["remount", "ro", "size=2m"])]).unwrap();
    make(&kernel, &[mount("bind", "", "", &["remount", "bind", "ro"])]).unwrap();
    assert_eq!(
        kernel.lines(),
        [
            "mount tmpfs tmpfs /b/rootfs MS_RDONLY|MS_REMOUNT -o size=2m",
            "flags /b/rootfs",
            "change /b/rootfs MS_RDONLY|MS_REMOUNT|MS_BIND",
        ]
    );
    kernel.assert_clean();
    kernel.fail_at.set(kernel.lines().len() + 2);
    let mounts = [mount("tmpfs", "tmpfs", "", &["remount"]), mount("tmpfs", "tmpfs", "x", &[])];
    make(&kernel, &mounts).unwrap_err();
    assert!(!kernel.lines().iter().any(|line| line.starts_with("detach")), "{:?}", kernel.lines());
}

#[test]
fn a_file_is_mounted_by_a_loop_device_that_is_let_go_afterwards() {
    let kernel = Double::default();
    make(&kernel, &[mount("ext4", "/image", "", &["loop", "ro", "direct-io", "discard"])]).unwrap();
    assert_eq!(
        kernel.lines(),
        ["loop /image readonly=true direct_io=true", "mount ext4 /dev/loop7 /b/rootfs MS_RDONLY -o discard",]
    );
    assert_eq!(kernel.loops.get(), 0);
}

#[test]
fn a_mapped_mount_is_replaced_by_a_mapped_copy() {
    let mounts = [mount("bind", "/s", "", &["rbind", "rprivate", "uidmap=0:1:2", "gidmap=0:1:2,2:9:1"])];
    assert_eq!(
        lines_of(&mounts),
        [
            "namespace 1+2",
            "mount bind /s /b/rootfs MS_BIND|MS_REC",
            "clone /b/rootfs recursive=true",
            "map /b/rootfs private=false",
            "detach /b/rootfs",
            "attach /b/rootfs /b/rootfs",
            "change /b/rootfs MS_REC|MS_PRIVATE",
        ]
    );
}

#[test]
fn a_mapped_overlay_is_made_of_mapped_layers() {
    let options = ["workdir=/w", "lowerdir=/s/2:/s/1", "upperdir=/u", "uidmap=0:1:2", "gidmap=0:1:2"];
    assert_eq!(
        lines_of(&[mount("overlay", "overlay", "", &options)]),
        [
            "namespace 1+1",
            "scratch /b",
            "mount tmpfs layers /b/scratch MS_NOSUID|MS_NODEV|MS_NOEXEC -o mode=700",
            "change /b/scratch MS_PRIVATE",
            "mkdir /b/scratch/0",
            "clone /s/2 recursive=false",
            "map /s/2 private=true",
            "attach /s/2 /b/scratch/0",
            "mkdir /b/scratch/1",
            "clone /s/1 recursive=false",
            "map /s/1 private=true",
            "attach /s/1 /b/scratch/1",
            "mount overlay overlay /b/rootfs -o workdir=/w,lowerdir=0:1,upperdir=/u in /b/scratch",
            "detach /b/scratch",
            "rmdir /b/scratch",
        ]
    );
    let kernel = Double::default();
    let mounts = [mount("overlay", "overlay", "", &["lowerdir=/s/2::/s/1", "uidmap=0:1:2", "gidmap=0:1:2"])];
    assert!(matches!(make(&kernel, &mounts), Err(MountError::Option { .. })));
    kernel.assert_clean();
}

#[test]
fn whichever_call_fails_nothing_stays_mounted() {
    let all = lines_of(&every_kind());
    for number in 1..=all.len() {
        let kernel = Double::default();
        kernel.fail_at.set(number);
        match make(&kernel, &every_kind()) {
            Err(_) => kernel.assert_clean_unless_undo_failed(number),
            Ok(()) => panic!("call {number}, {}, may not fail silently", all[number - 1]),
        }
    }
}

impl Double {
    /// If it was the removal of the layers that failed, then they stay, and the error says so.
    #[track_caller]
    fn assert_clean_unless_undo_failed(&self, number: usize) {
        let scratch = Path::new("/b/scratch");
        let failed = &self.lines()[number - 1];
        if failed == "detach /b/scratch" {
            self.detach(&Place::at(scratch)).unwrap();
        }
        if failed == "detach /b/scratch" || failed == "rmdir /b/scratch" {
            self.remove_directory(scratch).unwrap();
        }
        self.assert_clean();
    }
}

#[test]
fn long_layers_are_mounted_from_their_common_directory() {
    let layers: Vec<_> =
        (0..100).map(|n| format!("/var/lib/containerd/overlayfs/snapshots/{n}/fs")).collect();
    let option = format!("lowerdir={}", layers.join(":"));
    assert!(option.len() > 4095);
    let lines = lines_of(&[mount("overlay", "overlay", "", &["index=off", &option])]);
    let expected = format!("lowerdir={}", (0..100).map(|n| format!("{n}/fs")).collect::<Vec<_>>().join(":"));
    let from = "/var/lib/containerd/overlayfs/snapshots";
    assert_eq!(lines, [format!("mount overlay overlay /b/rootfs -o index=off,{expected} in {from}")]);
}

#[test]
fn data_of_more_than_a_page_is_refused_before_anything_is_done() {
    for (kind, length, fits) in [("tmpfs", 4095, true), ("tmpfs", 4096, false), ("overlay", 5000, false)] {
        let kernel = Double::default();
        let data = format!("x={}", "y".repeat(length - 2));
        let made = make(&kernel, &[mount(kind, "x", "", &[&data, "loop"])]);
        match made {
            Ok(()) => assert!(fits),
            Err(MountError::TooLong { length: told, limit: 4095, .. }) => {
                assert!(!fits && told == length);
                assert_eq!(kernel.lines(), [""; 0]);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_target_does_not_leave_the_root_file_system() {
    for target in ["..", "a/../../b", "/../etc", "a/.."] {
        let kernel = Double::default();
        let error = make(&kernel, &[mount("tmpfs", "x", target, &[])]).unwrap_err();
        assert!(matches!(error, MountError::Target { .. }), "{error}");
        assert_eq!(kernel.lines(), [""; 0]);
    }
    assert_eq!(lines_of(&[mount("tmpfs", "x", "/a/./b/", &[])]), ["mount tmpfs x /b/rootfs/a/b"]);
    assert_eq!(lines_of(&[mount("tmpfs", "x", "/", &[])]), ["mount tmpfs x /b/rootfs"]);
}

#[test]
fn types_that_take_a_program_are_refused_and_what_was_mounted_before_is_taken_back() {
    for kind in ["fuse.sshfs", "fuse3.fuse-overlayfs", "mount.foo", "mkfs/ext4", "format/mkdir/overlay", ""] {
        let kernel = Double::default();
        let error = make(&kernel, &[mount("tmpfs", "x", "", &[]), mount(kind, "x", "", &[])]).unwrap_err();
        assert!(matches!(error, MountError::Kind { .. }), "{error}");
        kernel.assert_clean();
    }
    assert_eq!(lines_of(&[mount("fuse", "x", "", &[])]), ["mount fuse x /b/rootfs"]);
}

#[test]
fn an_error_says_what_was_tried_on_what_and_why() {
    let kernel = Double::default();
    kernel.fail_at.set(1);
    let error = make(&kernel, &[mount("xfs", "/dev/x", "", &[])]).unwrap_err().to_string();
    assert_eq!(error, "cannot mount xfs from \"/dev/x\" on /b/rootfs: Invalid argument (os error 22)");
}

/// A tree in `root`, which must be a real directory because its parent's real path is asked for.
fn unmake(kernel: &Double, root: &Path) -> Result<(), MountError> {
    unmake::all(kernel, root)
}

#[test]
fn outermost_mounts_are_detached_newest_first_and_stacks_to_the_bottom() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().canonicalize().unwrap();
    let root = base.join("rootfs");
    let kernel = Double::default();
    for path in ["rootfs", "rootfs/dev", "rootfs", "rootfs/dev", "rootfs2", "other"] {
        kernel.push(base.join(path));
    }
    unmake(&kernel, &root).unwrap();
    let left: Vec<_> = kernel.mounted.borrow().iter().map(|mount| mount.path.clone()).collect();
    assert_eq!(left, [base.join("rootfs2"), base.join("other")]);
    let detach = format!("detach {}", root.display());
    assert_eq!(kernel.lines(), ["table", &detach, &detach, "table"]);
    unmake(&kernel, &root).unwrap();
}

#[test]
fn what_another_mount_hid_is_found_in_the_next_round() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().canonicalize().unwrap();
    let kernel = Double::default();
    kernel.push(base.join("rootfs/a/b"));
    kernel.push(base.join("rootfs/a"));
    unmake(&kernel, &base.join("rootfs")).unwrap();
    kernel.assert_clean();
}

#[test]
fn one_that_cannot_be_unmounted_does_not_keep_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path().canonicalize().unwrap();
    let kernel = Double::default();
    for name in ["a", "b", "c"] {
        kernel.push(base.join("rootfs").join(name));
    }
    let stuck = base.join("rootfs/b");
    kernel.stuck.borrow_mut().push(stuck.clone());
    let error = unmake(&kernel, &base.join("rootfs")).unwrap_err().to_string();
    assert!(
        error.contains(&format!("unmount {}", stuck.display())) && error.contains("not permitted"),
        "{error}"
    );
    assert_eq!(kernel.mounted.borrow().len(), 1);
}

#[test]
fn a_place_without_a_name_is_never_unmounted() {
    let kernel = Double::default();
    kernel.push(PathBuf::from("/"));
    for target in ["/", "..", "/a/.."] {
        assert!(matches!(unmake(&kernel, Path::new(target)), Err(MountError::Target { .. })), "{target}");
    }
    assert_eq!(kernel.mounted.borrow().len(), 1);
    unmake(&kernel, Path::new("/does/not/exist")).unwrap();
}
