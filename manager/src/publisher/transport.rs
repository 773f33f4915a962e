//! One way to send an event, and what may become of it.

use std::sync::Arc;

use gam_task::reaper::Reaper;

use super::encode::Parcel;
use super::{Addresses, binary, grpc, ttrpc};
use crate::containerd::Channel;

/// Why containerd has not taken an event.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// It cannot be reached this way.
    #[error("{0}")]
    Unreachable(String),
    /// It does not serve events this way.
    #[error("events are not served: {0}")]
    NotServed(String),
    /// It refuses this event, for good.
    #[error("{0}")]
    Refused(String),
    /// It has a difficulty that may pass.
    #[error("{0}")]
    Troubled(String),
}

/// A way that works, or has worked; clones share the connection.
#[derive(Clone)]
pub(super) enum Transport {
    Ttrpc(Arc<ttrpc::Client>),
    Grpc(Channel),
    Binary(Arc<binary::Publish>),
}

impl Transport {
    /// Finds a way. The publish binary dials the same socket as gRPC: it is of use only where the sockets are not known, or
    /// do not serve events.
    pub(super) async fn find(
        addresses: &Addresses,
        reaper: &Arc<Reaper>,
        not_served: &[&'static str],
    ) -> Result<Self, SendError> {
        let mut why = SendError::Unreachable("no address of containerd is known".to_owned());
        let usable = |address: &str, name| !address.is_empty() && !not_served.contains(&name);
        let sockets = usable(&addresses.ttrpc, "ttrpc") || usable(&addresses.grpc, "grpc");
        if usable(&addresses.ttrpc, "ttrpc") {
            match ttrpc::Client::connect(&addresses.ttrpc).await {
                Ok(client) => return Ok(Self::Ttrpc(Arc::new(client))),
                Err(error) => why = error,
            }
        }
        if usable(&addresses.grpc, "grpc") {
            match Channel::connect(&addresses.grpc).await {
                Ok(channel) => return Ok(Self::Grpc(channel)),
                Err(error) => why = SendError::Unreachable(error.to_string()),
            }
        }
        if !sockets && !addresses.binary.as_os_str().is_empty() {
            return Ok(Self::Binary(Arc::new(binary::Publish::new(addresses, reaper))));
        }
        Err(why)
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Ttrpc(_) => "ttrpc",
            Self::Grpc(_) => "grpc",
            Self::Binary(_) => "binary",
        }
    }

    /// How many events may be on their way at once.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Ttrpc(_) | Self::Grpc(_) => 64,
            Self::Binary(_) => 1,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Ttrpc(client) => client.is_closed(),
            Self::Grpc(channel) => channel.is_closed(),
            Self::Binary(_) => false,
        }
    }

    pub(super) async fn send(&self, parcel: &Parcel) -> Result<(), SendError> {
        match self {
            Self::Ttrpc(client) => client.forward(parcel).await,
            Self::Grpc(channel) => grpc::forward(channel, parcel).await,
            Self::Binary(binary) => binary.publish(parcel).await,
        }
    }
}

/// What a status code of either protocol means for an event.
pub(super) fn meaning(code: i32, text: String) -> SendError {
    match code {
        // INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, FAILED_PRECONDITION, OUT_OF_RANGE.
        3 | 5 | 6 | 7 | 9 | 11 => SendError::Refused(text),
        12 => SendError::NotServed(text),
        _ => SendError::Troubled(text),
    }
}
