//! Changing a container's limits.

use super::{Container, ContainerError};

impl Container {
    /// Sets limits, given as OCI `LinuxResources` in JSON. The runtime does it, so that systemd does not undo it (E12).
    ///
    /// # Errors
    /// [`ContainerError::Refused`] unless it is alive; what the runtime refuses.
    pub async fn update(&self, resources: &[u8]) -> Result<(), ContainerError> {
        self.inner().state.init.can_update()?;
        Ok(self.runtime.update(resources).await?)
    }
}
