//! The task that sends: it finds a way, keeps it full, and finds another when it breaks.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gam_task::id::Key;
use tokio::task::JoinSet;

use super::Shared;
use super::encode::Parcel;
use super::transport::{SendError, Transport};

/// How long it takes to look for a way again, at first and at most.
const PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];
/// How often an event is sent that containerd has trouble with.
const ATTEMPTS: u32 = 10;
/// How long the publish binary is used before a socket is tried again.
const BINARY: Duration = Duration::from_secs(10);

type Sent = (Key, Parcel, Result<(), SendError>);

/// Sends for as long as the manager lives.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut pause = PAUSE[0];
    let mut not_served = Vec::new();
    loop {
        // No connection is needed before there is something to send.
        while shared.lanes().events() == 0 {
            shared.work.notified().await;
        }
        match Transport::find(&shared.addresses, &shared.reaper, &not_served).await {
            Ok(transport) => {
                shared.set_way(transport.name().to_owned());
                let (taken, broken) = drive(&shared, &transport).await;
                let troubled = matches!(broken, SendError::Troubled(_));
                if taken && !troubled {
                    pause = PAUSE[0];
                }
                match broken {
                    SendError::NotServed(_) => not_served.push(transport.name()),
                    // Another daemon may serve what this one did not.
                    _ => not_served.clear(),
                }
                tracing::debug!(way = transport.name(), %broken, "events are sent another way");
                shared.set_way(format!("not connected: {broken}"));
                // A difficulty that may pass is given the time to.
                if taken && !troubled {
                    continue;
                }
            }
            Err(error) => {
                shared.set_way(format!("not connected: {error}"));
                not_served.clear();
            }
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSE[1]);
    }
}

/// Sends until the way breaks. Whether containerd has taken anything, and why it broke.
async fn drive(shared: &Arc<Shared>, transport: &Transport) -> (bool, SendError) {
    let mut on_their_way: JoinSet<Sent> = JoinSet::new();
    let mut broken: Option<SendError> = None;
    let mut taken = false;
    let until = tokio::time::Instant::now() + BINARY;
    loop {
        if broken.is_none() && transport.is_closed() {
            broken = Some(SendError::Unreachable("the connection has closed".to_owned()));
        }
        if broken.is_none() && transport.name() == "binary" && tokio::time::Instant::now() > until {
            broken = Some(SendError::Unreachable("time to try the sockets again".to_owned()));
        }
        while broken.is_none() && on_their_way.len() < transport.width() {
            let Some((key, parcel)) = shared.lanes().take() else { break };
            let way = transport.clone();
            on_their_way.spawn(async move {
                let sent = way.send(&parcel).await;
                (key, parcel, sent)
            });
        }
        if on_their_way.is_empty() {
            match broken {
                Some(broken) => return (taken, broken),
                // A way that is not used is looked at again before it is.
                None => shared.work.notified().await,
            }
            continue;
        }
        tokio::select! {
            Some(sent) = on_their_way.join_next() => {
                if let Ok(sent) = sent {
                    settle(shared, transport, sent, &mut taken, &mut broken);
                }
            }
            () = shared.work.notified(), if broken.is_none() && on_their_way.len() < transport.width() => {}
        }
    }
}

/// Does what follows from one attempt.
fn settle(
    shared: &Shared,
    transport: &Transport,
    (key, parcel, sent): Sent,
    taken: &mut bool,
    broken: &mut Option<SendError>,
) {
    let mut lanes = shared.lanes();
    match sent {
        Ok(()) => {
            *taken = true;
            lanes.done(&key);
            shared.observer.sent(transport.name());
            if let Some(exit) = parcel.exit {
                let since = SystemTime::now().duration_since(exit).unwrap_or_default();
                shared.observer.exit_acknowledged(since);
            }
        }
        Err(SendError::Refused(text)) => {
            *taken = true;
            tracing::warn!(container = %key, topic = parcel.topic, text, "containerd refuses an event");
            lanes.done(&key);
            shared.observer.dropped("refused", 1);
        }
        Err(SendError::Troubled(text)) if parcel.troubles >= ATTEMPTS => {
            tracing::warn!(container = %key, topic = parcel.topic, text, "an event is given up");
            lanes.done(&key);
            shared.observer.dropped("failed", 1);
        }
        Err(error) => {
            // Only what containerd answers counts: one that cannot be reached is waited for (F3).
            lanes.again(&key, matches!(error, SendError::Troubled(_)));
            shared.observer.retried();
            broken.get_or_insert(error);
        }
    }
    shared.observe(&lanes);
    drop(lanes);
    shared.progress.notify_waiters();
}
