//! One connection to containerd, of either kind.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use ttrpc::Request;
use ttrpc::proto::KeyValue;

use super::encode::Parcel;
use super::{grpc, ttrpc as wire};
use crate::containerd::{Channel, socket};

/// How long connecting may take; on a unix socket it takes no time.
const CONNECT: Duration = Duration::from_secs(1);
const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
const NAMESPACE: &str = "containerd-namespace-ttrpc";

/// What came of sending an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// containerd has it.
    Acknowledged,
    /// containerd does not want this event, and never will.
    Refused(String),
    /// containerd cannot take it now.
    Failed(String),
    /// Whoever answers has no such service.
    Unserved(String),
    /// The connection is gone, or could not be made.
    Broken(String),
    /// Nothing has been heard of it for so long that the wait is given up.
    Silent,
}

impl Outcome {
    /// By the status codes that gRPC and ttrpc share.
    pub(super) fn of_status(code: i32, message: String) -> Self {
        let text = format!("code {code}: {message}");
        match code {
            0 => Self::Acknowledged,
            // INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, FAILED_PRECONDITION, OUT_OF_RANGE and
            // UNAUTHENTICATED: the same question gets the same answer.
            3 | 5 | 6 | 7 | 9 | 11 | 16 => Self::Refused(text),
            12 => Self::Unserved(text),
            _ => Self::Failed(text),
        }
    }
}

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ttrpc,
    Grpc,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ttrpc => "ttrpc",
            Self::Grpc => "grpc",
        }
    }
}

/// A connection. It closes when it is dropped, or when it is given up.
#[derive(Debug)]
pub(super) struct Link {
    wire: Wire,
    given_up: CancellationToken,
}

#[derive(Debug)]
enum Wire {
    Ttrpc(wire::Client),
    Grpc(Channel),
}

impl Link {
    /// Connects to `address`.
    ///
    /// # Errors
    /// What to say about it.
    pub(super) async fn connect(kind: Kind, address: &str) -> Result<Self, String> {
        let connect = async {
            match kind {
                Kind::Ttrpc => {
                    wire::Client::connect(socket(address)).await.map(Wire::Ttrpc).map_err(|e| e.to_string())
                }
                Kind::Grpc => Channel::connect(address).await.map(Wire::Grpc).map_err(|e| e.to_string()),
            }
        };
        let connected = tokio::time::timeout(CONNECT, connect).await;
        let wire = connected
            .unwrap_or_else(|_| Err(format!("not connected within {CONNECT:?}")))
            .map_err(|error| format!("cannot connect to {address:?} for {}: {error}", kind.name()))?;
        Ok(Self { wire, given_up: CancellationToken::new() })
    }

    pub(super) fn kind(&self) -> Kind {
        match self.wire {
            Wire::Ttrpc(_) => Kind::Ttrpc,
            Wire::Grpc(_) => Kind::Grpc,
        }
    }

    /// Whether everything sent from now on would fail.
    pub(super) fn is_closed(&self) -> bool {
        self.given_up.is_cancelled()
            || match &self.wire {
                Wire::Ttrpc(client) => client.is_closed(),
                Wire::Grpc(channel) => channel.is_closed(),
            }
    }

    /// Ends every attempt on this connection; it closes with the last of them.
    pub(super) fn give_up(&self) {
        self.given_up.cancel();
    }

    /// Sends one event and waits for the answer, for as long as the connection is open.
    pub(super) async fn send(&self, parcel: &Parcel) -> Outcome {
        let sent = async {
            match &self.wire {
                Wire::Ttrpc(client) => forward(client, parcel).await,
                Wire::Grpc(channel) => grpc::forward(channel, parcel).await,
            }
        };
        tokio::select! {
            outcome = sent => outcome,
            () = self.given_up.cancelled() => Outcome::Broken("the connection was given up".to_owned()),
        }
    }
}

/// Sends one event by ttrpc. The request carries no deadline: what containerd has received it shall publish, or else it
/// would be unknown whether it has.
async fn forward(client: &wire::Client, parcel: &Parcel) -> Outcome {
    let namespace = KeyValue {
        key: NAMESPACE.to_owned(),
        value: parcel.namespace.as_ref().to_owned(),
        ..Default::default()
    };
    let request = Request {
        service: SERVICE.to_owned(),
        method: "Forward".to_owned(),
        payload: parcel.request.to_vec(),
        metadata: vec![namespace],
        ..Default::default()
    };
    match client.call(&request).await {
        Ok(response) => match response.status.into_option() {
            Some(status) => Outcome::of_status(status.code.value(), status.message),
            None => Outcome::Acknowledged,
        },
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => Outcome::Refused(error.to_string()),
        Err(error) => Outcome::Broken(error.to_string()),
    }
}
