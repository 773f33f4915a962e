//! The events that wait: a lane for each container, and the order in which lanes get their turn.

use std::collections::{HashMap, VecDeque};

use gam_task::id::Key;
use serde_json::{Value, json};

use super::Limits;
use super::encode::Parcel;

/// What is remembered for each event besides its bytes.
const OVERHEAD: usize = 128;

/// The events of all containers.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<Key, Lane>,
    /// The lanes whose first event may be sent now.
    ready: VecDeque<Key>,
    events: usize,
    bytes: usize,
}

/// The events of one container; the first may be on its way.
#[derive(Debug, Default)]
struct Lane {
    parcels: VecDeque<Parcel>,
    on_its_way: bool,
}

impl Lanes {
    pub(super) fn events(&self) -> usize {
        self.events
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an event. Above the limits the oldest of the longest lanes are lost; how many is answered.
    pub(super) fn push(&mut self, key: Key, parcel: Parcel, limits: Limits) -> u64 {
        self.events = self.events.saturating_add(1);
        self.bytes = self.bytes.saturating_add(size(&parcel));
        let lane = self.lanes.entry(key.clone()).or_default();
        lane.parcels.push_back(parcel);
        if lane.parcels.len() == 1 {
            self.ready.push_back(key);
        }
        let mut lost = 0;
        while self.events > limits.events.max(1) || self.bytes > limits.bytes {
            if !self.shed() {
                break;
            }
            lost += 1;
        }
        lost
    }

    /// Takes the next event that may be sent. Its lane waits until it is [`done`](Self::done) or
    /// [`again`](Self::again).
    pub(super) fn take(&mut self) -> Option<(Key, Parcel)> {
        while let Some(key) = self.ready.pop_front() {
            if let Some(lane) = self.lanes.get_mut(&key)
                && !lane.on_its_way
                && let Some(parcel) = lane.parcels.front()
            {
                lane.on_its_way = true;
                return Some((key, parcel.clone()));
            }
        }
        None
    }

    /// The first event of a lane has been taken by containerd, or is given up.
    pub(super) fn done(&mut self, key: &Key) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.on_its_way = false;
        if let Some(parcel) = lane.parcels.pop_front() {
            self.events = self.events.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(size(&parcel));
        }
        if lane.parcels.is_empty() {
            self.lanes.remove(key);
        } else {
            self.ready.push_back(key.clone());
        }
    }

    /// The first event of a lane is to be sent again, before any other of it.
    pub(super) fn again(&mut self, key: &Key) -> u32 {
        let Some(lane) = self.lanes.get_mut(key) else { return 0 };
        lane.on_its_way = false;
        self.ready.push_back(key.clone());
        let Some(parcel) = lane.parcels.front_mut() else { return 0 };
        parcel.attempts = parcel.attempts.saturating_add(1);
        parcel.attempts
    }

    /// Loses the oldest event that is not on its way of the longest lane.
    fn shed(&mut self) -> bool {
        let Some((_, lane)) = self.lanes.iter_mut().max_by_key(|(_, lane)| lane.parcels.len()) else {
            return false;
        };
        let Some(parcel) = lane.parcels.remove(usize::from(lane.on_its_way)) else { return false };
        self.events = self.events.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size(&parcel));
        true
    }

    /// The lanes and how many events wait in each.
    pub(super) fn describe(&self) -> Value {
        let lane = |(key, lane): (&Key, &Lane)| json!({"container": key.to_string(), "events": lane.parcels.len(), "on_its_way": lane.on_its_way});
        self.lanes.iter().map(lane).collect()
    }
}

fn size(parcel: &Parcel) -> usize {
    parcel.request.len().saturating_add(OVERHEAD)
}
