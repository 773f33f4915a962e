//! gam: one shim for many pods. What it does is said by the name it is called by and its first arguments.

use std::process::ExitCode;

use gam_manager::cli::{self, Role};
use gam_manager::{delete, info, serve, start};

fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    match cli::parse(&arguments) {
        Ok(Role::Start(flags)) => done(start::run(&flags)),
        Ok(Role::Delete(flags)) => done(delete::run(&flags)),
        Ok(Role::Info(flags)) => done(info::run(&flags)),
        Ok(Role::Manager(args)) => done(serve::run(&args)),
        Ok(Role::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(usage) => {
            eprintln!("{usage}");
            ExitCode::from(2)
        }
    }
}

/// An error goes to stderr, where containerd reads it.
fn done(outcome: Result<(), impl std::error::Error>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
