//! The runtime's options, in every form that containerd sends them.
//!
//! A type of runtime that containerd's CRI plugin does not know gets its options as TOML in a
//! `runtimeoptions.v1.Options`, or the path of a file of it; `io.containerd.runc.v2` gets `containerd.runc.v1.Options`;
//! from 2.3 on either may be an extension of `BootstrapParams`, which [`crate::bootstrap`] unpacks. All become [`Named`].

mod source;

use std::io;
use std::path::PathBuf;

use gam_protos::any::{is, unpack};
use gam_protos::{runc_options, runtimeoptions};
use gam_task::options::Options;
use protobuf::well_known_types::any::Any;
use serde::{Deserialize, Serialize};

/// Options that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// an Any of a type that holds no options
    #[error("options of the type {0:?} are not known")]
    UnknownType(String),
    /// an Any whose content is not what its type says
    #[error("options of the type {type_url:?} cannot be decoded: {source}")]
    Malformed {
        /// The type.
        type_url: String,
        /// Why not.
        source: protobuf::Error,
    },
    /// TOML that is none, or has a key or value that the runtime does not have
    #[error("the runtime's options in {place}, line {line}: {message}")]
    Toml {
        /// Where the TOML came from.
        place: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// TOML that is not text
    #[error("the runtime's options in {0} are not UTF-8")]
    NotText(String),
    /// a file of options that cannot be read
    #[error("cannot read the runtime's options in {path:?}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// a file of options that is relative, no regular file, or larger than 1 MiB
    #[error("the file of the runtime's options {path:?} {why}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Options that a message or a file names; what it does not name is none.
///
/// The keys are those of `[...runtimes.NAME.options]` in containerd's configuration, case included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields, default)]
pub struct Named {
    /// `BinaryName`: the runtime, a path or a name in PATH.
    pub binary_name: Option<String>,
    /// `Root`: the directory under which the runtime keeps a directory per namespace.
    pub root: Option<String>,
    /// `SystemdCgroup`: let systemd make the cgroups. Where nothing names it, [`infer_systemd`] decides.
    pub systemd_cgroup: Option<bool>,
    /// `NoPivotRoot`: use MS_MOVE instead of pivot_root.
    pub no_pivot_root: Option<bool>,
    /// `NoNewKeyring`: make no session keyring.
    pub no_new_keyring: Option<bool>,
    /// `ShimCgroup`: a cgroup for the shim.
    pub shim_cgroup: Option<String>,
    /// `IoUid`: the owner of the pipes of the streams.
    pub io_uid: Option<u32>,
    /// `IoGid`: the group of the pipes of the streams.
    pub io_gid: Option<u32>,
    /// `CriuImagePath`: where checkpoint images are read from on restore.
    pub criu_image_path: Option<String>,
    /// `CriuWorkPath`: criu's work directory.
    pub criu_work_path: Option<String>,
    /// `TaskApiAddress`: the address of the task API that serves the sandbox.
    pub task_api_address: Option<String>,
    /// `TaskApiVersion`: its version.
    pub task_api_version: Option<u32>,
    /// `TypeUrl`: what containerd copies into the TOML it sends, of no meaning here.
    pub type_url: Option<String>,
}

impl Named {
    /// Reads an `Any` of options. One without a type holds none, as in containerd's own shim.
    ///
    /// # Errors
    /// [`OptionsError`] where its type is unknown, or its content or the file it names is wrong.
    pub fn from_any(any: &Any) -> Result<Self, OptionsError> {
        if any.type_url.is_empty() {
            return Ok(Self::default());
        }
        let malformed = |source| OptionsError::Malformed { type_url: shortened(any), source };
        if let Some(message) = unpack::<runc_options::Options>(any).map_err(malformed)? {
            return Ok(Self::from_message(message));
        }
        let Some(message) = unpack::<runtimeoptions::Options>(any).map_err(malformed)? else {
            return Err(OptionsError::UnknownType(shortened(any)));
        };
        if !message.config_body.is_empty() {
            source::parse("containerd's request", &message.config_body)
        } else if !message.config_path.is_empty() {
            source::read(message.config_path.as_ref())
        } else {
            Ok(Self::default())
        }
    }

    /// Takes over what a runc message names. Its false, zero and empty name nothing, with one exception: a message that
    /// is about more than the task API says what is to make the cgroups, either way, as it does to containerd's own shim.
    fn from_message(message: runc_options::Options) -> Self {
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let number = |number: u32| Some(number).filter(|number| *number != 0);
        let switch = |on: bool| Some(on).filter(|on| *on);
        let mut rest = message.clone();
        rest.task_api_address.clear();
        rest.task_api_version = 0;
        let only_api = !message.task_api_address.is_empty() && rest == runc_options::Options::new();
        Self {
            binary_name: text(message.binary_name),
            root: text(message.root),
            systemd_cgroup: if only_api { None } else { Some(message.systemd_cgroup) },
            no_pivot_root: switch(message.no_pivot_root),
            no_new_keyring: switch(message.no_new_keyring),
            shim_cgroup: text(message.shim_cgroup),
            io_uid: number(message.io_uid),
            io_gid: number(message.io_gid),
            criu_image_path: text(message.criu_image_path),
            criu_work_path: text(message.criu_work_path),
            task_api_address: text(message.task_api_address),
            task_api_version: number(message.task_api_version),
            type_url: None,
        }
    }

    /// These options, and those of `base` where these name nothing: the sandbox's, then the configuration's.
    #[must_use]
    pub fn or(self, base: &Self) -> Self {
        let base = base.clone();
        Self {
            binary_name: self.binary_name.or(base.binary_name),
            root: self.root.or(base.root),
            systemd_cgroup: self.systemd_cgroup.or(base.systemd_cgroup),
            no_pivot_root: self.no_pivot_root.or(base.no_pivot_root),
            no_new_keyring: self.no_new_keyring.or(base.no_new_keyring),
            shim_cgroup: self.shim_cgroup.or(base.shim_cgroup),
            io_uid: self.io_uid.or(base.io_uid),
            io_gid: self.io_gid.or(base.io_gid),
            criu_image_path: self.criu_image_path.or(base.criu_image_path),
            criu_work_path: self.criu_work_path.or(base.criu_work_path),
            task_api_address: self.task_api_address.or(base.task_api_address),
            task_api_version: self.task_api_version.or(base.task_api_version),
            type_url: self.type_url.or(base.type_url),
        }
    }

    /// The options of a container whose spec has `cgroups_path`.
    #[must_use]
    pub fn resolve(self, cgroups_path: &str) -> Options {
        Options {
            no_pivot_root: self.no_pivot_root.unwrap_or_default(),
            no_new_keyring: self.no_new_keyring.unwrap_or_default(),
            shim_cgroup: self.shim_cgroup.unwrap_or_default(),
            io_uid: self.io_uid.unwrap_or_default(),
            io_gid: self.io_gid.unwrap_or_default(),
            binary_name: self.binary_name.unwrap_or_default(),
            root: self.root.unwrap_or_default(),
            systemd_cgroup: self.systemd_cgroup.unwrap_or_else(|| infer_systemd(cgroups_path)),
            criu_image_path: self.criu_image_path.unwrap_or_default(),
            criu_work_path: self.criu_work_path.unwrap_or_default(),
            task_api_address: self.task_api_address.unwrap_or_default(),
            task_api_version: self.task_api_version.unwrap_or_default(),
        }
    }
}

/// Whether `any` holds options that [`Named::from_any`] reads.
#[must_use]
pub fn is_options(any: &Any) -> bool {
    is::<runc_options::Options>(any) || is::<runtimeoptions::Options>(any)
}

/// Whether a spec's `cgroupsPath` is `slice:prefix:name`, the form that only systemd can make a cgroup of.
///
/// containerd 1.6 sends no TOML, only a path, so `SystemdCgroup` is lost there for all types but its own; the path that
/// its CRI plugin writes into the spec still tells.
#[must_use]
pub fn infer_systemd(cgroups_path: &str) -> bool {
    let mut parts = cgroups_path.split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(slice), Some(prefix), Some(name), None) => {
            slice.ends_with(".slice")
                && !name.is_empty()
                && [slice, prefix, name].iter().all(|p| !p.contains('/'))
        }
        _ => false,
    }
}

/// The options of a checkpoint; all of them off where `any` is none.
///
/// # Errors
/// [`OptionsError`] where `any` holds something else.
pub fn checkpoint(any: Option<&Any>) -> Result<runc_options::CheckpointOptions, OptionsError> {
    let Some(any) = any.filter(|any| !any.type_url.is_empty()) else {
        return Ok(runc_options::CheckpointOptions::new());
    };
    unpack(any)
        .map_err(|source| OptionsError::Malformed { type_url: shortened(any), source })?
        .ok_or_else(|| OptionsError::UnknownType(shortened(any)))
}

/// A type URL that fits a message.
fn shortened(any: &Any) -> String {
    any.type_url.chars().take(128).collect()
}

#[cfg(test)]
mod tests;
