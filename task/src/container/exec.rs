//! Execs: adding, starting and deleting them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, PoisonError};

use super::create::child_ends;
use super::{Container, ContainerError, Member};
use crate::exit::Exit;
use crate::process::{Core, Process};
use crate::record::StreamNames;
use crate::state::{ExecId, Input};
use crate::stdio::{Plan, Streams};
use crate::tenant::Quota;

/// An exec that is wanted.
#[derive(Debug)]
pub struct ExecRequest {
    /// Its id, unique in the container.
    pub id: ExecId,
    /// Its streams.
    pub streams: StreamNames,
    /// The OCI process, as JSON.
    pub spec: Vec<u8>,
}

impl Container {
    /// Adds an exec, whose id is taken from now on (A13).
    ///
    /// # Errors
    /// [`ContainerError::Refused`] if there is one of that id or the container is not alive; streams that are refused.
    pub fn add_exec(self: &Arc<Self>, request: ExecRequest) -> Result<(), ContainerError> {
        let names = request.streams;
        let plan = Plan::parse(names.terminal, &names.stdin, &names.stdout, &names.stderr)?;
        let taken = self.account.take(Quota::Execs);
        let taken = taken.inspect_err(|error| self.host.telemetry.limited(error.quota))?;
        let member = Member::exec(names, plan, request.spec, taken);
        // Whoever learns of it by its event may ask for it at once, so it is there before it is announced.
        let id = request.id;
        let mut inner = self.inner();
        if inner.execs.contains_key(&id) {
            return Err(crate::state::Refusal::ExecExists(id).into());
        }
        inner.execs.insert(id.clone(), member);
        drop(inner);
        self.apply(Input::AddExec(id.clone())).inspect_err(|_| {
            self.inner().execs.remove(&id);
        })?;
        Ok(())
    }

    /// Starts an exec and answers its pid.
    ///
    /// # Errors
    /// [`ContainerError::Refused`] unless it was added and not started and init runs (A5); what the runtime refuses.
    pub async fn start_exec(self: &Arc<Self>, id: &str) -> Result<u32, ContainerError> {
        let member = self.member(Some(id))?;
        let id: ExecId = id.into();
        self.allows(&Input::StartExec(id.clone()))?;
        let turn = self.runtime.turn("exec").await;
        self.apply(Input::StartExec(id.clone()))?;
        match turn.run(self.make_exec(&id, &member)).await {
            Ok((process, streams)) => {
                let pid = process.pid().unsigned_abs();
                member.begin(&process, streams);
                self.apply(Input::ExecStarted { id: id.clone(), pid })?;
                self.save();
                self.watch_exec(id, process);
                Ok(pid)
            }
            Err(error) => {
                self.apply(Input::ExecStartFailed(id))?;
                Err(error)
            }
        }
    }

    async fn make_exec(
        &self,
        id: &ExecId,
        member: &Member,
    ) -> Result<(Arc<Process>, Streams), ContainerError> {
        let spec = member.spec.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        let mut prepared = self.prepare(member, Some(id)).await?;
        let stdio = child_ends(&mut prepared);
        let console = prepared.console_socket().map(PathBuf::from);
        let hold = self.host.reaper.hold();
        let made = AtomicI32::new(0);
        let core = self.core.map(|_| Core::Of(self.pid()));
        let work = async {
            let pid = self.runtime.exec(id, &spec, stdio, console.as_deref(), core).await?;
            made.store(pid, Ordering::Relaxed);
            Ok(pid)
        };
        match prepared.run_while(work).await {
            Ok((pid, streams)) => Ok((self.adopt(pid, &hold)?, streams)),
            Err(error) => {
                // The runtime did its part and the terminal, say, did not come: nobody would ever end the process.
                let pid = made.load(Ordering::Relaxed);
                if pid != 0
                    && let Ok(process) = self.adopt(pid, &hold)
                {
                    let _ = process.signal(9);
                }
                Err(error.into())
            }
        }
    }

    /// Deletes an exec that does not run, and answers its pid and its end.
    ///
    /// # Errors
    /// [`ContainerError::Refused`] if it runs or is not there.
    pub async fn delete_exec(self: &Arc<Self>, id: &str) -> Result<(u32, Exit), ContainerError> {
        let member = self.member(Some(id))?;
        let id: ExecId = id.into();
        if member.ended.borrow().is_some() {
            // What it printed is delivered first, outside of every lock (B3).
            member.drained().await;
        }
        self.apply(Input::DeleteExec(id.clone()))?;
        // It may have ended since it was looked at; from here on it has, or it never ran.
        let exit = *member.ended.borrow();
        member.drained().await;
        self.inner().execs.remove(&id);
        member.ended.send_replace(Some(exit.unwrap_or_else(|| Exit::now(0))));
        member.close();
        self.save();
        let pid = member.process().map_or(0, |process| process.pid().unsigned_abs());
        Ok((pid, exit.unwrap_or_else(|| Exit::now(0))))
    }
}
