use std::cell::RefCell;
use std::io;

use rustix::mount::MountFlags;

use super::kernel::Source;
use super::*;

/// Records what is asked of it, and fails at one call.
#[derive(Default)]
struct Recorder {
    calls: RefCell<Vec<String>>,
    mounted: RefCell<Vec<PathBuf>>,
    fail_at: Option<usize>,
}

impl Recorder {
    fn record(&self, call: String) -> io::Result<()> {
        self.calls.borrow_mut().push(call);
        if Some(self.calls.borrow().len()) == self.fail_at {
            Err(io::ErrorKind::PermissionDenied.into())
        } else {
            Ok(())
        }
    }
}

impl Kernel for Recorder {
    fn mount(
        &self,
        source: &Source,
        target: &Path,
        kind: &str,
        flags: MountFlags,
        data: &str,
        directory: Option<&Path>,
    ) -> io::Result<()> {
        let from = source.path().display();
        self.record(format!("mount {from} {} {kind} {flags:?} {data:.40} {directory:?}", target.display()))?;
        self.mounted.borrow_mut().push(target.to_path_buf());
        Ok(())
    }

    fn remount(&self, target: &Path, flags: MountFlags, recursive: bool) -> io::Result<()> {
        self.record(format!("remount {} {flags:?} {recursive}", target.display()))
    }

    fn propagate(&self, target: &Path, flags: MountPropagationFlags) -> io::Result<()> {
        self.record(format!("propagate {} {flags:?}", target.display()))
    }

    fn unmount(&self, target: &Path) -> io::Result<()> {
        self.calls.borrow_mut().push(format!("unmount {}", target.display()));
        self.mounted.borrow_mut().retain(|place| place != target);
        Ok(())
    }

    fn mounted(&self) -> io::Result<Vec<PathBuf>> {
        Ok(self.mounted.borrow().clone())
    }

    fn attach_loop(&self, file: &Path, read_only: bool) -> io::Result<Source> {
        self.record(format!("loop {} {read_only}", file.display()))?;
        Ok(Source::Path("/dev/loop7".into()))
    }
}

fn mount(kind: &str, target: &str, options: &[&str]) -> Mount {
    Mount {
        kind: kind.into(),
        source: "/s".into(),
        target: target.into(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}

fn calls(mounts: &[Mount]) -> Vec<String> {
    let kernel = Recorder::default();
    mount_all_with(&kernel, mounts, Path::new("/r")).unwrap();
    kernel.calls.take()
}

#[test]
fn a_read_only_bind_is_a_bind_and_a_remount_and_propagation_comes_last() {
    let made = calls(&[mount("bind", "", &["rbind", "ro", "nosuid", "rslave"])]);
    assert_eq!(
        made,
        [
            "mount /s /r bind MountFlags(BIND | REC)  None",
            "remount /r MountFlags(NOSUID | RDONLY) false",
            "propagate /r MountPropagationFlags(DOWNSTREAM | REC)",
        ]
    );
    assert_eq!(calls(&[mount("bind", "", &["bind", "rw"])]).len(), 1);
    assert!(calls(&[mount("bind", "", &["bind", "rro"])])[1].ends_with("true"));
}

#[test]
fn words_set_and_clear_flags_and_the_rest_is_data() {
    let made = calls(&[mount("tmpfs", "x", &["ro", "rw", "noexec", "size=1m", "defaults", "mode=700"])]);
    assert_eq!(made, ["mount /s /r/x tmpfs MountFlags(NOEXEC) size=1m,mode=700 None"]);
    let made = calls(&[mount("ext4", "", &["loop", "ro"])]);
    assert_eq!(made[0], "loop /s true");
    assert!(made[1].starts_with("mount /dev/loop7 /r ext4"));
}

#[test]
fn what_is_not_served_is_refused_by_name_before_it_is_mounted() {
    for option in ["X-containerd.mkfs=1", "uidmap=0:1:2", "gidmap=0:1:2"] {
        let kernel = Recorder::default();
        let error = mount_all_with(&kernel, &[mount("bind", "", &[option])], Path::new("/r")).unwrap_err();
        assert!(error.is_invalid() && error.to_string().contains(option), "{error}");
        assert!(kernel.calls.take().is_empty());
    }
    let kernel = Recorder::default();
    for kind in ["fuse.sshfs", "fuse3.x", "mount.x"] {
        assert!(mount_all_with(&kernel, &[mount(kind, "", &[])], Path::new("/r")).unwrap_err().is_invalid());
    }
    let long = mount("tmpfs", "", &[&"x".repeat(5000)]);
    assert!(matches!(mount_all_with(&kernel, &[long], Path::new("/r")), Err(MountError::TooLong { .. })));
    for target in ["..", "a/../../b"] {
        assert!(matches!(
            mount_all_with(&kernel, &[mount("tmpfs", target, &[])], Path::new("/r")),
            Err(MountError::Target(_))
        ));
    }
}

#[test]
fn d11_failing_at_any_call_leaves_nothing_mounted() {
    let mounts = [
        mount("overlay", "", &["lowerdir=/a"]),
        mount("bind", "b", &["rbind", "ro", "rprivate"]),
        mount("tmpfs", "c", &[]),
    ];
    for fail_at in 1..=5 {
        let kernel = Recorder { fail_at: Some(fail_at), ..Recorder::default() };
        assert!(mount_all_with(&kernel, &mounts, Path::new("/r")).is_err(), "{fail_at}");
        assert!(kernel.mounted.borrow().is_empty(), "{fail_at}: {:?}", kernel.calls);
    }
}
