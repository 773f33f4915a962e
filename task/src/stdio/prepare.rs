//! Making what a process is given before it is made, and serving it from then on.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Gid, Uid};
use tokio::io::Interest;
use tokio::time::timeout;

use super::fifo::{Inlet, Outlet};
use super::input::{self, Target};
use super::logger::Logger;
use super::output::{Output, Sink, Source};
use super::plan::{Outputs, Program};
use super::report::Report;
use super::{
    ChildEnds, Context, FAILED_LIMIT, OPEN_LIMIT, Plan, RunError, StdinCloser, StdioError, Streams,
    TERMINAL_LIMIT, file,
};
use crate::console;
use crate::sys::pipe;
use crate::sys::polled::Polled;
use crate::telemetry::Stream;

/// How long what is printed is held back until it is known whether there is a process.
const COMPLAINTS: Duration = Duration::from_secs(1);

/// Everything that a process's streams need, open. If it is dropped, everything is closed, loggers are killed, and the
/// console socket is removed.
#[derive(Debug)]
pub struct Prepared {
    child: ChildEnds,
    stdin: Option<Inlet>,
    /// Our end of the process's stdin; none with a terminal.
    stdin_end: Option<Polled>,
    pipes: Vec<(Arc<Polled>, Output)>,
    terminal: Option<(console::Socket, Output)>,
    logger: Option<Logger>,
    closer: StdinCloser,
    report: Arc<Report>,
}

impl Prepared {
    /// Opens and makes what `plan` says: starts the logger and waits until it is ready, opens FIFOs (without waiting for
    /// a client) and files, makes pipes or a console socket. It takes at most [`OPEN_LIMIT`] (BEHAVIOUR C4).
    ///
    /// # Errors
    /// [`StdioError`]; nothing is left then.
    pub async fn open(plan: &Plan, context: Context<'_>) -> Result<Self, StdioError> {
        match timeout(OPEN_LIMIT, Self::open_all(plan, context)).await {
            Ok(opened) => opened,
            Err(_) => Err(StdioError::TimedOut(OPEN_LIMIT)),
        }
    }

    async fn open_all(plan: &Plan, context: Context<'_>) -> Result<Self, StdioError> {
        let mut prepared = Self {
            child: ChildEnds::default(),
            stdin: plan.stdin.as_deref().map(Inlet::open).transpose()?,
            stdin_end: None,
            pipes: Vec::new(),
            terminal: None,
            logger: None,
            closer: context.closer.clone(),
            report: Report::new(context.key, context.exec_id, context.telemetry, context.pace),
        };
        if plan.terminal {
            prepared.open_terminal(&plan.outputs, context).await?;
            return Ok(prepared);
        }
        if prepared.stdin.is_some() {
            let (read, write) = process_pipe(Stream::Stdin, context)?;
            prepared.stdin_end = Some(ours(Stream::Stdin, write, Interest::WRITABLE)?);
            prepared.child.stdin = Some(read);
        }
        prepared.open_outputs(&plan.outputs, context).await?;
        Ok(prepared)
    }

    async fn open_outputs(&mut self, outputs: &Outputs, context: Context<'_>) -> Result<(), StdioError> {
        match outputs {
            Outputs::Fifos { stdout, stderr } => {
                for (stream, path) in each(stdout.as_ref(), stderr.as_ref()) {
                    self.give_pipe(stream, Sink::Fifo(Outlet::open(stream, path)?), context)?;
                }
            }
            Outputs::Files { stdout, stderr } => {
                let mut open: Option<(&PathBuf, Arc<File>)> = None;
                for (stream, path) in each(stdout.as_ref(), stderr.as_ref()) {
                    let file = match &open {
                        Some((known, file)) if *known == path => Arc::clone(file),
                        _ => file::open(stream, path).await?,
                    };
                    open = Some((path, Arc::clone(&file)));
                    self.give_pipe(stream, Sink::File(file), context)?;
                }
            }
            Outputs::Logger { program, stdout, stderr } => {
                let (out_read, out_write) = process_pipe(Stream::Stdout, context)?;
                let (err_read, err_write) = process_pipe(Stream::Stderr, context)?;
                let mut kept = Vec::new();
                for (stream, wanted, end) in
                    [(Stream::Stdout, stdout, &out_read), (Stream::Stderr, stderr, &err_read)]
                {
                    if *wanted {
                        let end = end.try_clone().map_err(|source| StdioError::Pipe { stream, source })?;
                        kept.push((stream, end));
                    }
                }
                // A stream that is not wanted is at its end for the logger.
                self.child.stdout = stdout.then_some(out_write);
                self.child.stderr = stderr.then_some(err_write);
                self.logger = Some(Logger::start(program, context, out_read, err_read, kept).await?);
            }
        }
        Ok(())
    }

    /// Makes the pipe of one stream that is copied to `sink`.
    fn give_pipe(&mut self, stream: Stream, sink: Sink, context: Context<'_>) -> Result<(), StdioError> {
        let (read, write) = process_pipe(stream, context)?;
        let source = Arc::new(ours(stream, read, Interest::READABLE)?);
        self.pipes.push((source, Output::new(stream, sink, Arc::clone(&self.report))));
        let place = if stream == Stream::Stderr { &mut self.child.stderr } else { &mut self.child.stdout };
        *place = Some(write);
        Ok(())
    }

    async fn open_terminal(&mut self, outputs: &Outputs, context: Context<'_>) -> Result<(), StdioError> {
        let stream = Stream::Terminal;
        let sink = match outputs {
            Outputs::Fifos { stdout: Some(path), .. } => Sink::Fifo(Outlet::open(stream, path)?),
            Outputs::Files { stdout: Some(path), .. } => Sink::File(file::open(stream, path).await?),
            Outputs::Logger { program, .. } => Sink::Logger(self.log_terminal(program, context).await?),
            Outputs::Fifos { stdout: None, .. } | Outputs::Files { stdout: None, .. } => Sink::Nowhere,
        };
        let directory = context.socket_dir;
        let socket = console::Socket::bind(directory)
            .map_err(|source| StdioError::ConsoleSocket { directory: directory.to_owned(), source })?;
        self.terminal = Some((socket, Output::new(stream, sink, Arc::clone(&self.report))));
        Ok(())
    }

    /// Starts a logger for what is printed to a terminal, and answers our end of its pipe.
    async fn log_terminal(&mut self, program: &Program, context: Context<'_>) -> Result<Polled, StdioError> {
        let stream = Stream::Terminal;
        let failed = |source: io::Error| StdioError::Pipe { stream, source };
        let (read, write) = pipe::pipe().map_err(failed)?;
        let (nothing, closed) = pipe::pipe().map_err(failed)?;
        drop(closed);
        self.logger = Some(Logger::start(program, context, read, nothing, Vec::new()).await?);
        ours(stream, write, Interest::WRITABLE)
    }

    /// Takes what the process is to have, for the command that makes it. A stream that is not wanted is not there.
    pub fn take_child(&mut self) -> ChildEnds {
        std::mem::take(&mut self.child)
    }

    /// Where the runtime has to send the terminal, if there is to be one.
    #[must_use]
    pub fn console_socket(&self) -> Option<&Path> {
        self.terminal.as_ref().map(|(socket, _)| socket.path())
    }

    /// Does `work`, which makes the process, and serves the streams from then on, or from a moment later if it takes longer:
    /// a hook or a quick process may print more than a pipe holds before `work` ends. What is printed by work that soon
    /// fails is the runtime's own complaint, which its error tells: it is no output of the container's.
    ///
    /// # Errors
    /// What `work` answers, after a short wait for the last output; or [`StdioError::NoTerminal`] if there is to be a
    /// terminal and none came until [`TERMINAL_LIMIT`] after `work` has succeeded.
    pub async fn run_while<T, E>(
        self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<(T, Streams), RunError<E>> {
        let Self { child, stdin, stdin_end, pipes, terminal, logger, closer, report } = self;
        drop(child);
        let streams = Streams::new();
        if let Some(logger) = logger {
            tokio::spawn(logger.tend(streams.phases(), streams.token(), Arc::clone(&report)));
        }
        let done = match terminal {
            None => {
                let mut work = pin!(work);
                let early = timeout(COMPLAINTS, &mut work).await;
                if let Ok(Err(error)) = early {
                    streams.close();
                    return Err(RunError::Work(error));
                }
                for (source, output) in pipes {
                    tokio::spawn(output.run(Source::Pipe(source), streams.phases(), streams.token()));
                }
                if let (Some(inlet), Some(end)) = (stdin, stdin_end) {
                    let target = Target::Pipe(end);
                    tokio::spawn(input::run(inlet, target, closer, streams.phases(), report));
                }
                match early {
                    Ok(done) => done.map_err(RunError::Work),
                    Err(_) => work.await.map_err(RunError::Work),
                }
            }
            Some((socket, output)) => {
                let mut work = pin!(work);
                let mut console = pin!(socket.receive());
                let serve = |master| -> Result<(), StdioError> {
                    let ends = Masters::of(master).map_err(StdioError::Terminal)?;
                    if let Some(inlet) = stdin {
                        let target = Target::Terminal(ends.stdin);
                        tokio::spawn(input::run(inlet, target, closer, streams.phases(), report));
                    }
                    let source = Source::Terminal(ends.output);
                    tokio::spawn(output.run(source, streams.phases(), streams.token()));
                    streams.set_master(Some(ends.size));
                    Ok(())
                };
                tokio::select! {
                    master = &mut console => {
                        let served = serve(master);
                        let done = work.await.map_err(RunError::Work);
                        done.and_then(|done| served.map(|()| done).map_err(RunError::Stdio))
                    }
                    done = &mut work => match done {
                        Err(error) => Err(RunError::Work(error)),
                        Ok(done) => match timeout(TERMINAL_LIMIT, console).await {
                            Ok(master) => serve(master).map(|()| done).map_err(RunError::Stdio),
                            Err(_) => Err(RunError::Stdio(StdioError::NoTerminal(TERMINAL_LIMIT))),
                        },
                    },
                }
            }
        };
        match done {
            Ok(done) => Ok((done, streams)),
            Err(error) => {
                streams.drained(FAILED_LIMIT).await;
                streams.close();
                Err(error)
            }
        }
    }
}

/// A terminal's master, thrice.
struct Masters {
    output: OwnedFd,
    stdin: OwnedFd,
    size: OwnedFd,
}

impl Masters {
    fn of(master: OwnedFd) -> io::Result<Self> {
        Ok(Self { output: master.try_clone()?, stdin: master.try_clone()?, size: master })
    }
}

fn each<'a>(
    stdout: Option<&'a PathBuf>,
    stderr: Option<&'a PathBuf>,
) -> impl Iterator<Item = (Stream, &'a PathBuf)> {
    stdout.map(|path| (Stream::Stdout, path)).into_iter().chain(stderr.map(|path| (Stream::Stderr, path)))
}

/// Makes a pipe that belongs to the container's user, who may want to open `/dev/stdout` anew (BEHAVIOUR J2).
fn process_pipe(stream: Stream, context: Context<'_>) -> Result<(OwnedFd, OwnedFd), StdioError> {
    let made = || -> io::Result<(OwnedFd, OwnedFd)> {
        let (read, write) = pipe::pipe()?;
        own(&read, context.io_uid, context.io_gid)?;
        Ok((read, write))
    };
    made().map_err(|source| StdioError::Pipe { stream, source })
}

/// Both ends of a pipe are one file with one owner.
fn own(end: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    Ok(rustix::fs::fchown(end, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}

/// Makes our end of a pipe non-blocking, which leaves the other end as it is.
fn ours(stream: Stream, end: OwnedFd, interest: Interest) -> Result<Polled, StdioError> {
    let watched = || -> io::Result<Polled> {
        pipe::set_nonblocking(&end, true)?;
        Polled::new(end, interest)
    };
    watched().map_err(|source| StdioError::Pipe { stream, source })
}
