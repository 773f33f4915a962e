//! The end-to-end harness: a private containerd, a client of its API, containers with their standard streams, a recorder
//! of events, and checks that nothing is left behind.
//!
//! Everything here is for tests: what goes wrong is a panic that says what was expected.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod case;
pub mod cgroup;
pub mod client;
mod containerd_config;
pub mod cost;
pub mod cri;
pub mod cri_node;
pub mod cri_pod;
pub mod cri_setup;
pub mod cri_stream;
pub mod daemon;
pub mod dashboard;
pub mod events;
pub mod exec;
pub mod image;
pub mod leftovers;
pub mod operator;
pub mod poll;
pub mod processes;
pub mod prometheus;
pub mod scrape;
pub mod shim;
pub mod spec;
pub mod stdio;
pub mod suite;
pub mod svg;
pub mod target;
