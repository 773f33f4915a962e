//! How processes are seen to end: the one owner of exits.
//!
//! Whoever waits for a process holds a [`Claim`] on it and waits by pidfd: a [`Child`] that was started here, or a
//! [`Process`] that the runtime left to us. Nobody else reaps it, so no exit is lost, given twice or given to the wrong
//! process (BEHAVIOUR A10, A11), and nothing here waits for whoever takes the exit (A8, A9).
//!
//! As the subreaper this process also gets orphans that nobody knows (A16). A sweep reaps them when SIGCHLD comes. It
//! must not reap a process that a runtime command has just made and that is about to be adopted, even if it has ended
//! already: its exit is wanted. So a create or exec takes a [`Hold`] before it starts the runtime and drops it once it
//! has adopted, or failed. A zombie that nobody claims, and that was first seen while a hold was live, waits for that
//! hold; holds taken later do not concern it.
//!
//! In a process with a reaper, children are made by [`Reaper::spawn`] only: those of `std::process` and
//! `tokio::process` would be taken for orphans.

mod census;
mod claims;
mod sweep;

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::AbortHandle;

use self::census::Census;
pub(crate) use self::claims::Claim;
pub use self::claims::Hold;
use crate::process::{Child, Command, Process};
use crate::sys::{daemon, proc};
use crate::telemetry::Telemetry;

/// Where the exits of containers' processes come from.
pub trait ExitSource: Send + Sync + 'static {
    /// Keeps every process that ends from now on until it has been adopted or the hold is dropped. Taken before a
    /// runtime command is started that may leave a process to us.
    fn hold(&self) -> Hold;

    /// Takes over `pid`, which a runtime command that was started under `hold` made and left to us, and which may have
    /// ended since.
    ///
    /// # Errors
    /// `NotFound` or ESRCH if there is no such process, `InvalidInput` if it is not our child, `AlreadyExists` if it has
    /// been adopted, EMFILE.
    fn adopt(&self, pid: i32, hold: &Hold) -> io::Result<Arc<Process>>;
}

/// Reaps every child of this process.
#[derive(Debug)]
pub struct Reaper {
    sweeper: AbortHandle,
}

impl Reaper {
    /// Makes this process the subreaper of what is below it, and begins to sweep on the current tokio runtime, until
    /// the reaper is dropped.
    ///
    /// # Errors
    /// What prctl(2) and sigaction(2) answer.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(telemetry: Arc<dyn Telemetry>) -> io::Result<Arc<Self>> {
        daemon::become_subreaper()?;
        let ends = signal(SignalKind::child())?;
        let sweeper = tokio::spawn(sweep::run(ends, Census::new(telemetry))).abort_handle();
        Ok(Arc::new(Self { sweeper }))
    }

    /// Starts a program. It takes some tenths of a millisecond, in which this thread waits for the program to be
    /// executed; other spawns do not wait for it.
    ///
    /// # Errors
    /// What executing the program answers: ENOENT if it or the working directory does not exist, EACCES, E2BIG, EAGAIN,
    /// EMFILE; `InvalidInput` for a NUL in an argument.
    pub fn spawn(&self, command: Command) -> io::Result<Child> {
        let hold = Hold::take();
        let pid = command.spawn_unwaited()?;
        let claim = Claim::take(pid).inspect_err(|error| {
            tracing::error!(pid, %error, "a child is killed because it cannot be waited for");
            // The hold keeps the pid from being reaped, so it is still the child's.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
        })?;
        drop(hold);
        Ok(Child::new(claim))
    }

    /// See [`ExitSource::hold`].
    pub fn hold(&self) -> Hold {
        Hold::take()
    }

    /// See [`ExitSource::adopt`].
    ///
    /// # Errors
    /// Those of [`ExitSource::adopt`].
    pub fn adopt(&self, pid: i32, _hold: &Hold) -> io::Result<Arc<Process>> {
        let claim = Claim::take(pid)?;
        let stat = proc::stat(pid)?;
        if stat.parent.unsigned_abs() != std::process::id() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("process {pid} is a child of {}, not of this process", stat.parent),
            ));
        }
        Ok(Arc::new(Process::adopted(claim, stat.start_time)))
    }
}

impl ExitSource for Reaper {
    fn hold(&self) -> Hold {
        Self::hold(self)
    }

    fn adopt(&self, pid: i32, hold: &Hold) -> io::Result<Arc<Process>> {
        Self::adopt(self, pid, hold)
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}
