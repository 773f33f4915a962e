//! BEHAVIOUR.md, row by row, on a real containerd and a real runc.
//!
//! A test is named after the row it proves; BEHAVIOUR.md beside this crate's Cargo.toml says where the other rows are proved.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod a_exits;
mod b_latency;
mod c_io;
mod d_cleanup;
mod e_resources;
mod f_events;
mod g_signals;
mod h_restart;
mod i_footprint;
mod j_permissions;
mod k_tenants;
mod o_order;
mod table;
mod wrapper;

/// Tests that the Go shim of containerd 1.6 is known to fail, for the faults that BEHAVIOUR.md describes.
const GO_FAILS: &[&str] = &[];

fn main() {
    let modules = [
        o_order::tests(),
        a_exits::tests(),
        b_latency::tests(),
        c_io::tests(),
        d_cleanup::tests(),
        e_resources::tests(),
        f_events::tests(),
        g_signals::tests(),
        h_restart::tests(),
        i_footprint::tests(),
        j_permissions::tests(),
        k_tenants::tests(),
        table::tests(),
    ];
    gam_tests::suite::main(modules.into_iter().flatten().collect(), GO_FAILS)
}
