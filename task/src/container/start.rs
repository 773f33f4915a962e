//! Start of init, and restoring it from a checkpoint.

use std::path::PathBuf;
use std::sync::Arc;

use super::create::child_ends;
use super::{Container, ContainerError};
use crate::runtime::Restore;
use crate::state::{Input, Phase};

impl Container {
    /// Starts init and answers its pid.
    ///
    /// # Errors
    /// [`ContainerError::Refused`] unless it was created and not started; what the runtime refuses.
    pub async fn start(self: &Arc<Self>) -> Result<u32, ContainerError> {
        self.allows(&Input::Start)?;
        let restoring = self.inner().state.init.phase == Phase::Restorable;
        let turn = self.runtime.turn(if restoring { "restore" } else { "start" }).await;
        self.apply(Input::Start)?;
        let started = if restoring { turn.run(self.restore()).await } else { turn.run(self.release()).await };
        match started {
            Ok(pid) => {
                self.apply(Input::Started { pid })?;
                if restoring && let Some(process) = self.init.process() {
                    self.watch_init(Arc::clone(process));
                }
                self.save();
                Ok(pid)
            }
            Err(error) => {
                self.apply(Input::StartFailed)?;
                Err(error)
            }
        }
    }

    /// Lets the init that waits go on.
    async fn release(&self) -> Result<u32, ContainerError> {
        self.runtime.start().await?;
        Ok(self.inner().state.init.pid)
    }

    /// Has init made from a checkpoint; only now there is a process (J6).
    async fn restore(self: &Arc<Self>) -> Result<u32, ContainerError> {
        let mut prepared = self.prepare(&self.init, None).await?;
        let stdio = child_ends(&mut prepared);
        let console = prepared.console_socket().map(PathBuf::from);
        let restore = Restore {
            image_path: PathBuf::from(&self.checkpoint),
            work_path: Some(&self.options.criu_work_path).filter(|path| !path.is_empty()).map(PathBuf::from),
        };
        let hold = self.host.reaper.hold();
        let work = self.runtime.restore(stdio, console.as_deref(), self.core, &restore);
        let (pid, streams) = prepared.run_while(work).await?;
        let process = self.adopt(pid, &hold)?;
        self.begin(&process, streams);
        Ok(pid.unsigned_abs())
    }
}
