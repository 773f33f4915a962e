//! Loggers: programs that get the process's pipes as descriptors 3 and 4, and close 5 when they are ready.
//!
//! The process and the logger share the pipes, so what is logged costs us nothing. We keep the read ends: should the logger
//! die, the process sees no SIGPIPE, and what it prints is drained and counted (C9).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;

use super::output::Output;
use super::plan::Program;
use super::sink::Sink;
use super::stage::{Follow, Stage};
use super::{Context, StdioError};
use crate::process::{Child, Command};
use crate::sys::pipe;
use crate::sys::polled::Polled;
use crate::telemetry::{Stream, Telemetry};

/// How long a logger that says it is ready is looked at, to see whether it has died (C16).
const LOOK: Duration = Duration::from_millis(20);
/// How long a logger that does not end may take after SIGTERM.
const TERM: Duration = Duration::from_secs(1);

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// A logger that is ready.
pub(super) struct Logger {
    child: Option<Child>,
    /// The read ends that are kept.
    kept: Vec<(Stream, OwnedFd)>,
    telemetry: Arc<dyn Telemetry>,
}

/// A stream's pipe: the end for the logger, the one that is kept, and the process's.
struct Pipe {
    logger: OwnedFd,
    kept: OwnedFd,
    process: OwnedFd,
}

fn make(stream: &'static str) -> Result<Pipe, StdioError> {
    let made = || {
        let (read, write) = pipe::pipe()?;
        io::Result::Ok(Pipe { kept: read.try_clone()?, logger: read, process: write })
    };
    made().map_err(|source| StdioError::Pipe { stream, source })
}

/// Starts a logger and waits until it is ready. Gives the ends for the process: stdout and stderr.
pub(super) async fn start(
    program: &Program,
    wanted: [bool; 2],
    context: &Context<'_>,
) -> Result<(Logger, [Option<OwnedFd>; 2]), StdioError> {
    let [out, err] = wanted;
    let out = out.then(|| make("stdout")).transpose()?;
    let err = err.then(|| make("stderr")).transpose()?;
    let (ready, told) = pipe::pipe().map_err(|source| StdioError::Pipe { stream: "logger", source })?;
    let mut command = Command::new(&program.path)
        .args(program.args.iter().cloned())
        .env("CONTAINER_ID", &*context.key.id)
        .env("CONTAINER_NAMESPACE", &*context.key.namespace)
        .keep_env("PATH")
        .new_session(true)
        .fd(5, told);
    let mut kept = Vec::new();
    let mut ends = [None, None];
    for (number, (stream, made)) in [(Stream::Stdout, out), (Stream::Stderr, err)].into_iter().enumerate() {
        let target = 3 + i32::try_from(number).unwrap_or_default();
        match made {
            Some(made) => {
                command = command.fd(target, made.logger);
                kept.push((stream, made.kept));
                if let Some(end) = ends.get_mut(number) {
                    *end = Some(made.process);
                }
            }
            // It finds the descriptor it expects, and nothing in it.
            None => {
                let null = std::fs::File::open("/dev/null");
                let null = null.map_err(StdioError::open("open", "/dev/null"))?;
                command = command.fd(target, null.into());
            }
        }
    }
    let child = context.reaper.spawn(command).map_err(StdioError::open("start logger", &program.path))?;
    let mut logger = Logger { child: Some(child), kept, telemetry: Arc::clone(context.telemetry) };
    logger.ready(program, ready).await?;
    Ok((logger, ends))
}

impl Logger {
    async fn ready(&mut self, program: &Program, ready: OwnedFd) -> Result<(), StdioError> {
        let refused = |why| StdioError::Logger { path: program.path.clone(), why };
        let pipe = |source| StdioError::Pipe { stream: "logger", source };
        pipe::set_nonblocking(&ready, true).map_err(pipe)?;
        let ready = Polled::new(ready, Interest::READABLE).map_err(pipe)?;
        let mut byte = [0_u8; 1];
        let said =
            ready.run(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut byte)?)).await.map_err(pipe)?;
        if program.says_ready && said == 0 {
            return Err(refused("ended before it said that it is ready"));
        }
        let Some(child) = &mut self.child else { return Ok(()) };
        if !program.says_ready && tokio::time::timeout(LOOK, child.wait()).await.is_ok() {
            return Err(refused("ended at once"));
        }
        Ok(())
    }

    /// Gives pipes of its own to a terminal, which is copied.
    pub(super) fn take_kept(&mut self, stream: Stream) -> Option<OwnedFd> {
        let place = self.kept.iter().position(|(known, _)| *known == stream)?;
        Some(self.kept.swap_remove(place).1)
    }

    /// Lives with the logger: drains in its place when it dies, and sees to it that it ends after the process.
    pub(super) async fn run(mut self, mut follow: Follow, done: impl FnOnce()) {
        let Some(mut child) = self.child.take() else { return done() };
        let mut expired = follow.clone();
        tokio::select! {
            _ = child.wait() => {
                if !follow.has_reached(Stage::Ended) {
                    tracing::warn!("a logger ended before its container: output is dropped from now on");
                }
                self.drain(follow.clone()).await;
            }
            () = expired.reached(Stage::Expired) => {
                let _ = child.kill(SIGTERM);
            }
        }
        done();
        if tokio::time::timeout(TERM, child.wait()).await.is_err() {
            let _ = child.kill_group(SIGKILL);
            let _ = child.wait().await;
        }
        follow.reached(Stage::Closed).await;
    }

    async fn drain(&mut self, follow: Follow) {
        for (stream, read) in std::mem::take(&mut self.kept) {
            let nowhere = Sink::nowhere();
            let made = nowhere.and_then(|sink| Output::new(read, sink, stream, Arc::clone(&self.telemetry)));
            match made {
                Ok(output) => output.run(follow.clone(), || {}).await,
                Err(error) => tracing::warn!(%error, "output is not drained"),
            }
        }
    }
}

impl Drop for Logger {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            let _ = child.kill(SIGKILL);
        }
    }
}
