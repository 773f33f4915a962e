//! How many events were dropped, and how many of them were of consequence.

use gam_task::event::{Event, What};

use super::encode::Parcel;

/// The topic of the end of a process.
pub(crate) const EXIT: &str = "/tasks/exit";

/// Why events are dropped; the publisher's description explains these words.
pub(crate) const REASONS: [&str; 5] = ["overflow", "refused", "failed", "unencodable", "stopping"];

/// Events that were dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// All of them.
    pub events: u64,
    /// Those of them that told of a process's end, and that nobody else tells of.
    pub exits: u64,
}

impl Dropped {
    /// An encoded one.
    pub(super) fn parcel(parcel: &Parcel) -> Self {
        Self { events: 1, exits: u64::from(parcel.topic == EXIT) }
    }

    /// One that is not encoded.
    pub(super) fn event(event: &Event) -> Self {
        Self { events: 1, exits: u64::from(matches!(event.what, What::Exited { .. })) }
    }

    /// So many that containerd publishes itself.
    pub(super) fn left(events: usize) -> Self {
        Self { events: events.try_into().unwrap_or(u64::MAX), exits: 0 }
    }

    /// These and those.
    pub(super) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.exits += other.exits;
    }
}
