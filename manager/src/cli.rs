//! The command line: which role this process has, and its arguments.
//!
//! containerd calls a shim with flags as Go's flag package takes them; `flags` walks those. The manager and the
//! operator's commands are our own and take ordinary long options; `manager` holds the manager's.

mod flags;
mod manager;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use gam_task::id::{IdError, Key};

pub use flags::Flags;
pub use manager::ManagerArgs;

use crate::{info, operator};

/// What every shim's name begins with; containerd makes the rest from the runtime's type.
const SHIM_PREFIX: &str = "containerd-shim-";

/// What this process is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// `start`: find or start the manager of the container's group and print its address.
    Start(Flags),
    /// `delete`: clean up after a container.
    Delete(Flags),
    /// `-info`: describe the runtime.
    Info(Flags),
    /// `-v`: print the version.
    Version,
    /// `-h`, or `gam` with nothing: print how it is called.
    Help,
    /// `gam manager`: the process that lives as long as its group.
    Manager(ManagerArgs),
    /// `gam ls`, `gam top`, ...: a command of an operator with its arguments, the command first.
    Operator(Vec<OsString>),
}

/// A command line that makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// an argument that Go's flag package would refuse, in its words
    #[error("{0}")]
    Flag(String),
    /// no `start`, `delete` or flag that says what to do
    #[error("no action: one of start, delete, -info or -v is needed")]
    NoAction,
    /// a first argument that is no action
    #[error("unknown action {0:?}: it is start or delete")]
    UnknownAction(String),
    /// the namespace or id of `start` or `delete`
    #[error(transparent)]
    Id(#[from] IdError),
    /// arguments of the manager, in clap's words; also a call for help
    #[error("{0}")]
    Manager(#[from] Box<clap::Error>),
}

impl CliError {
    /// The status to exit with: 2 for a command line that cannot be read, as Go programs do; 1 for one that can, but
    /// asks for what cannot be; 0 for a call for help.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Flag(_) | Self::NoAction | Self::UnknownAction(_) => 2,
            Self::Id(_) => 1,
            Self::Manager(e) => u8::try_from(e.exit_code()).unwrap_or(2),
        }
    }

    /// What goes to stderr for a program called `name`.
    #[must_use]
    pub fn text(&self, name: &OsStr) -> String {
        match self {
            Self::Flag(_) | Self::NoAction | Self::UnknownAction(_) => format!("{self}\n{}", usage(name)),
            Self::Id(_) => format!("{}: {self}\n", base_name(name)),
            Self::Manager(e) => e.to_string(),
        }
    }
}

/// Finds the role from `argv`, the program's name first.
///
/// Called as `containerd-shim-*` it is a shim, whatever follows; called otherwise it is one where flags or an action
/// come first, so that `runtime_path` may name either. `manager` as the first argument is the manager under any name.
///
/// # Errors
/// [`CliError`] says what is wrong, and [`CliError::exit_code`] what to exit with.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Role, CliError> {
    let mut argv = argv.into_iter();
    let name = argv.next().unwrap_or_default();
    let args: Vec<OsString> = argv.collect();
    let first = args.first().map(|arg| arg.to_string_lossy().into_owned());
    let is_shim = base_name(&name).starts_with(SHIM_PREFIX);
    match first.as_deref() {
        Some("manager") => Ok(Role::Manager(ManagerArgs::parse(args.into_iter().skip(1))?)),
        None if !is_shim => Ok(Role::Help),
        Some("help") if !is_shim && args.len() == 1 => Ok(Role::Help),
        Some(word) if !is_shim && !word.starts_with('-') && !matches!(word, "start" | "delete") => {
            Ok(Role::Operator(args))
        }
        _ => shim(args),
    }
}

/// The role that a shim's arguments ask for. `-v` and `-info` win over an action, as in containerd's own shim.
fn shim(args: Vec<OsString>) -> Result<Role, CliError> {
    let walked = flags::walk(args)?;
    if walked.help {
        return Ok(Role::Help);
    }
    if walked.version {
        return Ok(Role::Version);
    }
    if walked.info {
        return Ok(Role::Info(walked.flags));
    }
    let action = walked.rest.first().map(|word| word.to_string_lossy().into_owned());
    let role = match action.as_deref() {
        Some("start") => Role::Start,
        Some("delete") => Role::Delete,
        Some(word) => return Err(CliError::UnknownAction(word.chars().take(64).collect())),
        None => return Err(CliError::NoAction),
    };
    Key::new(&walked.flags.namespace, &walked.flags.id)?;
    Ok(role(walked.flags))
}

/// What `-v` prints for a program called `name`.
#[must_use]
pub fn version(name: &OsStr) -> String {
    let name = base_name(name);
    format!("{name}:\n  Version:  {}\n  Revision: {}\n\n", info::VERSION, info::REVISION)
}

/// How a program called `name` is to be called.
#[must_use]
pub fn usage(name: &OsStr) -> String {
    let name = base_name(name);
    let commands: String = operator::command()
        .get_subcommands()
        .map(|one| format!("  {:<12}{}\n", one.get_name(), one.get_about().unwrap_or_default()))
        .collect();
    format!(
        "Usage of {name}:\n{}\nactions: start, delete\n\n\
         Usage of gam: gam manager --help, or a command of an operator:\n{commands}",
        flags::DEFAULTS
    )
}

/// The last part of the path a program was called by.
fn base_name(name: &OsStr) -> String {
    Path::new(name).file_name().unwrap_or(name).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
