//! The manager's arguments, both ways: `start` writes them, the manager reads them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Parser;

use super::CliError;

/// What a manager is told by the `start` that makes it.
#[derive(Parser, Clone, Debug, Default, PartialEq, Eq)]
#[command(name = "gam manager", about = "Serve the containers of one group", args_override_self = true)]
pub struct ManagerArgs {
    /// The group's directory: lock, pid, sockets, log
    #[arg(long, value_name = "DIR")]
    pub directory: PathBuf,
    /// The group's key, as text
    #[arg(long, value_name = "TEXT")]
    pub group: String,
    /// The path of the socket that the listener is bound to, for unlinking it at the end
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The descriptor of a socket that listens already; without it the manager binds `--socket` itself
    #[arg(long, value_name = "FD")]
    pub listener: Option<i32>,
    /// containerd's gRPC address
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    pub address: String,
    /// containerd's ttrpc address
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    pub ttrpc_address: String,
    /// The binary that publishes events where no socket takes them
    #[arg(long, value_name = "PATH")]
    pub publish_binary: Option<PathBuf>,
    /// The configuration, in place of the usual one
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Write debug lines to the logs
    #[arg(long)]
    pub debug: bool,
}

impl ManagerArgs {
    /// Reads what follows `gam manager`.
    pub(super) fn parse(args: impl Iterator<Item = OsString>) -> Result<Self, CliError> {
        let named = std::iter::once(OsString::from("gam manager")).chain(args);
        Self::try_parse_from(named).map_err(|e| CliError::Manager(Box::new(e)))
    }

    /// The arguments that [`super::parse`] makes the same `ManagerArgs` of, `manager` first. Each is one token, so that
    /// a value may begin with a dash.
    #[must_use]
    pub fn to_args(&self) -> Vec<OsString> {
        let mut args = vec![OsString::from("manager")];
        let mut push = |name: &str, value: &std::ffi::OsStr| {
            let mut arg = OsString::from(format!("--{name}="));
            arg.push(value);
            args.push(arg);
        };
        push("directory", self.directory.as_os_str());
        push("group", self.group.as_ref());
        if let Some(fd) = self.listener {
            push("listener", fd.to_string().as_ref());
        }
        push("address", self.address.as_ref());
        push("ttrpc-address", self.ttrpc_address.as_ref());
        // An empty path is no path, and no parser of paths takes one.
        for (name, path) in
            [("socket", &self.socket), ("publish-binary", &self.publish_binary), ("config", &self.config)]
        {
            if let Some(path) = path.as_deref().filter(|path| *path != Path::new("")) {
                push(name, path.as_os_str());
            }
        }
        if self.debug {
            args.push("--debug".into());
        }
        args
    }
}
