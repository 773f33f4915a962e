//! Standard streams of real processes, through real FIFOs, files, loggers and terminals. The tests run one at a time,
//! because each ends with a look at this process's descriptors and children, which they share.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "stdio/bench.rs"]
mod bench;
#[path = "stdio/fifos.rs"]
mod fifos;
#[path = "stdio/files.rs"]
mod files;
#[path = "stdio/input.rs"]
mod input;
#[path = "stdio/loggers.rs"]
mod loggers;
#[path = "stdio/pace.rs"]
mod pace;
#[path = "stdio/terminals.rs"]
mod terminals;
