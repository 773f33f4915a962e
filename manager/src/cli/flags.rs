//! A shim's flags, walked as Go's flag package walks them.
//!
//! `-x v`, `-x=v`, `--x v` and `--x=v` are the same, the last of several wins, a switch takes no value but after `=`,
//! and the first argument that is no flag, or what follows `--`, ends the flags. No crate's parser does this, and error
//! texts are to be the ones that operators know, so the walk is written out.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::CliError;

/// What containerd tells a shim on its command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `-namespace`: the containerd namespace. Checked for `start` and `delete`.
    pub namespace: String,
    /// `-address`: containerd's gRPC address.
    pub address: String,
    /// `-publish-binary`: the binary that takes events where no socket does.
    pub publish_binary: PathBuf,
    /// `-id`: the container's id. Checked for `start` and `delete`.
    pub id: String,
    /// `-bundle`: the bundle's directory; empty for the working directory.
    pub bundle: PathBuf,
    /// `-socket`: a path to serve at, in place of the one that is worked out; empty for none.
    pub socket: PathBuf,
    /// `-debug-socket`: taken for the sake of callers that give it; nothing is served there.
    pub debug_socket: PathBuf,
    /// `-debug`: write what only helps in finding faults.
    pub debug: bool,
}

impl Flags {
    /// The bundle's directory as an absolute path: `-bundle`, or the working directory where that is empty.
    ///
    /// # Errors
    /// Where there is no working directory to be found.
    pub fn bundle_dir(&self) -> io::Result<PathBuf> {
        if self.bundle.is_absolute() {
            Ok(self.bundle.clone())
        } else {
            Ok(env::current_dir()?.join(&self.bundle))
        }
    }
}

/// Flags, and what stood beside them.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) flags: Flags,
    pub(super) version: bool,
    pub(super) info: bool,
    pub(super) help: bool,
    /// What follows the flags.
    pub(super) rest: Vec<OsString>,
}

/// The flags as Go prints them.
pub(super) const DEFAULTS: &str = "  -address string
    \tgRPC address of containerd
  -bundle string
    \tpath of the bundle if not the working directory
  -debug
    \twrite debug lines to the log
  -debug-socket string
    \ttaken and not used
  -id string
    \tid of the container
  -info
    \tprint the runtime's description (containerd.types.RuntimeInfo)
  -namespace string
    \tcontainerd namespace of the container
  -publish-binary string
    \tbinary that publishes events where no socket takes them
  -socket string
    \tpath of the socket to serve at
  -v, -version
    \tprint the version
";

/// One flag as it was written.
struct Written {
    name: String,
    /// What stood after `=`.
    value: Option<OsString>,
}

/// Walks `args`, without the program's name.
pub(super) fn walk(args: Vec<OsString>) -> Result<Walked, CliError> {
    let mut walked = Walked::default();
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.peek() {
        let bytes = arg.as_bytes();
        if bytes.first() != Some(&b'-') || bytes == b"-" {
            break;
        }
        let is_end = bytes == b"--";
        let Some(arg) = args.next() else { break };
        if is_end {
            break;
        }
        let written = split(&arg)?;
        if let Some(switch) = switch_of(&mut walked, &written.name) {
            *switch = written.value.map_or(Ok(true), |value| truth(&written.name, &value))?;
            continue;
        }
        if !is_known(&written.name) {
            return Err(CliError::Flag(format!("flag provided but not defined: -{}", written.name)));
        }
        let value = match written.value {
            Some(value) => value,
            None => args
                .next()
                .ok_or_else(|| CliError::Flag(format!("flag needs an argument: -{}", written.name)))?,
        };
        set(&mut walked.flags, &written.name, value)?;
    }
    walked.rest = args.collect();
    Ok(walked)
}

/// Takes one or two dashes off and what follows the first `=` apart.
fn split(arg: &OsStr) -> Result<Written, CliError> {
    let bytes = arg.as_bytes();
    let body = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-")).unwrap_or(bytes);
    if matches!(body.first(), None | Some(b'-' | b'=')) {
        return Err(CliError::Flag(format!("bad flag syntax: {}", arg.to_string_lossy())));
    }
    let mut parts = body.splitn(2, |byte| *byte == b'=');
    let name = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    Ok(Written { name, value: parts.next().map(|value| OsString::from_vec(value.to_vec())) })
}

/// The switch that `name` sets.
fn switch_of<'a>(walked: &'a mut Walked, name: &str) -> Option<&'a mut bool> {
    match name {
        "debug" => Some(&mut walked.flags.debug),
        "v" | "version" => Some(&mut walked.version),
        "info" => Some(&mut walked.info),
        "h" | "help" => Some(&mut walked.help),
        _ => None,
    }
}

/// Whether `name` is a flag with a value.
fn is_known(name: &str) -> bool {
    matches!(name, "namespace" | "address" | "publish-binary" | "id" | "bundle" | "socket" | "debug-socket")
}

/// A switch's value, by the rule of Go's `strconv.ParseBool`.
fn truth(name: &str, value: &OsStr) -> Result<bool, CliError> {
    match value.as_bytes() {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Ok(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Ok(false),
        _ => Err(CliError::Flag(format!(
            "invalid boolean value {:?} for -{name}: parse error",
            value.to_string_lossy()
        ))),
    }
}

/// Sets the flag `name`, one that [`is_known`].
fn set(flags: &mut Flags, name: &str, value: OsString) -> Result<(), CliError> {
    let path = match name {
        "publish-binary" => &mut flags.publish_binary,
        "bundle" => &mut flags.bundle,
        "socket" => &mut flags.socket,
        "debug-socket" => &mut flags.debug_socket,
        _ => {
            let text = value.into_string().map_err(|value| {
                CliError::Flag(format!(
                    "invalid value {:?} for flag -{name}: it is not UTF-8",
                    value.to_string_lossy()
                ))
            })?;
            match name {
                "namespace" => flags.namespace = text,
                "address" => flags.address = text,
                _ => flags.id = text,
            }
            return Ok(());
        }
    };
    *path = PathBuf::from(value);
    Ok(())
}
