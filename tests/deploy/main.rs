//! What is in deploy/: each file as a node would use it.
//!
//! `make deploy-test`, as root, after `make deb`. Nothing of the machine's own is touched: trees, daemons and dpkg databases are private.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod configuration;
mod containerd;
mod installer;
mod kubernetes;
mod package;
mod units;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use gam_tests::suite::main_of;
use gam_tests::target::workspace;

fn main() {
    let modules = [
        configuration::tests(),
        containerd::tests(),
        installer::tests(),
        kubernetes::tests(),
        package::tests(),
        units::tests(),
    ];
    main_of(modules.into_iter().flatten().collect(), &[], Duration::from_secs(90), Vec::new)
}

/// A file of deploy/.
fn deploy(name: &str) -> PathBuf {
    workspace().join("deploy").join(name)
}

/// Runs a command; what it printed, stderr too.
///
/// # Panics
/// Where it fails.
fn run(command: &mut Command) -> String {
    let (ok, text) = outcome(command);
    assert!(ok, "{command:?} failed:\n{text}");
    text
}

/// Runs a command; whether it succeeded, and what it printed.
fn outcome(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap_or_else(|error| panic!("running {command:?}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
