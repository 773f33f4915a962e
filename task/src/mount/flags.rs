//! Mount options: words for flags and their inverses, propagation, containerd's own, and the file system's data.

use rustix::mount::{MountFlags, MountPropagationFlags};

use super::{Mount, MountError};

/// The options of one mount, understood.
#[derive(Debug)]
pub(super) struct Options {
    flags: MountFlags,
    bind: bool,
    recursive: bool,
    remount: bool,
    pub(super) propagation: Option<MountPropagationFlags>,
    /// Whether everything below is read-only too.
    pub(super) recursive_read_only: bool,
    /// Whether the source is a file to be attached to a loop device.
    pub(super) on_loop: bool,
    pub(super) data: Vec<String>,
}

/// The flag that a word sets, or clears.
fn flag(word: &str) -> Option<(MountFlags, bool)> {
    Some(match word {
        "async" => (MountFlags::SYNCHRONOUS, false),
        "atime" => (MountFlags::NOATIME, false),
        "dev" => (MountFlags::NODEV, false),
        "diratime" => (MountFlags::NODIRATIME, false),
        "dirsync" => (MountFlags::DIRSYNC, true),
        "exec" => (MountFlags::NOEXEC, false),
        "lazytime" => (MountFlags::LAZYTIME, true),
        "nolazytime" => (MountFlags::LAZYTIME, false),
        "mand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, true),
        "noatime" => (MountFlags::NOATIME, true),
        "nodev" => (MountFlags::NODEV, true),
        "nodiratime" => (MountFlags::NODIRATIME, true),
        "noexec" => (MountFlags::NOEXEC, true),
        "nomand" => (MountFlags::PERMIT_MANDATORY_FILE_LOCKING, false),
        "norelatime" => (MountFlags::RELATIME, false),
        "nostrictatime" => (MountFlags::STRICTATIME, false),
        "nosuid" => (MountFlags::NOSUID, true),
        "relatime" => (MountFlags::RELATIME, true),
        "ro" => (MountFlags::RDONLY, true),
        "rw" => (MountFlags::RDONLY, false),
        "strictatime" => (MountFlags::STRICTATIME, true),
        "suid" => (MountFlags::NOSUID, false),
        "sync" => (MountFlags::SYNCHRONOUS, true),
        _ => return None,
    })
}

fn propagation(word: &str) -> Option<MountPropagationFlags> {
    use MountPropagationFlags as Flags;
    Some(match word {
        "private" => Flags::PRIVATE,
        "rprivate" => Flags::PRIVATE | Flags::REC,
        "shared" => Flags::SHARED,
        "rshared" => Flags::SHARED | Flags::REC,
        "slave" => Flags::DOWNSTREAM,
        "rslave" => Flags::DOWNSTREAM | Flags::REC,
        "unbindable" => Flags::UNBINDABLE,
        "runbindable" => Flags::UNBINDABLE | Flags::REC,
        _ => return None,
    })
}

impl Options {
    pub(super) fn parse(mount: &Mount) -> Result<Self, MountError> {
        let mut options = Self {
            flags: MountFlags::empty(),
            bind: mount.kind == "bind",
            recursive: mount.kind == "rbind",
            remount: false,
            propagation: None,
            recursive_read_only: false,
            on_loop: false,
            data: Vec::new(),
        };
        for word in &mount.options {
            options.take(word)?;
        }
        options.bind |= options.recursive;
        Ok(options)
    }

    fn take(&mut self, word: &str) -> Result<(), MountError> {
        if word.contains('\0') {
            return Err(MountError::Option(word.replace('\0', "\\0")));
        }
        if let Some((flag, set)) = flag(word) {
            self.flags.set(flag, set);
        } else if let Some(propagation) = propagation(word) {
            self.propagation = Some(propagation);
        } else {
            match word {
                "" | "defaults" => {}
                "bind" => self.bind = true,
                "rbind" => (self.bind, self.recursive) = (true, true),
                "remount" => self.remount = true,
                "rro" => (self.recursive_read_only, self.flags) = (true, self.flags | MountFlags::RDONLY),
                "loop" => self.on_loop = true,
                // These are containerd's, and mean something that would silently not be done (J3).
                _ if word.starts_with("X-containerd.") => return Err(MountError::Option(word.to_owned())),
                _ if word.starts_with("uidmap=") || word.starts_with("gidmap=") => {
                    return Err(MountError::Option(word.to_owned()));
                }
                _ => self.data.push(word.to_owned()),
            }
        }
        Ok(())
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.flags.contains(MountFlags::RDONLY)
    }

    /// The flags of the first call.
    pub(super) fn first_flags(&self) -> MountFlags {
        let mut flags = self.flags;
        if self.bind {
            // The kernel ignores all others here; see `remount_flags`.
            flags = MountFlags::BIND;
            flags.set(MountFlags::REC, self.recursive);
        }
        if self.remount {
            flags = self.flags | MountFlags::from_bits_retain(libc_remount());
            flags.set(MountFlags::BIND, self.bind);
        }
        flags
    }

    /// The flags that a bind gets by a call of its own; none if it needs no other.
    pub(super) fn remount_flags(&self) -> Option<MountFlags> {
        (self.bind && !self.remount && !self.flags.is_empty()).then_some(self.flags)
    }
}

/// `MS_REMOUNT`, for which rustix has a call of its own that takes no source and type.
fn libc_remount() -> u32 {
    u32::try_from(libc::MS_REMOUNT).unwrap_or_default()
}
