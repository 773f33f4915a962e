//! Mounts by the real kernel. Each test works in a directory of its own and leaves nothing mounted.
//!
//! What the machine cannot do is skipped with a word about it, unless `GAM_REQUIRE` names it (`mount`, `loop`, `idmap`,
//! with commas between) or is `all`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gam_task::admission::Class;
use gam_task::mount::{Mount, MountError, is_mounted, mount_all, unmount_all};
use gam_task::reaper::Reaper;
use gam_task::sys::loop_device::LoopDevice;
use gam_task::sys::user_namespace::{self, IdRange};
use gam_task::sys::{mount_attributes, proc};
use gam_task::telemetry::{Stream, Telemetry};
use gam_task::tenant::{Quota, Tenant};
use nix::mount::{MntFlags, MsFlags};
use tempfile::TempDir;

/// A directory on a private tmpfs. When it is dropped nothing may be mounted in it any more.
struct Bench {
    base: PathBuf,
    _directory: TempDir,
}

impl Bench {
    /// None if this machine does not let us mount.
    fn new() -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("gam mounts\\").tempdir().unwrap();
        let base = directory.path().canonicalize().unwrap();
        if let Err(error) = nix_mount("tmpfs", &base, "tmpfs", MsFlags::empty()) {
            return skipped("mount", &error);
        }
        nix_mount("", &base, "", MsFlags::MS_PRIVATE).unwrap();
        let bench = Self { base, _directory: directory };
        bench.dir("rootfs");
        Some(bench)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn dir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&path).unwrap();
        path
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        self.dir(Path::new(name).parent().unwrap().to_str().unwrap());
        fs::write(&path, content).unwrap();
        path
    }

    fn rootfs(&self) -> PathBuf {
        self.path("rootfs")
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn mounts(&self) -> Vec<String> {
        let own = self.base.to_str().unwrap().replace('\\', "\\134").replace(' ', "\\040");
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = table.lines().map(|line| line.split(' ').nth(4).unwrap());
        points
            .filter_map(|point| point.strip_prefix(&own).map(str::to_owned))
            .filter(|point| !point.is_empty())
            .collect()
    }

    /// Unmounts the root file system and looks whether that has left nothing.
    #[track_caller]
    fn unmount(&self) {
        unmount_all(&self.rootfs()).unwrap();
        self.assert_clean();
    }

    #[track_caller]
    fn assert_clean(&self) {
        assert_eq!(self.mounts(), [""; 0]);
        assert_eq!(fs::read_dir(self.rootfs()).unwrap().count(), 0);
        assert!(!is_mounted(&self.rootfs()).unwrap());
        let names = fs::read_dir(&self.base).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(
            names.into_iter().all(|name| !name.to_str().unwrap().starts_with('.')),
            "a scratch directory is left"
        );
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let left = self.mounts();
        nix::mount::umount2(&self.base, MntFlags::MNT_DETACH).unwrap();
        if !std::thread::panicking() {
            assert_eq!(left, [""; 0]);
        }
    }
}

fn nix_mount(source: &str, target: &Path, kind: &str, flags: MsFlags) -> io::Result<()> {
    Ok(nix::mount::mount(Some(source), target, Some(kind), flags, None::<&str>)?)
}

fn skipped<T>(what: &str, why: &dyn std::fmt::Display) -> Option<T> {
    let required = std::env::var("GAM_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|word| word == what || word == "all"), "{what} is required: {why}");
    eprintln!("skipped: no {what}: {why}");
    None
}

fn mount(kind: &str, source: &str, target: &str, options: &[&str]) -> Mount {
    Mount {
        kind: kind.to_owned(),
        source: source.to_owned(),
        target: target.to_owned(),
        options: options.iter().map(ToString::to_string).collect(),
    }
}

const RANGE: IdRange = IdRange { inside: 0, outside: 100_000, count: 65_536 };
const MAPPED: [&str; 2] = ["uidmap=0:100000:65536", "gidmap=0:100000:65536"];

/// Whether the file system at `path` can be mapped, as the system calls themselves say.
fn can_map(path: &Path) -> Option<()> {
    let tried = (|| {
        let namespace = user_namespace::create(&[RANGE], &[RANGE])?;
        let flags =
            rustix::mount::OpenTreeFlags::OPEN_TREE_CLONE | rustix::mount::OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(rustix::fs::CWD, path, flags)?;
        mount_attributes::set_idmap(tree, namespace, true)
    })();
    tried.map_or_else(|error| skipped("idmap", &error), Some)
}

/// A directory whose file system can be mapped, on the disk: tmpfs could not before Linux 6.3.
fn disk() -> TempDir {
    tempfile::Builder::new().prefix("gam-mounts-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn overlay_and_what_is_mounted_in_it() {
    let Some(bench) = Bench::new() else { return };
    bench.file("lower/etc/name", "lower");
    let (upper, work) = (bench.dir("upper"), bench.dir("work"));
    let options = [
        format!("lowerdir={}", bench.text("lower")).replace('\\', "\\\\"),
        format!("upperdir={}", upper.display()).replace('\\', "\\\\"),
        format!("workdir={}", work.display()).replace('\\', "\\\\"),
    ];
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let mounts =
        [mount("overlay", "overlay", "", &options), mount("tmpfs", "tmpfs", "/etc", &["size=64k", "noexec"])];
    mount_all(&mounts, &bench.rootfs()).unwrap();
    assert_eq!(bench.mounts(), ["/rootfs", "/rootfs/etc"]);
    assert!(is_mounted(&bench.rootfs()).unwrap());
    assert!(!bench.path("rootfs/etc/name").exists());
    nix::mount::umount2(&bench.path("rootfs/etc"), MntFlags::MNT_DETACH).unwrap();
    assert_eq!(bench.read("rootfs/etc/name"), "lower");
    fs::write(bench.path("rootfs/etc/name"), "changed").unwrap();
    assert_eq!(bench.read("upper/etc/name"), "changed");
    bench.unmount();
}

#[test]
fn layers_longer_than_a_page() {
    let disk = disk();
    let base = disk.path().canonicalize().unwrap();
    let Some(bench) = Bench::new() else { return };
    let deep = base.join("snapshots").join("a-rather-long-name-of-a-directory".repeat(2));
    let layers: Vec<_> = (0..60).map(|n| deep.join(format!("{n}")).join("fs")).collect();
    for (n, layer) in layers.iter().enumerate() {
        fs::create_dir_all(layer).unwrap();
        fs::write(layer.join(format!("layer{n}")), "").unwrap();
    }
    let option =
        format!("lowerdir={}", layers.iter().map(|l| l.to_str().unwrap()).collect::<Vec<_>>().join(":"));
    assert!(option.len() > 4095);
    let before = std::env::current_dir().unwrap();
    mount_all(&[mount("overlay", "overlay", "", &[&option])], &bench.rootfs()).unwrap();
    assert_eq!(std::env::current_dir().unwrap(), before);
    assert_eq!(fs::read_dir(bench.rootfs()).unwrap().count(), layers.len());
    bench.unmount();
}

#[test]
fn a_read_only_bind_is_read_only_and_keeps_what_its_source_forbids() {
    let Some(bench) = Bench::new() else { return };
    let source = bench.dir("source");
    nix_mount("tmpfs", &source, "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV).unwrap();
    mount_all(&[mount("bind", &bench.text("source"), "", &["rbind", "ro"])], &bench.rootfs()).unwrap();
    let error = fs::write(bench.path("rootfs/x"), "").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    fs::write(bench.path("source/x"), "").unwrap();
    let flags = nix::sys::statvfs::statvfs(&bench.rootfs()).unwrap().flags();
    let expected = nix::sys::statvfs::FsFlags::ST_RDONLY
        | nix::sys::statvfs::FsFlags::ST_NOSUID
        | nix::sys::statvfs::FsFlags::ST_NODEV;
    assert!(flags.contains(expected), "{flags:?}");
    unmount_all(&bench.rootfs()).unwrap();
    unmount_all(&source).unwrap();
    bench.assert_clean();
}

#[test]
fn recursive_read_only_reaches_the_mounts_below() {
    let Some(bench) = Bench::new() else { return };
    let source = bench.dir("source/sub");
    nix_mount("tmpfs", &source, "tmpfs", MsFlags::empty()).unwrap();
    let made = mount_all(&[mount("bind", &bench.text("source"), "", &["rbind", "rro"])], &bench.rootfs());
    match made {
        Ok(()) => {
            let error = fs::write(bench.path("rootfs/sub/x"), "").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EROFS));
            fs::write(bench.path("source/sub/x"), "").unwrap();
        }
        Err(error) => drop(skipped::<()>("idmap", &error)),
    }
    unmount_all(&bench.rootfs()).unwrap();
    unmount_all(&source).unwrap();
    bench.assert_clean();
}

#[test]
fn unmounting_a_bind_of_a_shared_tree_leaves_the_hosts_mounts() {
    let Some(bench) = Bench::new() else { return };
    let host = bench.dir("host");
    nix_mount("tmpfs", &host, "tmpfs", MsFlags::empty()).unwrap();
    nix_mount("", &host, "", MsFlags::MS_SHARED).unwrap();
    let below = bench.dir("host/sub");
    nix_mount("tmpfs", &below, "tmpfs", MsFlags::empty()).unwrap();
    fs::write(below.join("kept"), "").unwrap();
    let deeper = bench.dir("host/sub/deeper");
    nix_mount("tmpfs", &deeper, "tmpfs", MsFlags::empty()).unwrap();
    // Twice, so that one bind hides the other. The second one is made a peer, of which unmounts would reach the host.
    mount_all(&[mount("bind", &bench.text("host"), "", &["rbind", "rw"])], &bench.rootfs()).unwrap();
    mount_all(&[mount("bind", &bench.text("host"), "", &["rbind", "rshared"])], &bench.rootfs()).unwrap();
    assert!(bench.path("rootfs/sub/kept").exists());
    let mut expected = ["/host", "/host/sub", "/host/sub/deeper"].map(str::to_owned).to_vec();
    assert_eq!(bench.mounts().len(), 3 * expected.len());
    unmount_all(&bench.rootfs()).unwrap();
    let mut left = bench.mounts();
    left.sort();
    expected.sort();
    assert_eq!(left, expected);
    assert!(bench.path("host/sub/kept").exists());
    unmount_all(&host).unwrap();
    bench.assert_clean();
}

#[test]
fn what_is_mounted_in_a_bind_does_not_show_up_at_its_source() {
    let Some(bench) = Bench::new() else { return };
    let host = bench.dir("host");
    nix_mount("tmpfs", &host, "tmpfs", MsFlags::empty()).unwrap();
    nix_mount("", &host, "", MsFlags::MS_SHARED).unwrap();
    bench.dir("host/snapshot/sub");
    let bind = mount("bind", &bench.text("host/snapshot"), "", &["rbind", "rw"]);
    mount_all(&[bind, mount("tmpfs", "tmpfs", "sub", &[])], &bench.rootfs()).unwrap();
    assert_eq!(bench.mounts(), ["/host", "/rootfs", "/rootfs/sub"]);
    unmount_all(&bench.rootfs()).unwrap();
    assert_eq!(bench.mounts(), ["/host"]);
    unmount_all(&host).unwrap();
    bench.assert_clean();
}

#[test]
fn propagation_is_as_it_was_asked_for() {
    let Some(bench) = Bench::new() else { return };
    let host = bench.dir("host");
    nix_mount("tmpfs", &host, "tmpfs", MsFlags::empty()).unwrap();
    nix_mount("", &host, "", MsFlags::MS_SHARED).unwrap();
    let (one, two) = (bench.dir("host/one"), bench.dir("host/two"));
    mount_all(&[mount("bind", &bench.text("host"), "", &["rbind", "rslave"])], &bench.rootfs()).unwrap();
    nix_mount("tmpfs", &one, "tmpfs", MsFlags::empty()).unwrap();
    nix_mount("tmpfs", &bench.path("rootfs/two"), "tmpfs", MsFlags::empty()).unwrap();
    let mounts = bench.mounts();
    assert!(
        mounts.contains(&"/rootfs/one".to_owned()) && !mounts.contains(&"/host/two".to_owned()),
        "{mounts:?}"
    );
    unmount_all(&bench.rootfs()).unwrap();
    assert!(is_mounted(&one).unwrap() && !is_mounted(&two).unwrap());
    unmount_all(&host).unwrap();
    bench.assert_clean();
}

#[test]
fn a_failure_takes_back_what_was_mounted() {
    let Some(bench) = Bench::new() else { return };
    fs::create_dir(bench.path("source")).unwrap();
    let good = [
        mount("tmpfs", "tmpfs", "", &["size=64k"]),
        mount("bind", &bench.text("source"), "", &["bind", "ro"]),
    ];
    let bad = [
        mount("no-such-fs", "x", "", &[]),
        mount("tmpfs", "tmpfs", "missing", &[]),
        mount("tmpfs", "tmpfs", "", &["no-such-option=1"]),
        mount("ext4", "/does/not/exist", "", &["loop"]),
        mount("fuse.x", "x", "", &[]),
        mount("tmpfs", "tmpfs", "..", &[]),
    ];
    for last in bad {
        let kind = last.kind.clone();
        let mounts = [good.to_vec(), vec![last]].concat();
        let error = mount_all(&mounts, &bench.rootfs()).unwrap_err();
        eprintln!("{kind}: {error}");
        bench.assert_clean();
    }
}

#[test]
fn a_symlink_does_not_lead_out_of_the_root_file_system() {
    let Some(bench) = Bench::new() else { return };
    let outside = bench.dir("outside");
    bench.dir("source/inside");
    symlink(&outside, bench.path("source/absolute")).unwrap();
    symlink("../outside", bench.path("source/relative")).unwrap();
    symlink("inside", bench.path("source/good")).unwrap();
    let bind = mount("bind", &bench.text("source"), "", &["bind"]);
    for link in ["absolute", "relative"] {
        let mounts = [bind.clone(), mount("tmpfs", "tmpfs", link, &[])];
        assert!(matches!(mount_all(&mounts, &bench.rootfs()), Err(MountError::Mount { .. })), "{link}");
        bench.assert_clean();
    }
    mount_all(&[bind, mount("tmpfs", "tmpfs", "good", &[])], &bench.rootfs()).unwrap();
    assert_eq!(bench.mounts(), ["/rootfs", "/rootfs/inside"]);
    bench.unmount();

    symlink(&outside, bench.path("link")).unwrap();
    let error = mount_all(&[mount("tmpfs", "tmpfs", "", &[])], &bench.path("link")).unwrap_err().to_string();
    assert!(error.contains("symlink"), "{error}");
}

#[test]
fn a_symlink_of_a_container_does_not_lead_an_unmount_to_the_host() {
    let Some(bench) = Bench::new() else { return };
    // A mount at rootfs/a/b, hidden by an older one whose `a` is a symlink to the host's directory, where `b` is
    // mounted too.
    let host = bench.dir("host/b");
    nix_mount("tmpfs", &host, "tmpfs", MsFlags::empty()).unwrap();
    let hidden = fs::File::open(bench.dir("rootfs/a/b")).unwrap();
    bench.dir("evil");
    symlink(bench.path("host"), bench.path("evil/a")).unwrap();
    nix_mount(&bench.text("evil"), &bench.rootfs(), "", MsFlags::MS_BIND).unwrap();
    let link = PathBuf::from(format!("/proc/self/fd/{}", hidden.as_raw_fd()));
    nix_mount("tmpfs", &link, "tmpfs", MsFlags::empty()).unwrap();
    assert_eq!(bench.mounts(), ["/host/b", "/rootfs", "/rootfs/a/b"]);
    drop(hidden);
    unmount_all(&bench.rootfs()).unwrap();
    assert_eq!(bench.mounts(), ["/host/b"]);
    unmount_all(&host).unwrap();
    fs::remove_dir_all(bench.path("rootfs/a")).unwrap();
    bench.assert_clean();
}

#[test]
fn unmounting_takes_stacks_busy_mounts_and_odd_names() {
    let Some(bench) = Bench::new() else { return };
    let odd = "rootfs/a b\tc\\d\ne";
    for _ in 0..5 {
        nix_mount("tmpfs", &bench.rootfs(), "tmpfs", MsFlags::empty()).unwrap();
        nix_mount("tmpfs", &bench.dir(odd), "tmpfs", MsFlags::empty()).unwrap();
    }
    assert!(is_mounted(&bench.path(odd)).unwrap());
    let busy = fs::File::create(bench.path(odd).join("busy")).unwrap();
    bench.unmount();
    drop(busy);
    // Nothing mounted, nothing there, and a symlink.
    bench.unmount();
    unmount_all(&bench.path("missing")).unwrap();
    unmount_all(&bench.path("missing/rootfs")).unwrap();
    let other = bench.dir("other");
    nix_mount("tmpfs", &other, "tmpfs", MsFlags::empty()).unwrap();
    symlink(&other, bench.path("link")).unwrap();
    unmount_all(&bench.path("link")).unwrap();
    assert!(is_mounted(&other).unwrap());
    unmount_all(&other).unwrap();
}

#[test]
fn a_file_by_a_loop_device() {
    let Some(bench) = Bench::new() else { return };
    let disk = disk();
    let image = disk.path().join("image");
    fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
    match LoopDevice::attach(&image, true, false) {
        Ok(device) => drop(device),
        Err(error) => return skipped("loop", &error).unwrap_or_default(),
    }
    match Command::new("mkfs.ext4").arg("-q").arg(&image).status() {
        Ok(status) if status.success() => {}
        failed => return skipped("loop", &format!("mkfs.ext4: {failed:?}")).unwrap_or_default(),
    }
    let source = image.to_str().unwrap();
    for (options, writable) in
        [(&["loop"][..], true), (&["loop", "ro"], false), (&["loop", "direct-io"], true)]
    {
        mount_all(&[mount("ext4", source, "", options)], &bench.rootfs()).unwrap();
        assert!(bench.path("rootfs/lost+found").exists());
        assert_eq!(fs::write(bench.path("rootfs/x"), "").is_ok(), writable, "{options:?}");
        bench.unmount();
        let released = (0..200).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            backing_files().iter().all(|backing| *backing != image)
        });
        assert!(released, "the loop device is still attached");
    }
}

fn backing_files() -> Vec<PathBuf> {
    let devices = fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap().path());
    devices
        .filter_map(|device| fs::read_to_string(device.join("loop/backing_file")).ok())
        .map(|path| PathBuf::from(path.trim_end()))
        .collect()
}

#[test]
fn a_bind_with_mapped_owners() {
    let disk = disk();
    let base = disk.path().canonicalize().unwrap();
    if can_map(&base).is_none() {
        return;
    }
    let Some(bench) = Bench::new() else { return };
    fs::write(base.join("file"), "").unwrap();
    let options = [&MAPPED[..], &["rbind", "ro"]].concat();
    mount_all(&[mount("bind", base.to_str().unwrap(), "", &options)], &bench.rootfs()).unwrap();
    let found = fs::metadata(bench.path("rootfs/file")).unwrap();
    assert_eq!((found.uid(), found.gid()), (100_000, 100_000));
    assert_eq!(fs::write(bench.path("rootfs/x"), "").unwrap_err().raw_os_error(), Some(libc::EROFS));
    assert_eq!(bench.mounts(), ["/rootfs"], "the plain mount is not below the mapped one");
    bench.unmount();
    assert_eq!(fs::metadata(base.join("file")).unwrap().uid(), 0);
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    let Some(bench) = Bench::new() else { return };
    // No kernel maps the owners of proc.
    let error = mount_all(&[mount("proc", "proc", "", &MAPPED)], &bench.rootfs()).unwrap_err().to_string();
    assert!(error.contains("map") && error.contains("rootfs"), "{error}");
    bench.assert_clean();
}

#[test]
fn an_overlay_with_mapped_layers() {
    let disk = disk();
    let base = disk.path().canonicalize().unwrap();
    if can_map(&base).is_none() {
        return;
    }
    let Some(bench) = Bench::new() else { return };
    let mut layers = Vec::new();
    for n in 0..3 {
        let layer = base.join(format!("{n}/fs"));
        fs::create_dir_all(&layer).unwrap();
        fs::write(layer.join(format!("file{n}")), "").unwrap();
        layers.push(layer.to_str().unwrap().to_owned());
    }
    let (upper, work) = (base.join("upper"), base.join("work"));
    fs::create_dir(&upper).unwrap();
    fs::create_dir(&work).unwrap();
    std::os::unix::fs::chown(&upper, Some(100_000), Some(100_000)).unwrap();
    let options = [
        format!("lowerdir={}", layers.join(":")),
        format!("upperdir={}", upper.display()),
        format!("workdir={}", work.display()),
    ];
    let mut options: Vec<_> = options.iter().map(String::as_str).collect();
    options.extend(MAPPED);
    match mount_all(&[mount("overlay", "overlay", "", &options)], &bench.rootfs()) {
        Ok(()) => {}
        // Overlay takes mapped layers since Linux 5.19.
        Err(error @ MountError::Mount { .. }) => {
            bench.assert_clean();
            return skipped("idmap", &error).unwrap_or_default();
        }
        Err(error) => panic!("{error}"),
    }
    for n in 0..3 {
        let found = fs::metadata(bench.path(&format!("rootfs/file{n}"))).unwrap();
        assert_eq!((found.uid(), found.gid()), (100_000, 100_000), "layer {n}");
    }
    fs::write(bench.path("rootfs/new"), "").unwrap();
    assert!(upper.join("new").exists());
    assert_eq!(bench.mounts(), ["/rootfs"], "no layer is left mounted");
    bench.unmount();
}

#[derive(Default)]
struct Orphans(AtomicUsize);

impl Telemetry for Orphans {
    fn runtime_command(&self, _: Option<&Tenant>, _: &'static str, _: Duration, _: bool) {}
    fn queued(&self, _: Class, _: Duration) {}
    fn limited(&self, _: Quota) {}
    fn copied(&self, _: Stream, _: u64) {}
    fn dropped(&self, _: Stream, _: u64) {}
    fn orphan_reaped(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn zombies(&self, _: usize, _: Duration) {}
    fn oom_kills(&self, _: &Tenant, _: u64) {}
    fn cgroup_left(&self) {}
}

/// The reaper of this process sweeps all the while; so it is in a process of its own, which this starts.
#[test]
fn the_reaper_does_not_see_the_namespaces_first_process() {
    const CHILD: &str = "GAM_MOUNTS_REAPER";
    if std::env::var_os(CHILD).is_none() {
        let name = "the_reaper_does_not_see_the_namespaces_first_process";
        let mut again = Command::new(std::env::current_exe().unwrap());
        assert!(again.args(["--exact", name, "--nocapture"]).env(CHILD, "1").status().unwrap().success());
        return;
    }
    if let Err(error) = user_namespace::create(&[RANGE], &[RANGE]) {
        return skipped("idmap", &error).unwrap_or_default();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let orphans = Arc::new(Orphans::default());
        let reaper = Reaper::new(orphans.clone()).unwrap();
        let makers: Vec<_> = (0..4)
            .map(|_| {
                tokio::task::spawn_blocking(|| {
                    for _ in 0..25 {
                        user_namespace::create(&[RANGE], &[RANGE]).unwrap();
                    }
                })
            })
            .collect();
        // Sweeps are caused by other children.
        for _ in 0..25 {
            let child = reaper.spawn(gam_task::process::Command::new("/bin/true")).unwrap();
            drop(child);
        }
        for maker in makers {
            maker.await.unwrap();
        }
        for _ in 0..500 {
            if proc::children().unwrap().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(proc::children().unwrap(), [0; 0]);
        assert!(orphans.0.load(Ordering::SeqCst) <= 25);
    });
}
