//! Core scheduling: which processes may run on the siblings of one core at the same time (BEHAVIOUR J4).
//!
//! A child inherits the cookie of the thread that makes it, and a thread cannot get rid of one. So a child that is to
//! have a cookie is made by a thread of its own, and gam's other threads never have any: with one of them in gam, all
//! its containers would share it.

use std::io;
use std::thread;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{
    CoreSchedulingScope, create_core_scheduling_cookie, gettid, pull_core_scheduling_cookie,
};

/// The stack of the thread that makes a child.
const STACK: usize = 256 << 10;

/// With whom a child shares cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Core {
    /// With its own descendants alone.
    New,
    /// With this process and those it shares with.
    Of(u32),
}

impl Core {
    /// Runs `make` on a thread whose children have the cookie.
    pub(super) fn with<T: Send>(self, make: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let maker = thread::Builder::new().name("gam-core".to_owned()).stack_size(STACK);
            let made = maker.spawn_scoped(scope, || {
                self.enter()?;
                make()
            })?;
            made.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes the child panicked")))
        })
    }

    fn enter(self) -> io::Result<()> {
        let entered = match self {
            Self::New => create_core_scheduling_cookie(gettid(), CoreSchedulingScope::Thread),
            Self::Of(pid) => match i32::try_from(pid).ok().and_then(Pid::from_raw) {
                Some(pid) => pull_core_scheduling_cookie(pid, CoreSchedulingScope::Thread),
                None => Err(Errno::SRCH),
            },
        };
        entered.map_err(|error| {
            let why = match error {
                Errno::INVAL => "this kernel has no core scheduling (CONFIG_SCHED_CORE)",
                Errno::NODEV => "this machine's cores have one thread each",
                Errno::SRCH => "the process to share cores with is gone",
                _ => "the kernel refuses",
            };
            io::Error::new(
                io::Error::from(error).kind(),
                format!("core scheduling, which SCHED_CORE asks for: {why}: {error}"),
            )
        })
    }
}
