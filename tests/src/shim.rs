//! The shim protocol, spoken without containerd: what containerd does is played by these modules, so that faults can be
//! brought about that a real containerd and runc would show once in a month.
//!
//! The same cases run against gam and, to prove that they are right, against containerd's own Go shim:
//!
//! - `GAM_E2E_SHIM=gam|go`: which one; gam by default.
//! - `GAM_E2E_BINARY=path`: the binary of gam; `target/debug/gam` by default.
//! - `GAM_E2E_KEEP=1`: leave the directory of a failed case.
//! - `GAM_E2E_REPEAT=n`: how often a race is run; 200 by default.

pub mod bundle;
mod case;
pub mod container;
pub mod event;
pub mod fake;
pub mod fifo;
mod lab;
mod leftovers;
pub mod order;
pub mod process;
mod subject;
pub mod wire;

use std::time::{Duration, Instant};

pub use case::{Limit, case};
pub use container::{Container, code};
pub use lab::Lab;
pub use subject::Subject;

/// Waits until `holds`, looking every few milliseconds.
///
/// # Panics
/// After 30 s.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Runs all at once; answers all outcomes, in order.
///
/// # Panics
/// If one of them does.
pub async fn together<T: Send + 'static>(
    all: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let all: Vec<_> = all.into_iter().map(tokio::spawn).collect();
    let mut done = Vec::new();
    for one in all {
        match one.await {
            Ok(outcome) => done.push(outcome),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    done
}

/// Runs one beside what follows.
pub fn beside<T: Send + 'static>(
    one: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::spawn(one)
}

/// Waits until `question` answers `wanted`.
///
/// # Panics
/// After 30 s, with the last answer.
pub async fn until_is<T: PartialEq + std::fmt::Debug, F: Future<Output = T>>(
    wanted: T,
    mut question: impl FnMut() -> F,
) {
    let since = Instant::now();
    loop {
        let answer = question().await;
        if answer == wanted {
            return;
        }
        assert!(since.elapsed() < Duration::from_secs(30), "never {wanted:?}, still {answer:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Fails unless `what` is done within `limit`, which is that of the row and not of a quiet machine.
///
/// # Panics
/// If it is not.
pub async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(limit, work).await;
    outcome.unwrap_or_else(|_| panic!("{what} is not done after {limit:?}"))
}
