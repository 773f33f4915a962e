//! `gam dump`: everything that the managers hold.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::managers;
use super::{OperatorError, print_json};
use crate::control::{Answer, Question};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON, which it always is
    #[arg(long)]
    json: bool,
    /// Only of this group: its name, the last word of it, or the beginning of its directory's name
    #[arg(long)]
    group: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, OperatorError> {
    let Args { json: _, group } = args;
    let found = managers::ask(group.as_deref(), &Question::Dump)?;
    managers::complain(&found);
    let dumps: Vec<Value> = found
        .iter()
        .map(|found| match &found.answer {
            Ok(Answer::Dumped(dump)) => dump.clone(),
            Ok(other) => json!({"directory": found.directory, "error": format!("it answers {other:?}")}),
            Err(silence) => managers::untold(found, silence, "pid"),
        })
        .collect();
    print_json(&dumps)?;
    Ok(managers::code(&found))
}
