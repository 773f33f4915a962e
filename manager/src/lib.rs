//! Many containers: groups, services, events, metrics and the command line.

pub mod containers;
pub mod control;
pub mod delete;
pub mod group;
pub mod leases;
pub mod manager;
pub mod serve;
pub mod server;
pub mod service;
pub mod start;
pub mod status;
