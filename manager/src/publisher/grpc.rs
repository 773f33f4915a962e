//! Events over containerd's gRPC API.

use std::time::Duration;

use super::encode::Parcel;
use super::transport::{SendError, meaning};
use crate::containerd::{Channel, GrpcError};

/// How long an answer is waited for while the connection is open.
const ANSWER: Duration = Duration::from_secs(60);

pub(super) async fn forward(channel: &Channel, parcel: &Parcel) -> Result<(), SendError> {
    let call =
        channel.call("/containerd.services.events.v1.Events/Forward", &parcel.namespace, &parcel.request);
    match tokio::time::timeout(ANSWER, call).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(GrpcError::Status { code, text })) => Err(meaning(i32::try_from(code).unwrap_or(2), text)),
        Ok(Err(error)) => Err(SendError::Unreachable(error.to_string())),
        Err(_) => Err(SendError::Unreachable("no answer in time".to_owned())),
    }
}
