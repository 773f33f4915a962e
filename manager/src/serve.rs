//! The manager: from its start by `start` to its leaving.

mod become_manager;
pub mod dump;
mod leaving;
pub mod observer;
pub mod sockets;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gam_task::admission::Admission;
use gam_task::cgroup::OomMonitor;
use gam_task::container::Host;
use gam_task::reaper::Reaper;
use tokio::signal::unix::{SignalKind, signal};
use tracing::level_filters::LevelFilter;

use crate::cli::ManagerArgs;
use crate::config::{Config, ConfigError, Listen};
use crate::containerd::Known;
use crate::containers::Containers;
use crate::control;
use crate::feed::Feed;
use crate::group::Group;
use crate::leases::Leases;
use crate::logs::Logs;
use crate::manager::Manager;
use crate::metrics::{self, Metrics};
use crate::publisher::{Addresses, Limits, Publisher};
use crate::serve::sockets::{Sockets, listen};
use crate::server::Calls;

/// Threads that serve requests; runtime commands are processes, so two keep up with any number of containers.
const WORKERS: usize = 2;
/// Threads that mount, unmount and write to files, at most; they go when they have nothing to do. Mounting takes 16 of them at
/// most, writing 8.
const BLOCKING: usize = 32;
/// What a thread's stack may grow to, in bytes.
const STACK: usize = 2 << 20;
/// How often what is old is forgotten, and a sign of life is given.
pub const SWEEP: Duration = Duration::from_secs(15);

/// Why a manager cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is not understood.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The metrics cannot be made.
    #[error(transparent)]
    Metrics(#[from] metrics::MetricsError),
    /// The kernel refused something.
    #[error("cannot {what}: {source}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A socket or file cannot be had.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ServeError {
    fn kernel(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Kernel { what, source }
    }

    fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}

/// Runs a manager until it leaves. `start` is told when it serves, or why it does not.
///
/// # Errors
/// [`ServeError`] if it cannot serve.
pub fn run(args: &ManagerArgs) -> Result<(), ServeError> {
    let mut starter = become_manager::Starter::take();
    let served = serve(args, &mut starter);
    if let Err(error) = &served {
        starter.failed(error);
    }
    served
}

fn serve(args: &ManagerArgs, starter: &mut become_manager::Starter) -> Result<(), ServeError> {
    let config = Config::load()?;
    let group = Group::at(&args.group, &args.directory);
    let level = if args.debug { config.log_level.max(LevelFilter::DEBUG) } else { config.log_level };
    let logs = Logs::with_level(group.log_file(), level);
    // One that is there already is a test's.
    let _ = logs.install();
    become_manager::settle()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_stack_size(STACK)
        .thread_name("gam-worker")
        .enable_all()
        .build()
        .map_err(ServeError::kernel("start the threads that serve"))?;
    let outcome = runtime.block_on(life(args, &config, &group, logs, starter));
    // What still works on a disk that hangs is not waited for.
    runtime.shutdown_background();
    outcome
}

async fn life(
    args: &ManagerArgs,
    config: &Config,
    group: &Group,
    logs: Logs,
    starter: &mut become_manager::Starter,
) -> Result<(), ServeError> {
    let listen_to = ServeError::kernel("listen to signals");
    let mut terminate = signal(SignalKind::terminate()).map_err(listen_to)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::kernel("listen to signals"))?;
    let mut wanted = signal(SignalKind::user_defined1()).map_err(ServeError::kernel("listen to signals"))?;
    let manager = build(args, config, group, logs)?;
    let socket = group.control_socket();
    let listener = listen(&socket).map_err(ServeError::file("listen on", &socket))?;
    tokio::spawn(control::serve(listener, Arc::clone(&manager)));
    let served = serve_metrics(config, group, &manager.metrics)?;
    let file = group.pid_file();
    let pid = std::process::id().to_string();
    gam_task::record::replace(&file, pid.as_bytes(), 0o644).map_err(ServeError::file("write", &file))?;
    starter.ready();
    tracing::info!(group = group.name, "serving");
    let mut sweep = tokio::time::interval(SWEEP);
    let mut leaving = std::pin::pin!(leaving::wait(&manager, config, group));
    loop {
        tokio::select! {
            lock = &mut leaving => {
                leaving::leave(&manager, group, &lock).await;
                break;
            }
            _ = terminate.recv() => { leaving::stop(&manager, group).await; break }
            _ = interrupt.recv() => { leaving::stop(&manager, group).await; break }
            _ = wanted.recv() => dump::write(&manager, group),
            _ = sweep.tick() => {
                manager.containers.forget_old();
                group.show_life();
            }
        }
    }
    drop(served);
    Ok(())
}

/// Serves the metrics of the manager, and of the node where they are wanted.
fn serve_metrics(
    config: &Config,
    group: &Group,
    metrics: &Arc<Metrics>,
) -> Result<Option<metrics::Handle>, ServeError> {
    if config.metrics.listen == Listen::Off {
        return Ok(None);
    }
    let node = match config.metrics.listen.node() {
        Some(address) => Some((address, metrics::Node::new(group, Arc::clone(metrics))?)),
        None => None,
    };
    let served = metrics::serve(group, Arc::clone(metrics), node);
    served.map(Some).map_err(ServeError::kernel("serve metrics"))
}

/// Puts a manager together.
fn build(args: &ManagerArgs, config: &Config, group: &Group, logs: Logs) -> Result<Arc<Manager>, ServeError> {
    let containers = Arc::new(Containers::default());
    let metrics = Arc::new(Metrics::new(config.metrics.bounds())?);
    metrics.watch_tasks(Arc::clone(&containers) as _);
    let calls = Arc::new(Calls::default());
    metrics.watch_requests(Arc::clone(&calls) as _);
    metrics.watch_logs(logs.clone());
    let reaper = Reaper::new(Arc::clone(&metrics) as _).map_err(ServeError::kernel("reap processes"))?;
    let addresses = Addresses {
        ttrpc: args.ttrpc_address.clone(),
        grpc: args.address.clone(),
        binary: args.publish_binary.clone().unwrap_or_default(),
    };
    let limits =
        Limits { events: config.events.max_events, bytes: config.events.max_bytes, ..Limits::default() };
    let publisher = Publisher::start(addresses, limits, Arc::clone(&reaper), Arc::clone(&metrics) as _);
    let feed = Arc::new(Feed::new(Arc::clone(&publisher) as _));
    let oom =
        OomMonitor::new().inspect_err(|error| tracing::warn!(%error, "out of memory will not be seen")).ok();
    let host = Host {
        reaper,
        events: Arc::clone(&feed) as _,
        telemetry: Arc::clone(&metrics) as _,
        admission: Admission::new(config.scheduler.concurrency, Arc::clone(&metrics) as _),
        accounts: config.limits.accounts(),
        group: group.directory.clone(),
        // As upstream reads it: anything but nothing.
        core_scheduling: std::env::var_os("SCHED_CORE").is_some_and(|value| !value.is_empty()),
        oom,
    };
    Ok(Arc::new(Manager {
        group: group.clone(),
        containers,
        leases: Leases::default(),
        host: Arc::new(host),
        logs,
        sockets: Sockets::new(group.clone(), args.address.clone()),
        metrics,
        started: SystemTime::now(),
        feed,
        calls,
        publisher,
        containerd: Known::new(&args.address),
        task_api: config.task_api,
        runtime: config.runtime.clone(),
        shut: false.into(),
    }))
}
