//! One container's life, without ttrpc, HTTP or groups.
//!
//! Data flows one way: a request enters a [`container`], which asks the pure [`state`] machine what may happen and has
//! the [`runtime`] do it; the end of a process flows back from the [`reaper`] through the container to its
//! [`event`]s. What it prints goes through [`stdio`] and [`console`]; what the kernel is asked is in [`cgroup`],
//! [`mount`], [`spec`] and [`sys`].

pub mod admission;
pub mod cgroup;
pub mod cleanup;
pub mod console;
pub mod container;
pub mod doing;
pub mod event;
pub mod exit;
pub mod id;
pub mod mount;
pub mod options;
pub mod process;
pub mod reaper;
pub mod record;
pub mod runtime;
pub mod spec;
pub mod state;
pub mod stdio;
pub mod sys;
pub mod telemetry;
pub mod tenant;
