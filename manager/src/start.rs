//! `start`: finds the group's manager, or starts one, and answers where it is served.
//!
//! All of it happens under the group's lock (K2), which a manager also needs for leaving (K3): an address that is
//! answered belongs to a manager that expects the container.

mod launch;
mod pod;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use gam_task::id::{IdError, Key};
use gam_task::record;
use gam_task::spec::Spec;

use crate::bootstrap::{self, BootstrapError, Question};
use crate::cli::Flags;
use crate::config::{Config, ConfigError, TaskApi};
use crate::control::{self, Answer, Client, ControlError};
use crate::group::{Group, Lock};
use crate::options::{Named, OptionsError};

pub use launch::LaunchError;
pub(crate) use launch::{READY, READY_FD};

/// How long a manager may take to answer.
const PATIENCE: Duration = Duration::from_secs(8);

/// Why there is no address to answer.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A name that containerd would refuse too.
    #[error(transparent)]
    Id(#[from] IdError),
    /// What came on stdin is not understood.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The options that came are not understood.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The configuration is not understood.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The group cannot be locked.
    #[error("cannot lock group {directory}: {source}")]
    Lock {
        /// The group's directory.
        directory: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The manager does not answer.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The manager refuses.
    #[error("the manager of {group} refuses: {text}")]
    Refused {
        /// The group.
        group: String,
        /// Why.
        text: String,
    },
    /// A manager cannot be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A file of the bundle cannot be written.
    #[error("cannot write {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The answer cannot be printed.
    #[error("cannot print the answer: {0}")]
    Print(io::Error),
}

/// Carries out `start`: the answer is the only thing on stdout.
///
/// # Errors
/// [`StartError`]; nothing has been printed then.
pub fn run(flags: &Flags) -> Result<(), StartError> {
    let key = Key::new(&flags.namespace, &flags.id)?;
    let question = Question::parse(&bootstrap::read(io::stdin().lock())?, &flags.namespace, &flags.id)?;
    let mut flags = flags.clone();
    question.complete(&mut flags);
    let flags = &flags;
    let config = Config::load()?;
    let bundle = flags.bundle_dir().unwrap_or_default();
    let spec = Spec::read(&bundle).unwrap_or_default();
    let named = question.options.as_ref().map(Named::from_any).transpose()?.unwrap_or_default();
    let options = named.or(&config.runtime).resolve(spec.cgroups_path());
    let group = Group::of(config.grouping, &flags.address, &flags.namespace, &flags.id, &spec);
    let elsewhere = pod::elsewhere(flags, config.grouping, &bundle, &spec, &group);
    let served = match elsewhere.and_then(|group| join_running(&question, &group, &key)) {
        Some(served) => served,
        None => {
            let lock = Lock::take(&group)
                .map_err(|source| StartError::Lock { directory: group.directory.clone(), source })?;
            join_or_launch(flags, &question, &group, &key, &options.shim_cgroup, &lock)?
        }
    };
    let Served { address, daemon, task_api } = served;
    let file = bundle.join("address");
    record::replace(&file, address.as_bytes(), 0o644)
        .map_err(|source| StartError::File { path: file, source })?;
    let most = std::env::var("MAX_SHIM_VERSION").ok();
    let daemon = question.daemon().or(daemon);
    let dialect = bootstrap::choose(&question, most.as_deref(), daemon);
    let answer = bootstrap::answer(dialect, bootstrap::version(dialect, task_api, daemon), &address)?;
    io::stdout().lock().write_all(&answer).map_err(StartError::Print)
}

/// Where a container is served, and how.
struct Served {
    address: String,
    /// The version of containerd, as far as the manager knows it.
    daemon: Option<(u32, u32)>,
    task_api: TaskApi,
}

fn join_or_launch(
    flags: &Flags,
    asked: &Question,
    group: &Group,
    key: &Key,
    shim_cgroup: &str,
    _lock: &Lock,
) -> Result<Served, StartError> {
    let mut client = match Client::connect(&group.control_socket(), PATIENCE) {
        Ok(client) => client,
        Err(ControlError::Absent { .. }) => {
            launch::launch(flags, asked.ttrpc_address(), group, shim_cgroup)?;
            Client::connect(&group.control_socket(), PATIENCE)?
        }
        Err(error) => return Err(error.into()),
    };
    join(&mut client, asked, group, key)
}

/// Joins the manager of a group that another build may have started; none where it is there no more, or does not take the
/// container.
fn join_running(asked: &Question, group: &Group, key: &Key) -> Option<Served> {
    let _lock = Lock::take_existing(group).ok().flatten()?;
    let mut client = Client::connect(&group.control_socket(), PATIENCE).ok()?;
    join(&mut client, asked, group, key).ok()
}

fn join(client: &mut Client, asked: &Question, group: &Group, key: &Key) -> Result<Served, StartError> {
    let question = control::Question::Join {
        namespace: key.namespace.to_string(),
        id: key.id.to_string(),
        socket_dir: asked.socket_dir().map(str::to_owned),
    };
    match client.ask(&question)? {
        Answer::Joined { address, daemon, task_api } => Ok(Served { address, daemon, task_api }),
        Answer::Failed(text) => Err(StartError::Refused { group: group.name.clone(), text }),
        other => Err(StartError::Refused { group: group.name.clone(), text: format!("{other:?}") }),
    }
}
