//! Tells what end-to-end runs have left on this machine, and fails if there is anything; `--remove` ends and removes it.

use std::process::ExitCode;

use gam_tests::{cgroup, daemon, leftovers};

fn main() -> ExitCode {
    let remove = std::env::args().any(|argument| argument == "--remove");
    let mut left = Vec::new();
    for directory in leftovers::directories() {
        left.push(format!("the directory {}", directory.display()));
        left.extend(leftovers::of_daemon(&directory, &[]));
        if remove {
            daemon::remove(&directory);
        }
    }
    if left.is_empty() {
        cgroup::remove_if_empty(leftovers::CGROUP);
        println!("nothing is left");
        return ExitCode::SUCCESS;
    }
    println!("left behind:");
    for one in left {
        println!("  {one}");
    }
    if remove { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
