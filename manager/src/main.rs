//! gam: one shim for many pods. What it does is said by the name it is called by and its first arguments.

use std::process::ExitCode;

use gam_manager::cli::{self, Role};
use gam_manager::{delete, info, operator, serve, start};

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    match cli::parse(std::env::args_os()) {
        Ok(Role::Start(flags)) => done(start::run(&flags)),
        Ok(Role::Delete(flags)) => done(delete::run(&flags)),
        Ok(Role::Info(flags)) => done(info::run(&flags)),
        Ok(Role::Manager(args)) => done(serve::run(&args)),
        Ok(Role::Version) => {
            print!("{}", cli::version(&name));
            ExitCode::SUCCESS
        }
        Ok(Role::Help) => {
            print!("{}", cli::usage(&name));
            ExitCode::SUCCESS
        }
        Ok(Role::Operator(words)) => operator::run(words),
        Err(error) => {
            eprintln!("{}", error.text(&name));
            ExitCode::from(error.exit_code())
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
