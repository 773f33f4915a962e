//! Events by containerd's publish binary: `BINARY --address A publish --topic T --namespace N`, the event on stdin.

use std::io::{Seek as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gam_protos::forward::ForwardRequest;
use gam_task::process::Command;
use gam_task::reaper::Reaper;
use gam_task::sys::pipe;
use protobuf::Message as _;

use super::Addresses;
use super::encode::Parcel;
use super::transport::SendError;

/// How long the binary may take (B7).
const LIMIT: Duration = Duration::from_secs(5);

const SIGKILL: i32 = 9;

/// How the binary is called.
pub(super) struct Publish {
    binary: PathBuf,
    address: String,
    reaper: Arc<Reaper>,
}

impl Publish {
    pub(super) fn new(addresses: &Addresses, reaper: &Arc<Reaper>) -> Self {
        Self { binary: addresses.binary.clone(), address: addresses.grpc.clone(), reaper: Arc::clone(reaper) }
    }

    pub(super) async fn publish(&self, parcel: &Parcel) -> Result<(), SendError> {
        let unreachable =
            |error: std::io::Error| SendError::Unreachable(format!("{}: {error}", self.binary.display()));
        let refused = |error: protobuf::Error| SendError::Refused(error.to_string());
        let request = ForwardRequest::parse_from_bytes(&parcel.request).map_err(refused)?;
        let event =
            request.envelope.into_option().unwrap_or_default().event.into_option().unwrap_or_default();
        let event = event.write_to_bytes().map_err(refused)?;
        let mut file = pipe::memory_file("gam-event").map_err(unreachable)?;
        file.write_all(&event).and_then(|()| file.rewind()).map_err(unreachable)?;
        let command = Command::new(&self.binary)
            .args([
                "--address",
                &self.address,
                "publish",
                "--topic",
                parcel.topic,
                "--namespace",
                &parcel.namespace,
            ])
            .keep_env("PATH")
            .cwd("/")
            .new_session(true)
            .stdin(std::os::fd::OwnedFd::from(file));
        let mut child = self.reaper.spawn(command).map_err(unreachable)?;
        match tokio::time::timeout(LIMIT, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(SendError::Unreachable(format!("{}: {status}", self.binary.display()))),
            Ok(Err(error)) => Err(unreachable(error)),
            Err(_) => {
                let _ = child.kill_group(SIGKILL);
                let _ = child.wait().await;
                Err(SendError::Unreachable(format!("{} did not end in time", self.binary.display())))
            }
        }
    }
}
