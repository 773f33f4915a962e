//! Pause and resume.

use std::sync::Arc;

use super::{Container, ContainerError};
use crate::state::Input;

impl Container {
    /// Freezes every process of the container.
    ///
    /// # Errors
    /// [`ContainerError::Refused`] unless it runs; what the runtime refuses.
    pub async fn pause(self: &Arc<Self>) -> Result<(), ContainerError> {
        self.allows(&Input::Pause)?;
        let turn = self.runtime.turn("pause").await;
        self.apply(Input::Pause)?;
        match turn.run(self.runtime.pause()).await {
            Ok(()) => self.apply(Input::Paused)?,
            Err(error) => {
                // It may have frozen half of them.
                self.thaw();
                self.apply(Input::PauseFailed)?;
                return Err(error.into());
            }
        }
        self.save();
        Ok(())
    }

    /// Thaws the container's processes.
    ///
    /// # Errors
    /// [`ContainerError::Refused`] unless it is paused; what the runtime refuses.
    pub async fn resume(self: &Arc<Self>) -> Result<(), ContainerError> {
        self.allows(&Input::Resume)?;
        let turn = self.runtime.turn("resume").await;
        self.apply(Input::Resume)?;
        match turn.run(self.runtime.resume()).await {
            Ok(()) => self.apply(Input::Resumed)?,
            Err(error) => {
                self.apply(Input::ResumeFailed)?;
                return Err(error.into());
            }
        }
        self.save();
        Ok(())
    }
}
