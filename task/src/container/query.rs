//! What can be asked of a container, answered from memory and the kernel's files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use protobuf::well_known_types::any::Any;

use super::{Container, ContainerError, Inner};
use crate::cgroup::Usage;
use crate::doing;
use crate::exit::Exit;
use crate::record::StreamNames;
use crate::state::{ExecPhase, Phase, Refusal};

/// What containerd calls a process's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// It waits for its start.
    Created,
    /// It runs.
    Running,
    /// It has ended.
    Stopped,
    /// It is frozen.
    Paused,
    /// It is being frozen.
    Pausing,
}

/// The state of a process.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its status.
    pub status: Status,
    /// Its pid; 0 before it has one.
    pub pid: u32,
    /// How it ended, once that has been announced.
    pub exit: Option<Exit>,
    /// Its streams.
    pub streams: StreamNames,
}

/// A process of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its pid.
    pub pid: u32,
    /// The exec it is; none for init and for what they started.
    pub exec_id: Option<Arc<str>>,
}

impl Container {
    /// The state of init or of an exec.
    ///
    /// # Errors
    /// [`ContainerError::Refused`] if there is no such exec.
    pub fn report(&self, exec: Option<&str>) -> Result<Report, ContainerError> {
        let member = self.member(exec)?;
        let inner = self.inner();
        let init = &inner.state.init;
        let (status, pid, exit) = match exec {
            None => (init_status(&inner), init.pid, init.announced_exit()),
            Some(id) => {
                let exec = inner.state.execs.get(id).ok_or_else(|| ContainerError::no_exec(id))?;
                exec_report(&inner, &exec.phase)
            }
        };
        drop(inner);
        // An exec that failed to start has an end too: the one that Wait gave.
        let exit = exit.or_else(|| exec.and_then(|_| *member.ended.borrow()));
        Ok(Report { status, pid, exit, streams: member.names.clone() })
    }

    /// Init's status.
    #[must_use]
    pub fn status(&self) -> Status {
        init_status(&self.inner())
    }

    /// Init's pid; 0 before it has one.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.inner().state.init.pid
    }

    /// Waits for the end of init or of an exec, and answers it after it has been announced.
    ///
    /// # Errors
    /// [`ContainerError::Refused`] if there is no such exec.
    pub async fn wait(&self, exec: Option<&str>) -> Result<Exit, ContainerError> {
        let member = self.member(exec)?;
        let _step = doing::step("its end");
        let mut ended = member.ended.subscribe();
        let exit = ended.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
        exit.ok_or(ContainerError::Abandoned("a wait"))
    }

    /// The processes: at least init, also when it has ended (H8). Never fails.
    #[must_use]
    pub fn processes(&self) -> Vec<Listed> {
        let inner = self.inner();
        let mut found = BTreeMap::from([(inner.state.init.pid, None)]);
        for (id, exec) in &inner.state.execs {
            if let ExecPhase::Running { pid } = exec.phase {
                found.insert(pid, Some(Arc::clone(id)));
            }
        }
        let cgroup = inner.cgroup.clone();
        drop(inner);
        let members = cgroup.and_then(|cgroup| cgroup.processes().ok()).unwrap_or_default();
        for pid in members.into_iter().filter_map(|pid| u32::try_from(pid).ok()) {
            found.entry(pid).or_insert(None);
        }
        found.into_iter().map(|(pid, exec_id)| Listed { pid, exec_id }).collect()
    }

    /// What the kernel counts of its cgroup, as containerd's message for the version of cgroups.
    ///
    /// # Errors
    /// [`ContainerError::NoProcess`] before there is a cgroup, [`ContainerError::Cgroup`] once it has gone.
    pub fn stats(&self) -> Result<Any, ContainerError> {
        let cgroup = self.inner().cgroup.clone();
        Ok(cgroup.ok_or_else(|| ContainerError::NoProcess(self.key.clone()))?.stats()?)
    }

    /// What its cgroup uses now; none where it has no cgroup, yet or any more.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        let cgroup = self.inner().cgroup.clone();
        cgroup.and_then(|cgroup| cgroup.usage().ok())
    }

    /// How many of its processes have been killed for lack of memory.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        self.oom_kills.load(Ordering::Relaxed)
    }

    /// Sets the size of a terminal; nothing happens where there is none, or none any more (C17).
    ///
    /// # Errors
    /// If there is no such exec; what the kernel refuses.
    pub fn resize(&self, exec: Option<&str>, width: u32, height: u32) -> Result<(), ContainerError> {
        match self.member(exec)?.streams() {
            None => Ok(()),
            Some(streams) => streams
                .resize(width, height)
                .map_err(|source| ContainerError::Resize { key: self.key.clone(), source }),
        }
    }

    /// Ends the input of a process, once what is on its way has been delivered (C6); remembered if it is not open yet.
    ///
    /// # Errors
    /// If there is no such exec.
    pub fn close_stdin(&self, exec: Option<&str>) -> Result<(), ContainerError> {
        self.member(exec)?.closer.close();
        Ok(())
    }

    /// Whether it has an exec of that id.
    ///
    /// # Errors
    /// [`Refusal::NoExec`] if not.
    pub fn has_exec(&self, id: &str) -> Result<(), ContainerError> {
        if self.inner().execs.contains_key(id) { Ok(()) } else { Err(Refusal::NoExec(id.into()).into()) }
    }
}

fn init_status(inner: &Inner) -> Status {
    let init = &inner.state.init;
    match init.phase {
        Phase::Deleted | Phase::Deleting => Status::Stopped,
        // The end is told together with its event, or later, never before.
        _ if init.announced => Status::Stopped,
        Phase::Creating | Phase::Created | Phase::Restorable | Phase::Starting { .. }
            if init.exit.is_some() =>
        {
            Status::Stopped
        }
        Phase::Creating | Phase::Created | Phase::Restorable | Phase::Starting { .. } => Status::Created,
        Phase::Running => Status::Running,
        Phase::Pausing => Status::Pausing,
        Phase::Paused | Phase::Resuming => Status::Paused,
    }
}

fn exec_report(inner: &Inner, phase: &ExecPhase) -> (Status, u32, Option<Exit>) {
    let frozen = matches!(init_status(inner), Status::Paused | Status::Pausing);
    match *phase {
        ExecPhase::Added | ExecPhase::Starting { .. } => (Status::Created, 0, None),
        // An exec of a paused container is paused (G5).
        ExecPhase::Running { pid } if frozen => (Status::Paused, pid, None),
        ExecPhase::Running { pid } => (Status::Running, pid, None),
        ExecPhase::Exited { pid, exit } => (Status::Stopped, pid, Some(exit)),
        ExecPhase::Failed => (Status::Stopped, 0, None),
    }
}
