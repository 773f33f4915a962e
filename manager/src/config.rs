//! The configuration: `/etc/gam/config.toml`, or the file that `$GAM_CONFIG` names.
//!
//! Every key has a default, so there need be no file. An unknown key or a bad value is refused with its line: a manager
//! that ran with half of what its operator meant would be found out at the worst moment.
//!
//! ```toml
//! grouping = "namespace"          # "pod", "namespace" or "node"
//! linger = "10s"                  # or a number of seconds
//! task_api = 2                    # or 3, for containerd 2.0 and newer
//! log_level = "info"              # "error", "warn", "info", "debug" or "trace"
//! [scheduler]
//! concurrency = 4                 # runtime commands at a time
//! [limits]                        # of each tenant
//! containers = 500
//! [limits.tenants."k8s.io/batch"] # of that one
//! containers = 50
//! [metrics]
//! listen = "tcp://127.0.0.1:9464" # or a path: the metrics of all managers; or "off"
//! max_tenants = 100
//! per_container = false
//! max_containers = 1000
//! [events]
//! max_events = 65536
//! max_bytes = 33554432
//! patience = "120s"
//! [runtime]
//! BinaryName = "/usr/bin/crun"    # the keys of containerd's runc options
//! ```

mod tenants;
mod values;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

pub use tenants::{Scheduler, TenantLimits};
pub use values::Listen;
pub(crate) use values::parse_duration;

use crate::metrics::Bounds;
use crate::options::Named;

/// The file that is read where the environment names none.
pub const DEFAULT_PATH: &str = "/etc/gam/config.toml";

/// The variable that names another file.
pub const PATH_VARIABLE: &str = "GAM_CONFIG";

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// a file that cannot be read
    #[error("cannot read the configuration {path:?}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// a line that is no TOML, or has a key or value that does not exist
    #[error("the configuration {path:?}, line {line}: {message}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
}

/// Which containers share a manager.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grouping {
    /// Those of one pod, as with containerd's own shim.
    Pod,
    /// Those of one Kubernetes namespace inside one containerd namespace.
    #[default]
    Namespace,
    /// All of one containerd.
    Node,
}

/// Which of the two Task services, alike but for their names, containerd is told to call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum TaskApi {
    /// `containerd.task.v2.Task`: containerd runs `start` and `delete` for every container, and each has a clean-up
    /// callback of its own.
    #[default]
    V2,
    /// `containerd.task.v3.Task`, where containerd is 2.0 or newer; elsewhere v2. containerd runs `start` and `delete` for
    /// the pod's sandbox only.
    V3,
}

impl TryFrom<u8> for TaskApi {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            2 => Ok(Self::V2),
            3 => Ok(Self::V3),
            other => Err(format!("there is no version {other} of the Task service: it is 2 or 3")),
        }
    }
}

impl From<TaskApi> for u8 {
    fn from(api: TaskApi) -> Self {
        match api {
            TaskApi::V2 => 2,
            TaskApi::V3 => 3,
        }
    }
}

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `grouping`: which containers share a manager: `"pod"`, `"namespace"` or `"node"`. Default `"namespace"`.
    pub grouping: Grouping,
    /// `linger`: how long a manager without containers stays: a number of seconds, or text such as `"500ms"`, `"10s"`,
    /// `"1m30s"`; at most a day. Default 10 s.
    #[serde(deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    pub linger: Duration,
    /// `task_api`: which Task service containerd 2.0 and newer are told to call: 2 or 3. Default 2.
    pub task_api: TaskApi,
    /// `log_level`: the least important lines that are written: `"error"`, `"warn"`, `"info"`, `"debug"` or `"trace"`;
    /// containerd's own `-debug` makes it at least `"debug"`. Default `"info"`.
    #[serde(deserialize_with = "values::level", serialize_with = "values::write_level")]
    pub log_level: LevelFilter,
    /// `[scheduler]`
    pub scheduler: Scheduler,
    /// `[limits]`
    pub limits: TenantLimits,
    /// `[metrics]`
    pub metrics: Metrics,
    /// `[events]`
    pub events: Events,
    /// `[runtime]`: options for containers whose own do not name them, with the keys of containerd's runc options
    /// (`BinaryName`, `Root`, ...). `SystemdCgroup` counts only where containerd sends no runc options, which always
    /// name it. Default: none.
    pub runtime: Named,
}

/// `[metrics]`: where Prometheus finds the metrics, and how many there may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// `listen`: `"tcp://127.0.0.1:9464"`, `"tcp://[::1]:9464"` or the same without `tcp://`; the absolute path of a
    /// unix socket, with or without `unix://`; or `"off"`. Whichever manager has the address answers for all whose groups
    /// are in the same runtime directory, and another takes it over within a second when that one ends. Managers with other
    /// addresses, by another configuration, do the same at theirs. Every manager also tells its own metrics at the socket
    /// `metrics.sock` in its group's directory, unless it is `"off"`. Default: only that.
    pub listen: Listen,
    /// `max_tenants`: how many tenants get series of their own in a manager, at least 1; those above are counted together,
    /// as tenant `other`. Default 100.
    #[serde(deserialize_with = "values::positive")]
    pub max_tenants: usize,
    /// `per_container`: whether containers get series of their own: memory, CPU time, processes and kills for lack of
    /// memory. Default false.
    pub per_container: bool,
    /// `max_containers`: how many containers of a manager do, 1 to 3000; how many others there are is told. Default 1000.
    #[serde(deserialize_with = "values::shown")]
    pub max_containers: usize,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: Listen::default(), max_tenants: 100, per_container: false, max_containers: 1000 }
    }
}

impl Metrics {
    /// The bounds that it sets.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        let containers = self.per_container.then_some(self.max_containers);
        Bounds { tenants: self.max_tenants, containers }
    }
}

/// `[events]`: how much is kept for a containerd that does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// `max_events`: how many events are kept, at least 1. Default 65536.
    #[serde(deserialize_with = "values::positive")]
    pub max_events: usize,
    /// `max_bytes`: how many bytes of events are kept, at least 1. Default 33554432 (32 MiB).
    #[serde(deserialize_with = "values::positive")]
    pub max_bytes: usize,
    /// `patience`: how long a manager without containers stays for events that containerd has not taken, as for `linger`.
    /// Default 120 s.
    #[serde(deserialize_with = "values::duration", serialize_with = "values::write_duration")]
    pub patience: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grouping: Grouping::default(),
            linger: Duration::from_secs(10),
            task_api: TaskApi::default(),
            log_level: LevelFilter::INFO,
            scheduler: Scheduler::default(),
            limits: TenantLimits::default(),
            metrics: Metrics::default(),
            events: Events::default(),
            runtime: Named::default(),
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self { max_events: 65_536, max_bytes: 32 << 20, patience: Duration::from_secs(120) }
    }
}

impl Config {
    /// Reads `$GAM_CONFIG`, or [`DEFAULT_PATH`] where that is unset or empty. Only the latter may be missing.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, and the line if it has one.
    pub fn load() -> Result<Self, ConfigError> {
        match std::env::var_os(PATH_VARIABLE).filter(|path| !path.is_empty()) {
            Some(path) => Self::read(path.as_ref()),
            None => match Self::read(DEFAULT_PATH.as_ref()) {
                Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    Ok(Self::default())
                }
                other => other,
            },
        }
    }

    /// Reads the file at `path`, which must exist.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|e| {
            let (line, message) = complaint(&text, &e);
            ConfigError::Line { path: path.to_owned(), line, message }
        })
    }
}

/// The line of `text` that `error` is about, from 1, and what is wrong with it, on one line.
pub(crate) fn complaint(text: &str, error: &toml::de::Error) -> (usize, String) {
    let at = error.span().map_or(0, |span| span.start);
    let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
    (line, error.message().replace('\n', " "))
}

#[cfg(test)]
mod tests;
