//! Many containers: groups, services, events, metrics and the command line.

pub mod bootstrap;
pub mod cli;
pub mod config;
pub mod info;
pub mod logs;
pub mod metrics;
pub mod options;
pub mod server;
