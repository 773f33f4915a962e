//! Requests into what the task crate takes, checked.

use std::path::{Component, Path, PathBuf};

use gam_protos::types;
use gam_task::mount::Mount;
use gam_task::record::StreamNames;
use gam_task::runtime::Checkpoint;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::timestamp::Timestamp;
use ttrpc::{Code, Result};

use crate::options;
use crate::status::{refuse, status};

/// The longest path of a bundle, in bytes.
const LONGEST: usize = 4096;

/// A bundle's path: absolute, without `..`, an existing directory (K8).
pub(super) fn bundle(text: &str) -> Result<PathBuf> {
    let path = Path::new(text);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || text.contains('\0') || text.len() > LONGEST {
        let shown: String = text.chars().take(256).collect();
        return Err(refuse(
            Code::INVALID_ARGUMENT,
            format!("bundle {shown:?} is not an absolute plain path"),
        ));
    }
    match path.metadata() {
        Ok(found) if found.is_dir() => Ok(path.to_path_buf()),
        Ok(_) => Err(refuse(Code::INVALID_ARGUMENT, format!("bundle {} is no directory", path.display()))),
        Err(error) => Err(refuse(Code::INVALID_ARGUMENT, format!("bundle {}: {error}", path.display()))),
    }
}

/// The mounts of a root file system.
pub(super) fn mounts(mounts: Vec<types::Mount>) -> Vec<Mount> {
    mounts
        .into_iter()
        .map(|mount| Mount {
            kind: mount.type_,
            source: mount.source,
            target: mount.target,
            options: mount.options,
        })
        .collect()
}

/// The streams of a process.
pub(super) fn streams(terminal: bool, stdin: String, stdout: String, stderr: String) -> StreamNames {
    StreamNames { terminal, stdin, stdout, stderr }
}

/// An exec's id as requests have it: empty is init.
pub(super) fn exec(id: &str) -> Option<&str> {
    Some(id).filter(|id| !id.is_empty())
}

/// A moment on the wire.
pub fn timestamp(at: std::time::SystemTime) -> Timestamp {
    let since = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut stamp = Timestamp::new();
    stamp.seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    stamp.nanos = i32::try_from(since.subsec_nanos()).unwrap_or_default();
    stamp
}

/// What a checkpoint is to be: without options one that ends the container is not meant (J5).
pub(super) fn checkpoint(path: &str, options: Option<&Any>) -> Result<Checkpoint> {
    let options = options::checkpoint(options).map_err(status)?;
    let image = if options.image_path.is_empty() { path } else { &options.image_path };
    let image_path = directory("checkpoint", image)?;
    let optional = |what, text: &str| -> Result<Option<PathBuf>> {
        if text.is_empty() { Ok(None) } else { directory(what, text).map(Some) }
    };
    Ok(Checkpoint {
        image_path,
        work_path: optional("work", &options.work_path)?,
        parent_path: Some(options.parent_path).filter(|path| !path.is_empty()).map(PathBuf::from),
        exit: options.exit,
        open_tcp: options.open_tcp,
        external_unix_sockets: options.external_unix_sockets,
        terminal: options.terminal,
        file_locks: options.file_locks,
        cgroups_mode: options.cgroups_mode,
        empty_namespaces: options.empty_namespaces,
    })
}

fn directory(what: &str, text: &str) -> Result<PathBuf> {
    let path = Path::new(text);
    if path.is_absolute() && !text.contains('\0') {
        return Ok(path.to_path_buf());
    }
    Err(refuse(Code::INVALID_ARGUMENT, format!("the {what} path {text:?} is not absolute")))
}
