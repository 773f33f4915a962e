//! Mount options: words of fstab(5) and of containerd, as what mount(2) is given.

use nix::mount::MsFlags;

use super::MountError;
use crate::sys::user_namespace::IdRange;

/// What mount(2) can take as data: a page of which the last byte is a NUL.
pub(super) const DATA_LIMIT: usize = 4095;

/// Options that are kept per mount, so that a bind needs a second call for them: the kernel reads none of them when it
/// makes a bind.
const PER_MOUNT: MsFlags = MsFlags::MS_RDONLY
    .union(MsFlags::MS_NOSUID)
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC)
    .union(MsFlags::MS_NOATIME)
    .union(MsFlags::MS_NODIRATIME)
    .union(MsFlags::MS_RELATIME)
    .union(MsFlags::MS_STRICTATIME);

/// The options of one mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Flags of the mount call, without propagation.
    pub(super) flags: MsFlags,
    /// Propagation types, each for a call of its own, in their order.
    pub(super) propagation: Vec<MsFlags>,
    /// Whether every mount below becomes read-only too.
    pub(super) recursive_readonly: bool,
    /// Whether the source is a file that needs a loop device.
    pub(super) looped: bool,
    /// Whether the loop device goes round the page cache.
    pub(super) direct_io: bool,
    /// How owners are mapped.
    pub(super) idmap: Option<IdMap>,
    /// What the file system itself reads.
    pub(super) data: Vec<String>,
}

/// How the owners of files are mapped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IdMap {
    /// The users.
    pub(super) uids: Vec<IdRange>,
    /// The groups.
    pub(super) gids: Vec<IdRange>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            flags: MsFlags::empty(),
            propagation: Vec::new(),
            recursive_readonly: false,
            looped: false,
            direct_io: false,
            idmap: None,
            data: Vec::new(),
        }
    }
}

impl Options {
    /// Reads the options of a mount of type `kind`. Of words that contradict each other the last one holds.
    pub(super) fn parse(kind: &str, words: &[String]) -> Result<Self, MountError> {
        let mut options = Self::default();
        match kind {
            "bind" => options.flags.insert(MsFlags::MS_BIND),
            "rbind" => options.flags.insert(MsFlags::MS_BIND | MsFlags::MS_REC),
            _ => {}
        }
        let (mut uids, mut gids) = (None, None);
        for word in words {
            if let Some(flag) = flag(word) {
                match flag {
                    Flag::Set(flags) => options.flags.insert(flags),
                    Flag::Clear(flags) => options.flags.remove(flags),
                    Flag::Propagate(flags) => options.propagation.push(flags),
                }
            } else if let Some(map) = word.strip_prefix("uidmap=") {
                uids =
                    Some(ranges(map).ok_or_else(|| refused(word, "is not a list of INSIDE:OUTSIDE:COUNT"))?);
            } else if let Some(map) = word.strip_prefix("gidmap=") {
                gids =
                    Some(ranges(map).ok_or_else(|| refused(word, "is not a list of INSIDE:OUTSIDE:COUNT"))?);
            } else if word.starts_with("X-containerd.") {
                return Err(refused(word, "is for containerd's mount manager, which has not handled it"));
            } else {
                match word.as_str() {
                    "" | "defaults" => {}
                    "rro" => options.recursive_readonly = true,
                    "loop" => options.looped = true,
                    _ => options.data.push(word.clone()),
                }
            }
        }
        if options.looped {
            let before = options.data.len();
            options.data.retain(|word| word != "direct-io");
            options.direct_io = options.data.len() < before;
        }
        options.idmap = match (uids, gids) {
            (None, None) => None,
            (Some(uids), Some(gids)) => Some(IdMap { uids, gids }),
            (Some(_), None) => return Err(refused("uidmap", "needs a gidmap beside it")),
            (None, Some(_)) => return Err(refused("gidmap", "needs a uidmap beside it")),
        };
        if options.flags.contains(MsFlags::MS_REMOUNT) {
            if options.idmap.is_some() {
                return Err(refused("uidmap", "cannot be given to a remount"));
            }
            if options.looped {
                return Err(refused("loop", "cannot be given to a remount"));
            }
        }
        Ok(options)
    }

    /// Whether it is a bind of something that is in the tree of files already.
    pub(super) fn is_bind(&self) -> bool {
        self.flags.contains(MsFlags::MS_BIND)
    }

    /// What a second call has to set on a bind.
    pub(super) fn per_mount(&self) -> MsFlags {
        self.flags & PER_MOUNT
    }
}

enum Flag {
    Set(MsFlags),
    Clear(MsFlags),
    Propagate(MsFlags),
}

/// mount(8)'s words for flags.
fn flag(word: &str) -> Option<Flag> {
    use Flag::{Clear, Propagate, Set};
    Some(match word {
        "async" => Clear(MsFlags::MS_SYNCHRONOUS),
        "atime" => Clear(MsFlags::MS_NOATIME),
        "bind" => Set(MsFlags::MS_BIND),
        "dev" => Clear(MsFlags::MS_NODEV),
        "diratime" => Clear(MsFlags::MS_NODIRATIME),
        "dirsync" => Set(MsFlags::MS_DIRSYNC),
        "exec" => Clear(MsFlags::MS_NOEXEC),
        "lazytime" => Set(MsFlags::MS_LAZYTIME),
        "mand" => Set(MsFlags::MS_MANDLOCK),
        "noatime" => Set(MsFlags::MS_NOATIME),
        "nodev" => Set(MsFlags::MS_NODEV),
        "nodiratime" => Set(MsFlags::MS_NODIRATIME),
        "noexec" => Set(MsFlags::MS_NOEXEC),
        "nolazytime" => Clear(MsFlags::MS_LAZYTIME),
        "nomand" => Clear(MsFlags::MS_MANDLOCK),
        "norelatime" => Clear(MsFlags::MS_RELATIME),
        "nostrictatime" => Clear(MsFlags::MS_STRICTATIME),
        "nosuid" => Set(MsFlags::MS_NOSUID),
        "rbind" => Set(MsFlags::MS_BIND | MsFlags::MS_REC),
        "relatime" => Set(MsFlags::MS_RELATIME),
        "remount" => Set(MsFlags::MS_REMOUNT),
        "ro" => Set(MsFlags::MS_RDONLY),
        "rw" => Clear(MsFlags::MS_RDONLY),
        "silent" => Set(MsFlags::MS_SILENT),
        "strictatime" => Set(MsFlags::MS_STRICTATIME),
        "suid" => Clear(MsFlags::MS_NOSUID),
        "sync" => Set(MsFlags::MS_SYNCHRONOUS),
        "private" => Propagate(MsFlags::MS_PRIVATE),
        "rprivate" => Propagate(MsFlags::MS_PRIVATE | MsFlags::MS_REC),
        "shared" => Propagate(MsFlags::MS_SHARED),
        "rshared" => Propagate(MsFlags::MS_SHARED | MsFlags::MS_REC),
        "slave" => Propagate(MsFlags::MS_SLAVE),
        "rslave" => Propagate(MsFlags::MS_SLAVE | MsFlags::MS_REC),
        "unbindable" => Propagate(MsFlags::MS_UNBINDABLE),
        "runbindable" => Propagate(MsFlags::MS_UNBINDABLE | MsFlags::MS_REC),
        _ => return None,
    })
}

/// `0:100000:65536`, or several of them with commas between.
fn ranges(map: &str) -> Option<Vec<IdRange>> {
    map.split(',').map(range).collect()
}

fn range(text: &str) -> Option<IdRange> {
    let mut numbers = text.split(':').map(|number| number.parse::<u32>().ok());
    let range = IdRange { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? };
    (numbers.next().is_none() && range.count > 0).then_some(range)
}

/// The refusal of an option, by its key: what it is set to may be a secret (J10).
fn refused(word: &str, reason: &'static str) -> MountError {
    let option = word.split_inclusive('=').next().unwrap_or_default().to_owned();
    MountError::Option { option, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, MountError> {
        Options::parse("ext4", &words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn each_flag_word_has_an_inverse_and_the_last_one_holds() {
        let pairs = [
            ("ro", "rw", MsFlags::MS_RDONLY),
            ("nosuid", "suid", MsFlags::MS_NOSUID),
            ("nodev", "dev", MsFlags::MS_NODEV),
            ("noexec", "exec", MsFlags::MS_NOEXEC),
            ("sync", "async", MsFlags::MS_SYNCHRONOUS),
            ("mand", "nomand", MsFlags::MS_MANDLOCK),
            ("noatime", "atime", MsFlags::MS_NOATIME),
            ("nodiratime", "diratime", MsFlags::MS_NODIRATIME),
            ("relatime", "norelatime", MsFlags::MS_RELATIME),
            ("strictatime", "nostrictatime", MsFlags::MS_STRICTATIME),
            ("lazytime", "nolazytime", MsFlags::MS_LAZYTIME),
        ];
        for (set, clear, flags) in pairs {
            assert_eq!(parse(&[set]).unwrap().flags, flags, "{set}");
            assert_eq!(parse(&[set, clear]).unwrap(), Options::default(), "{set},{clear}");
            assert_eq!(parse(&[clear, set]).unwrap().flags, flags, "{clear},{set}");
        }
        assert_eq!(parse(&["dirsync", "remount"]).unwrap().flags, MsFlags::MS_DIRSYNC | MsFlags::MS_REMOUNT);
        assert_eq!(parse(&["rbind"]).unwrap().flags, MsFlags::MS_BIND | MsFlags::MS_REC);
        assert_eq!(parse(&["defaults", ""]).unwrap(), Options::default());
    }

    #[test]
    fn a_type_that_means_bind_is_one() {
        assert_eq!(Options::parse("bind", &[]).unwrap().flags, MsFlags::MS_BIND);
        assert_eq!(Options::parse("rbind", &[]).unwrap().flags, MsFlags::MS_BIND | MsFlags::MS_REC);
    }

    #[test]
    fn propagation_is_kept_apart_and_in_order() {
        let options = parse(&["rbind", "rslave", "shared"]).unwrap();
        assert_eq!(options.flags, MsFlags::MS_BIND | MsFlags::MS_REC);
        assert_eq!(options.propagation, [MsFlags::MS_SLAVE | MsFlags::MS_REC, MsFlags::MS_SHARED]);
    }

    #[test]
    fn what_is_unknown_is_the_file_systems() {
        let options = parse(&["lowerdir=/a:/b", "ro", "index=off", "direct-io"]).unwrap();
        assert_eq!(options.data, ["lowerdir=/a:/b", "index=off", "direct-io"]);
        let looped = parse(&["loop", "direct-io", "discard"]).unwrap();
        assert!(looped.looped && looped.direct_io);
        assert_eq!(looped.data, ["discard"]);
    }

    #[test]
    fn id_maps_come_in_pairs_of_lists() {
        let range = |inside, outside, count| IdRange { inside, outside, count };
        let options = parse(&["uidmap=0:100000:65536", "gidmap=0:200000:10,10:7:1"]).unwrap();
        let map = options.idmap.unwrap();
        assert_eq!(map.uids, [range(0, 100_000, 65_536)]);
        assert_eq!(map.gids, [range(0, 200_000, 10), range(10, 7, 1)]);
        for wrong in ["", "0:1", "0:1:2:3", "0:1:-2", "a:b:c", "0:1:0", "0:1:2,", "0:1:4294967296"] {
            let error = parse(&[&format!("uidmap={wrong}"), "gidmap=0:1:1"]).unwrap_err().to_string();
            assert!(error.contains("uidmap="), "{error}");
        }
        assert!(parse(&["uidmap=0:1:1"]).unwrap_err().to_string().contains("gidmap"));
        assert!(parse(&["gidmap=0:1:1"]).unwrap_err().to_string().contains("uidmap"));
        assert!(parse(&["remount", "uidmap=0:1:1", "gidmap=0:1:1"]).is_err());
        assert!(parse(&["remount", "loop"]).is_err());
    }

    #[test]
    fn what_only_containerds_mount_manager_can_do_is_refused() {
        let error = parse(&["X-containerd.mkfs.size=1G"]).unwrap_err().to_string();
        assert!(error.contains("`X-containerd.mkfs.size=`") && error.contains("mount manager"), "{error}");
    }
}
