//! A container's first process, whose life is the container's.

use super::{Effect, Refusal};
use crate::exit::Exit;

/// How far the container has come. Its end is kept apart: it may be seen in any phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The runtime is making it.
    Creating,
    /// Init exists and waits for its start.
    Created,
    /// It will be restored from a checkpoint when it is started; there is no process yet.
    Restorable,
    /// The runtime is starting it.
    Starting {
        /// Whether it is being restored.
        restoring: bool,
    },
    /// It runs.
    Running,
    /// The runtime is pausing it.
    Pausing,
    /// It is paused.
    Paused,
    /// The runtime is resuming it.
    Resuming,
    /// It is being deleted.
    Deleting,
    /// It is gone.
    Deleted,
}

/// Init, and through it the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// How far it has come.
    pub phase: Phase,
    /// Its pid; 0 before it has one.
    pub pid: u32,
    /// How it ended, from the moment it was reaped.
    pub exit: Option<Exit>,
    /// Whether its end has been announced.
    pub announced: bool,
    /// Whether processes may outlive it.
    survivors: bool,
    /// Whether survivors are being killed.
    killing: bool,
    /// Memory ran out before the start was announced.
    early_oom: bool,
}

impl Init {
    pub(super) fn new(survivors: bool) -> Self {
        Self {
            phase: Phase::Creating,
            pid: 0,
            exit: None,
            announced: false,
            survivors,
            killing: false,
            early_oom: false,
        }
    }

    /// How it ended, once that has been announced: what Wait and State may tell.
    #[must_use]
    pub fn announced_exit(&self) -> Option<Exit> {
        self.exit.filter(|_| self.announced)
    }

    /// The word for its phase.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.phase {
            Phase::Deleted => "deleted",
            Phase::Deleting => "being deleted",
            _ if self.exit.is_some() => "stopped",
            Phase::Creating => "being created",
            Phase::Created => "created",
            Phase::Restorable => "created from a checkpoint",
            Phase::Starting { .. } => "starting",
            Phase::Running => "running",
            Phase::Pausing => "pausing",
            Phase::Paused => "paused",
            Phase::Resuming => "resuming",
        }
    }

    /// Whether it can be signalled.
    ///
    /// # Errors
    /// [`Refusal::Finished`] once it has ended, [`Refusal::Container`] before it exists.
    pub fn can_kill(&self) -> Result<(), Refusal> {
        match self.phase {
            _ if self.exit.is_some() => Err(Refusal::Finished),
            Phase::Creating | Phase::Restorable | Phase::Starting { restoring: true } => {
                Err(self.refuse("kill"))
            }
            Phase::Deleted => Err(Refusal::Finished),
            _ => Ok(()),
        }
    }

    /// Whether its limits can be changed.
    ///
    /// # Errors
    /// [`Refusal::Container`] where it has no cgroup yet or any more.
    pub fn can_update(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Created | Phase::Running | Phase::Paused if self.exit.is_none() => Ok(()),
            _ => Err(self.refuse("update")),
        }
    }

    /// Whether it can be checkpointed.
    ///
    /// # Errors
    /// [`Refusal::Container`] where it neither runs nor is paused.
    pub fn can_checkpoint(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Running | Phase::Paused if self.exit.is_none() => Ok(()),
            _ => Err(self.refuse("checkpoint")),
        }
    }

    pub(super) fn can_add_exec(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Created | Phase::Starting { restoring: false } | Phase::Running if self.exit.is_none() => {
                Ok(())
            }
            _ => Err(self.refuse("exec in")),
        }
    }

    pub(super) fn can_start_exec(&self) -> Result<(), Refusal> {
        match self.phase {
            Phase::Running if self.exit.is_none() => Ok(()),
            _ => Err(self.refuse("start an exec in")),
        }
    }

    pub(super) fn created(&mut self, pid: u32) -> Result<Vec<Effect>, Refusal> {
        self.expect(Phase::Creating, "finish creating")?;
        self.phase = Phase::Created;
        self.pid = pid;
        Ok(vec![Effect::AnnounceCreated])
    }

    pub(super) fn restorable(&mut self) -> Result<Vec<Effect>, Refusal> {
        self.expect(Phase::Creating, "finish creating")?;
        self.phase = Phase::Restorable;
        Ok(vec![Effect::AnnounceCreated])
    }

    pub(super) fn start(&mut self) -> Result<Vec<Effect>, Refusal> {
        let restoring = match self.phase {
            Phase::Created if self.exit.is_none() => false,
            Phase::Restorable => true,
            _ => return Err(self.refuse("start")),
        };
        self.phase = Phase::Starting { restoring };
        Ok(Vec::new())
    }

    pub(super) fn started(&mut self, pid: u32) -> Result<Vec<Effect>, Refusal> {
        let Phase::Starting { .. } = self.phase else { return Err(self.refuse("announce the start of")) };
        self.phase = Phase::Running;
        self.pid = pid;
        let oom = std::mem::take(&mut self.early_oom).then_some(Effect::AnnounceOom);
        Ok([Effect::AnnounceStarted].into_iter().chain(oom).collect())
    }

    pub(super) fn start_failed(&mut self) -> Result<Vec<Effect>, Refusal> {
        let Phase::Starting { restoring } = self.phase else { return Err(self.refuse("fail the start of")) };
        self.phase = if restoring { Phase::Restorable } else { Phase::Created };
        Ok(Vec::new())
    }

    pub(super) fn exited(&mut self, exit: Exit) -> Result<Vec<Effect>, Refusal> {
        if self.exit.is_some() || matches!(self.phase, Phase::Creating | Phase::Restorable | Phase::Deleted) {
            return Err(self.refuse("end"));
        }
        self.exit = Some(exit);
        self.killing = self.survivors;
        let frozen = matches!(self.phase, Phase::Pausing | Phase::Paused | Phase::Resuming);
        let thaw = frozen.then_some(Effect::Thaw);
        let kill = self.survivors.then_some(Effect::KillAll);
        Ok(thaw.into_iter().chain(kill).collect())
    }

    pub(super) fn all_killed(&mut self) -> Result<Vec<Effect>, Refusal> {
        if !self.killing {
            return Err(self.refuse("finish killing"));
        }
        self.killing = false;
        Ok(Vec::new())
    }

    /// The end of init, if it is to be announced now and nothing but a living exec stands against it.
    pub(super) fn announce_exit(&mut self) -> Vec<Effect> {
        let Some(exit) = self.exit else { return Vec::new() };
        if self.announced || self.killing || matches!(self.phase, Phase::Starting { .. }) {
            return Vec::new();
        }
        self.announced = true;
        let oom = std::mem::take(&mut self.early_oom).then_some(Effect::AnnounceOom);
        oom.into_iter().chain([Effect::AnnounceExit(exit)]).collect()
    }

    pub(super) fn oom(&mut self) -> Vec<Effect> {
        match self.phase {
            _ if self.announced => Vec::new(),
            Phase::Creating | Phase::Restorable | Phase::Deleted => Vec::new(),
            Phase::Created | Phase::Starting { .. } => {
                self.early_oom = true;
                Vec::new()
            }
            _ => vec![Effect::AnnounceOom],
        }
    }

    pub(super) fn pause(&mut self) -> Result<Vec<Effect>, Refusal> {
        self.alive(Phase::Running, "pause")?;
        self.phase = Phase::Pausing;
        Ok(Vec::new())
    }

    pub(super) fn paused(&mut self) -> Result<Vec<Effect>, Refusal> {
        self.expect(Phase::Pausing, "finish pausing")?;
        self.phase = Phase::Paused;
        // It may have ended meanwhile: then what has just been frozen must thaw again.
        Ok(vec![if self.exit.is_some() { Effect::Thaw } else { Effect::AnnouncePaused }])
    }

    pub(super) fn pause_failed(&mut self) -> Result<Vec<Effect>, Refusal> {
        self.expect(Phase::Pausing, "fail to pause")?;
        self.phase = Phase::Running;
        Ok(Vec::new())
    }

    pub(super) fn resume(&mut self) -> Result<Vec<Effect>, Refusal> {
        self.alive(Phase::Paused, "resume")?;
        self.phase = Phase::Resuming;
        Ok(Vec::new())
    }

    pub(super) fn resumed(&mut self) -> Result<Vec<Effect>, Refusal> {
        self.expect(Phase::Resuming, "finish resuming")?;
        self.phase = Phase::Running;
        Ok(if self.exit.is_some() { Vec::new() } else { vec![Effect::AnnounceResumed] })
    }

    pub(super) fn resume_failed(&mut self) -> Result<Vec<Effect>, Refusal> {
        self.expect(Phase::Resuming, "fail to resume")?;
        self.phase = Phase::Paused;
        Ok(Vec::new())
    }

    pub(super) fn delete(&mut self) -> Result<Vec<Effect>, Refusal> {
        match self.phase {
            Phase::Created | Phase::Restorable => {}
            Phase::Running | Phase::Paused if self.announced => {}
            _ => return Err(self.refuse("delete")),
        }
        self.phase = Phase::Deleting;
        Ok(Vec::new())
    }

    pub(super) fn deleted(&mut self) -> Result<Vec<Effect>, Refusal> {
        self.expect(Phase::Deleting, "finish deleting")?;
        if self.pid != 0 && !self.announced {
            return Err(self.refuse("finish deleting"));
        }
        self.phase = Phase::Deleted;
        Ok(vec![Effect::AnnounceDeleted])
    }

    pub(super) fn delete_failed(&mut self) -> Result<Vec<Effect>, Refusal> {
        self.expect(Phase::Deleting, "fail to delete")?;
        self.phase = match (self.pid, self.announced) {
            (0, _) => Phase::Restorable,
            (_, true) => Phase::Running,
            (_, false) => Phase::Created,
        };
        Ok(Vec::new())
    }

    fn alive(&self, phase: Phase, action: &'static str) -> Result<(), Refusal> {
        if self.phase == phase && self.exit.is_none() { Ok(()) } else { Err(self.refuse(action)) }
    }

    fn expect(&self, phase: Phase, action: &'static str) -> Result<(), Refusal> {
        if self.phase == phase { Ok(()) } else { Err(self.refuse(action)) }
    }

    fn refuse(&self, action: &'static str) -> Refusal {
        Refusal::Container { action, state: self.name() }
    }
}
