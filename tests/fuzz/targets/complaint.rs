//! A runtime's log, some of which a container's init writes.

#![no_main]

use gam_task::runtime::fuzzing::{complaint, told};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some(said) = complaint(text) {
        assert!(said.chars().count() <= 4096);
    }
    let (before, after) = ("mount t:/m (via /proc/self/fd/6)", "invalid argument");
    // Of a mount's data nothing is told, whatever it is.
    assert_eq!(told(&format!("{before}, data: {text}: {after}")), format!("{before}: {after}"));
});
