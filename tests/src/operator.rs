//! The operator's commands of `gam`, run against the managers of a daemon.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::daemon::Daemon;

/// What a command answered.
#[derive(Debug)]
pub struct Output {
    /// What it exited with.
    pub code: i32,
    /// What it printed.
    pub out: String,
    /// What it complained of.
    pub err: String,
}

impl Output {
    /// What it printed, as JSON.
    ///
    /// # Panics
    /// Where that is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A command of `gam` for the managers of `daemon`. The binary is the shim's, so the name it is called by says what it is.
#[must_use]
pub fn command(daemon: &Daemon, words: &[&str]) -> Command {
    let mut command = Command::new(daemon.dir.join("bin").join(daemon.settings.shim.binary_name()));
    command.arg0("gam").args(words).env_clear().envs(daemon.environment()).stdin(Stdio::null());
    command
}

/// Runs a command to its end.
///
/// # Panics
/// Where it cannot be started, or a signal ended it.
#[must_use]
pub fn gam(daemon: &Daemon, words: &[&str]) -> Output {
    let output = command(daemon, words).output().expect("gam is started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().unwrap_or_else(|| panic!("gam {words:?}: {}", output.status));
    Output { code, out: text(&output.stdout), err: text(&output.stderr) }
}

/// Runs a command that has to succeed, and answers the JSON that it prints.
///
/// # Panics
/// Where it does not exit with 0, or prints no JSON.
#[must_use]
pub fn asked(daemon: &Daemon, words: &[&str]) -> Value {
    let output = gam(daemon, words);
    assert_eq!(output.code, 0, "gam {words:?}: {output:?}");
    output.json()
}
