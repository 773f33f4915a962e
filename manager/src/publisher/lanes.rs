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

    /// The first event of a lane is to be sent again, before any other of it; containerd may have had trouble with it.
    pub(super) fn again(&mut self, key: &Key, troubled: bool) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.on_its_way = false;
        self.ready.push_back(key.clone());
        if let Some(parcel) = lane.parcels.front_mut() {
            parcel.troubles = parcel.troubles.saturating_add(u32::from(troubled));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parcel(topic: &'static str) -> Parcel {
        Parcel { topic, namespace: "ns".into(), request: [0; 4].into(), exit: None, troubles: 0 }
    }

    #[test]
    fn f3_only_what_containerd_answers_counts_as_trouble_and_nothing_is_overtaken() {
        let mut lanes = Lanes::default();
        let key = Key::new("ns", "c").unwrap();
        lanes.push(key.clone(), parcel("exit"), Limits::default());
        lanes.push(key.clone(), parcel("delete"), Limits::default());
        for (troubled, count) in [(false, 0), (true, 1), (false, 1)] {
            assert_eq!(lanes.take().unwrap().1.topic, "exit");
            assert!(lanes.take().is_none());
            lanes.again(&key, troubled);
            let front = lanes.lanes.get(&key).unwrap().parcels.front().unwrap();
            assert_eq!(front.troubles, count);
        }
        assert_eq!(lanes.take().unwrap().1.topic, "exit");
        lanes.done(&key);
        assert_eq!(lanes.take().unwrap().1.topic, "delete");
        lanes.done(&key);
        assert_eq!((lanes.events(), lanes.bytes(), lanes.lanes.len()), (0, 0, 0));
    }
}
