//! `gam gc`: what managers that died have left, when nobody else removes it.
//!
//! containerd runs `delete` for what a dead manager had, if it lives; so nothing is touched whose manager has not been dead
//! for a while. A manager gives a sign of life every [`SWEEP`], by the time of its pid file.

mod find;
mod life;
mod remove;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use self::find::Finding;
use super::table::{Table, duration};
use super::{OperatorError, print, print_json};
use crate::config::parse_duration;
use crate::group::run_dir;
#[cfg(doc)]
use crate::serve::SWEEP;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --fix nothing is changed, and it exits with 0 if there is nothing to remove and with 1 if there is.\n\
    With --fix it exits with 1 if something could not be removed.\n\
    What belongs to a manager that lives is never touched. Bundles are containerd's and stay: it removes them when it \
    starts; their records then say that the container has been deleted."
)]
pub(super) struct Args {
    /// Remove what is found
    #[arg(long)]
    fix: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// How long a manager has to have been dead: seconds, or text such as 5m or 1m30s
    #[arg(long, default_value = "1m", value_parser = time, value_name = "TIME")]
    older_than: Duration,
    /// A state directory of a containerd, in which bundles are looked for; may be given more than once
    #[arg(long, default_value = "/run/containerd", value_name = "DIR")]
    state: Vec<PathBuf>,
}

fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<u64>().ok().map(Duration::from_secs);
    seconds.or_else(|| parse_duration(text)).ok_or_else(|| "it is no time such as 90, 5m or 1m30s".to_owned())
}

pub(super) fn run(args: &Args) -> Result<ExitCode, OperatorError> {
    let (findings, young): (Vec<Finding>, Vec<Finding>) = find::all(&run_dir(), &args.state)?
        .into_iter()
        .partition(|finding| finding.dead_for >= args.older_than);
    let outcomes: Vec<Option<Result<(), String>>> = findings
        .iter()
        .map(|finding| {
            args.fix.then(|| {
                if io::stderr().is_terminal() {
                    eprintln!("gam: removing {} ...", finding.name());
                }
                remove::one(finding)
            })
        })
        .collect();
    if args.json {
        print_json(&report(&findings, &young, &outcomes))?;
    } else if !findings.is_empty() {
        print(&text(&findings, &outcomes))?;
    }
    if !young.is_empty() {
        let least = duration(args.older_than);
        eprintln!("gam: {} more are left alone, for their managers lived less than {least} ago", young.len());
    }
    let is_left = outcomes.iter().any(|outcome| !matches!(outcome, Some(Ok(()))));
    Ok(if is_left { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn report(findings: &[Finding], young: &[Finding], outcomes: &[Option<Result<(), String>>]) -> Value {
    let found = findings.iter().zip(outcomes).map(|(finding, outcome)| describe(finding, outcome.as_ref()));
    let young = young.iter().map(|finding| describe(finding, None));
    json!({"findings": found.collect::<Vec<_>>(), "young": young.collect::<Vec<_>>()})
}

fn describe(finding: &Finding, outcome: Option<&Result<(), String>>) -> Value {
    json!({
        "kind": finding.thing.kind(),
        "name": finding.name(),
        "group": finding.group,
        "left": finding.left,
        "dead_for_ms": u64::try_from(finding.dead_for.as_millis()).unwrap_or(u64::MAX),
        "removed": outcome.map(Result::is_ok),
        "error": outcome.and_then(|outcome| outcome.as_ref().err()),
    })
}

fn text(findings: &[Finding], outcomes: &[Option<Result<(), String>>]) -> String {
    let mut table = Table::new(&["KIND", "NAME", "DEAD FOR", "LEFT", "OUTCOME"]);
    for (finding, outcome) in findings.iter().zip(outcomes) {
        table.row([
            finding.thing.kind().to_owned(),
            finding.name(),
            duration(finding.dead_for),
            finding.left.join(", "),
            match outcome {
                None => "found".to_owned(),
                Some(Ok(())) => "removed".to_owned(),
                Some(Err(error)) => error.clone(),
            },
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests;
