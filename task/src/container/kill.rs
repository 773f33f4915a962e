//! Kill: signals for init, for an exec, or for all processes.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Container, ContainerError};
use crate::state::{ExecId, Phase, Refusal};

const SIGKILL: u32 = 9;
const MOST: u32 = 64;

/// A kill that is at work, counted until it is dropped.
struct Kill<'c>(&'c AtomicUsize);

impl<'c> Kill<'c> {
    fn begin(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Kill<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Container {
    /// Sends a signal to init, or with `all` to every process of the container.
    ///
    /// # Errors
    /// [`Refusal::Finished`] once init has ended; what the runtime refuses.
    pub async fn kill(&self, signal: u32, all: bool) -> Result<(), ContainerError> {
        if signal > MOST {
            return Err(ContainerError::Signal(signal));
        }
        let _kill = Kill::begin(&self.kills);
        self.inner().state.init.can_kill()?;
        let killed = self.runtime.kill(signal, all).await;
        let frozen = matches!(self.inner().state.init.phase, Phase::Pausing | Phase::Paused);
        if frozen && signal == SIGKILL {
            self.thaw();
        }
        match killed {
            Err(error) if error.is_finished() || error.is_gone() => Err(Refusal::Finished.into()),
            other => Ok(other?),
        }
    }

    /// Sends a signal to an exec, through its pidfd: a pid that was recycled is never hit (A11).
    ///
    /// # Errors
    /// [`ContainerError::Refused`] before it runs and once it has ended (A15).
    pub fn kill_exec(&self, id: &str, signal: u32) -> Result<(), ContainerError> {
        let number =
            i32::try_from(signal).ok().filter(|_| signal <= MOST).ok_or(ContainerError::Signal(signal))?;
        let member = self.member(Some(id))?;
        let id: ExecId = id.into();
        let inner = self.inner();
        let exec = inner.state.execs.get(&id).ok_or_else(|| Refusal::NoExec(id.clone()))?;
        exec.can_kill(&id)?;
        drop(inner);
        let process = member.process().ok_or_else(|| ContainerError::NoProcess(self.key.clone()))?;
        process.signal(number).map_err(|source| match source.raw_os_error() {
            Some(libc::ESRCH) => Refusal::Finished.into(),
            _ => self.not_killed(source),
        })
    }

    fn not_killed(&self, source: io::Error) -> ContainerError {
        ContainerError::Kill { key: self.key.clone(), source }
    }
}
