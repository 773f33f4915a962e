//! Running one command to its end.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::args;
use super::log::{Log, without_mount_data};
use super::output::{Keep, Output};
use super::{Runtime, RuntimeError, Settings, Stdio};
use crate::doing::{self, Step};
use crate::process::{Child, Command, Core};
use crate::reaper::Reaper;

/// How much of a command's complaints is kept, in bytes.
const COMPLAINT: usize = 4096;
/// How much of a command's data is kept, in bytes.
const DATA: usize = 1 << 20;
/// How long output is waited for when the command has ended: a child that it left behind may keep the pipe (B6, C1).
const REST: Duration = Duration::from_millis(100);
/// What of our environment a runtime gets; not NOTIFY_SOCKET and LISTEN_*, for which it would wait (J11).
const KEPT: [&str; 6] = ["PATH", "HOME", "TMPDIR", "LANG", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];

const SIGKILL: i32 = 9;

/// Whose streams a command has.
pub(super) enum Streams {
    /// The container's: it passes them on.
    Containers(Stdio),
    /// Ours: what it complains of is read.
    Captured,
}

impl Runtime {
    /// Runs one command, for `limit` at most.
    pub(super) async fn run(
        &self,
        command: &'static str,
        args: Vec<OsString>,
        streams: Streams,
        core: Option<Core>,
        limit: Duration,
    ) -> Result<(), RuntimeError> {
        let step = doing::command(command);
        let since = Instant::now();
        let tenant = self.admission.as_ref().map(|(_, tenant)| tenant);
        let done = self.attempt(command, args, streams, core, limit, &step).await;
        self.telemetry.runtime_command(tenant, command, since.elapsed(), done.is_ok());
        done
    }

    async fn attempt(
        &self,
        command: &'static str,
        args: Vec<OsString>,
        streams: Streams,
        core: Option<Core>,
        limit: Duration,
        step: &Step,
    ) -> Result<(), RuntimeError> {
        let binary = &self.settings.binary;
        let spawn_error = |source| RuntimeError::Spawn { binary: binary.clone(), command, source };
        let log = Log::new(&self.bundle, command);
        let line = base(binary).args(args::global(&self.settings, log.path())).args(args);
        let (line, mut complaints) = match streams {
            Streams::Containers(stdio) => {
                (line.stdin(stdio.stdin).stdout(stdio.stdout).stderr(stdio.stderr), None)
            }
            Streams::Captured => {
                let (output, end) = Output::new(Keep::Last(COMPLAINT)).map_err(spawn_error)?;
                let same = end.try_clone().map_err(spawn_error)?;
                (line.stdout(end).stderr(same), Some(output))
            }
        };
        let line = if self.bundle.is_dir() { line.cwd(&*self.bundle) } else { line.cwd("/") };
        let mut child = self.reaper.spawn(line.core(core)).map_err(spawn_error)?;
        step.pid(child.pid());
        let ended = end(&mut child, complaints.as_mut(), limit).await.map_err(spawn_error)?;
        let id = self.id.to_string();
        match ended {
            None => Err(RuntimeError::TimedOut { binary: binary.clone(), command, id, after: limit }),
            Some(status) if status.success() => Ok(()),
            Some(status) => {
                let said = complaints.map(Output::into_bytes).unwrap_or_default();
                let text =
                    log.complaint().or_else(|| last_words(&said)).unwrap_or_else(|| status.to_string());
                Err(RuntimeError::Failed { binary: binary.clone(), command, id, text })
            }
        }
    }
}

/// Runs a command that concerns no container, and answers what it prints.
pub(super) async fn ask(
    reaper: &Arc<Reaper>,
    settings: &Settings,
    command: &'static str,
    limit: Duration,
) -> Result<Vec<u8>, RuntimeError> {
    let binary = &settings.binary;
    let spawn_error = |source| RuntimeError::Spawn { binary: binary.clone(), command, source };
    let (mut output, end_of_it) = Output::new(Keep::First(DATA)).map_err(spawn_error)?;
    let line = base(binary).arg(command).cwd("/").stdout(end_of_it);
    let mut child = reaper.spawn(line).map_err(spawn_error)?;
    let ended = end(&mut child, Some(&mut output), limit).await.map_err(spawn_error)?;
    match ended {
        Some(status) if status.success() => Ok(output.into_bytes()),
        Some(status) => {
            let text = status.to_string();
            Err(RuntimeError::Failed { binary: binary.clone(), command, id: "none".to_owned(), text })
        }
        None => Err(RuntimeError::TimedOut {
            binary: binary.clone(),
            command,
            id: "none".to_owned(),
            after: limit,
        }),
    }
}

fn base(binary: &Path) -> Command {
    let program: PathBuf = binary.to_path_buf();
    KEPT.into_iter().fold(Command::new(program).new_session(true), Command::keep_env)
}

/// Waits for a command's end while its output is read; none if it takes longer than `limit`: then it is killed, with
/// whatever hook it was running. A container's init has a session of its own and is not.
async fn end(
    child: &mut Child,
    output: Option<&mut Output>,
    limit: Duration,
) -> io::Result<Option<ExitStatus>> {
    let work = async {
        let Some(output) = output else { return child.wait().await };
        let status = {
            let mut reading = std::pin::pin!(output.drain());
            tokio::select! {
                status = child.wait() => status,
                () = &mut reading => return child.wait().await,
            }
        };
        let _ = tokio::time::timeout(REST, output.drain()).await;
        status
    };
    match tokio::time::timeout(limit, work).await {
        Ok(status) => status.map(Some),
        Err(_) => {
            let _ = child.kill_group(SIGKILL);
            let _ = child.kill(SIGKILL);
            child.wait().await?;
            Ok(None)
        }
    }
}

fn last_words(said: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(said);
    let text = text.trim();
    if text.is_empty() { None } else { Some(without_mount_data(text)) }
}
