//! Cases of the shim protocol, named after the rows of BEHAVIOUR they prove. See [`gam_tests::shim`] for the switches.


mod bad_input;
mod deletion;
mod events;
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
    (
        "a4_init_exit_waits_for_running_execs",
        "the exit of an exec that starts while init dies comes last or never",
    ),
    ("a5_no_exec_starts_once_init_has_ended", "the runtime is asked, and its refusal is UNKNOWN"),
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
