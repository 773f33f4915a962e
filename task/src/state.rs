//! What may happen to a container, and what follows: a pure machine.
//!
//! `State::step(input)` answers with the effects to carry out, in order, or with the reason why the input is refused; a
//! refused input changes nothing. There is no clock, no process and no lock in here: [`crate::container`] feeds it what
//! happened and does what it says. Its specification is section 0 of the acceptance list:
//!
//! - TaskCreate < TaskStart < TaskOOM* < TaskExit < TaskDelete, and ExecAdded < ExecStarted < the exec's TaskExit < init's.
//! - An exit that is seen while the start of its process is still in flight is kept until the start is announced.
//! - Init's exit is announced when no exec is starting or running and, where processes may survive their init, when
//!   they have been killed. From the moment it is seen no exec may start.

mod exec;
#[cfg(test)]
mod explore;
mod init;
mod refusal;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::exit::Exit;
pub use exec::{Exec, ExecPhase};
pub use init::{Init, Phase};
pub use refusal::Refusal;

/// The name of an exec within its container.
pub type ExecId = Arc<str>;

/// Something that happened, or that somebody wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The runtime made the container; init waits for its start.
    Created {
        /// Init's pid.
        pid: u32,
    },
    /// The container is to be restored from a checkpoint when it is started.
    Restorable,
    /// Start of init was requested.
    Start,
    /// The runtime started init.
    Started {
        /// Init's pid: for a restore it is known only now.
        pid: u32,
    },
    /// The runtime could not start init.
    StartFailed,
    /// Init was reaped.
    InitExited(Exit),
    /// What init left behind was killed, as [`Effect::KillAll`] asked.
    AllKilled,
    /// A process was killed for lack of memory.
    Oom,
    /// Pause was requested.
    Pause,
    /// The runtime paused the container.
    Paused,
    /// The runtime could not pause the container.
    PauseFailed,
    /// Resume was requested.
    Resume,
    /// The runtime resumed the container.
    Resumed,
    /// The runtime could not resume the container.
    ResumeFailed,
    /// Deletion of the container was requested.
    Delete,
    /// The container is gone.
    Deleted,
    /// The container could not be deleted.
    DeleteFailed,
    /// An exec was requested.
    AddExec(ExecId),
    /// Start of an exec was requested.
    StartExec(ExecId),
    /// The runtime started an exec.
    ExecStarted {
        /// The exec.
        id: ExecId,
        /// Its pid.
        pid: u32,
    },
    /// The runtime could not start an exec.
    ExecStartFailed(ExecId),
    /// An exec was reaped.
    ExecExited {
        /// The exec.
        id: ExecId,
        /// How it ended.
        exit: Exit,
    },
    /// Deletion of an exec was requested; it needs no work of the runtime and is done at once.
    DeleteExec(ExecId),
}

/// Something to be done because of an input, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Announce the container's creation.
    AnnounceCreated,
    /// Announce the start of init.
    AnnounceStarted,
    /// Announce that memory ran out.
    AnnounceOom,
    /// Announce the end of init, and answer those who wait for it.
    AnnounceExit(Exit),
    /// Announce the container's deletion.
    AnnounceDeleted,
    /// Announce that the container is paused.
    AnnouncePaused,
    /// Announce that the container runs again.
    AnnounceResumed,
    /// Announce an exec.
    AnnounceExecAdded(ExecId),
    /// Announce the start of an exec.
    AnnounceExecStarted(ExecId),
    /// Announce the end of an exec, and answer those who wait for it.
    AnnounceExecExit(ExecId, Exit),
    /// Answer those who wait for an exec that never started.
    ExecFailed(ExecId),
    /// Thaw the container: a frozen one cannot be cleaned up.
    Thaw,
    /// Kill every process of the container, then say [`Input::AllKilled`].
    KillAll,
    /// Kill an exec: its init is dead.
    KillExec(ExecId),
}

/// Everything that decides what may happen to one container next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The container's first process.
    pub init: Init,
    /// Its execs that have not been deleted.
    pub execs: BTreeMap<ExecId, Exec>,
}

impl State {
    /// A container that is being made. `survivors` says whether its processes may outlive init, which they do where
    /// they share a pid namespace.
    #[must_use]
    pub fn new(survivors: bool) -> Self {
        Self { init: Init::new(survivors), execs: BTreeMap::new() }
    }

    /// What follows from `input`.
    ///
    /// # Errors
    /// [`Refusal`] where the input is not possible now; the state is then unchanged.
    pub fn step(&mut self, input: Input) -> Result<Vec<Effect>, Refusal> {
        let mut effects = match input {
            Input::Created { pid } => self.init.created(pid)?,
            Input::Restorable => self.init.restorable()?,
            Input::Start => self.init.start()?,
            Input::Started { pid } => self.init.started(pid)?,
            Input::StartFailed => self.init.start_failed()?,
            Input::InitExited(exit) => self.init_exited(exit)?,
            Input::AllKilled => self.init.all_killed()?,
            Input::Oom => self.init.oom(),
            Input::Pause => self.init.pause()?,
            Input::Paused => self.init.paused()?,
            Input::PauseFailed => self.init.pause_failed()?,
            Input::Resume => self.init.resume()?,
            Input::Resumed => self.init.resumed()?,
            Input::ResumeFailed => self.init.resume_failed()?,
            Input::Delete => self.init.delete()?,
            Input::Deleted => self.init.deleted()?,
            Input::DeleteFailed => self.init.delete_failed()?,
            Input::AddExec(id) => self.add_exec(id)?,
            Input::StartExec(id) => self.start_exec(&id)?,
            Input::ExecStarted { id, pid } => self.exec_started(id, pid)?,
            Input::ExecStartFailed(id) => self.exec_start_failed(id)?,
            Input::ExecExited { id, exit } => self.exec_exited(id, exit)?,
            Input::DeleteExec(id) => self.delete_exec(&id)?,
        };
        if !self.execs.values().any(Exec::is_alive) {
            effects.extend(self.init.announce_exit());
        }
        Ok(effects)
    }

    /// Whether [`step`](Self::step) would take an input now. For what waits for its turn at the runtime before it is fed in, this
    /// costs the same with one exec as with a thousand.
    ///
    /// # Errors
    /// What `step` would refuse it with.
    pub fn allows(&self, input: &Input) -> Result<(), Refusal> {
        let execs = match input {
            Input::Start | Input::Pause | Input::Resume => BTreeMap::new(),
            Input::StartExec(id) => self
                .execs
                .get_key_value(id)
                .map(|(id, exec)| (id.clone(), exec.clone()))
                .into_iter()
                .collect(),
            _ => self.execs.clone(),
        };
        Self { init: self.init.clone(), execs }.step(input.clone()).map(drop)
    }

    fn init_exited(&mut self, exit: Exit) -> Result<Vec<Effect>, Refusal> {
        let mut effects = self.init.exited(exit)?;
        let running = self.execs.iter().filter(|(_, exec)| matches!(exec.phase, ExecPhase::Running { .. }));
        effects.extend(running.map(|(id, _)| Effect::KillExec(id.clone())));
        Ok(effects)
    }

    fn add_exec(&mut self, id: ExecId) -> Result<Vec<Effect>, Refusal> {
        if self.execs.contains_key(&id) {
            return Err(Refusal::ExecExists(id));
        }
        self.init.can_add_exec()?;
        self.execs.insert(id.clone(), Exec::default());
        Ok(vec![Effect::AnnounceExecAdded(id)])
    }

    fn start_exec(&mut self, id: &ExecId) -> Result<Vec<Effect>, Refusal> {
        let init = self.init.can_start_exec();
        let exec = self.exec(id)?;
        exec.can_start(id)?;
        init?;
        exec.start();
        Ok(Vec::new())
    }

    fn exec_started(&mut self, id: ExecId, pid: u32) -> Result<Vec<Effect>, Refusal> {
        let init_is_dead = self.init.exit.is_some();
        let early = self.exec(&id)?.started(&id, pid)?;
        let mut effects = vec![Effect::AnnounceExecStarted(id.clone())];
        match early {
            Some(exit) => effects.push(Effect::AnnounceExecExit(id, exit)),
            None if init_is_dead => effects.push(Effect::KillExec(id)),
            None => {}
        }
        Ok(effects)
    }

    fn exec_start_failed(&mut self, id: ExecId) -> Result<Vec<Effect>, Refusal> {
        self.exec(&id)?.start_failed(&id)?;
        Ok(vec![Effect::ExecFailed(id)])
    }

    fn exec_exited(&mut self, id: ExecId, exit: Exit) -> Result<Vec<Effect>, Refusal> {
        let announce = self.exec(&id)?.exited(&id, exit)?;
        Ok(if announce { vec![Effect::AnnounceExecExit(id, exit)] } else { Vec::new() })
    }

    fn delete_exec(&mut self, id: &ExecId) -> Result<Vec<Effect>, Refusal> {
        self.exec(id)?.can_delete(id)?;
        self.execs.remove(id);
        Ok(Vec::new())
    }

    fn exec(&mut self, id: &ExecId) -> Result<&mut Exec, Refusal> {
        self.execs.get_mut(id).ok_or_else(|| Refusal::NoExec(id.clone()))
    }
}
