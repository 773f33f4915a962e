//! One exec: an additional process of a container.

use super::{ExecId, Refusal};
use crate::exit::Exit;

/// How far an exec has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ExecPhase {
    /// Requested; no process yet.
    #[default]
    Added,
    /// The runtime is starting it.
    Starting {
        /// Its exit, if it was seen before its start was answered.
        early: Option<Exit>,
    },
    /// It runs.
    Running {
        /// Its pid.
        pid: u32,
    },
    /// It has ended, and that has been announced.
    Exited {
        /// The pid it had.
        pid: u32,
        /// How it ended.
        exit: Exit,
    },
    /// The runtime could not start it.
    Failed,
}

/// An exec that has not been deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exec {
    /// How far it has come.
    pub phase: ExecPhase,
}

impl Exec {
    /// Whether it keeps init's exit from being announced.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        matches!(self.phase, ExecPhase::Starting { .. } | ExecPhase::Running { .. })
    }

    /// Its pid, 0 before it has one.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match self.phase {
            ExecPhase::Running { pid } | ExecPhase::Exited { pid, .. } => pid,
            ExecPhase::Added | ExecPhase::Starting { .. } | ExecPhase::Failed => 0,
        }
    }

    /// The word for its phase.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.phase {
            ExecPhase::Added => "created",
            ExecPhase::Starting { .. } => "starting",
            ExecPhase::Running { .. } => "running",
            ExecPhase::Exited { .. } => "stopped",
            ExecPhase::Failed => "failed",
        }
    }

    /// Whether it can be signalled.
    ///
    /// # Errors
    /// [`Refusal::Finished`] once it has ended, [`Refusal::Exec`] before it runs.
    pub fn can_kill(&self, id: &ExecId) -> Result<(), Refusal> {
        match self.phase {
            ExecPhase::Running { .. } => Ok(()),
            ExecPhase::Exited { .. } | ExecPhase::Failed => Err(Refusal::Finished),
            ExecPhase::Added | ExecPhase::Starting { .. } => Err(self.refuse("kill", id)),
        }
    }

    pub(super) fn can_start(&self, id: &ExecId) -> Result<(), Refusal> {
        if self.phase == ExecPhase::Added { Ok(()) } else { Err(self.refuse("start", id)) }
    }

    pub(super) fn start(&mut self) {
        self.phase = ExecPhase::Starting { early: None };
    }

    /// Takes the answer of its start; gives the exit that is to be announced now.
    pub(super) fn started(&mut self, id: &ExecId, pid: u32) -> Result<Option<Exit>, Refusal> {
        let ExecPhase::Starting { early } = self.phase else {
            return Err(self.refuse("announce the start of", id));
        };
        self.phase = match early {
            Some(exit) => ExecPhase::Exited { pid, exit },
            None => ExecPhase::Running { pid },
        };
        Ok(early)
    }

    pub(super) fn start_failed(&mut self, id: &ExecId) -> Result<(), Refusal> {
        let ExecPhase::Starting { .. } = self.phase else { return Err(self.refuse("fail the start of", id)) };
        self.phase = ExecPhase::Failed;
        Ok(())
    }

    /// Takes its exit; says whether it is to be announced now.
    pub(super) fn exited(&mut self, id: &ExecId, exit: Exit) -> Result<bool, Refusal> {
        match self.phase {
            ExecPhase::Running { pid } => {
                self.phase = ExecPhase::Exited { pid, exit };
                Ok(true)
            }
            ExecPhase::Starting { early: None } => {
                self.phase = ExecPhase::Starting { early: Some(exit) };
                Ok(false)
            }
            _ => Err(self.refuse("end", id)),
        }
    }

    pub(super) fn can_delete(&self, id: &ExecId) -> Result<(), Refusal> {
        if self.is_alive() { Err(self.refuse("delete", id)) } else { Ok(()) }
    }

    fn refuse(&self, action: &'static str, id: &ExecId) -> Refusal {
        Refusal::Exec { action, id: id.clone(), state: self.name() }
    }
}
