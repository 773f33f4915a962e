//! Putting a process into a cgroup by its path, as the option `ShimCgroup` wants it for the manager.

use std::fs;
use std::io;
use std::path::{Component, Path};

use super::{CgroupError, locate};

/// Puts process `pid` into the cgroup `path` of every hierarchy, which is made where it is missing.
///
/// # Errors
/// [`CgroupError::Path`] for a path that leads elsewhere; what the kernel refuses.
pub fn join(path: &str, pid: i32) -> Result<(), CgroupError> {
    let inside = Path::new(path).strip_prefix("/").unwrap_or(Path::new(path));
    let plain = inside.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || inside.as_os_str().is_empty() || path.contains('\0') {
        return Err(CgroupError::Path(path.chars().take(256).collect()));
    }
    let mounted = locate::hierarchies()?;
    let has_v1 = mounted.iter().any(|hierarchy| !hierarchy.unified);
    for hierarchy in mounted {
        // Version 2's hierarchy beside version 1's has no controllers.
        if hierarchy.unified && has_v1 {
            continue;
        }
        let directory = hierarchy.place.join(inside);
        fs::create_dir_all(&directory).map_err(write_error(&directory))?;
        if hierarchy.options.iter().any(|option| option == "cpuset") {
            fill_cpuset(&hierarchy.place, inside);
        }
        let procs = directory.join("cgroup.procs");
        fs::write(&procs, pid.to_string()).map_err(write_error(&procs))?;
    }
    Ok(())
}

/// A new cpuset has no processors and takes no process: it gets its parent's.
fn fill_cpuset(place: &Path, inside: &Path) {
    let mut directory = place.to_path_buf();
    for part in inside.components() {
        let parent = directory.clone();
        directory.push(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let empty = fs::read_to_string(directory.join(file)).is_ok_and(|text| text.trim().is_empty());
            if empty && let Ok(text) = fs::read_to_string(parent.join(file)) {
                let _ = fs::write(directory.join(file), text);
            }
        }
    }
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_path_buf();
    move |source| CgroupError::Write { path, source }
}
