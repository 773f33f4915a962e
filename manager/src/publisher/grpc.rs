//! Handing an event over by gRPC.

use gam_protos::task::Empty;
use protobuf::Message as _;

use super::encode::Parcel;
use super::link::Outcome;
use crate::containerd::{Channel, Error};

const FORWARD: &str = "/containerd.services.events.v1.Events/Forward";

/// Sends one event.
pub(super) async fn forward(channel: &Channel, parcel: &Parcel) -> Outcome {
    match channel.unary(FORWARD, Some(&parcel.namespace), parcel.request.clone()).await {
        Ok(answer) => match Empty::parse_from_bytes(&answer) {
            Ok(_) => Outcome::Acknowledged,
            Err(error) => Outcome::Failed(error.to_string()),
        },
        Err(Error::Status { code, message, .. }) => Outcome::of_status(code, message),
        Err(error @ Error::Malformed { .. }) => Outcome::Failed(error.to_string()),
        Err(error) => Outcome::Broken(error.to_string()),
    }
}
