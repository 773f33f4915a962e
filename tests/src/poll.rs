//! Waiting for things to become so: short steps, long limits, so that a loaded machine only makes a test slower.

use std::env;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

/// The limit for what normally takes milliseconds.
pub const LONG: Duration = Duration::from_secs(30);

/// How much slower than usual the machine is: `GAM_E2E_SLOW`, 1 where that is not set.
static SLOWNESS: LazyLock<u32> = LazyLock::new(|| match env::var("GAM_E2E_SLOW").as_deref() {
    Err(_) | Ok("") => 1,
    Ok(text) => text.parse().unwrap_or_else(|_| panic!("GAM_E2E_SLOW is {text:?}; it is a whole number")),
});

/// A limit on this machine.
#[must_use]
pub fn slow(limit: Duration) -> Duration {
    limit.saturating_mul(*SLOWNESS)
}

/// Asks until there is an answer or `limit`, as [`slow`] makes it, has passed.
pub fn within<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + slow(limit);
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
    within(LONG, ask).unwrap_or_else(|| panic!("after {:?} still not so: {what}", slow(LONG)))
}

/// Waits until `holds`.
///
/// # Panics
/// After [`LONG`], with `what`.
pub fn holds(what: &str, mut holds: impl FnMut() -> bool) {
    until(what, || holds().then_some(()));
}
