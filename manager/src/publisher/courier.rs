//! The one task that sends events, and the attempts it has in flight.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use gam_task::id::Key;
use gam_task::reaper::Reaper;
use tokio::task::{Id, JoinError, JoinSet};

use super::dropped::Dropped;
use super::encode::Parcel;
use super::link::{Link, Outcome};
use super::road::{Number, Road};
use super::{Addresses, Limits, Shared, binary};

/// The first and the longest pause of a lane whose event was answered with a failure.
const REST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// The first and the longest pause after the binary failed: each run costs a process.
const BINARY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// Sends what is in the queue.
pub(super) struct Courier {
    shared: Arc<Shared>,
    addresses: Arc<Addresses>,
    reaper: Arc<Reaper>,
    road: Road,
    attempts: JoinSet<Outcome>,
    flights: HashMap<Id, Flight>,
    /// No run of the binary before this.
    binary_again: Instant,
    binary_pause: Duration,
}

/// An attempt that has not ended.
#[derive(Debug)]
struct Flight {
    key: Key,
    parcel: Arc<Parcel>,
    by: By,
}

/// What an attempt goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Link(Number, &'static str),
    Binary,
}

impl Courier {
    pub(super) fn new(shared: Arc<Shared>, addresses: Addresses, reaper: Arc<Reaper>) -> Self {
        let now = Instant::now();
        Self {
            shared,
            reaper,
            road: Road::new(&addresses, now),
            addresses: Arc::new(addresses),
            attempts: JoinSet::new(),
            flights: HashMap::new(),
            binary_again: now,
            binary_pause: BINARY.0,
        }
    }

    /// Sends until the publisher ends; attempts in flight end with it.
    pub(super) async fn run(mut self) {
        let ending = self.shared.ending.clone();
        tokio::select! {
            () = ending.cancelled() => {}
            () = self.work() => {}
        }
    }

    async fn work(&mut self) {
        let shared = Arc::clone(&self.shared);
        loop {
            let due = shared.lock().rouse(Instant::now());
            let due = earlier(due, self.depart().await);
            self.report();
            tokio::select! {
                Some(landed) = self.attempts.join_next_with_id() => self.land(landed),
                () = shared.wake.notified() => {}
                () = until(due) => {}
            }
        }
    }

    /// Sends what may be sent, and says when to try again if something may be sent and cannot.
    async fn depart(&mut self) -> Option<Instant> {
        while self.flights.len() < self.shared.limits.in_flight && self.shared.lock().has_ready() {
            let (link, number) = match self.road.open().await {
                Ok(Some(open)) => open,
                Ok(None) => break,
                Err(error) => {
                    self.stranded(error);
                    break;
                }
            };
            let by = By::Link(number, link.kind().name());
            let aloft = self.flights.values().filter(|flight| flight.by == by).count();
            if aloft >= self.road.window(self.shared.limits.in_flight) {
                return None;
            }
            let Some((key, parcel)) = self.shared.lock().take() else { break };
            let attempt = attempt(link, Arc::clone(&parcel), self.shared.limits, key.clone());
            let id = self.attempts.spawn(attempt).id();
            self.flights.insert(id, Flight { key, parcel, by });
        }
        if self.shared.lock().has_ready() { self.road.due() } else { None }
    }

    /// A round of connecting has failed.
    fn stranded(&mut self, error: String) {
        if self.road.failed() == 1 {
            tracing::warn!(error, "containerd cannot be reached; events are kept");
        }
        self.shared.status().last_error = Some(error);
        let now = Instant::now();
        let running = self.flights.values().any(|flight| flight.by == By::Binary);
        if !self.road.is_stranded()
            || self.addresses.binary.as_os_str().is_empty()
            || running
            || now < self.binary_again
        {
            return;
        }
        let Some((key, parcel)) = self.shared.lock().take() else { return };
        let (reaper, addresses, limit) =
            (Arc::clone(&self.reaper), Arc::clone(&self.addresses), self.shared.limits.answer);
        let sent = Arc::clone(&parcel);
        let run =
            async move { binary::publish(&reaper, &addresses.binary, &addresses.grpc, &sent, limit).await };
        let id = self.attempts.spawn(run).id();
        self.flights.insert(id, Flight { key, parcel, by: By::Binary });
    }

    /// An attempt has ended.
    fn land(&mut self, landed: Result<(Id, Outcome), JoinError>) {
        let (id, outcome) = match landed {
            Ok(landed) => landed,
            Err(error) => (error.id(), Outcome::Failed(format!("the attempt ended: {error}"))),
        };
        let Some(flight) = self.flights.remove(&id) else { return };
        if self.flights.is_empty() {
            self.flights.shrink_to_fit();
        }
        let outcome = match flight.by {
            By::Link(number, _) => self.learn(number, outcome),
            By::Binary => self.learn_of_binary(outcome),
        };
        self.settle(&flight, outcome);
    }

    /// What an outcome says about the connection; and what is left for the event.
    fn learn(&mut self, number: Number, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Acknowledged | Outcome::Refused(_) | Outcome::Failed(_) => self.road.answered(number),
            Outcome::Unserved(why) => {
                tracing::warn!(
                    why,
                    transport = self.road.transport(),
                    "containerd does not take events this way"
                );
                return if self.road.unserved(number) { Outcome::Broken(why) } else { Outcome::Failed(why) };
            }
            Outcome::Broken(_) => self.road.lost(number),
            Outcome::Silent => self.road.silent(number, self.shared.limits.patience),
        }
        outcome
    }

    fn learn_of_binary(&mut self, outcome: Outcome) -> Outcome {
        let now = Instant::now();
        if outcome == Outcome::Acknowledged {
            self.binary_pause = BINARY.0;
            self.binary_again = now;
            self.road.hasten();
        } else {
            self.binary_again = now + self.binary_pause;
            self.binary_pause = (self.binary_pause * 2).min(BINARY.1);
        }
        outcome
    }

    /// Takes an event out of the queue, or has it sent again.
    fn settle(&self, flight: &Flight, outcome: Outcome) {
        let (topic, key) = (flight.parcel.topic, &flight.key);
        match outcome {
            Outcome::Acknowledged => {
                let transport = if let By::Link(_, name) = flight.by { name } else { "binary" };
                let since = SystemTime::now().duration_since(flight.parcel.at).unwrap_or_default();
                self.shared.done(key, |observer| {
                    observer.sent(transport);
                    observer.acknowledged(topic, since);
                });
            }
            Outcome::Refused(why) => {
                tracing::error!(container = %key, topic, why, "containerd refused an event, which is dropped");
                self.drop_it(flight, "refused", why);
            }
            Outcome::Failed(why) => {
                let failures = self.shared.lock().fail(key);
                if failures >= self.shared.limits.failures {
                    tracing::error!(container = %key, topic, why, failures, "an event is dropped");
                    return self.drop_it(flight, "failed", why);
                }
                tracing::debug!(container = %key, topic, why, failures, "an event is sent again later");
                let pause = REST.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(REST.1);
                self.shared.lock().rest(key, Instant::now() + pause);
                self.retried(why);
            }
            Outcome::Unserved(why) | Outcome::Broken(why) => {
                tracing::debug!(container = %key, topic, why, "an event is sent again");
                self.shared.lock().again(key);
                self.retried(why);
            }
            Outcome::Silent => {
                let why = format!("no answer within {:?}", self.shared.limits.patience);
                tracing::warn!(container = %key, topic, why, "an event is sent again");
                self.shared.lock().again(key);
                self.retried(why);
            }
        }
    }

    fn drop_it(&self, flight: &Flight, reason: &'static str, why: String) {
        self.shared.status().last_error = Some(why);
        self.shared.done(&flight.key, |observer| observer.dropped(reason, Dropped::parcel(&flight.parcel)));
    }

    fn retried(&self, why: String) {
        self.shared.status().last_error = Some(why);
        self.shared.observer.retried();
    }

    fn report(&self) {
        let mut status = self.shared.status();
        status.transport = self.road.transport();
        status.in_flight = self.flights.len();
    }
}

/// One attempt. After `answer` it counts as late, but as long as the connection is open it goes on until `patience`: a
/// containerd that stands still would take every further copy.
async fn attempt(link: Arc<Link>, parcel: Arc<Parcel>, limits: Limits, key: Key) -> Outcome {
    let mut sent = std::pin::pin!(link.send(&parcel));
    if let Ok(outcome) = tokio::time::timeout(limits.answer, &mut sent).await {
        return outcome;
    }
    tracing::warn!(container = %key, topic = parcel.topic, "containerd is slow to take an event");
    let rest = limits.patience.saturating_sub(limits.answer);
    tokio::time::timeout(rest, sent).await.unwrap_or(Outcome::Silent)
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}

/// Completes at `due`; never without one.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
