//! Opening everything before the process is made, and being at work while it is.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Gid, Uid, fchown};
use tokio::io::Interest;

use super::file::Append;
use super::input::Input;
use super::logger::{self, Logger};
use super::output::Output;
use super::plan::{Outputs, Plan};
use super::sink::Sink;
use super::streams::Streams;
use super::{OPEN, RunError, StdinCloser, StdioError, fifo, terminal};
use crate::console::ConsoleSocket;
use crate::id::Key;
use crate::reaper::Reaper;
use crate::sys::pipe;
use crate::sys::polled::Polled;
use crate::telemetry::{Stream, Telemetry};

/// How long the terminal may take when the runtime has said that the process is made.
const CONSOLE: Duration = Duration::from_secs(10);
/// How long what was printed before a failure may take to be delivered.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Whose streams they are, and what they need.
pub struct Context<'a> {
    /// The container.
    pub key: &'a Key,
    /// The exec; none for init.
    pub exec_id: Option<&'a str>,
    /// A directory for the console socket.
    pub directory: &'a Path,
    /// Who is to own the process's ends.
    pub io_uid: u32,
    /// The group that is to own them.
    pub io_gid: u32,
    /// Starts and reaps loggers.
    pub reaper: &'a Arc<Reaper>,
    /// Counts what is moved.
    pub telemetry: &'a Arc<dyn Telemetry>,
    /// Says when the input is to end.
    pub closer: &'a StdinCloser,
}

/// What the process gets. Each end is blocking and close-on-exec; none where no stream was asked for (C18).
#[derive(Debug, Default)]
pub struct ChildEnds {
    /// What it reads.
    pub stdin: Option<OwnedFd>,
    /// What it prints to.
    pub stdout: Option<OwnedFd>,
    /// What it complains to.
    pub stderr: Option<OwnedFd>,
}

/// Streams that are open. Dropped, nothing of them is left.
pub struct Prepared {
    child: ChildEnds,
    console: Option<ConsoleSocket>,
    input: Option<(Input, Option<Polled>)>,
    outputs: Vec<Output>,
    /// Where the terminal's output goes.
    screen: Option<Sink>,
    logger: Option<Logger>,
    telemetry: Arc<dyn Telemetry>,
}

impl Prepared {
    /// Opens what `plan` asks for, and waits for a logger to be ready.
    ///
    /// # Errors
    /// [`StdioError`]; it takes half a minute at most (C4).
    pub async fn open(plan: &Plan, context: Context<'_>) -> Result<Self, StdioError> {
        match tokio::time::timeout(OPEN, Self::attempt(plan, &context)).await {
            Ok(opened) => opened,
            Err(_) => Err(StdioError::Slow(OPEN.as_secs())),
        }
    }

    async fn attempt(plan: &Plan, context: &Context<'_>) -> Result<Self, StdioError> {
        let mut prepared = Self {
            child: ChildEnds::default(),
            console: None,
            input: None,
            outputs: Vec::new(),
            screen: None,
            logger: None,
            telemetry: Arc::clone(context.telemetry),
        };
        if plan.terminal {
            let socket = ConsoleSocket::new(context.directory);
            prepared.console =
                Some(socket.map_err(StdioError::open("make a console socket in", context.directory))?);
        }
        if let Some(path) = &plan.stdin {
            prepared.open_input(path, plan.terminal, context)?;
        }
        prepared.open_outputs(plan, context).await?;
        prepared.own(context)?;
        Ok(prepared)
    }

    fn open_input(&mut self, path: &Path, terminal: bool, context: &Context<'_>) -> Result<(), StdioError> {
        let pipe = |source| StdioError::Pipe { stream: "stdin", source };
        let ends = fifo::open(path)?;
        let input = Input::new(ends, context.closer.clone(), Arc::clone(&self.telemetry)).map_err(pipe)?;
        let to = if terminal {
            None
        } else {
            let (read, write) = pipe::pipe().map_err(pipe)?;
            pipe::set_nonblocking(&write, true).map_err(pipe)?;
            self.child.stdin = Some(read);
            Some(Polled::new(write, Interest::WRITABLE).map_err(pipe)?)
        };
        self.input = Some((input, to));
        Ok(())
    }

    async fn open_outputs(&mut self, plan: &Plan, context: &Context<'_>) -> Result<(), StdioError> {
        let mut sinks = [None, None];
        match &plan.outputs {
            Outputs::Fifos { stdout, stderr } => {
                for (sink, path) in sinks.iter_mut().zip([stdout, stderr]) {
                    let Some(path) = path else { continue };
                    let ends = fifo::open(path)?;
                    let made = Sink::pipe(ends.write, ends.read);
                    *sink = Some(made.map_err(StdioError::open("watch FIFO", path))?);
                }
            }
            Outputs::Files { stdout, stderr } => {
                let out = stdout.as_deref().map(Append::open).transpose()?;
                let err = match (&out, stderr) {
                    (Some(out), Some(path)) if stdout.as_ref() == Some(path) => Some(out.clone()),
                    (_, path) => path.as_deref().map(Append::open).transpose()?,
                };
                sinks = [out.map(Sink::File), err.map(Sink::File)];
            }
            Outputs::Logger { program, stdout, stderr } => {
                let (mut logger, ends) = logger::start(program, [*stdout, *stderr], context).await?;
                let [out, err] = ends;
                if plan.terminal {
                    let kept = logger.take_kept(Stream::Stdout);
                    if let (Some(write), Some(read)) = (out, kept) {
                        sinks[0] = Some(Sink::pipe(write, read).map_err(pipe_error("stdout"))?);
                    }
                } else {
                    self.child.stdout = out;
                    self.child.stderr = err;
                }
                self.logger = Some(logger);
            }
        }
        let [out, err] = sinks;
        if plan.terminal {
            self.screen = out;
            return Ok(());
        }
        if let Some(sink) = out {
            self.child.stdout = Some(self.add(sink, Stream::Stdout)?);
        }
        if let Some(sink) = err {
            self.child.stderr = Some(self.add(sink, Stream::Stderr)?);
        }
        Ok(())
    }

    /// Adds an output; gives the process's end.
    fn add(&mut self, sink: Sink, stream: Stream) -> Result<OwnedFd, StdioError> {
        let error = pipe_error(stream.name());
        let made = pipe::pipe().and_then(|(read, write)| {
            Ok((Output::new(read, sink, stream, Arc::clone(&self.telemetry))?, write))
        });
        let (output, write) = made.map_err(error)?;
        self.outputs.push(output);
        Ok(write)
    }

    /// Gives the process's ends to who is to own them: whoever opens `/dev/stdout` again needs to be (J2).
    fn own(&self, context: &Context<'_>) -> Result<(), StdioError> {
        if context.io_uid == 0 && context.io_gid == 0 {
            return Ok(());
        }
        let (uid, gid) = (Uid::from_raw(context.io_uid), Gid::from_raw(context.io_gid));
        let ends =
            [("stdin", &self.child.stdin), ("stdout", &self.child.stdout), ("stderr", &self.child.stderr)];
        for (stream, end) in ends {
            if let Some(end) = end {
                fchown(end, Some(uid), Some(gid)).map_err(io::Error::from).map_err(pipe_error(stream))?;
            }
        }
        Ok(())
    }

    /// The process's ends, to be given to the runtime.
    pub fn take_child(&mut self) -> ChildEnds {
        std::mem::take(&mut self.child)
    }

    /// Where the runtime is to send the terminal.
    #[must_use]
    pub fn console_socket(&self) -> Option<&Path> {
        self.console.as_ref().map(ConsoleSocket::path)
    }

    /// Is at work while `work` makes the process, which may print more than a pipe holds meanwhile.
    ///
    /// # Errors
    /// What `work` answers; [`RunError::Stdio`] if no terminal has come. Nothing of the streams is left then.
    pub async fn run_while<T, E>(
        self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<(T, Streams), RunError<E>> {
        let streams = Streams::new();
        let Self { child, console, input, outputs, screen, logger, telemetry } = self;
        drop(child);
        for output in outputs {
            tokio::spawn(output.run(streams.follow(), streams.output()));
        }
        if let Some(logger) = logger {
            tokio::spawn(logger.run(streams.follow(), streams.output()));
        }
        let feed = match input {
            Some((input, Some(pipe))) => {
                tokio::spawn(input.feed_pipe(pipe, streams.follow()));
                None
            }
            Some((input, None)) => Some(input),
            None => None,
        };
        let (made, master) = meet(work, console.as_ref()).await;
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                streams.drained(LAST_WORDS).await;
                return Err(RunError::Work(error));
            }
        };
        if console.is_some() {
            let master = master.and_then(|fd| Polled::new(fd, Interest::READABLE | Interest::WRITABLE));
            let master = Arc::new(master.map_err(StdioError::Console).map_err(RunError::Stdio)?);
            streams.set_master(Arc::clone(&master));
            if let Some(feed) = feed {
                tokio::spawn(feed.feed_terminal(Arc::clone(&master), streams.follow()));
            }
            let sink = match screen {
                Some(sink) => sink,
                None => Sink::nowhere().map_err(StdioError::Console).map_err(RunError::Stdio)?,
            };
            tokio::spawn(terminal::run(master, sink, telemetry, streams.follow(), streams.output()));
        }
        Ok((made, streams))
    }
}

/// Does the work, and takes the terminal that comes meanwhile or soon after.
async fn meet<T, E>(
    work: impl Future<Output = Result<T, E>>,
    console: Option<&ConsoleSocket>,
) -> (Result<T, E>, io::Result<OwnedFd>) {
    let absent = || io::Error::from(io::ErrorKind::NotConnected);
    let Some(console) = console else { return (work.await, Err(absent())) };
    let mut work = pin!(work);
    let mut coming = pin!(console.receive());
    let (made, come) = tokio::select! {
        made = &mut work => (made, None),
        come = &mut coming => (work.await, Some(come)),
    };
    if made.is_err() {
        return (made, Err(absent()));
    }
    let master = match come {
        Some(come) => come,
        None => match tokio::time::timeout(CONSOLE, coming).await {
            Ok(come) => come,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        },
    };
    (made, master)
}

fn pipe_error(stream: &'static str) -> impl FnOnce(io::Error) -> StdioError {
    move |source| StdioError::Pipe { stream, source }
}
