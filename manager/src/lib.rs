//! Many containers: groups, services, events, metrics and the command line.

pub mod server;
