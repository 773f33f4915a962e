//! Containers that are expected: a `start` has announced them and their Create is to come.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use gam_task::id::Key;

/// How long after a `start` its Create is waited for.
const LIFE: Duration = Duration::from_secs(60);

/// The containers a manager stays for although they are not there yet.
#[derive(Debug, Default)]
pub struct Leases(Mutex<HashMap<Key, Instant>>);

impl Leases {
    /// Expects a container from now on.
    pub fn begin(&self, key: Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Instant::now());
    }

    /// Expects it no more; whether it was.
    pub fn end(&self, key: &Key) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key).is_some()
    }

    /// Which are expected.
    pub fn keys(&self) -> Vec<String> {
        let leases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        leases.keys().map(ToString::to_string).collect()
    }

    /// How many are expected; those that are overdue are forgotten.
    pub fn live(&self) -> usize {
        let mut leases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        leases.retain(|_, since| since.elapsed() < LIFE);
        leases.len()
    }
}
