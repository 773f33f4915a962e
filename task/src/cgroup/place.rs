//! Where a process's cgroups are: `/proc/PID/cgroup` names them by hierarchy, `/proc/self/mountinfo` says where each
//! hierarchy can be seen (cgroups(7), proc_pid_mountinfo(5)).
//!
//! Both are told relative to the cgroup namespace of whoever reads: a mount of less than the whole hierarchy, or of more
//! than our namespace, is told by the mount's root, which is a prefix of what can be seen there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::{Cgroup, CgroupError, Place};
use crate::sys::proc;

/// The machine: where its `/proc` is, and under what its mount points are. Tests have machines of their own.
pub(super) struct Host {
    proc: PathBuf,
    root: PathBuf,
}

/// A mount of a cgroup hierarchy.
#[derive(Debug)]
struct Mount {
    /// The part of the hierarchy that is seen there.
    root: PathBuf,
    /// Where.
    point: PathBuf,
    /// The controllers of a v1 hierarchy and its name (`name=...`); none for v2.
    controllers: Option<Vec<String>>,
}

/// One cgroup of a process.
struct Membership {
    /// Empty for v2.
    controller: String,
    /// As the hierarchy names it.
    path: PathBuf,
    /// Where it is seen, if it is, and whether that is as far up as can be seen.
    seen: Option<(PathBuf, bool)>,
}

impl Host {
    pub(super) fn live() -> Self {
        Self { proc: "/proc".into(), root: "/".into() }
    }

    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self { proc: root.join("proc"), root: root.to_owned() }
    }

    /// See [`Cgroup::of_process`].
    pub(super) fn of_process(&self, pid: i32) -> Result<Cgroup, CgroupError> {
        let mounts = self.mounts()?;
        let unified = self.unified(&mounts);
        let ours = self.memberships("self", &mounts, unified)?;
        let mut paths = BTreeMap::new();
        for member in self.memberships(&pid.to_string(), &mounts, unified)? {
            let Some((directory, top)) = member.seen else {
                if unified {
                    return Err(CgroupError::NotMounted { path: member.path });
                }
                // A v1 hierarchy may well be mounted nowhere.
                continue;
            };
            let below = |own: &Membership| {
                own.controller == member.controller
                    && own.seen.as_ref().is_some_and(|(own, _)| own.starts_with(&directory))
            };
            if !top && !ours.iter().any(below) {
                paths.insert(member.controller, directory);
            }
        }
        if paths.is_empty() {
            // v1 shows a process that has ended at the root of everything.
            let ended = proc::stat(pid).is_ok_and(|stat| matches!(stat.state, 'Z' | 'X'));
            let path = self.proc.join(format!("{pid}/cgroup"));
            return Err(if ended { CgroupError::Gone { path } } else { CgroupError::NotOwn { pid } });
        }
        match paths.remove("") {
            Some(path) => Ok(Cgroup(Place::V2(path))),
            None => Ok(Cgroup(Place::V1(paths))),
        }
    }

    /// The directories that this process is in, as far as they can be named.
    pub(super) fn own_directories(&self) -> Result<Vec<PathBuf>, CgroupError> {
        let mounts = self.mounts()?;
        let mut own = self.memberships("self", &mounts, false)?;
        own.extend(self.memberships("self", &mounts, true)?);
        Ok(own.into_iter().filter_map(|member| Some(member.seen?.0)).collect())
    }

    /// The directories that stand for the cgroup `path`, named from the top of each hierarchy: one per v1 controller, or
    /// that of v2. They need not exist.
    pub(super) fn named(&self, path: &Path) -> Result<Vec<PathBuf>, CgroupError> {
        let mounts = self.mounts()?;
        let unified = self.unified(&mounts);
        let below: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
        let mut found: Vec<PathBuf> = mounts
            .iter()
            .filter(|mount| mount.controllers.is_none() == unified)
            .map(|mount| mount.point.join(&below))
            .collect();
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn mounts(&self) -> Result<Vec<Mount>, CgroupError> {
        let path = self.proc.join("self/mountinfo");
        let text = fs::read_to_string(&path).map_err(|error| CgroupError::reading(&path, error))?;
        Ok(text.lines().filter_map(|line| self.mount(line)).collect())
    }

    /// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [OPTIONAL...] - TYPE SOURCE SUPER_OPTIONS`
    fn mount(&self, line: &str) -> Option<Mount> {
        let (place, what) = line.split_once(" - ")?;
        let mut what = what.split(' ');
        let controllers = match what.next()? {
            "cgroup" => Some(what.nth(1)?.split(',').map(str::to_owned).collect()),
            "cgroup2" => None,
            _ => return None,
        };
        let mut place = place.split(' ').skip(3);
        let (root, point) = (unescaped(place.next()?), unescaped(place.next()?));
        let point = self.root.join(point.trim_start_matches('/'));
        Some(Mount { root: root.into(), point, controllers })
    }

    /// Whether v2 is where the controllers are: where it is mounted at the usual place, or there is no v1 controller.
    /// `/sys/fs/cgroup/unified` beside v1 mounts has none.
    fn unified(&self, mounts: &[Mount]) -> bool {
        let usual = self.root.join("sys/fs/cgroup");
        let v2 = |mount: &Mount| mount.controllers.is_none();
        mounts.iter().any(|mount| v2(mount) && mount.point == usual)
            || (mounts.iter().any(v2) && mounts.iter().all(|mount| v2(mount) || named_only(mount)))
    }

    /// The cgroups of a process, that of v2 or those of v1.
    fn memberships(&self, who: &str, mounts: &[Mount], v2: bool) -> Result<Vec<Membership>, CgroupError> {
        let file = self.proc.join(who).join("cgroup");
        let text = fs::read_to_string(&file).map_err(|error| CgroupError::reading(&file, error))?;
        let mut found = Vec::new();
        for line in text.lines() {
            // `HIERARCHY:CONTROLLERS:PATH`; v2's hierarchy is 0 and has no controllers.
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                let line = line.chars().take(80).collect();
                return Err(CgroupError::Parse { path: file, line });
            };
            if controllers.is_empty() != v2 {
                continue;
            }
            if path.ends_with(" (deleted)") {
                return Err(CgroupError::Gone { path: path.into() });
            }
            for controller in controllers.split(',') {
                found.push(Membership {
                    controller: controller.to_owned(),
                    path: path.into(),
                    seen: seen(mounts, controller, Path::new(path)),
                });
            }
        }
        Ok(found)
    }
}

/// Whether it is a v1 hierarchy without controllers, such as systemd's own.
fn named_only(mount: &Mount) -> bool {
    // Any other option of the mount that is no controller.
    const OPTIONS: [&str; 7] = ["rw", "ro", "xattr", "none", "noprefix", "clone_children", "cpuset_v2_mode"];
    let option = |word: &String| {
        OPTIONS.contains(&word.as_str()) || word.starts_with("name=") || word.starts_with("release_agent=")
    };
    mount.controllers.as_ref().is_some_and(|controllers| controllers.iter().all(option))
}

/// Where the cgroup `path` of a controller's hierarchy is seen, and whether that is the top of a mount.
fn seen(mounts: &[Mount], controller: &str, path: &Path) -> Option<(PathBuf, bool)> {
    let of_it = |mount: &&Mount| match &mount.controllers {
        None => controller.is_empty(),
        Some(controllers) => controllers.iter().any(|known| known == controller),
    };
    mounts.iter().filter(of_it).find_map(|mount| {
        let below = path.strip_prefix(&mount.root).ok()?;
        // What is left to climb cannot be resolved by name: a cgroup's directory has no `..` above the mount.
        let plain = below.components().all(|part| matches!(part, Component::Normal(_)));
        let top = below.as_os_str().is_empty();
        plain.then(|| (if top { mount.point.clone() } else { mount.point.join(below) }, top))
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescaped(field: &str) -> String {
    let mut rest = field;
    let mut text = String::new();
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (code, after.get(3..)) {
            (Some(code), Some(tail)) => {
                text.push(char::from(code));
                rest = tail;
            }
            _ => {
                text.push('\\');
                rest = after;
            }
        }
    }
    text + rest
}

#[cfg(test)]
mod tests;
