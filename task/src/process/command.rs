//! What to run, and all that it is given.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::Core;
use crate::sys::spawn::{self, Program};

/// A program to run. It gets exactly what is said here: nothing of our environment (BEHAVIOUR J11), none of our
/// descriptors, `/dev/null` for each standard stream that is not given, default signals, and our umask.
///
/// A descriptor given here should be blocking: `O_NONBLOCK` belongs to the open file, and programs do not expect it.
#[derive(Debug)]
pub struct Command {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    fds: Vec<(RawFd, OwnedFd)>,
    new_session: bool,
    core: Option<Core>,
}

impl Command {
    /// A command for `program`, which is searched in our `PATH` if it has no slash.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            fds: Vec::new(),
            new_session: false,
            core: None,
        }
    }

    /// The program as it was given, for messages.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds a variable to the environment, which is empty at first. A name that was added before gets the new value.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let name = name.into();
        self.env.retain(|(known, _)| *known != name);
        self.env.push((name, value.into()));
        self
    }

    /// Adds a variable with the value it has in our environment, if it has one.
    #[must_use]
    pub fn keep_env(self, name: impl AsRef<OsStr>) -> Self {
        match std::env::var_os(name.as_ref()) {
            Some(value) => self.env(name.as_ref(), value),
            None => self,
        }
    }

    /// Sets the working directory; without it the child has ours.
    #[must_use]
    pub fn cwd(mut self, path: impl Into<PathBuf>) -> Self {
        self.cwd = Some(path.into());
        self
    }

    /// Gives what the program reads; none is `/dev/null`.
    #[must_use]
    pub fn stdin(self, fd: impl Into<Option<OwnedFd>>) -> Self {
        self.standard(0, fd.into())
    }

    /// Gives what the program prints to; none is `/dev/null`.
    #[must_use]
    pub fn stdout(self, fd: impl Into<Option<OwnedFd>>) -> Self {
        self.standard(1, fd.into())
    }

    /// Gives what the program complains to; none is `/dev/null`.
    #[must_use]
    pub fn stderr(self, fd: impl Into<Option<OwnedFd>>) -> Self {
        self.standard(2, fd.into())
    }

    /// Gives a further descriptor under the number `target`.
    #[must_use]
    pub fn fd(mut self, target: RawFd, fd: OwnedFd) -> Self {
        self.fds.retain(|(known, _)| *known != target);
        self.fds.push((target, fd));
        self
    }

    /// Whether the child leads a session of its own (setsid(2)), and so a process group.
    #[must_use]
    pub fn new_session(mut self, new_session: bool) -> Self {
        self.new_session = new_session;
        self
    }

    /// With whom the child shares the threads of a core; none leaves it as this process is.
    #[must_use]
    pub fn core(mut self, core: Option<Core>) -> Self {
        self.core = core;
        self
    }

    /// Starts the program without ever waiting for it, and answers its pid. This is for a process that has no reaper,
    /// such as the `start` that leaves a manager behind; elsewhere it is
    /// [`Reaper::spawn`](crate::reaper::Reaper::spawn). Our copies of the descriptors are closed.
    ///
    /// # Errors
    /// Those of [`Reaper::spawn`](crate::reaper::Reaper::spawn).
    pub fn spawn_unwaited(self) -> io::Result<i32> {
        let file = text(self.program.as_os_str().as_bytes())?;
        let args = std::iter::once(Ok(file.clone()))
            .chain(self.args.iter().map(|arg| text(arg.as_bytes())))
            .collect::<io::Result<Vec<_>>>()?;
        let env =
            self.env.iter().map(|(name, value)| variable(name, value)).collect::<io::Result<Vec<_>>>()?;
        let cwd = self.cwd.as_deref().map(|path| text(path.as_os_str().as_bytes())).transpose()?;
        let fds: Vec<(RawFd, BorrowedFd<'_>)> =
            self.fds.iter().map(|(target, fd)| (*target, fd.as_fd())).collect();
        let program = Program {
            file: &file,
            args: &args,
            env: &env,
            cwd: cwd.as_deref(),
            fds: &fds,
            new_session: self.new_session,
        };
        match self.core {
            None => spawn::spawn(&program),
            Some(core) => core.with(|| spawn::spawn(&program)),
        }
    }

    fn standard(mut self, target: RawFd, fd: Option<OwnedFd>) -> Self {
        self.fds.retain(|(known, _)| *known != target);
        self.fds.extend(fd.map(|fd| (target, fd)));
        self
    }
}

fn text(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| refused("a NUL in an argument, variable or path"))
}

fn variable(name: &OsStr, value: &OsStr) -> io::Result<CString> {
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return Err(refused("a variable's name that is empty or has an equals sign"));
    }
    let mut pair = name.to_os_string().into_vec();
    pair.push(b'=');
    pair.extend_from_slice(value.as_bytes());
    text(&pair)
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}
