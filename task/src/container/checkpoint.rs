//! Writing a checkpoint.

use std::path::PathBuf;

use super::{Container, ContainerError};
use crate::runtime::Checkpoint;

/// A checkpoint that is wanted.
pub type CheckpointRequest = Checkpoint;

impl Container {
    /// Has the runtime write a checkpoint; with `exit` the container ends, which is announced as any end is.
    ///
    /// # Errors
    /// [`ContainerError::Refused`] unless it runs or is paused; what the runtime and criu refuse.
    pub async fn checkpoint(&self, mut request: CheckpointRequest) -> Result<(), ContainerError> {
        self.inner().state.init.can_checkpoint()?;
        if request.work_path.is_none() && !self.options.criu_work_path.is_empty() {
            request.work_path = Some(PathBuf::from(&self.options.criu_work_path));
        }
        let path = request.image_path.to_string_lossy().into_owned();
        self.runtime.checkpoint(&request).await?;
        self.announce_checkpoint(path);
        Ok(())
    }
}
