//! Cases of the shim protocol, named after the rows of BEHAVIOUR they prove. See [`gam_tests::shim`] for the switches.

mod bad_input;
mod deletion;
mod events;
mod fairness;
mod latency;
mod meetings;
mod protocol;
mod repeated;
mod signals;
mod start_and_exit;
mod streams;
mod tenants;

/// Cases that containerd's Go shim (1.6.20) is known to fail, and why. They are run with it all the same, and reported.
const GO_FAILS: &[(&str, &str)] = &[
    ("a12_a_started_exec_has_its_pid_and_state_does_not_wait_for_it", "State waits for the runtime"),
    (
        "a4_init_exit_waits_for_running_execs",
        "the exit of an exec that starts while init dies comes last or never",
    ),
    ("a5_no_exec_starts_once_init_has_ended", "the runtime is asked, and its refusal is UNKNOWN"),
    ("a5_repeated_starts_in_a_dying_container", "Start of a dead container panics: its cgroup is nil"),
    ("a8_fifty_parallel_execs_do_not_wedge_the_shim", "starts take a second each, and some never end"),
    ("a9_no_exit_is_lost_when_everything_dies_at_once", "init's exit comes before that of an exec"),
    ("a_create_whose_connection_closed_is_undone", "it is made and stays"),
    ("b1_a_slow_create_delays_nobody_else", "Create holds the lock that State needs"),
    ("b1_state_of_a_container_that_is_being_created_is_answered", "Create holds the lock that State needs"),
    ("b4_exits_are_seen_while_the_runtime_hangs", "Kill holds the lock that exits need"),
    ("b4_queries_are_answered_while_the_runtime_hangs", "Kill holds the lock that State needs"),
    ("c14_every_bundle_has_its_own_log", "everything goes to the first bundle's log"),
    ("c15_a_log_that_nobody_reads_holds_nothing_up", "the shim waits for room in the log"),
    ("c18_only_the_streams_that_were_asked_for_are_made", "stdout without stderr is an error"),
    ("create_meets_create", "the runtime is asked twice, and its refusal is UNKNOWN"),
    ("c_output_can_go_to_a_file", "an exec's lines overwrite each other"),
    ("c5_close_io_before_start_is_remembered", "it is forgotten"),
    ("d14_the_delete_command_answers_the_recorded_exit", "the command knows 137 only"),
    (
        "d16_a_runtime_that_takes_long_does_not_keep_delete_from_answering",
        "the command waits for the runtime",
    ),
    ("d16_what_is_being_made_when_the_shim_dies_is_not_made_after_delete", "it is made"),
    ("d16_delete_after_a_dead_shim_has_the_pid_and_137", "the command leaves the socket"),
    ("d17_delete_uses_the_root_and_binary_of_the_options", "the command leaves the socket"),
    ("d20_a_running_task_is_not_deleted", "the refusal is UNKNOWN"),
    ("d2_a_deleted_task_answers_the_same_again", "there is no tombstone"),
    ("d5_pids_tells_known_tasks_from_unknown", "a stopped task has no pids"),
    ("d6_a_failed_create_leaves_nothing", "what the failed create made is left"),
    ("d6_create_works_after_it_failed", "what the failed create made is left"),
    ("f4_what_is_refused_is_not_overtaken", "events that are refused are lost"),
    ("g2_delete_after_a_dead_shim_ends_a_paused_container", "the command leaves the socket"),
    ("g3_a_kill_that_hangs_blocks_nothing_else", "Kill holds the lock that State needs"),
    ("g5_pausing_can_be_seen_and_no_exec_starts_while_paused", "init's exit comes before that of an exec"),
    ("h5_start_does_not_wait_for_a_reader_of_the_log", "it does"),
    ("h8_an_exit_while_containerd_is_away_is_not_lost", "a stopped task has no pids"),
    ("j11_no_runtime_sees_notify_socket_or_listen", "LISTEN_* are passed on"),
    ("k2_racing_starts_make_one_manager", "now and then two shims are left, or an address nobody serves"),
    ("k5_a_runtime_that_hangs_is_the_tenant_s_own_trouble", "one Create at a time"),
    ("k8_ids_that_are_no_ids_are_refused", "they are not looked at"),
    ("kill_meets_delete", "the refusal is UNKNOWN"),
    (
        "start_of_an_exec_meets_the_end_of_init",
        "the exit of an exec that starts while init dies comes last or never",
    ),
    ("ten_thousand_bad_requests_get_a_status_each", "the first dozen end in a panic"),
    ("work_goes_on_when_its_caller_has_left", "the caller's deadline ends the runtime"),
];

/// Makes a test of every function: its argument is a lab of its own.
macro_rules! cases {
    ($(async fn $name:ident($lab:ident) $body:block)*) => {
        cases!(Usual: $(async fn $name($lab) $body)*);
    };
    ($limit:ident: $(async fn $name:ident($lab:ident) $body:block)*) => {
        $(
            #[test]
            fn $name() {
                let limit = gam_tests::shim::Limit::$limit;
                gam_tests::shim::case(stringify!($name), limit, crate::GO_FAILS, |$lab| async move $body);
            }
        )*
    };
}
pub(crate) use cases;
