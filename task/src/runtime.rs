//! The OCI runtime (runc, crun): how it is called, and how its complaints are understood.
//!
//! Every command gets a clean environment (J11), a log file of its own, and a limit of time; what it prints is drained
//! while it runs (B6). Where its streams are the container's, only its log tells why it failed.

mod args;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod invoke;
mod log;
mod output;

use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use args::{Checkpoint, Restore, Settings};
pub use error::RuntimeError;

use self::invoke::Streams;
use crate::admission::{Admission, Turn};
use crate::doing;
use crate::process::Core;
use crate::reaper::Reaper;
use crate::telemetry::Telemetry;
use crate::tenant::Tenant;

/// How long commands may take before they are killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One that only asks or signals.
    pub quick: Duration,
    /// One that makes, starts or ends something.
    pub slow: Duration,
    /// A checkpoint or a restore.
    pub image: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            quick: Duration::from_secs(30),
            slow: Duration::from_secs(120),
            image: Duration::from_secs(30 * 60),
        }
    }
}

/// What a runtime command is given as its own streams, and passes on to the container; none is `/dev/null`.
#[derive(Debug, Default)]
pub struct Stdio {
    /// What the container reads.
    pub stdin: Option<OwnedFd>,
    /// What it prints to.
    pub stdout: Option<OwnedFd>,
    /// What it complains to.
    pub stderr: Option<OwnedFd>,
}

/// The runtime of one container.
#[derive(Clone)]
pub struct Runtime {
    reaper: Arc<Reaper>,
    telemetry: Arc<dyn Telemetry>,
    settings: Arc<Settings>,
    id: Arc<str>,
    bundle: Arc<Path>,
    limits: Limits,
    /// Who lets its commands run, and whose they are; none where they run at once.
    admission: Option<(Admission, Tenant)>,
}

impl Runtime {
    /// The runtime of container `id`, whose bundle is a directory for its files too.
    #[must_use]
    pub fn new(
        reaper: Arc<Reaper>,
        telemetry: Arc<dyn Telemetry>,
        settings: Settings,
        id: &str,
        bundle: &Path,
    ) -> Self {
        Self {
            reaper,
            telemetry,
            settings: Arc::new(settings),
            id: id.into(),
            bundle: bundle.into(),
            limits: Limits::default(),
            admission: None,
        }
    }

    /// The same with other limits.
    #[must_use]
    pub fn limited(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The same, but commands wait for their turn among those of others.
    #[must_use]
    pub fn admitted_by(self, admission: &Admission, tenant: &Tenant) -> Self {
        Self { admission: Some((admission.clone(), tenant.clone())), ..self }
    }

    /// Waits until `create`, `restore`, `start`, `exec`, `pause` or `resume` may run; the others wait by themselves. A container
    /// is not in the state that such a command puts it in before its turn has come: else what only waits would stand in the
    /// way of its end. And what belongs to the command is not opened before: only so much is open as is at work.
    pub async fn turn(&self, command: &'static str) -> Turn {
        match &self.admission {
            Some((admission, tenant)) => {
                let _step = doing::step("its turn among runtime commands");
                admission.turn(tenant, command).await
            }
            None => Turn::free(),
        }
    }

    /// Makes the container, whose init then waits for its start, and answers init's pid. With a console init's terminal
    /// is sent to that socket and `stdio` is not the container's. `core` says with whom init shares the threads of a core.
    ///
    /// # Errors
    /// [`RuntimeError`] says what the runtime said.
    pub async fn create(
        &self,
        stdio: Stdio,
        console: Option<&Path>,
        core: Option<Core>,
    ) -> Result<i32, RuntimeError> {
        let pid_file = self.bundle.join("init.pid");
        let args = args::create(&self.settings, &self.id, &self.bundle, &pid_file, console);
        self.run("create", args, streams(stdio, console), core, self.limits.slow).await?;
        read_pid(&pid_file)
    }

    /// Makes the container from a checkpoint, running, and answers init's pid.
    ///
    /// # Errors
    /// [`RuntimeError`] says what the runtime said.
    pub async fn restore(
        &self,
        stdio: Stdio,
        console: Option<&Path>,
        core: Option<Core>,
        restore: &Restore,
    ) -> Result<i32, RuntimeError> {
        let pid_file = self.bundle.join("init.pid");
        let args = args::restore(&self.settings, &self.id, &self.bundle, &pid_file, console, restore);
        self.run("restore", args, streams(stdio, console), core, self.limits.image).await?;
        read_pid(&pid_file)
    }

    /// Starts init.
    ///
    /// # Errors
    /// [`RuntimeError`] says what the runtime said.
    pub async fn start(&self) -> Result<(), RuntimeError> {
        self.run("start", args::start(&self.id), Streams::Captured, None, self.limits.slow).await
    }

    /// Starts a further process, whose OCI spec is `process`, and answers its pid.
    ///
    /// # Errors
    /// [`RuntimeError`] says what the runtime said.
    pub async fn exec(
        &self,
        exec_id: &str,
        process: &[u8],
        stdio: Stdio,
        console: Option<&Path>,
        core: Option<Core>,
    ) -> Result<i32, RuntimeError> {
        // No id makes it a file that the bundle has for another reason: an id begins with a letter or a digit.
        let pid_file = Scratch(self.bundle.join(format!(".exec-{exec_id}.pid")));
        let spec = Scratch(self.bundle.join(format!(".exec-{exec_id}.json")));
        write_private(&spec.0, process)?;
        let args = args::exec(&self.settings, &self.id, &spec.0, &pid_file.0, console);
        self.run("exec", args, streams(stdio, console), core, self.limits.slow).await?;
        read_pid(&pid_file.0)
    }

    /// Sends a signal, 0 to 64, to init or to every process.
    ///
    /// # Errors
    /// [`RuntimeError`] says what the runtime said; see [`RuntimeError::is_finished`].
    pub async fn kill(&self, signal: u32, all: bool) -> Result<(), RuntimeError> {
        self.plain("kill", args::kill(&self.id, signal, all), self.limits.quick).await
    }

    /// Freezes every process.
    ///
    /// # Errors
    /// [`RuntimeError`] says what the runtime said.
    pub async fn pause(&self) -> Result<(), RuntimeError> {
        self.run("pause", args::of("pause", &self.id), Streams::Captured, None, self.limits.quick).await
    }

    /// Thaws every process.
    ///
    /// # Errors
    /// [`RuntimeError`] says what the runtime said.
    pub async fn resume(&self) -> Result<(), RuntimeError> {
        self.run("resume", args::of("resume", &self.id), Streams::Captured, None, self.limits.quick).await
    }

    /// Deletes the container, with `force` also one that runs. One that does not exist is deleted (D12).
    ///
    /// # Errors
    /// [`RuntimeError`] says what the runtime said.
    pub async fn delete(&self, force: bool) -> Result<(), RuntimeError> {
        match self.plain("delete", args::delete(&self.id, force), self.limits.slow).await {
            Err(error) if error.is_gone() => Ok(()),
            other => other,
        }
    }

    /// Sets limits, given as OCI `LinuxResources` in JSON.
    ///
    /// # Errors
    /// [`RuntimeError`] says what the runtime said.
    pub async fn update(&self, resources: &[u8]) -> Result<(), RuntimeError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = Scratch(self.bundle.join(format!(".resources-{number}.json")));
        write_private(&file.0, resources)?;
        self.plain("update", args::update(&self.id, &file.0), self.limits.quick).await
    }

    /// Writes a checkpoint. If it fails, criu's log is left as `criu-dump.log` in the bundle (J5).
    ///
    /// # Errors
    /// [`RuntimeError`] says what the runtime said.
    pub async fn checkpoint(&self, wanted: &Checkpoint) -> Result<(), RuntimeError> {
        let own = wanted.work_path.is_none().then(|| Scratch(self.bundle.join("criu-work")));
        let work = wanted.work_path.as_deref().or(own.as_ref().map(|own| own.0.as_path()));
        let args = args::checkpoint(&self.settings, &self.id, wanted, work);
        let done = self.plain("checkpoint", args, self.limits.image).await;
        if done.is_err()
            && let Some(work) = work
        {
            let _ = fs::copy(work.join("dump.log"), self.bundle.join("criu-dump.log"));
        }
        done
    }

    async fn plain(
        &self,
        command: &'static str,
        args: Vec<std::ffi::OsString>,
        limit: Duration,
    ) -> Result<(), RuntimeError> {
        let turn = self.turn(command).await;
        turn.run(self.run(command, args, Streams::Captured, None, limit)).await
    }
}

/// What a runtime can do, as the JSON of its `features` command.
///
/// # Errors
/// [`RuntimeError`]; a runtime that has no such command fails too.
pub async fn features(reaper: &Arc<Reaper>, settings: &Settings) -> Result<Vec<u8>, RuntimeError> {
    invoke::ask(reaper, settings, "features", Limits::default().quick).await
}

fn streams(stdio: Stdio, console: Option<&Path>) -> Streams {
    match console {
        Some(_) => Streams::Captured,
        None => Streams::Containers(stdio),
    }
}

/// A file or directory that is removed when it is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if fs::remove_file(&self.0).is_err() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

fn write_private(path: &Path, content: &[u8]) -> Result<(), RuntimeError> {
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content));
    written.map_err(|source| RuntimeError::File { path: path.to_path_buf(), source })
}

fn read_pid(path: &Path) -> Result<i32, RuntimeError> {
    let text =
        fs::read_to_string(path).map_err(|source| RuntimeError::File { path: path.to_path_buf(), source })?;
    match text.trim().parse::<i32>() {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(RuntimeError::PidFile { path: path.to_path_buf() }),
    }
}
