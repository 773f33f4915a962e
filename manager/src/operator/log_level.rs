//! `gam log-level`: which lines running managers log, without restarting them.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::ls::none;
use super::managers::{self, Silence};
use super::table::Table;
use super::{OperatorError, print, print_json};
use crate::control::{Answer, Question};
use crate::logs::LEVELS;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "It exits with 1 if a manager that lives did not take the level, or does not tell its own.\n\
    A manager that starts later has the level of its configuration."
)]
pub(super) struct Args {
    /// Log down to this level from now on; without it the levels are shown
    #[arg(value_parser = LEVELS)]
    level: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Only of this group: its name, the last word of it, or the beginning of its directory's name
    #[arg(long)]
    group: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, OperatorError> {
    let group = args.group.as_deref();
    if group.is_some() && args.level.is_some() {
        // Whoever is not meant must not be changed, so the group is found first.
        return set(args, group);
    }
    show(&managers::ask(group, &Question::LogLevel { level: args.level.clone() })?, args)
}

/// Sets the level of one group's managers.
fn set(args: &Args, group: Option<&str>) -> Result<ExitCode, OperatorError> {
    let mut found = managers::living(group)?;
    let question = Question::LogLevel { level: args.level.clone() };
    for found in &mut found {
        found.answer = managers::again(&found.directory, &question);
    }
    show(&found, args)
}

fn show(found: &[managers::Found], args: &Args) -> Result<ExitCode, OperatorError> {
    managers::complain(found);
    let level = |found: &managers::Found| match &found.answer {
        Ok(Answer::LogLevel(level)) => Some(level.clone()),
        _ => None,
    };
    if args.json {
        let rows: Vec<Value> = found
            .iter()
            .map(|found| {
                let pid = found.pid();
                json!({"manager": pid, "group": found.group(), "level": level(found)})
            })
            .collect();
        print_json(&rows)?;
    } else {
        let mut table = Table::new(&["MANAGER", "LEVEL", "GROUP"]);
        for found in found {
            let pid = found.pid();
            table.row([
                pid.map_or_else(none, |pid| pid.to_string()),
                level(found).unwrap_or_else(none),
                found.group(),
            ]);
        }
        print(&table.text())?;
    }
    let refused = |found: &managers::Found| {
        args.level.is_some() && level(found).is_none() && found.answer != Err(Silence::Dead)
    };
    Ok(if found.iter().any(refused) { ExitCode::FAILURE } else { managers::code(found) })
}
