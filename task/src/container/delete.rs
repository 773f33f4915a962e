//! Delete: everything a container had is given back before the answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Container, ContainerError};
use crate::cgroup::Cgroup;
use crate::doing;
use crate::exit::Exit;
use crate::state::{Input, Phase};

/// How long the end of a killed init may take to be announced.
const END: Duration = Duration::from_secs(10);
/// How long the answer waits for kills of what has ended.
const KILLS: Duration = Duration::from_secs(2);
/// How long a cgroup may take to go before the answer is given without it.
const CGROUP: Duration = Duration::from_millis(500);
/// How long it is tried after that.
const CGROUP_LATER: Duration = Duration::from_secs(60);

impl Container {
    /// Deletes a container that does not run, and answers init's pid and end. A second call waits for the first and gets
    /// the same answer.
    ///
    /// # Errors
    /// [`ContainerError::Refused`] while it runs (D20); what the runtime refuses.
    pub async fn delete(self: &Arc<Self>) -> Result<(u32, Exit), ContainerError> {
        let _turn = self.turn().await;
        if self.inner().state.init.phase == Phase::Deleted {
            return Ok(self.end());
        }
        // Init has been reaped and an exec or a survivor stands against saying so: that ends soon.
        let dead = self.inner().state.init.exit.is_some();
        if dead && !self.init_announced(END).await {
            return Err(self.slow("the end"));
        }
        if dead && !self.settled(END).await {
            return Err(self.slow("a pause"));
        }
        self.apply(Input::Delete)?;
        if let Err(error) = self.destroy().await {
            self.apply(Input::DeleteFailed)?;
            return Err(error);
        }
        self.init.drained().await;
        self.let_go();
        self.remove_cgroup().await;
        self.unmount().await;
        self.apply(Input::Deleted)?;
        self.save();
        self.kills_answered(KILLS).await;
        Ok(self.end())
    }

    /// Waits until no other deletion is at work.
    async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        let _step = doing::step("another deletion of it");
        self.deletion.lock().await
    }

    /// Waits for kills whose runtime commands are still at work: containerd closes the container's connection once it has
    /// the answer to Delete, and a Kill without an answer by then fails, as does the stop of a pod that asked for it.
    async fn kills_answered(&self, limit: Duration) {
        let _step = doing::step("kills that are at work");
        let end = tokio::time::Instant::now() + limit;
        while self.kills.load(Ordering::SeqCst) > 0 && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for a pause or resume of what has ended, whose runtime command is still at work.
    async fn settled(&self, limit: Duration) -> bool {
        let _step = doing::step("a pause that is at work");
        let end = tokio::time::Instant::now() + limit;
        while matches!(self.inner().state.init.phase, Phase::Pausing | Phase::Resuming) {
            if tokio::time::Instant::now() >= end {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// Has the runtime delete it, and sees the end of an init that was never started.
    async fn destroy(&self) -> Result<(), ContainerError> {
        let has_process = self.inner().state.init.pid != 0;
        if !has_process {
            // A restore that failed may have made one all the same; where there was none, this has nothing to do.
            return Ok(self.runtime.delete(true).await?);
        }
        // It is created only, or it has ended: whichever, nothing of it is to live on.
        let alive = self.init.ended.borrow().is_none();
        self.runtime.delete(alive).await?;
        if !self.init_announced(Duration::from_millis(200)).await {
            if let Some(process) = self.init.process() {
                let _ = process.signal(9);
            }
            if !self.init_announced(END).await {
                return Err(self.slow("the end"));
            }
        }
        Ok(())
    }

    /// Lets go of all streams and of the watch over its memory (C10, E5).
    fn let_go(&self) {
        // A watch is let go of outside the lock: one that is telling just now wants it.
        let (watch, taken) = {
            let mut inner = self.inner();
            (inner.oom.take(), inner.taken.take())
        };
        drop((watch, taken));
        let execs = std::mem::take(&mut self.inner().execs);
        for member in execs.values() {
            member.ended.send_if_modified(|ended| {
                let waits = ended.is_none();
                ended.get_or_insert_with(|| Exit::now(Exit::UNKNOWN));
                waits
            });
            member.close();
        }
        self.init.close();
    }

    /// The runtime removes the cgroup unless its processes die slowly: then it is tried again, after the answer too (D13).
    async fn remove_cgroup(&self) {
        let Some(cgroup) = self.inner().cgroup.take() else { return };
        let _step = doing::step("removing its cgroup");
        if cgroup.remove(CGROUP).await {
            return;
        }
        self.host.telemetry.cgroup_left();
        tracing::warn!(container = %self.key, "its cgroup outlives it");
        tokio::spawn(later(cgroup));
    }

    fn end(&self) -> (u32, Exit) {
        let inner = self.inner();
        (inner.state.init.pid, inner.state.init.exit.unwrap_or_else(|| Exit::now(0)))
    }

    fn slow(&self, what: &'static str) -> ContainerError {
        ContainerError::Slow { key: self.key.clone(), what, seconds: END.as_secs() }
    }
}

async fn later(cgroup: Cgroup) {
    if !cgroup.remove(CGROUP_LATER).await {
        tracing::error!("a cgroup outlives its container for good");
    }
}
