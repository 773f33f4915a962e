//! The commands of an operator: `gam ls`, `gam top`, ...
//!
//! Each asks the managers of this machine, over their control sockets, and reads the kernel's files of the containers
//! itself, so that looking costs the managers little. `--json` is for programs; the rest is for people.

mod cmdline;
mod config;
mod cost;
mod dump;
mod events;
mod gc;
mod inspect;
mod log_level;
mod ls;
mod managers;
mod metrics;
mod older;
mod stacks;
mod table;
mod top;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::config::ConfigError;

/// Look at and look after the managers of this machine
#[derive(Debug, Parser)]
#[command(name = "gam", version, disable_version_flag = true, arg_required_else_help = true)]
#[command(
    after_help = "They exit with 0; with 1 if they fail, or a manager that they ask does not answer, and say why on stderr; \
    with 2 if they are called wrongly.\n\
    GAM_RUN_DIR names the managers' directory in the place of /run/gam."
)]
struct Operator {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List containers and managers
    Ls(ls::Args),
    /// Show what containers and managers use, again and again
    Top(top::Args),
    /// Show everything that is known of a container, except its environment and arguments
    Inspect(inspect::Args),
    /// Follow what happens to containers
    Events(events::Args),
    /// Show every request at work and what it waits for, the oldest first
    Stacks(stacks::Args),
    /// Show the whole state of every manager, as JSON
    Dump(dump::Args),
    /// Show or set which lines the managers log
    LogLevel(log_level::Args),
    /// Find, and with --fix remove, what managers that died have left
    Gc(gc::Args),
    /// Look at the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Print the metrics of the managers
    Metrics(metrics::Args),
}

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// a directory or file that cannot be read
    #[error("cannot read {path}: {source}{}", hint(.source))]
    Read {
        /// What was read.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// no manager has that group
    #[error("there is no manager of a group {0:?}")]
    NoGroup(String),
    /// no container has that id
    #[error("there is no container {0:?}{1}")]
    NoContainer(String, &'static str),
    /// more than one container has an id that begins so
    #[error("{id:?} may be any of {found}")]
    Ambiguous {
        /// What was asked for.
        id: String,
        /// Which containers are meant by that.
        found: String,
    },
    /// a manager that does not answer, or cannot
    #[error("the manager of {group}: {text}")]
    Manager {
        /// Its group.
        group: String,
        /// What is wrong.
        text: String,
    },
    /// the configuration is wrong
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// stdout takes nothing more
    #[error("cannot print: {0}")]
    Print(io::Error),
    /// the kernel refuses something
    #[error("cannot {what}: {source}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; gam's commands are for root",
        _ => "",
    }
}

/// Carries out an operator's command: its name and arguments.
#[must_use]
pub fn run(words: Vec<OsString>) -> ExitCode {
    let named = std::iter::once(OsString::from("gam")).chain(words);
    let operator = match Operator::try_parse_from(named) {
        Ok(operator) => operator,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match operator.command {
        Command::Ls(args) => ls::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Stacks(args) => stacks::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::LogLevel(args) => log_level::run(&args),
        Command::Gc(args) => gc::run(&args),
        Command::Config(command) => config::run(&command),
        Command::Metrics(args) => metrics::run(&args),
    };
    match done {
        Ok(code) => code,
        // Whoever read it has seen enough, as with `| head`.
        Err(OperatorError::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gam: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The commands with their arguments and help, for completions and man pages.
#[must_use]
pub fn command() -> clap::Command {
    Operator::command()
}

/// Prints to stdout, at once.
fn print(text: &str) -> Result<(), OperatorError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(OperatorError::Print)
}

/// Prints JSON, indented.
fn print_json<T: serde::Serialize>(value: &T) -> Result<(), OperatorError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| OperatorError::Print(error.into()))?;
    print(&format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_help() {
        command().debug_assert();
        for one in command().get_subcommands() {
            assert!(one.get_about().is_some(), "{}", one.get_name());
        }
    }
}
