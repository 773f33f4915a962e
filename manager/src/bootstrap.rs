//! What `start` is asked on its stdin, and how it answers: four generations of containerd, three dialects.
//!
//! The version answered is 2 unless the configuration's `task_api` says 3 and the daemon takes that. Task v2 and v3 are
//! both served, and containerd calls the one that the answer names. With 2 it runs `start` for every container and gives
//! every container's connection a clean-up callback of its own. With 3 the pod's other containers get an empty one: were
//! their connections to drop, nothing would run `delete` for them until containerd restarts. What 3 saves, a `start` and a
//! `delete` of 1.4 and 0.9 ms in a life of some 60 ms (`make measure`), is less than that is worth.

mod address;

use std::io::{self, Read};

use gam_protos::bootstrap::{BootstrapParams, BootstrapResult, LogLevel};
use protobuf::Message;
use protobuf::well_known_types::any::Any;

pub use address::{DEFAULT_DIR, address_of, socket_path};

use crate::cli::Flags;
use crate::config::TaskApi;
use crate::options;

/// The most that is read from stdin, in bytes.
pub const MAX_QUESTION: u64 = 10 << 20;

/// The protocol of every answer.
const PROTOCOL: &str = "ttrpc";

/// A question that cannot be read, or an answer that cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// stdin cannot be read
    #[error("cannot read what containerd asks on stdin: {0}")]
    Stdin(#[source] io::Error),
    /// stdin has more than 10 MiB
    #[error("containerd asks on stdin with more than {MAX_QUESTION} bytes")]
    TooLong,
    /// stdin holds neither options nor parameters
    #[error("stdin holds {bytes} bytes that are neither an Any of options nor BootstrapParams: {source}")]
    Malformed {
        /// How many bytes there were.
        bytes: usize,
        /// Why they are no Any.
        source: protobuf::Error,
    },
    /// a directory for sockets whose sockets would have too long names
    #[error(
        "the socket directory {path:?} has {length} bytes, more than {max}: names under it would be too long"
    )]
    DirectoryTooLong {
        /// The directory.
        path: String,
        /// Its length.
        length: usize,
        /// The longest that is taken.
        max: usize,
    },
    /// a directory for sockets that is relative or has a NUL
    #[error("the socket directory {0:?} is not an absolute path")]
    DirectoryNotAbsolute(String),
    /// an answer that cannot be encoded
    #[error("cannot encode the answer: {0}")]
    Encode(#[source] protobuf::Error),
}

/// What containerd asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Question {
    /// The runtime's options, whichever way they came.
    pub options: Option<Any>,
    /// The parameters that containerd sends from 2.3 on.
    pub params: Option<BootstrapParams>,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The address and nothing else: the only one of containerd 1.6, taken by all.
    Plain,
    /// JSON with a version, from 1.7 on.
    Json,
    /// `BootstrapResult`, from 2.3 on.
    Result,
}

/// Reads stdin to its end.
///
/// # Errors
/// [`BootstrapError`] where it cannot be read or has more than [`MAX_QUESTION`] bytes.
pub fn read(from: impl Read) -> Result<Vec<u8>, BootstrapError> {
    let mut bytes = Vec::new();
    from.take(MAX_QUESTION + 1).read_to_end(&mut bytes).map_err(BootstrapError::Stdin)?;
    if bytes.len() as u64 > MAX_QUESTION { Err(BootstrapError::TooLong) } else { Ok(bytes) }
}

impl Question {
    /// Makes out what `bytes` are, for the container that the flags name.
    ///
    /// An `Any` and a `BootstrapParams` begin alike, so it is the latter only if its id and namespace are the flags'.
    ///
    /// # Errors
    /// [`BootstrapError::Malformed`] where they are neither.
    pub fn parse(bytes: &[u8], namespace: &str, id: &str) -> Result<Self, BootstrapError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        if let Ok(params) = BootstrapParams::parse_from_bytes(bytes)
            && params.instance_id == id
            && params.namespace == namespace
        {
            let values = params.extensions.iter().filter_map(|extension| extension.value.as_ref());
            let options = values.into_iter().find(|any| options::is_options(any)).cloned();
            return Ok(Self { options, params: Some(params) });
        }
        let any = Any::parse_from_bytes(bytes)
            .map_err(|source| BootstrapError::Malformed { bytes: bytes.len(), source })?;
        Ok(Self { options: Some(any), params: None })
    }

    /// Fills in what the parameters tell and the flags leave out; either may ask for debug lines.
    pub fn complete(&self, flags: &mut Flags) {
        let Some(params) = &self.params else { return };
        if flags.address.is_empty() {
            flags.address.clone_from(&params.containerd_grpc_address);
        }
        if flags.publish_binary.as_os_str().is_empty() {
            flags.publish_binary = params.containerd_binary.clone().into();
        }
        flags.debug |= matches!(params.log_level.enum_value(), Ok(LogLevel::DEBUG | LogLevel::TRACE));
    }

    /// The ttrpc address that the parameters tell; before them there was `TTRPC_ADDRESS` in the environment.
    #[must_use]
    pub fn ttrpc_address(&self) -> Option<&str> {
        Some(self.params.as_ref()?.containerd_ttrpc_address.as_str()).filter(|address| !address.is_empty())
    }

    /// The version of containerd that the parameters tell.
    #[must_use]
    pub fn daemon(&self) -> Option<(u32, u32)> {
        daemon_version(&self.params.as_ref()?.containerd_version)
    }

    /// The directory that the parameters ask sockets to be made in.
    #[must_use]
    pub fn socket_dir(&self) -> Option<&str> {
        self.params.as_ref()?.socket_dir.as_deref().filter(|path| !path.is_empty())
    }
}

/// The major and minor number in a version as containerd gives it: `1.6.20~ds1`, `v2.1.0-rc.1`.
#[must_use]
pub fn daemon_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().trim_start_matches('v').splitn(3, '.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?;
    let digits = minor.find(|c: char| !c.is_ascii_digit()).unwrap_or(minor.len());
    Some((major, minor.get(..digits)?.parse().ok()?))
}

/// Picks the dialect that the daemon understands.
///
/// `max_shim_version` is the environment's `MAX_SHIM_VERSION`: unset in 1.6, which takes JSON for an address; `2` in
/// every release since. `daemon` is the version that the manager has learned, if it has; it wins over the environment,
/// which a daemon of 1.6 may have inherited. In doubt the answer is plain, which all of them take.
#[must_use]
pub fn choose(question: &Question, max_shim_version: Option<&str>, daemon: Option<(u32, u32)>) -> Dialect {
    if question.params.is_some() {
        return Dialect::Result;
    }
    if daemon.is_some_and(|version| version < (1, 7)) {
        return Dialect::Plain;
    }
    let versioned =
        max_shim_version.and_then(|text| text.trim().parse::<u32>().ok()).is_some_and(|max| max >= 2);
    if versioned { Dialect::Json } else { Dialect::Plain }
}

/// The version to answer: 3 only where it is `wanted` and the daemon is 2.0 or newer, or asks with parameters. A plain
/// answer has none, and means 2.
#[must_use]
pub fn version(dialect: Dialect, wanted: TaskApi, daemon: Option<(u32, u32)>) -> TaskApi {
    let taken = match dialect {
        Dialect::Plain => false,
        Dialect::Json => daemon.is_some_and(|version| version >= (2, 0)),
        Dialect::Result => true,
    };
    if taken { wanted } else { TaskApi::V2 }
}

/// Writes the answer for a manager at `address` (`unix://...`). It ends in no white space in any dialect, and has no
/// newline: containerd trims what it reads, even where it is binary (H4).
///
/// # Errors
/// [`BootstrapError::Encode`] where protobuf refuses.
pub fn answer(dialect: Dialect, version: TaskApi, address: &str) -> Result<Vec<u8>, BootstrapError> {
    let version = u8::from(version);
    match dialect {
        Dialect::Plain => Ok(address.as_bytes().to_vec()),
        Dialect::Json => {
            let address = serde_json::Value::from(address);
            Ok(format!(r#"{{"version":{version},"address":{address},"protocol":"{PROTOCOL}"}}"#).into_bytes())
        }
        Dialect::Result => {
            let mut result = BootstrapResult::new();
            result.version = i32::from(version);
            result.address = address.to_owned();
            result.protocol = PROTOCOL.to_owned();
            result.write_to_bytes().map_err(BootstrapError::Encode)
        }
    }
}

#[cfg(test)]
mod tests;
