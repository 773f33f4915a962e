//! How fast a tenant's output may be brought on.

use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much may be caught up on after a pause: what would have been brought in that time.
const BURST: Duration = Duration::from_secs(1);
/// The longest that is waited for at once.
const LONGEST: Duration = Duration::from_secs(1);

/// A rate, shared by all streams of a tenant. What has been brought is paid for afterwards, by waiting.
#[derive(Debug)]
pub struct Pace(Option<Rate>);

#[derive(Debug)]
struct Rate {
    bytes_per_second: u64,
    /// When everything that has been brought will be paid for.
    paid: Mutex<Instant>,
}

impl Pace {
    /// As fast as it goes.
    #[must_use]
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// At this rate.
    #[must_use]
    pub fn of(bytes_per_second: NonZeroU64) -> Self {
        let now = Instant::now();
        let paid = Mutex::new(now.checked_sub(BURST).unwrap_or(now));
        Self(Some(Rate { bytes_per_second: bytes_per_second.get(), paid }))
    }

    /// So many bytes have been brought.
    pub fn spend(&self, bytes: u64) {
        let Some(rate) = &self.0 else { return };
        let now = Instant::now();
        let cost = Duration::try_from_secs_f64(bytes as f64 / rate.bytes_per_second as f64).unwrap_or(BURST);
        let mut paid = rate.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        *paid = paid.max(earliest).checked_add(cost).unwrap_or(now);
    }

    /// How long to wait before more is brought; none if nothing is owed.
    #[must_use]
    pub fn owed(&self) -> Option<Duration> {
        let rate = self.0.as_ref()?;
        let paid = *rate.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let owed = paid.saturating_duration_since(Instant::now());
        (!owed.is_zero()).then(|| owed.min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_brought_is_paid_for_by_waiting_and_a_pause_gives_a_second() {
        let pace = Pace::of(NonZeroU64::new(1000).unwrap());
        assert_eq!(pace.owed(), None);
        pace.spend(900);
        assert_eq!(pace.owed(), None, "the first second is free");
        pace.spend(600);
        let owed = pace.owed().unwrap();
        assert!(owed > Duration::from_millis(400) && owed <= Duration::from_millis(500), "{owed:?}");
        pace.spend(1_000_000);
        assert_eq!(pace.owed(), Some(LONGEST));
        let free = Pace::unlimited();
        free.spend(u64::MAX);
        assert_eq!(free.owed(), None);
    }
}
