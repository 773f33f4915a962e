//! Processes: how they are asked for, and how they are waited for.

mod adopted;
mod child;
mod command;
mod core;

pub use adopted::{Process, Signals};
pub use child::Child;
pub use command::Command;
pub use core::Core;
