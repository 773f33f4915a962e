//! What follows from what happened: announcing it, and the little work the state machine asks for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::{Container, Inner};
use crate::doing;
use crate::event::{Created, Event, What};
use crate::exit::Exit;
use crate::process::Process;
use crate::state::{Effect, ExecId, Input, Refusal};

const SIGKILL: i32 = 9;

impl Container {
    /// Whether the state machine would take an input now. It may not any more when a turn has come.
    pub(super) fn allows(&self, input: &Input) -> Result<(), Refusal> {
        self.inner().state.allows(input)
    }

    /// Feeds the state machine and does what it says. Events are handed over before anybody else sees the new state, so
    /// their order is the order of the states; the sink does not block.
    pub(super) fn apply(self: &Arc<Self>, input: Input) -> Result<(), Refusal> {
        let mut inner = self.inner();
        let effects = inner.state.step(input)?;
        let mut work = Vec::new();
        for effect in effects {
            if let Some(left) = self.announce(&inner, effect) {
                work.push(left);
            }
        }
        drop(inner);
        if !work.is_empty() {
            tokio::spawn(Arc::clone(self).work(work));
        }
        Ok(())
    }

    /// Announces an effect that is an announcement; gives back one that is work.
    fn announce(&self, inner: &Inner, effect: Effect) -> Option<Effect> {
        let pid = inner.state.init.pid;
        match effect {
            Effect::AnnounceCreated => self.publish(What::Created(Box::new(self.created(pid)))),
            Effect::AnnounceStarted => self.publish(What::Started { pid }),
            Effect::AnnounceOom => self.publish(What::Oom),
            Effect::AnnounceExit(exit) => {
                self.publish(What::Exited { exec_id: None, pid, exit });
                self.init.ended.send_replace(Some(exit));
            }
            Effect::AnnounceDeleted => {
                let exit = inner.state.init.exit.unwrap_or_else(|| Exit::now(0));
                self.publish(What::Deleted { pid, exit });
            }
            Effect::AnnouncePaused => self.publish(What::Paused),
            Effect::AnnounceResumed => self.publish(What::Resumed),
            Effect::AnnounceExecAdded(exec_id) => self.publish(What::ExecAdded { exec_id }),
            Effect::AnnounceExecStarted(exec_id) => {
                let pid = exec_pid(inner, &exec_id);
                self.publish(What::ExecStarted { exec_id, pid });
            }
            Effect::AnnounceExecExit(exec_id, exit) => {
                let pid = exec_pid(inner, &exec_id);
                let member = inner.execs.get(&exec_id).cloned();
                self.publish(What::Exited { exec_id: Some(exec_id), pid, exit });
                if let Some(member) = member {
                    member.ended.send_replace(Some(exit));
                }
            }
            Effect::ExecFailed(exec_id) => {
                if let Some(member) = inner.execs.get(&exec_id) {
                    member.ended.send_replace(Some(Exit::now(Exit::UNKNOWN)));
                }
            }
            work @ (Effect::Thaw | Effect::KillAll | Effect::KillExec(_)) => return Some(work),
        }
        None
    }

    async fn work(self: Arc<Self>, work: Vec<Effect>) {
        for effect in work {
            match effect {
                Effect::Thaw => self.thaw(),
                Effect::KillAll => self.kill_survivors().await,
                Effect::KillExec(id) => {
                    let member = self.inner().execs.get(&id).cloned();
                    if let Some(process) = member.as_ref().and_then(|member| member.process())
                        && let Err(error) = process.signal(SIGKILL)
                    {
                        tracing::debug!(container = %self.key, exec = %id, %error, "exec not killed");
                    }
                }
                _ => {}
            }
        }
    }

    /// Thaws what a pause froze: frozen processes ignore even SIGKILL on cgroup v1 (G1, G2).
    pub(super) fn thaw(&self) {
        let cgroup = self.inner().cgroup.clone();
        if let Some(cgroup) = cgroup
            && let Err(error) = cgroup.thaw()
            && cgroup.exists()
        {
            tracing::warn!(container = %self.key, %error, "the container's processes are left frozen");
        }
    }

    /// Kills what init left behind where no pid namespace ended with it (A6).
    async fn kill_survivors(self: &Arc<Self>) {
        if let Err(error) = self.runtime.kill(SIGKILL.unsigned_abs(), true).await
            && !error.is_gone()
        {
            tracing::debug!(container = %self.key, %error, "the runtime did not kill what init left behind");
        }
        let cgroup = self.inner().cgroup.clone();
        if let Some(cgroup) = cgroup {
            let key = self.key.clone();
            let killed = tokio::task::spawn_blocking(move || cgroup.kill_all()).await;
            if let Ok(Err(error)) = killed {
                tracing::warn!(container = %key, %error, "processes outlive their container's init");
            }
        }
        if let Err(error) = self.apply(Input::AllKilled) {
            tracing::debug!(container = %self.key, %error, "nothing waits for the survivors' end");
        }
    }

    /// Waits for init's end on a task of its own, and says so.
    pub(super) fn watch_init(self: &Arc<Self>, process: Arc<Process>) {
        let container = Arc::clone(self);
        tokio::spawn(async move {
            let exit = process.wait().await;
            container.init_ended(exit);
            container.init.drained().await;
        });
    }

    /// Memory that ran out comes before the end it caused (E3), so the watch ends first, with a last look.
    fn init_ended(self: &Arc<Self>, exit: Exit) {
        let watch = self.inner().oom.take();
        let kills = watch.map_or(0, |watch| watch.finish());
        if kills > 0 {
            self.out_of_memory(kills);
        }
        if let Err(error) = self.apply(Input::InitExited(exit)) {
            tracing::error!(container = %self.key, %error, "the end of init is not understood");
        }
        self.save();
    }

    /// Says that `kills` of its processes were killed for lack of memory.
    pub(super) fn out_of_memory(self: &Arc<Self>, kills: u64) {
        self.oom_kills.fetch_add(kills, Ordering::Relaxed);
        self.host.telemetry.oom_kills(self.tenant(), kills);
        if let Err(error) = self.apply(Input::Oom) {
            tracing::debug!(container = %self.key, %error, "memory ran out and nobody is told");
        }
    }

    /// Waits for an exec's end on a task of its own, and says so.
    pub(super) fn watch_exec(self: &Arc<Self>, id: ExecId, process: Arc<Process>) {
        let container = Arc::clone(self);
        tokio::spawn(async move {
            let exit = process.wait().await;
            let member = container.inner().execs.get(&id).cloned();
            if let Err(error) = container.apply(Input::ExecExited { id: id.clone(), exit }) {
                tracing::error!(container = %container.key, exec = %id, %error, "the end of an exec is not understood");
            }
            container.save();
            if let Some(member) = member {
                member.drained().await;
            }
        });
    }

    /// Waits for init's announced end, `limit` at most.
    pub(super) async fn init_announced(&self, limit: Duration) -> bool {
        let _step = doing::step("the end of init to be announced");
        let mut ended = self.init.ended.subscribe();
        matches!(tokio::time::timeout(limit, ended.wait_for(Option::is_some)).await, Ok(Ok(_)))
    }

    fn publish(&self, what: What) {
        self.host.events.publish(Event { container: self.key.clone(), at: SystemTime::now(), what });
    }

    fn created(&self, pid: u32) -> Created {
        let names = &self.init.names;
        Created {
            bundle: self.bundle.to_string_lossy().into_owned(),
            rootfs: self.rootfs.clone(),
            stdin: names.stdin.clone(),
            stdout: names.stdout.clone(),
            stderr: names.stderr.clone(),
            terminal: names.terminal,
            checkpoint: self.checkpoint.clone(),
            pid,
        }
    }

    /// Publishes that a checkpoint was written; no state follows from it.
    pub(super) fn announce_checkpoint(&self, path: String) {
        let _inner = self.inner();
        self.publish(What::Checkpointed { path });
    }
}

fn exec_pid(inner: &Inner, id: &ExecId) -> u32 {
    inner.state.execs.get(id).map_or(0, crate::state::Exec::pid)
}
