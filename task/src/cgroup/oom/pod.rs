//! What a pod's own count knows of containers whose cgroups are gone.
//!
//! systemd may remove a container's scope before anybody has read its count. The pod's cgroup above it still has the
//! kills, summed with those of the pod's other containers; what none of those explains was in a cgroup that is gone.
//! That holds only where nothing but watched containers lives in it, as in kubelet's pods.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::super::CgroupError;
use super::counter::Counted;

/// One pod's count.
#[derive(Debug)]
pub(super) struct Pod {
    file: Counted,
    /// The count at first, and the kills that its containers' watches have told since.
    explained: Mutex<u64>,
}

impl Pod {
    /// The cgroup of the pod that the container's is in, by the names that kubelet gives: `kubepods*-podUID.slice`, or
    /// `podUID` below `kubepods`.
    pub(super) fn directory(container: &Path) -> Option<PathBuf> {
        let parent = container.parent()?;
        let name = parent.file_name()?.to_str()?;
        let slice = name.starts_with("kubepods") && name.contains("-pod") && name.ends_with(".slice");
        let plain = name.starts_with("pod") && parent.iter().any(|part| part == "kubepods");
        (slice || plain).then(|| parent.to_owned())
    }

    pub(super) fn open(directory: &Path) -> Result<Self, CgroupError> {
        let file = Counted::open(directory.join("memory.events"))?;
        let explained = Mutex::new(file.read()?);
        Ok(Self { file, explained })
    }

    /// Its count now.
    pub(super) fn count(&self) -> Result<u64, CgroupError> {
        self.file.read()
    }

    /// `kills` more are known to be a container's.
    pub(super) fn explain(&self, kills: u64) {
        let mut explained = self.explained.lock().unwrap_or_else(PoisonError::into_inner);
        *explained = explained.saturating_add(kills);
    }

    /// Takes the kills of `count` that are nobody's.
    pub(super) fn take_rest(&self, count: u64) -> u64 {
        let mut explained = self.explained.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = count.saturating_sub(*explained);
        *explained = explained.saturating_add(rest);
        rest
    }
}
