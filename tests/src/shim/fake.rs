//! What the fake runtime is told, and what it was asked.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What goes wrong in one command, for one container or, with an empty id, for all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// `create`, `start`, `exec`, ...
    pub command: String,
    /// The container's id; empty for every one.
    pub id: String,
    /// Waits before it does anything.
    pub before_ms: u64,
    /// Waits after the process is there and before its pid is written down or the call returns.
    pub middle_ms: u64,
    /// Waits after all is done.
    pub after_ms: u64,
    /// Kills the process it has just made or started.
    pub die: bool,
    /// Does nothing, fails with this.
    pub fail: Option<String>,
    /// `create`: makes everything, then fails with this.
    pub fail_late: Option<String>,
    /// Never returns.
    pub hang: bool,
    /// First writes so many bytes to stderr.
    pub stderr: usize,
    /// Does nothing, succeeds.
    pub ignore: bool,
}

/// The start of a rule for `command`.
#[must_use]
pub fn on(command: &str) -> Rule {
    Rule { command: command.to_owned(), ..Rule::default() }
}

impl Rule {
    /// Only for the container `id`.
    #[must_use]
    pub fn of(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self
    }

    /// See [`Rule::before_ms`].
    #[must_use]
    pub fn before(mut self, millis: u64) -> Self {
        self.before_ms = millis;
        self
    }

    /// See [`Rule::middle_ms`].
    #[must_use]
    pub fn middle(mut self, millis: u64) -> Self {
        self.middle_ms = millis;
        self
    }

    /// See [`Rule::after_ms`].
    #[must_use]
    pub fn after(mut self, millis: u64) -> Self {
        self.after_ms = millis;
        self
    }

    /// See [`Rule::die`].
    #[must_use]
    pub fn dies(mut self) -> Self {
        self.die = true;
        self
    }

    /// See [`Rule::fail`].
    #[must_use]
    pub fn fails(mut self, text: &str) -> Self {
        self.fail = Some(text.to_owned());
        self
    }

    /// See [`Rule::fail_late`].
    #[must_use]
    pub fn fails_late(mut self, text: &str) -> Self {
        self.fail_late = Some(text.to_owned());
        self
    }

    /// See [`Rule::hang`].
    #[must_use]
    pub fn hangs(mut self) -> Self {
        self.hang = true;
        self
    }

    /// See [`Rule::stderr`].
    #[must_use]
    pub fn noisy(mut self, bytes: usize) -> Self {
        self.stderr = bytes;
        self
    }
}

/// One call of the runtime, as the runtime saw it.
#[derive(Debug, Clone, Deserialize)]
pub struct Call {
    /// `create`, `start`, ...
    pub command: String,
    /// The container.
    pub id: String,
    /// What follows the command.
    pub arguments: Vec<String>,
    /// Names of the options given.
    pub options: Vec<String>,
    /// Whether this is the call's end rather than its beginning.
    pub end: bool,
    /// The runtime's process.
    pub pid: u32,
    /// Names in its environment that should not be there.
    pub environment: Vec<String>,
    /// Its OOM score adjustment.
    pub oom_score_adj: String,
    /// Microseconds since 1970.
    pub at: u64,
}

/// The place where the fake runtime is told and writes.
#[derive(Debug, Clone)]
pub struct Desk(PathBuf);

impl Desk {
    /// The desk in `directory`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// Replaces every rule.
    pub fn set(&self, rules: &[Rule]) {
        let text = serde_json::to_vec(rules).expect("rules can be written as JSON");
        let fresh = self.0.join("control.new");
        std::fs::write(&fresh, text).expect("control file");
        std::fs::rename(fresh, self.0.join("control.json")).expect("control file");
    }

    /// Every call so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        let text = std::fs::read_to_string(self.0.join("calls.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// How often `command` was begun.
    #[must_use]
    pub fn count(&self, command: &str) -> usize {
        self.calls().iter().filter(|call| call.command == command && !call.end).count()
    }

    /// Waits until `command` was begun `times` times.
    pub async fn begun(&self, command: &str, times: usize) {
        super::until(&format!("{times} calls of {command}"), || self.count(command) >= times).await;
    }
}
