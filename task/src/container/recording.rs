//! Keeping the record of a container true.

use std::sync::PoisonError;

use super::{Container, ContainerError};
use crate::mount::Mount;
use crate::record::{ExecRecord, FORMAT, Record};
use crate::state::{ExecPhase, Phase};

impl Container {
    /// Writes the first record, before anything is made.
    pub(super) fn save_first(&self) -> Result<(), ContainerError> {
        Ok(self.record().write(&self.bundle)?)
    }

    /// Writes what is known now. A bundle that has gone needs no record, and a disk that is full stops no container.
    pub(super) fn save(&self) {
        let mut sealed = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if *sealed {
            // The bundle is being removed, or is another container's (D10).
            return;
        }
        let record = self.record();
        *sealed = record.deleted;
        if let Err(error) = record.write(&self.bundle)
            && self.bundle.exists()
        {
            tracing::warn!(container = %self.key, %error, "its record is not what it is");
        }
    }

    /// Records that a container never came to be. The `delete` that may follow has nothing to do then; or, where the runtime
    /// did not delete what it had made, it tries again, with the options that were given (D6, D17).
    pub(super) fn save_undone(&self, deleted: bool) {
        let mut sealed = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        *sealed = true;
        let record = Record { deleted, ..self.record() };
        if let Err(error) = record.write(&self.bundle) {
            tracing::debug!(container = %self.key, %error, "a failed creation is not recorded");
        }
    }

    pub(super) fn record(&self) -> Record {
        let inner = self.inner();
        let init = &inner.state.init;
        let execs = inner.execs.iter().filter_map(|(id, member)| {
            let exit = match inner.state.execs.get(id)?.phase {
                ExecPhase::Exited { exit, .. } => Some(exit),
                _ => None,
            };
            Some(ExecRecord {
                id: id.to_string(),
                process: member.name(),
                exit,
                streams: member.names.clone(),
            })
        });
        Record {
            format: FORMAT,
            key: self.key.clone(),
            manager: std::process::id(),
            group: self.host.group.clone(),
            sandbox: self.sandbox.clone(),
            options: self.options.clone(),
            rootfs: self.rootfs.iter().map(|mount| Mount { options: Vec::new(), ..mount.clone() }).collect(),
            streams: self.init.names.clone(),
            checkpoint: self.checkpoint.clone(),
            state: init.name().to_owned(),
            init: self.init.name(),
            exit: init.exit,
            execs: execs.collect(),
            cgroup: inner.cgroup.clone(),
            deleted: init.phase == Phase::Deleted,
        }
    }
}
