//! A program that gets what a process prints.
//!
//! The process has the pipes to the logger as its own stdout and stderr, so nothing is copied here. A second read end of
//! each is kept, so that the process sees no SIGPIPE if the logger dies; then what it prints is read and dropped here
//! (BEHAVIOUR C9).

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::phase::{Phase, Phases, Token};
use super::plan::Program;
use super::report::Report;
use super::{Context, StdioError, pump};
use crate::process::{Child, Command};
use crate::sys::pipe;
use crate::sys::polled::Polled;
use crate::telemetry::Stream;

/// How long a logger has to end by itself after the end of its input.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it then has after SIGTERM, before SIGKILL.
const TERM_LIMIT: Duration = Duration::from_secs(5);
/// `PF_EXITING` of the kernel's task flags (include/linux/sched.h): set before a process's descriptors are closed.
const EXITING: u32 = 0x4;

/// A logger that is running, and is killed with all it started if this is dropped.
#[derive(Debug)]
pub(super) struct Logger {
    child: Child,
    /// Our read ends of what the process itself prints to.
    kept: Vec<(Stream, OwnedFd)>,
}

impl Drop for Logger {
    fn drop(&mut self) {
        // Fails if it has ended, and then there is nothing to do.
        let _ = self.child.kill_group(libc::SIGKILL);
    }
}

impl Logger {
    /// Starts the logger and waits until it is ready. Of the two read ends it gets, `kept` are duplicates.
    pub(super) async fn start(
        program: &Program,
        context: Context<'_>,
        stdout: OwnedFd,
        stderr: OwnedFd,
        kept: Vec<(Stream, OwnedFd)>,
    ) -> Result<Self, StdioError> {
        let path = &program.path;
        let failed = |source: io::Error| StdioError::LoggerStart { path: path.clone(), source };
        let (ready, says_ready) = pipe::pipe().map_err(failed)?;
        pipe::set_nonblocking(&ready, true).map_err(failed)?;
        let command = Command::new(path)
            .args(program.args.iter().cloned())
            .keep_env("PATH")
            .env("CONTAINER_ID", &*context.key.id)
            .env("CONTAINER_NAMESPACE", &*context.key.namespace)
            .new_session(true)
            .fd(3, stdout)
            .fd(4, stderr)
            .fd(5, says_ready);
        let child = context.reaper.spawn(command).map_err(failed)?;
        let mut logger = Self { child, kept };
        let ready = Polled::new(ready, Interest::READABLE).map_err(failed)?;
        let said = tokio::select! {
            biased;
            said = says(&ready) => said.map_err(failed)?,
            // Something it has started may have the descriptor still.
            _ = logger.child.wait() => false,
        };
        if !said && logger.has_ended() {
            let status = logger.child.wait().await.map_err(failed)?;
            return Err(StdioError::LoggerEnded { path: path.clone(), status });
        }
        if !said && program.says_ready {
            return Err(StdioError::LoggerNotReady { path: path.clone() });
        }
        Ok(logger)
    }

    /// Whether it has ended or is about to. That its descriptor is closed comes before its end can be waited for.
    fn has_ended(&self) -> bool {
        let Ok(stat) = fs::read_to_string(format!("/proc/{}/stat", self.child.pid())) else { return true };
        // proc_pid_stat(5): the flags are the seventh field after the name, which is in parentheses.
        let flags = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(6));
        flags.and_then(|flags| flags.parse::<u32>().ok()).is_none_or(|flags| flags & EXITING != 0)
    }

    /// Stays with the logger until it has ended, and drops what is printed after that. `token` is held until the logger
    /// has ended or the streams are stopped.
    pub(super) async fn tend(mut self, mut phases: Phases, token: Token, report: Arc<Report>) {
        let ended = tokio::select! {
            _ = self.child.wait() => true,
            () = phases.reached(Phase::Stopped) => false,
        };
        if ended {
            if !phases.is(Phase::Exited) && !self.kept.is_empty() {
                report.logger("has ended; what is printed from now on is dropped");
            }
            self.discard(&mut phases, &report).await;
            return;
        }
        drop(token);
        // With the process's ends closed its input is at its end; with them open, nothing else would end it.
        if timeout(PATIENCE, self.child.wait()).await.is_err() {
            report.logger("does not end with its input and is terminated");
            let _ = self.child.kill(libc::SIGTERM);
            if timeout(TERM_LIMIT, self.child.wait()).await.is_err() {
                let _ = self.child.kill_group(libc::SIGKILL);
                let _ = self.child.wait().await.is_ok();
            }
        }
        for (stream, end) in &self.kept {
            left(&report, *stream, end);
        }
    }

    async fn discard(&mut self, phases: &mut Phases, report: &Arc<Report>) {
        let mut ends = JoinSet::new();
        for (stream, end) in self.kept.drain(..) {
            let (mut phases, report) = (phases.clone(), Arc::clone(report));
            ends.spawn(async move {
                let Ok(end) = Polled::new(end, Interest::READABLE) else { return };
                let lost = |bytes| report.telemetry.dropped(stream, bytes);
                tokio::select! {
                    _ = pump::discard_all(&end, lost) => {}
                    () = phases.reached(Phase::Stopped) => {}
                }
                left(&report, stream, &end);
            });
        }
        while ends.join_next().await.is_some() {}
    }
}

/// Counts what nobody will read any more.
fn left(report: &Report, stream: Stream, end: impl std::os::fd::AsFd) {
    if let Ok(bytes @ 1..) = pipe::waiting(end) {
        report.telemetry.dropped(stream, bytes);
    }
}

/// Waits until the logger writes a byte (true) or closes the descriptor (false).
async fn says(ready: &Polled) -> io::Result<bool> {
    loop {
        pump::wait(ready, Interest::READABLE).await?;
        match rustix::io::read(ready, &mut [0_u8; 1]) {
            Ok(count) => return Ok(count > 0),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
