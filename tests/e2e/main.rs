//! BEHAVIOUR.md, row by row, on a real containerd and a real runc.
//!
//! `cargo test -p gam-tests --test e2e [-- FILTER]`, as root. The environment says what is tested:
//! `GAM_E2E_SHIM=gam|go`, `GAM_E2E_BINARY` (gam's binary; target/debug/gam), `GAM_E2E_GO` (the Go shim's),
//! `GAM_E2E_CONTAINERD=1.6|1.7|2.1` (the later ones by `tests/unpack trixie|sid containerd`), and `GAM_E2E_LIMIT`, the seconds
//! that one test may take (60). The program `leftovers` tells afterwards whether anything is left on the machine.
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
mod h_crowd;
mod h_generations;
mod h_restart;
mod i_footprint;
mod j_permissions;
mod k_limits;
mod k_tenants;
mod o_order;
mod p_operator;
mod s_security;
mod table;
mod wrapper;

/// Tests that the Go shim of containerd 1.6 is known to fail, for the faults that BEHAVIOUR.md describes.
const GO_FAILS: &[&str] = &[
    // An exec of a dead container: runc's error, without a code.
    "a5_exec_does_not_start_in_a_dead_container",
    // Without a private pid namespace execs outlive init's exit.
    "a4_init_exit_waits_for_running_execs",
    "a4_execs_that_start_while_init_dies",
    // The service's lock is held across `runc create`, the container's across `runc pause`, that of events across `exec`.
    "b1_a_slow_create_delays_nobody",
    "b2_a_slow_exec_delays_nobody",
    "b4_a_hung_runtime_leaves_the_reads_answered",
    // runc's output is read when it has ended.
    "b6_a_runtime_that_floods_stderr",
    // CloseIO before Start is forgotten.
    "c5_close_io_before_start_is_remembered",
    "c9_a_full_log_does_not_hold_the_container",
    // The FIFO of stdin is not closed, with a terminal and where Start fails.
    "c11_failed_creates_leave_no_descriptors",
    "c10_terminals_leave_no_descriptors",
    "c17_resize_of_a_terminal_at_any_time",
    // An empty URI beside one that is not is opened.
    "c18_stdout_alone",
    "d7_the_socket_of_a_dead_shim_is_unlinked",
    "d11_mounts_below_the_rootfs_are_unmounted",
    // Refused, without a code.
    "d20_delete_of_a_running_task_is_refused",
    // The watch is armed after Start.
    "e2_an_oom_of_init_is_reported",
    "e13_oom_score_of_shim_and_container",
    // An event is given up after five attempts.
    "f3_events_wait_for_containerd",
    // Start of what runs is refused without a code.
    "g4_errors_have_their_codes",
    // The Go runtime's heap and threads.
    "i1_finished_execs_cost_nothing",
    "i3_threads_do_not_grow_with_containers",
    // They look into gam's own files; besides, runc's complaint of a mount has its options, and is passed on.
    "no_secret_is_told_anywhere",
    "the_canary_is_found_where_it_is",
    "every_file_is_its_owners_alone",
    "another_user_is_hung_up_on",
];

fn main() {
    let modules = [
        o_order::tests(),
        p_operator::tests(),
        a_exits::tests(),
        b_latency::tests(),
        c_io::tests(),
        d_cleanup::tests(),
        e_resources::tests(),
        f_events::tests(),
        g_signals::tests(),
        h_crowd::tests(),
        h_generations::tests(),
        h_restart::tests(),
        i_footprint::tests(),
        j_permissions::tests(),
        k_limits::tests(),
        k_tenants::tests(),
        s_security::tests(),
        table::tests(),
    ];
    gam_tests::suite::main(modules.into_iter().flatten().collect(), GO_FAILS)
}
