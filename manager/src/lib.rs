//! Many containers: groups, services, events, metrics and the command line.

pub mod containerd;
pub mod publisher;
pub mod server;
