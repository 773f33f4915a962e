//! The containers of a manager, by containerd namespace and id (K1).
//!
//! A container has a slot from the beginning of its Create. After its Delete the slot tells what the Delete answered, so
//! that asking again gives the same answer (D2), until the id is shut down or created again, its connection closes, or a
//! minute has passed.

mod creation;
mod tombstone;
mod watched;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use gam_task::container::Container;
use gam_task::id::Key;
use tokio::sync::{Notify, watch};

pub use creation::Creation;
pub use tombstone::Tombstone;

use crate::server::ConnectionId;

/// What an id stands for.
#[derive(Clone)]
pub enum Slot {
    /// It is being created.
    Creating(Creation),
    /// It is there.
    Live(Arc<Container>),
    /// It has been deleted.
    Deleted(Arc<Tombstone>),
}

/// All containers of a manager.
#[derive(Default)]
pub struct Containers {
    slots: DashMap<Key, Slot>,
    /// Slots that are no tombstones.
    members: AtomicUsize,
    left: Notify,
}

/// An id that is taken already.
#[derive(Debug, thiserror::Error)]
#[error("container {0} already exists")]
pub struct Taken(pub Key);

impl Containers {
    /// What `key` stands for.
    #[must_use]
    pub fn slot(&self, key: &Key) -> Option<Slot> {
        let slot = self.slots.get(key)?.value().clone();
        match slot {
            Slot::Deleted(tombstone) if tombstone.is_old() => {
                self.slots.remove_if(key, |_, slot| matches!(slot, Slot::Deleted(old) if old.is_old()));
                None
            }
            slot => Some(slot),
        }
    }

    /// The container that `key` stands for, if it is there.
    #[must_use]
    pub fn live(&self, key: &Key) -> Option<Arc<Container>> {
        match self.slot(key) {
            Some(Slot::Live(container)) => Some(container),
            _ => None,
        }
    }

    /// Every id and what it stands for.
    #[must_use]
    pub fn slots(&self) -> Vec<(Key, Slot)> {
        self.slots.iter().map(|entry| (entry.key().clone(), entry.value().clone())).collect()
    }

    /// Every container that is there.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Container>> {
        let live = |slot: &Slot| match slot {
            Slot::Live(container) => Some(Arc::clone(container)),
            _ => None,
        };
        self.slots.iter().filter_map(|entry| live(entry.value())).collect()
    }

    /// How many containers are there or are being created.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.load(Ordering::SeqCst)
    }

    /// Waits until a container has left.
    pub async fn left(&self) {
        self.left.notified().await;
    }

    /// Takes the id of a container that is to be created over `connection`.
    ///
    /// # Errors
    /// [`Taken`] if it is there or is being created.
    pub fn reserve(self: &Arc<Self>, key: &Key, connection: ConnectionId) -> Result<Reservation, Taken> {
        let creation = Creation::new(connection);
        match self.slots.entry(key.clone()) {
            Entry::Occupied(mut taken) => match taken.get() {
                Slot::Deleted(_) => drop(taken.insert(Slot::Creating(creation.clone()))),
                Slot::Creating(_) | Slot::Live(_) => return Err(Taken(key.clone())),
            },
            Entry::Vacant(free) => drop(free.insert(Slot::Creating(creation.clone()))),
        }
        self.members.fetch_add(1, Ordering::SeqCst);
        Ok(Reservation { containers: Arc::clone(self), key: key.clone(), creation, kept: false })
    }

    /// Replaces a container that has been deleted by what its Delete answered.
    pub fn bury(&self, container: &Arc<Container>, tombstone: Tombstone) {
        let key = container.key();
        let mut buried = false;
        if let Some(mut slot) = self.slots.get_mut(key)
            && matches!(slot.value(), Slot::Live(live) if Arc::ptr_eq(live, container))
        {
            *slot.value_mut() = Slot::Deleted(Arc::new(tombstone));
            buried = true;
        }
        if buried {
            self.departed();
        }
    }

    /// Forgets what a deleted container's Delete answered.
    pub fn forget(&self, key: &Key) {
        self.slots.remove_if(key, |_, slot| matches!(slot, Slot::Deleted(_)));
    }

    /// A connection has closed: its deleted containers are forgotten, and what is being created over it is undone when it
    /// is done (nobody waits for it any more).
    pub fn closed(&self, connection: ConnectionId) {
        self.slots.retain(|_, slot| match slot {
            Slot::Deleted(tombstone) => tombstone.connection != connection,
            Slot::Creating(creation) => {
                if creation.connection == connection {
                    creation.abandon();
                }
                true
            }
            Slot::Live(_) => true,
        });
    }

    fn departed(&self) {
        self.members.fetch_sub(1, Ordering::SeqCst);
        self.left.notify_waiters();
        self.left.notify_one();
    }

    /// Forgets what was answered more than a minute ago.
    pub fn forget_old(&self) {
        self.slots.retain(|_, slot| !matches!(slot, Slot::Deleted(tombstone) if tombstone.is_old()));
    }
}

/// An id that is taken for a container that is being created. Dropped without it, the id is free again.
pub struct Reservation {
    containers: Arc<Containers>,
    key: Key,
    creation: Creation,
    kept: bool,
}

impl Reservation {
    /// Tells when nobody waits for the container any more.
    #[must_use]
    pub fn unwanted(&self) -> watch::Receiver<bool> {
        self.creation.unwanted()
    }

    /// Puts the container in its place. Gives it back if nobody waits for it any more: then it is to be undone, and the
    /// id stays taken until the reservation is dropped.
    ///
    /// # Errors
    /// The container, where its Create has been abandoned.
    pub fn keep(&mut self, container: Arc<Container>) -> Result<(), Arc<Container>> {
        let Some(mut slot) = self.containers.slots.get_mut(&self.key) else { return Err(container) };
        if self.creation.is_abandoned() {
            return Err(container);
        }
        *slot.value_mut() = Slot::Live(container);
        self.kept = true;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.kept {
            self.containers.slots.remove_if(&self.key, |_, slot| matches!(slot, Slot::Creating(_)));
            self.containers.departed();
        }
        self.creation.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Tasks as _;

    fn key(id: &str) -> Key {
        Key::new("ns", id).unwrap()
    }

    fn grave(containers: &Containers, id: &str, connection: ConnectionId) {
        let streams = gam_task::record::StreamNames::default();
        let tombstone = Tombstone::new(7, gam_task::exit::Exit::now(3), "/b".into(), streams, connection);
        containers.slots.insert(key(id), Slot::Deleted(Arc::new(tombstone)));
    }

    #[test]
    fn a13_an_id_is_taken_once_and_free_again_when_its_creation_fails() {
        let containers = Arc::new(Containers::default());
        let first = containers.reserve(&key("a"), 1).unwrap();
        assert!(containers.reserve(&key("a"), 2).is_err());
        let other = Key::new("another", "a").unwrap();
        drop(containers.reserve(&other, 2).unwrap());
        assert_eq!(containers.members(), 1);
        drop(first);
        assert_eq!(containers.members(), 0);
        assert!(containers.slot(&key("a")).is_none());
        drop(containers.reserve(&key("a"), 2).unwrap());
    }

    #[tokio::test]
    async fn a_creation_whose_connection_closes_is_abandoned_and_its_end_is_seen() {
        let containers = Arc::new(Containers::default());
        let reservation = containers.reserve(&key("a"), 1).unwrap();
        let Some(Slot::Creating(creation)) = containers.slot(&key("a")) else { panic!("not being created") };
        containers.closed(2);
        assert!(!creation.is_abandoned());
        containers.closed(1);
        assert!(creation.is_abandoned());
        drop(reservation);
        creation.ended().await;
    }

    #[test]
    fn d2_a_deleted_container_is_remembered_until_its_connection_closes_or_its_id_is_used() {
        let containers = Arc::new(Containers::default());
        for id in ["a", "b", "c"] {
            grave(&containers, id, 1);
        }
        assert_eq!(containers.members(), 0);
        containers.forget(&key("a"));
        assert!(containers.slot(&key("a")).is_none());
        assert!(matches!(containers.slot(&key("b")), Some(Slot::Deleted(_))));
        let reservation = containers.reserve(&key("b"), 2).unwrap();
        containers.closed(1);
        assert!(containers.slot(&key("c")).is_none());
        assert!(matches!(containers.slot(&key("b")), Some(Slot::Creating(_))));
        drop(reservation);
        assert_eq!(containers.by_state().iter().map(|(_, count)| count).sum::<usize>(), 0);
    }
}
