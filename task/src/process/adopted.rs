//! A container's process, which the runtime made and left to us.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use tokio::sync::{OnceCell, watch};

use crate::exit::Exit;
use crate::reaper::Claim;
use crate::sys::pidfd;

/// Sends a signal to a process of which we hold no pidfd.
pub type Signals = Box<dyn Fn(i32) -> io::Result<()> + Send + Sync>;

/// A container's init or exec. Any number of callers may wait for it; it is reaped once, and each gets the same exit.
pub struct Process {
    pid: i32,
    start_time: u64,
    seen: Seen,
    exit: OnceCell<Exit>,
}

/// Who sees its end.
enum Seen {
    /// The kernel tells us, its parent.
    Here(Claim),
    /// Somebody else reaps it and reports.
    Elsewhere { exits: watch::Receiver<Option<Exit>>, signals: Signals },
}

impl Process {
    pub(crate) fn adopted(claim: Claim, start_time: u64) -> Self {
        Self { pid: claim.pid(), start_time, seen: Seen::Here(claim), exit: OnceCell::new() }
    }

    /// A process that somebody else reaps: a keeper, or a test. Its exit is what `exits` first holds; if the sender is
    /// dropped without one, the status is [`Exit::UNKNOWN`].
    #[must_use]
    pub fn reported(
        pid: i32,
        start_time: u64,
        exits: watch::Receiver<Option<Exit>>,
        signals: Signals,
    ) -> Self {
        Self { pid, start_time, seen: Seen::Elsewhere { exits, signals }, exit: OnceCell::new() }
    }

    /// Its pid in our pid namespace, which stays its own until it has been reaped.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// When it started, in clock ticks since boot (`/proc/PID/stat`, field 22).
    #[must_use]
    pub fn start_time(&self) -> u64 {
        self.start_time
    }

    /// Its exit, if it has been waited for.
    #[must_use]
    pub fn exit(&self) -> Option<Exit> {
        self.exit.get().copied()
    }

    /// Waits until it has ended, with all its threads, and reaps it. Somebody must wait for it to be reaped; a wait that
    /// is dropped is taken up by the next. The status is [`Exit::UNKNOWN`] if the kernel does not tell.
    pub async fn wait(&self) -> Exit {
        *self.exit.get_or_init(|| self.ended()).await
    }

    /// Sends it signal `number`, 0 to 64. A recycled pid is never hit (BEHAVIOUR A11).
    ///
    /// # Errors
    /// ESRCH once it has been reaped, EINVAL for a number that is no signal.
    pub fn signal(&self, number: i32) -> io::Result<()> {
        match &self.seen {
            Seen::Here(claim) => pidfd::signal(claim, number),
            Seen::Elsewhere { signals, .. } => signals(number),
        }
    }

    /// Its pidfd; none for one that is [`reported`](Self::reported).
    #[must_use]
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        match &self.seen {
            Seen::Here(claim) => Some(claim.as_fd()),
            Seen::Elsewhere { .. } => None,
        }
    }

    async fn ended(&self) -> Exit {
        match &self.seen {
            Seen::Here(claim) => match claim.wait().await {
                Ok(how) => Exit::now(how.status()),
                Err(error) => {
                    tracing::error!(pid = self.pid, %error, "the exit status of a process is lost");
                    Exit::now(Exit::UNKNOWN)
                }
            },
            Seen::Elsewhere { exits, .. } => match exits.clone().wait_for(Option::is_some).await {
                Ok(exit) => exit.unwrap_or_else(|| Exit::now(Exit::UNKNOWN)),
                Err(_) => {
                    tracing::error!(pid = self.pid, "nobody is left to report the exit of a process");
                    Exit::now(Exit::UNKNOWN)
                }
            },
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Process")
            .field("pid", &self.pid)
            .field("start_time", &self.start_time)
            .field("exit", &self.exit.get())
            .finish_non_exhaustive()
    }
}
