//! What containerd writes to the stdin of `start`.

#![no_main]

use gam_manager::bootstrap::{Dialect, Question, answer, choose, version};
use gam_manager::config::TaskApi;
use gam_manager::options::Named;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(question) = Question::parse(bytes, "k8s.io", "c1") else { return };
    let _ = question.options.as_ref().map(Named::from_any);
    let _ = (question.ttrpc_address(), question.socket_dir());
    let dialect = choose(&question, Some("2"), question.daemon());
    let version = version(dialect, TaskApi::V3, question.daemon());
    let answer = answer(dialect, version, "unix:///run/containerd/s/0").expect("an answer can be encoded");
    // containerd trims what it reads, also where it is binary.
    assert!(answer.first().zip(answer.last()).is_some_and(|(first, last)| {
        !last.is_ascii_whitespace() && (dialect == Dialect::Result || !first.is_ascii_whitespace())
    }));
});
