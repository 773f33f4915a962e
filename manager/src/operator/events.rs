//! `gam events`: what happens to containers, as the managers tell containerd of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::json;

use super::managers::{self, PATIENCE};
use super::table::plain;
use super::{OperatorError, print};
use crate::control::{Answer, Client, ControlError, Question};
use crate::feed::Told;
use crate::group::Group;
use crate::logs::timestamp;

/// How often new managers are looked for.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
#[command(after_help = "Managers that start meanwhile are followed within a fifth of a second. \
    Where events are not read in time some are lost, and how many is told.")]
pub(super) struct Args {
    /// Print a JSON object a line
    #[arg(long)]
    json: bool,
    /// Only of this group: its name, the last word of it, or the beginning of its directory's name
    #[arg(long)]
    group: Option<String>,
}

/// What is heard from the manager of a directory.
enum Heard {
    /// Something has happened in its group.
    Event { group: String, told: Told },
    /// So many events are lost.
    Lost { group: String, count: u64 },
    /// It is followed no more; with a complaint if it should have been.
    Over(Option<String>),
    /// Its group is not wanted.
    Unwanted,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, OperatorError> {
    let (teller, heard) = mpsc::channel();
    let mut followed: BTreeSet<PathBuf> = BTreeSet::new();
    // Those that cannot be followed, by their pid too: another manager of the group may be one that can.
    let mut given_up: BTreeSet<(PathBuf, Option<u32>)> = BTreeSet::new();
    let mut looked: Option<Instant> = None;
    loop {
        if looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            looked = Some(Instant::now());
            for directory in managers::directories()? {
                if !given_up.contains(&(directory.clone(), pid(&directory)))
                    && followed.insert(directory.clone())
                {
                    begin(directory, args.group.clone(), teller.clone());
                }
            }
        }
        match heard.recv_timeout(LOOK) {
            Ok((directory, Heard::Over(complaint))) => {
                if let Some(complaint) = complaint {
                    eprintln!("gam: {complaint}");
                    given_up.insert((directory.clone(), pid(&directory)));
                }
                followed.remove(&directory);
            }
            Ok((directory, Heard::Unwanted)) => {
                given_up.insert((directory.clone(), pid(&directory)));
                followed.remove(&directory);
            }
            Ok((_, Heard::Event { group, told })) => print(&line(&group, &told, args.json))?,
            Ok((_, Heard::Lost { group, count })) if args.json => {
                print(&format!("{}\n", json!({"lost": count, "group": group})))?;
            }
            Ok((_, Heard::Lost { group, count })) => {
                eprintln!("gam: {count} events of {} were not read in time and are lost", plain(&group));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn pid(directory: &Path) -> Option<u32> {
    std::fs::read_to_string(Group::at("", directory).pid_file()).ok()?.trim().parse().ok()
}

/// Follows the manager of a directory on a thread of its own, until it leaves.
fn begin(directory: PathBuf, wanted: Option<String>, teller: Sender<(PathBuf, Heard)>) {
    thread::spawn(move || {
        let last = follow(&directory, wanted.as_deref(), &teller);
        let _ = teller.send((directory, last));
    });
}

fn follow(directory: &Path, wanted: Option<&str>, teller: &Sender<(PathBuf, Heard)>) -> Heard {
    let tell = |heard| teller.send((directory.to_path_buf(), heard)).is_ok();
    let mut client = match Client::connect(&Group::at("", directory).control_socket(), PATIENCE) {
        Ok(client) => client,
        // It is about to serve, or dead.
        Err(ControlError::Absent { .. }) => return Heard::Over(None),
        Err(error) => return Heard::Over(Some(error.to_string())),
    };
    let identity = match client.ask(&Question::Who) {
        Ok(Answer::Manager(identity)) => Some(identity),
        _ => None,
    };
    let (group, is_wanted) = managers::named(directory, identity, wanted);
    if !is_wanted {
        return Heard::Unwanted;
    }
    let mut followed = match client.follow() {
        Ok(followed) => followed,
        Err(error) => return Heard::Over(Some(error.to_string())),
    };
    while let Ok(Some(answer)) = followed.next_answer() {
        let group = group.clone();
        let told = match answer {
            Answer::Event(told) => tell(Heard::Event { group, told }),
            Answer::Lost(count) => tell(Heard::Lost { group, count }),
            // A later manager may tell more.
            _ => true,
        };
        if !told {
            break;
        }
    }
    Heard::Over(None)
}

fn line(group: &str, told: &Told, as_json: bool) -> String {
    if as_json {
        let mut value = serde_json::to_value(told).unwrap_or_default();
        if let Some(value) = value.as_object_mut() {
            value.insert("group".into(), group.into());
        }
        return format!("{value}\n");
    }
    let at = timestamp(UNIX_EPOCH + Duration::from_millis(told.at_ms));
    let mut line = format!("{at} {} {} {}", told.namespace, told.topic, told.container);
    if let Some(exec) = &told.exec {
        line.push_str(&format!(" exec={}", plain(exec)));
    }
    if let Some(pid) = told.pid {
        line.push_str(&format!(" pid={pid}"));
    }
    if let Some(status) = told.exit_status {
        line.push_str(&format!(" exit_status={status}"));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let told = Told {
            at_ms: 1_000,
            namespace: "k8s.io".into(),
            topic: "/tasks/exit".into(),
            container: "c".into(),
            exec: Some("e".into()),
            pid: Some(7),
            exit_status: Some(137),
        };
        assert_eq!(
            line("g", &told, false),
            "1970-01-01T00:00:01.000000000Z k8s.io /tasks/exit c exec=e pid=7 exit_status=137\n"
        );
        let value: serde_json::Value = serde_json::from_str(&line("g", &told, true)).unwrap();
        assert_eq!((value["group"].as_str(), value["exit_status"].as_u64()), (Some("g"), Some(137)));
    }
}
