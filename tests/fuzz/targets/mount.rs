//! Mount options: a type and words, a line each.

#![no_main]

use gam_task::mount::fuzzing::options;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.split('\n');
    let kind = lines.next().unwrap_or_default();
    let words: Vec<String> = lines.map(str::to_owned).collect();
    let given: usize = words.iter().map(String::len).sum();
    if let Some((before, after)) = options(kind, &words) {
        assert!(after <= before && before <= given);
    }
});
