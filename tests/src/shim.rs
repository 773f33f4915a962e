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
