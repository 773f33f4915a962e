//! `gam stacks`: what every request waits for. It is what to look at first when a pod hangs.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::ls::{none, short};
use super::managers;
use super::table::{Table, duration};
use super::{OperatorError, print, print_json};
use crate::control::{Answer, Question};
use crate::server::Stack;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "It exits with 1 if a manager does not answer; with --json there is an object with `error` for each such one."
)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Leave out Wait, which lasts as long as its container
    #[arg(short = 'w', long)]
    without_waits: bool,
    /// Only of this group: its name, the last word of it, or the beginning of its directory's name
    #[arg(long)]
    group: Option<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    stack: Stack,
    manager: Option<u32>,
    group: String,
}

/// What stands in the list of `--json`.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Element<'r> {
    Told(&'r Row),
    /// A manager that did not answer.
    Untold(Value),
}

pub(super) fn run(args: &Args) -> Result<ExitCode, OperatorError> {
    let found = managers::ask(args.group.as_deref(), &Question::Stacks)?;
    managers::complain(&found);
    let mut rows: Vec<Row> = Vec::new();
    for found in &found {
        let Ok(Answer::Stacks(stacks)) = &found.answer else { continue };
        let manager = found.pid();
        rows.extend(stacks.iter().map(|stack| Row { stack: stack.clone(), manager, group: found.group() }));
    }
    rows.retain(|row| !args.without_waits || row.stack.method != "Wait");
    rows.sort_by_key(|row| std::cmp::Reverse(row.stack.age_ms));
    if args.json {
        let untold = found.iter().filter_map(|found| {
            found.answer.as_ref().err().map(|silence| managers::untold(found, silence, "manager"))
        });
        let mut all: Vec<Element<'_>> = rows.iter().map(Element::Told).collect();
        all.extend(untold.map(Element::Untold));
        print_json(&all)?;
    } else {
        print(&text(&rows))?;
    }
    Ok(managers::code(&found))
}

fn text(rows: &[Row]) -> String {
    let mut table =
        Table::new(&["AGE", "REQUEST", "CONTAINER", "EXEC", "WAITS FOR", "FOR", "PID", "MANAGER"]);
    for Row { stack, manager, .. } in rows {
        let container = stack.container.as_deref().map_or_else(none, |name| match name.split_once('/') {
            Some((namespace, id)) => format!("{namespace}/{}", short(id)),
            None => name.to_owned(),
        });
        let waits = stack.waits_for.is_some();
        table.row([
            duration(Duration::from_millis(stack.age_ms)),
            stack.method.clone(),
            container,
            stack.exec.as_deref().map_or_else(none, short),
            stack.waits_for.clone().unwrap_or_else(none),
            if waits { duration(Duration::from_millis(stack.waits_ms)) } else { none() },
            stack.pid.map_or_else(none, |pid| pid.to_string()),
            manager.map_or_else(none, |pid| pid.to_string()),
        ]);
    }
    table.text()
}
