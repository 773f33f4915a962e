//! The events that containerd does not have yet: a lane for each container, in order.
//!
//! At most one event of a lane is in flight, and it stays at the lane's head until it is acknowledged or dropped; so
//! nothing overtakes it, however often it is sent (F4). Nothing in here waits or sends.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use gam_task::id::Key;

use super::dropped::Dropped;
use super::encode::Parcel;

/// Collections that grew beyond this are given back when they are empty.
const KEPT: usize = 64;

/// Every lane.
#[derive(Debug)]
pub(super) struct Queue {
    most_events: usize,
    most_bytes: usize,
    events: usize,
    bytes: usize,
    lanes: HashMap<Key, Lane>,
    /// The lanes whose head may be sent, in turn.
    ready: VecDeque<Key>,
    /// The lanes whose head was answered with a failure, and when it may be sent again.
    resting: Vec<(Instant, Key)>,
    /// None is taken any more.
    closed: bool,
    /// Those that containerd publishes itself are not taken any more.
    leaving: bool,
    /// Whether an event has been dropped for lack of room since the queue was last empty.
    overflowing: bool,
}

/// The events of one container; never empty.
#[derive(Debug)]
struct Lane {
    events: VecDeque<Waiting>,
    bytes: usize,
    head: Head,
}

#[derive(Debug)]
struct Waiting {
    parcel: Arc<Parcel>,
    failures: u32,
}

/// Where a lane's first event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Ready,
    Flying,
    Resting,
}

/// What became of an event that was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It is kept.
    Kept,
    /// It is kept, and older ones were dropped for it; whether that had not happened for a while.
    Overflow { dropped: Dropped, news: bool },
    /// It is not kept, because the publisher stops.
    Stopping(Dropped),
}

impl Queue {
    pub(super) fn new(most_events: usize, most_bytes: usize) -> Self {
        Self {
            most_events,
            most_bytes,
            events: 0,
            bytes: 0,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            resting: Vec::new(),
            closed: false,
            leaving: false,
            overflowing: false,
        }
    }

    /// How many events are pending, those in flight among them.
    pub(super) fn len(&self) -> usize {
        self.events
    }

    /// How many bytes they have.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an event may be sent now.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// How many events each container has.
    pub(super) fn lengths(&self) -> impl Iterator<Item = (&Key, usize)> {
        self.lanes.iter().map(|(key, lane)| (key, lane.events.len()))
    }

    /// Appends an event to its container's lane. Over the bounds, the oldest events of the longest lanes go.
    pub(super) fn push(&mut self, key: &Key, parcel: Arc<Parcel>) -> Pushed {
        if self.closed || (self.leaving && parcel.left_to_containerd) {
            return Pushed::Stopping(self.lost(&parcel));
        }
        self.events += 1;
        self.bytes += parcel.request.len();
        let lane = self.lanes.entry(key.clone()).or_insert_with(|| {
            self.ready.push_back(key.clone());
            Lane { events: VecDeque::new(), bytes: 0, head: Head::Ready }
        });
        lane.bytes += parcel.request.len();
        lane.events.push_back(Waiting { parcel, failures: 0 });
        let mut dropped = Dropped::default();
        while self.events > self.most_events || self.bytes > self.most_bytes {
            let Some(oldest) = self.drop_oldest() else { break };
            dropped.add(oldest);
        }
        if dropped.events == 0 {
            return Pushed::Kept;
        }
        Pushed::Overflow { dropped, news: !std::mem::replace(&mut self.overflowing, true) }
    }

    /// What it means that an event is not sent: after [`leave`](Self::leave) containerd publishes some itself.
    fn lost(&self, parcel: &Parcel) -> Dropped {
        if self.leaving && parcel.left_to_containerd { Dropped::left(1) } else { Dropped::parcel(parcel) }
    }

    /// Drops the oldest event of the longest lane, but none that is in flight; none if there was none.
    fn drop_oldest(&mut self) -> Option<Dropped> {
        let by_events = self.events > self.most_events;
        let longest = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.droppable() > 0)
            .max_by_key(|(_, lane)| if by_events { lane.droppable() } else { lane.bytes })
            .map(|(key, _)| key.clone());
        let key = longest?;
        let lane = self.lanes.get_mut(&key)?;
        let oldest = usize::from(lane.head == Head::Flying);
        let waiting = lane.events.remove(oldest)?;
        let bytes = waiting.parcel.request.len();
        lane.bytes -= bytes;
        self.forget(1, bytes);
        if self.lanes.get(&key).is_some_and(|lane| lane.events.is_empty()) {
            self.remove(&key);
        }
        Some(self.lost(&waiting.parcel))
    }

    /// Takes the next event that may be sent: it is in flight now.
    pub(super) fn take(&mut self) -> Option<(Key, Arc<Parcel>)> {
        while let Some(key) = self.ready.pop_front() {
            if let Some(lane) = self.lanes.get_mut(&key)
                && let Some(first) = lane.events.front()
            {
                lane.head = Head::Flying;
                return Some((key, Arc::clone(&first.parcel)));
            }
        }
        None
    }

    /// The event of `key` that is in flight is done with, delivered or not; false if it was given up before.
    pub(super) fn done(&mut self, key: &Key) -> bool {
        let Some(lane) = self.lanes.get_mut(key).filter(|lane| lane.head == Head::Flying) else {
            return false;
        };
        let Some(waiting) = lane.events.pop_front() else { return false };
        let bytes = waiting.parcel.request.len();
        lane.bytes -= bytes;
        if lane.events.is_empty() {
            self.lanes.remove(key);
        } else {
            lane.head = Head::Ready;
            self.ready.push_back(key.clone());
        }
        self.forget(1, bytes);
        true
    }

    /// The event of `key` that is in flight was not delivered, through no fault of its own: it may be sent again.
    pub(super) fn again(&mut self, key: &Key) {
        if let Some(lane) = self.lanes.get_mut(key).filter(|lane| lane.head == Head::Flying) {
            lane.head = Head::Ready;
            self.ready.push_back(key.clone());
        }
    }

    /// How often the event of `key` that is in flight has failed, this time included.
    pub(super) fn fail(&mut self, key: &Key) -> u32 {
        let Some(first) = self.lanes.get_mut(key).and_then(|lane| lane.events.front_mut()) else { return 0 };
        first.failures = first.failures.saturating_add(1);
        first.failures
    }

    /// The event of `key` that is in flight is to be sent again at `when`.
    pub(super) fn rest(&mut self, key: &Key, when: Instant) {
        if let Some(lane) = self.lanes.get_mut(key).filter(|lane| lane.head == Head::Flying) {
            lane.head = Head::Resting;
            self.resting.push((when, key.clone()));
        }
    }

    /// Makes those ready that have rested, and says when the next one will have.
    pub(super) fn rouse(&mut self, now: Instant) -> Option<Instant> {
        let (rested, resting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.resting).into_iter().partition(|(when, _)| *when <= now);
        self.resting = resting;
        for (_, key) in rested {
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.head = Head::Ready;
                self.ready.push_back(key);
            }
        }
        self.resting.iter().map(|(when, _)| *when).min()
    }

    /// From now on takes no event that containerd publishes itself, and drops those that are not in flight.
    pub(super) fn leave(&mut self) -> Dropped {
        self.leaving = true;
        let (mut dropped, mut freed) = (0, 0);
        for lane in self.lanes.values_mut() {
            let flying = lane.head == Head::Flying;
            let mut index = 0;
            let before = lane.bytes;
            lane.events.retain(|waiting| {
                let keep = !waiting.parcel.left_to_containerd || (flying && index == 0);
                index += 1;
                if !keep {
                    lane.bytes -= waiting.parcel.request.len();
                    dropped += 1;
                }
                keep
            });
            freed += before - lane.bytes;
        }
        let empty: Vec<Key> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.events.is_empty())
            .map(|(key, _)| key.clone())
            .collect();
        for key in &empty {
            self.remove(key);
        }
        self.forget(dropped, freed);
        Dropped::left(dropped)
    }

    /// From now on takes nothing, and drops everything, in flight or not.
    pub(super) fn close(&mut self) -> Dropped {
        self.closed = true;
        let mut dropped = Dropped::default();
        for waiting in self.lanes.values().flat_map(|lane| &lane.events) {
            dropped.add(self.lost(&waiting.parcel));
        }
        self.lanes.clear();
        self.ready.clear();
        self.resting.clear();
        self.forget(self.events, self.bytes);
        dropped
    }

    fn remove(&mut self, key: &Key) {
        self.lanes.remove(key);
        self.ready.retain(|ready| ready != key);
        self.resting.retain(|(_, resting)| resting != key);
    }

    fn forget(&mut self, events: usize, bytes: usize) {
        self.events -= events;
        self.bytes -= bytes;
        if self.events == 0 {
            self.overflowing = false;
            if self.lanes.capacity() > KEPT {
                self.lanes = HashMap::new();
            }
            if self.ready.capacity() > KEPT {
                self.ready = VecDeque::new();
            }
        }
    }
}

impl Lane {
    /// How many of its events are not in flight.
    fn droppable(&self) -> usize {
        self.events.len() - usize::from(self.head == Head::Flying)
    }
}

#[cfg(test)]
mod tests;
