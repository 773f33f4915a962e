//! Waiting for things to become so: short steps, long limits, so that a loaded machine only makes a test slower.

use std::thread;
use std::time::{Duration, Instant};

/// The limit for what normally takes milliseconds.
pub const LONG: Duration = Duration::from_secs(30);

/// Asks until there is an answer or `limit` has passed.
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    let mut step = Duration::from_millis(2);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        thread::sleep(step);
        step = (step * 2).min(Duration::from_millis(50));
    }
}

/// Asks until there is an answer.
///
/// # Panics
/// After [`LONG`], with `what`.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(LONG, ask).unwrap_or_else(|| panic!("after {LONG:?} still not so: {what}"))
}

/// Waits until `holds`.
///
/// # Panics
/// After [`LONG`], with `what`.
pub fn holds(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || holds().then_some(()));
}
