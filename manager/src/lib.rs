//! Many containers: groups, services, events, metrics and the command line.

pub mod bootstrap;
pub mod cli;
pub mod config;
pub mod containerd;
pub mod containers;
pub mod control;
pub mod delete;
pub mod feed;
pub mod group;
pub mod info;
pub mod kept;
pub mod leases;
pub mod logs;
pub mod manager;
pub mod metrics;
pub mod operator;
pub mod options;
pub mod publisher;
pub mod serve;
pub mod server;
pub mod service;
pub mod start;
pub mod status;
