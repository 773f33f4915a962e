//! `gam inspect`: everything that is known of one container.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::managers::{self, Found, PATIENCE};
use super::table::{age, duration, plain};
use super::{OperatorError, print, print_json};
use crate::control::{Answer, Client, Question};
use crate::group::Group;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The container: its id, the beginning of it, or NAMESPACE/ID
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Only of this group: its name, the last word of it, or the beginning of its directory's name
    #[arg(long)]
    group: Option<String>,
}

/// A container that may be meant.
struct Match<'f> {
    found: &'f Found,
    namespace: String,
    id: String,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, OperatorError> {
    let found = managers::ask(args.group.as_deref(), &Question::List)?;
    managers::complain(&found);
    let wanted = pick(&found, &args.id)?;
    let group = wanted.found.group();
    let failed = |text: String| OperatorError::Manager { group: group.clone(), text };
    let socket = Group::at("", &wanted.found.directory).control_socket();
    let mut client = Client::connect(&socket, PATIENCE).map_err(|error| failed(error.to_string()))?;
    let question = Question::Inspect { namespace: wanted.namespace, id: wanted.id };
    match client.ask(&question).map_err(|error| failed(error.to_string()))? {
        Answer::Inspected(all) if args.json => print_json(&all)?,
        Answer::Inspected(all) => print(&text(&all))?,
        Answer::Unknown => {
            return Err(OperatorError::NoContainer(
                args.id.clone(),
                ": it is being created, or has just gone",
            ));
        }
        Answer::Failed(text) => return Err(failed(text)),
        other => return Err(failed(format!("it answers {other:?}"))),
    }
    Ok(ExitCode::SUCCESS)
}

/// The one container that `wanted` names; an id that is whole wins over the beginnings of others.
fn pick<'f>(found: &'f [Found], wanted: &str) -> Result<Match<'f>, OperatorError> {
    let (namespace, id) = match wanted.split_once('/') {
        Some((namespace, id)) => (Some(namespace), id),
        None => (None, wanted),
    };
    let mut matches: Vec<Match<'f>> = Vec::new();
    for found in found {
        let Ok(Answer::Listed(listed)) = &found.answer else { continue };
        let meant = listed
            .iter()
            .filter(|one| one.id.starts_with(id) && namespace.is_none_or(|name| name == one.namespace));
        matches.extend(meant.map(|one| Match {
            found,
            namespace: one.namespace.clone(),
            id: one.id.clone(),
        }));
    }
    if matches.iter().any(|one| one.id == id) {
        matches.retain(|one| one.id == id);
    }
    if matches.len() > 1 {
        let all: Vec<String> =
            matches.iter().take(8).map(|one| format!("{}/{}", one.namespace, one.id)).collect();
        return Err(OperatorError::Ambiguous { id: wanted.to_owned(), found: all.join(", ") });
    }
    let silent = found.iter().any(|found| found.answer.is_err());
    let why = if silent { "; not every manager has answered" } else { "" };
    matches.pop().ok_or_else(|| OperatorError::NoContainer(wanted.to_owned(), why))
}

/// The same for people: a line for each value, indented as it is nested.
fn text(all: &Value) -> String {
    let mut text = String::new();
    if let Some(ms) = all["created_ms"].as_u64() {
        text.push_str(&format!("age: {}\n", duration(Duration::from_millis(millis(age(ms))))));
    }
    lines(all, 0, &mut text);
    text
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn lines(value: &Value, depth: usize, text: &mut String) {
    let indent = "  ".repeat(depth);
    let mut put = |name: &str, value: &Value| match value {
        Value::Null => {}
        Value::Object(inner) if inner.is_empty() => {}
        Value::Array(inner) if inner.is_empty() => {}
        Value::Object(_) | Value::Array(_) => {
            text.push_str(&format!("{indent}{}:\n", plain(name)));
            lines(value, depth + 1, text);
        }
        Value::String(word) => text.push_str(&format!("{indent}{}: {}\n", plain(name), plain(word))),
        other => text.push_str(&format!("{indent}{}: {other}\n", plain(name))),
    };
    match value {
        Value::Object(all) => all.iter().for_each(|(name, value)| put(name, value)),
        Value::Array(all) => all.iter().for_each(|value| put("-", value)),
        other => put("-", other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(ids: &[(&str, &str)]) -> Vec<Found> {
        let listed = ids.iter().map(|(namespace, id)| {
            serde_json::from_value(
                json!({"namespace": namespace, "id": id, "state": "running", "pid": 1, "created_ms": 0}),
            )
            .unwrap()
        });
        let answer = Ok(Answer::Listed(listed.collect()));
        vec![Found { directory: "/run/gam/0".into(), pid: None, identity: None, called: None, answer }]
    }

    #[test]
    fn a_beginning_is_enough_if_it_is_of_one_only() {
        let found = found(&[("a", "web-1"), ("a", "web-12"), ("b", "db"), ("a", "db")]);
        let picked = |wanted: &str| pick(&found, wanted).map(|one| format!("{}/{}", one.namespace, one.id));
        assert_eq!(picked("web-12").unwrap(), "a/web-12");
        assert_eq!(picked("web-1").unwrap(), "a/web-1", "a whole id is not ambiguous");
        assert_eq!(picked("b/d").unwrap(), "b/db");
        assert!(matches!(picked("web"), Err(OperatorError::Ambiguous { .. })));
        assert!(matches!(picked("db"), Err(OperatorError::Ambiguous { .. })));
        assert!(matches!(picked("c/db"), Err(OperatorError::NoContainer(..))));
    }

    #[test]
    fn values_are_lines_and_what_is_empty_is_left_out() {
        let value = json!({"a": 1, "b": {"c": "x\u{1b}"}, "d": [], "e": null, "f": ["y"]});
        assert_eq!(text(&value), "a: 1\nb:\n  c: x\\u{1b}\nf:\n  -: y\n");
    }
}
