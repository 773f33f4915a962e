//! Mounting: which calls a mount takes, and in which order.

use std::io;
use std::path::{Component, Path, PathBuf};

use nix::mount::MsFlags;

use super::kernel::{Call, Kernel, Place};
use super::options::{DATA_LIMIT, IdMap, Options};
use super::{Mount, MountError, layers};

const IDMAP: &str = "map the owners of the files (which takes Linux 5.12, and a file system that can) in";

/// Makes all `mounts` or none.
pub(super) fn all<K: Kernel>(kernel: &K, mounts: &[Mount], target: &Path) -> Result<(), MountError> {
    let mut made = Vec::new();
    for mount in mounts {
        if let Err(error) = one(kernel, mount, target, &mut made) {
            take_back(kernel, &made);
            return Err(error);
        }
    }
    Ok(())
}

/// Unmounts what was mounted at these places, the last first.
fn take_back<K: Kernel>(kernel: &K, made: &[Place]) {
    for place in made.iter().rev() {
        if let Err(error) = kernel.detach(place) {
            tracing::warn!(%place, %error, "a mount stays after another one failed");
        }
    }
}

/// Makes one mount. A place is in `made` while something of ours is mounted there, also when this fails.
fn one<K: Kernel>(kernel: &K, mount: &Mount, root: &Path, made: &mut Vec<Place>) -> Result<(), MountError> {
    check_kind(&mount.kind)?;
    let place = Place { root: root.to_path_buf(), below: below(&mount.target)? };
    let options = Options::parse(&mount.kind, &mount.options)?;
    let request = Request { kernel, mount, options: &options, place: &place };
    match &options.idmap {
        Some(map) if mount.kind == "overlay" => request.mount_on_mapped_layers(map, made)?,
        Some(map) => {
            let namespace = request.namespace(map)?;
            request.mount(made)?;
            request.restrict_bind()?;
            request.replace_by_mapped(&namespace, made)?;
        }
        None => {
            request.mount(made)?;
            request.restrict_bind()?;
        }
    }
    if options.recursive_readonly {
        let step = "make everything read-only (which takes Linux 5.12) in";
        kernel.set_readonly(&place).map_err(failed(step, &place.path()))?;
    }
    for flags in request.propagation() {
        let call = Call::change(flags);
        kernel.mount(&place, &call).map_err(failed("set the propagation of", &place.path()))?;
    }
    Ok(())
}

/// Refuses types for which containerd would run a program, or its mount manager.
fn check_kind(kind: &str) -> Result<(), MountError> {
    let reason = if ["fuse.", "fuse3.", "mount."].iter().any(|prefix| kind.starts_with(prefix)) {
        "it takes a mount helper program, and none is run here"
    } else if ["mkfs/", "format/", "mkdir/"].iter().any(|prefix| kind.starts_with(prefix)) {
        "it is for containerd's mount manager, which has not handled it"
    } else if kind.is_empty() {
        "it is empty"
    } else {
        return Ok(());
    };
    Err(MountError::Kind { kind: kind.to_owned(), reason })
}

/// A mount's target as a path below the root file system. One that begins with a slash is meant so too.
fn below(target: &str) -> Result<PathBuf, MountError> {
    let mut below = PathBuf::new();
    for component in Path::new(target).components() {
        match component {
            Component::Normal(name) => below.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                let reason = "`..` may lead out of the root file system";
                return Err(MountError::Target { target: PathBuf::from(target), reason });
            }
        }
    }
    Ok(below)
}

/// One mount that is being made.
struct Request<'a, K> {
    kernel: &'a K,
    mount: &'a Mount,
    options: &'a Options,
    place: &'a Place,
}

impl<K: Kernel> Request<'_, K> {
    /// The plain mount, or remount.
    fn mount(&self, made: &mut Vec<Place>) -> Result<(), MountError> {
        let mut data = self.options.data.clone();
        let cwd = if self.mount.kind == "overlay" && joined_length(&data) > DATA_LIMIT {
            layers::shorten(&mut data)
        } else {
            None
        };
        self.mount_with(cwd.as_deref(), &data, made)
    }

    fn mount_with(
        &self,
        cwd: Option<&Path>,
        data: &[String],
        made: &mut Vec<Place>,
    ) -> Result<(), MountError> {
        let data = data.join(",");
        if data.len() > DATA_LIMIT {
            return Err(MountError::TooLong {
                kind: self.mount.kind.clone(),
                target: self.place.path(),
                length: data.len(),
                limit: DATA_LIMIT,
            });
        }
        let file = Path::new(&self.mount.source);
        let device = if self.options.looped {
            let readonly = self.options.flags.contains(MsFlags::MS_RDONLY);
            let attached = self.kernel.attach_loop(file, readonly, self.options.direct_io);
            Some(attached.map_err(failed("attach to a loop device the file", file))?)
        } else {
            None
        };
        let remount = self.options.flags.contains(MsFlags::MS_REMOUNT);
        let flags = if self.options.is_bind() && !remount {
            self.options.flags - self.options.per_mount()
        } else if self.options.is_bind() {
            // Nothing but its flags can be changed of a bind, and `restrict_bind` does.
            return Ok(());
        } else {
            self.options.flags
        };
        let source = device.as_ref().map_or(file, AsRef::as_ref);
        let data = (!data.is_empty()).then_some(data.as_str());
        let call = Call { cwd, source: Some(source), kind: Some(&self.mount.kind), flags, data };
        self.kernel.mount(self.place, &call).map_err(|source| MountError::Mount {
            kind: self.mount.kind.clone(),
            from: file.to_path_buf(),
            target: self.place.path(),
            source,
        })?;
        if !remount {
            made.push(self.place.clone());
        }
        Ok(())
    }

    /// The second call that gives a bind its flags. Those that it has from its source stay: in a user namespace they
    /// may be locked, and no option of ours is meant to lift them.
    fn restrict_bind(&self) -> Result<(), MountError> {
        let wanted = self.options.per_mount();
        if !self.options.is_bind() || wanted.is_empty() {
            return Ok(());
        }
        let step = "set the flags of the bind mount on";
        let kept = self.kernel.flags(self.place).map_err(failed(step, &self.place.path()))?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | wanted | kept;
        let call = Call::change(flags);
        self.kernel.mount(self.place, &call).map_err(failed(step, &self.place.path()))
    }

    /// How mount events go to and from it. A bind is a peer of its source, so that what is mounted in the root file
    /// system would show up in the host's tree, and stay there when the root file system is unmounted: unless something
    /// else is asked for it becomes a slave, which still gets what the host mounts.
    fn propagation(&self) -> Vec<MsFlags> {
        let new_bind = self.options.is_bind() && !self.options.flags.contains(MsFlags::MS_REMOUNT);
        if new_bind && self.options.propagation.is_empty() {
            return vec![MsFlags::MS_SLAVE | (self.options.flags & MsFlags::MS_REC)];
        }
        self.options.propagation.clone()
    }

    fn namespace(&self, map: &IdMap) -> Result<K::Namespace, MountError> {
        let step = "make a user namespace with the id maps of the mount on";
        self.kernel.namespace(map).map_err(failed(step, &self.place.path()))
    }

    /// Puts a mapped copy in the place of what was mounted: an attached mount cannot be mapped.
    fn replace_by_mapped(&self, namespace: &K::Namespace, made: &mut Vec<Place>) -> Result<(), MountError> {
        let path = self.place.path();
        let tree = self.kernel.clone_tree(self.place, true).map_err(failed(IDMAP, &path))?;
        self.kernel.map_tree(&tree, namespace, false).map_err(failed(IDMAP, &path))?;
        self.kernel
            .detach(self.place)
            .map_err(failed("replace by its id-mapped copy the mount on", &path))?;
        made.pop();
        self.kernel.attach_tree(tree, self.place).map_err(failed("attach the id-mapped mount to", &path))?;
        made.push(self.place.clone());
        Ok(())
    }

    /// An overlay cannot be mapped, but its lower layers can. They are mounted for as long as it takes to make the
    /// overlay, which keeps copies of its own. Their directories are in a private tmpfs, so that they show up in no
    /// other mount namespace; it lies beside the root file system.
    fn mount_on_mapped_layers(&self, map: &IdMap, made: &mut Vec<Place>) -> Result<(), MountError> {
        let Some((index, lower)) = layers::find(&self.options.data) else {
            let reason = "can be given to an overlay only with one `lowerdir` of plain absolute paths";
            return Err(MountError::Option { option: "uidmap".to_owned(), reason });
        };
        let namespace = self.namespace(map)?;
        let parent = self.place.root.parent().unwrap_or(Path::new("/"));
        let step = "make a directory for id-mapped layers in";
        let scratch = self.kernel.make_scratch(parent).map_err(failed(step, parent))?;
        let mut holders = Vec::new();
        let mut data = self.options.data.clone();
        let result = self.map_layers(&lower, &namespace, &scratch, &mut holders).and_then(|names| {
            if let Some(option) = data.get_mut(index) {
                *option = layers::option(names.iter().map(PathBuf::as_path));
            }
            self.mount_with(Some(&scratch), &data, made)
        });
        take_back(self.kernel, &holders);
        let removed = self.kernel.remove_directory(&scratch);
        result.and(removed.map_err(failed("remove the directory of id-mapped layers", &scratch)))
    }

    /// Mounts mapped copies of `lower` in `scratch` and answers their names there.
    fn map_layers(
        &self,
        lower: &[PathBuf],
        namespace: &K::Namespace,
        scratch: &Path,
        holders: &mut Vec<Place>,
    ) -> Result<Vec<PathBuf>, MountError> {
        let holder = Place::at(scratch);
        let step = "prepare for id-mapped layers";
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        let name = Some(Path::new("layers"));
        let call = Call { cwd: None, source: name, kind: Some("tmpfs"), flags, data: Some("mode=700") };
        self.kernel.mount(&holder, &call).map_err(failed(step, scratch))?;
        holders.push(holder.clone());
        let call = Call::change(MsFlags::MS_PRIVATE);
        self.kernel.mount(&holder, &call).map_err(failed(step, scratch))?;
        let mut names = Vec::with_capacity(lower.len());
        for (number, layer) in lower.iter().enumerate() {
            let name = PathBuf::from(number.to_string());
            let path = scratch.join(&name);
            self.kernel.make_directory(&path).map_err(failed(step, &path))?;
            let tree = self.kernel.clone_tree(&Place::at(layer), false).map_err(failed(IDMAP, layer))?;
            self.kernel.map_tree(&tree, namespace, true).map_err(failed(IDMAP, layer))?;
            self.kernel.attach_tree(tree, &Place::at(&path)).map_err(failed(step, &path))?;
            names.push(name);
        }
        Ok(names)
    }
}

/// What the words are long when they are joined with commas.
fn joined_length(words: &[String]) -> usize {
    words.iter().map(|word| word.len().saturating_add(1)).sum::<usize>().saturating_sub(1)
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MountError {
    let path = path.to_path_buf();
    move |source| MountError::Step { step, path, source }
}
