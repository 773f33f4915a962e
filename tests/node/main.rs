//! The metrics of a node with several managers: one address for all of them, read by a real Prometheus; the shipped alerts
//! and the shipped dashboard.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod address;
mod shipped;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gam_tests::daemon::{Daemon, Settings};
use gam_tests::suite::{Entry, main_of};

fn main() {
    let tests: Vec<Entry> = [address::tests(), shipped::tests()].concat();
    main_of(tests, &[], Duration::ZERO, Vec::new)
}

/// A containerd whose managers, one for each tenant, tell their metrics at `listen` too.
fn daemon(listen: &str) -> Arc<Daemon> {
    let mut settings = Settings::new().grouping("namespace");
    settings.gam.push_str(&format!("[metrics]\nlisten = \"{listen}\"\nper_container = true\n"));
    Daemon::start(settings)
}

/// The same at a TCP address.
fn daemon_at(address: SocketAddr) -> Arc<Daemon> {
    daemon(&format!("tcp://{address}"))
}
