//! Docker with gam as its runtime: a private dockerd and containerd, and the docker command line.
//!
//! `tests/unpack` brings the programs from Debian trixie; runc is the machine's own, for trixie's needs a newer libc.
//! `GAM_E2E_SHIM=go` runs the same with dockerd's default runtime, to prove that the cases are right.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod choice;
mod container;
mod engine;
mod exec;
mod exits;
mod life;
mod looks;
mod repeated;
mod restart;
mod terminal;
mod tty;

use std::time::Duration;

fn main() {
    let modules = [
        choice::tests(),
        exits::tests(),
        exec::tests(),
        terminal::tests(),
        life::tests(),
        looks::tests(),
        restart::tests(),
        repeated::tests(),
    ];
    // Every case is several runs of a command line on a machine that does six of them at once.
    gam_tests::suite::main_of(
        modules.into_iter().flatten().collect(),
        &[],
        Duration::from_secs(300),
        engine::finish,
    )
}
