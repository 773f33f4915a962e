//! A bundle's `config.json`.

#![no_main]

use gam_task::spec::{Spec, annotation};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Ok(spec) = Spec::parse(text, "config.json".into()) {
        let _ = (spec.has_survivors(), spec.cgroups_path());
        assert_ne!(spec.annotation(annotation::SANDBOX_ID), Some(""));
    }
});
