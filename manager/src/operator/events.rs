//! `gam events`: what happens to containers, as the managers tell containerd of it.

use std::collections::{BTreeMap, BTreeSet};
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
/// How long one that does not answer is left alone until it is asked again.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
#[command(after_help = "Managers that start meanwhile are followed within a fifth of a second. \
    One that does not answer is asked again until it does. \
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
#[derive(Debug)]
enum Heard {
    /// Something has happened in its group.
    Event { group: String, told: Told },
    /// So many events are lost.
    Lost { group: String, count: u64 },
    /// It does not answer, and is asked again.
    Silent(String),
    /// It has left, or is about to serve.
    Over,
    /// It answers that it cannot be followed.
    Refused(String),
    /// Its group is not wanted.
    Unwanted,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, OperatorError> {
    let (teller, heard) = mpsc::channel();
    // By directory; with the pid that its file had when that began.
    let mut followed: BTreeMap<PathBuf, Option<u32>> = BTreeMap::new();
    // Those that cannot be followed, by their pid too: another manager of the group may be one that can.
    let mut given_up: BTreeSet<(PathBuf, Option<u32>)> = BTreeSet::new();
    let mut looked: Option<Instant> = None;
    loop {
        if looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            looked = Some(Instant::now());
            for directory in managers::directories()? {
                let pid = pid(&directory);
                let manager = (directory, pid);
                if !given_up.contains(&manager) && !followed.contains_key(&manager.0) {
                    begin(manager.0.clone(), args.group.clone(), teller.clone());
                    followed.extend([manager]);
                }
            }
        }
        match heard.recv_timeout(LOOK) {
            Ok((_, Heard::Silent(complaint))) => eprintln!("gam: {complaint}; it is asked again"),
            Ok((directory, Heard::Over)) => {
                followed.remove(&directory);
            }
            Ok((directory, Heard::Refused(complaint))) => {
                eprintln!("gam: {complaint}");
                given_up.extend(followed.remove_entry(&directory));
            }
            Ok((directory, Heard::Unwanted)) => given_up.extend(followed.remove_entry(&directory)),
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

/// Follows the manager of a directory on a thread of its own, until it leaves or says that it cannot be followed.
fn begin(directory: PathBuf, wanted: Option<String>, teller: Sender<(PathBuf, Heard)>) {
    thread::spawn(move || {
        let mut has_complained = false;
        loop {
            let last = follow(&directory, wanted.as_deref(), &teller);
            let is_silent = matches!(last, Heard::Silent(_));
            // Once is enough: it may hang for hours.
            let told = (is_silent && has_complained) || teller.send((directory.clone(), last)).is_ok();
            if !is_silent || !told {
                return;
            }
            has_complained = true;
            thread::sleep(AGAIN);
        }
    });
}

fn follow(directory: &Path, wanted: Option<&str>, teller: &Sender<(PathBuf, Heard)>) -> Heard {
    let tell = |heard| teller.send((directory.to_path_buf(), heard)).is_ok();
    let mut client = match Client::connect(&Group::at("", directory).control_socket(), PATIENCE) {
        Ok(client) => client,
        // It is about to serve, or dead.
        Err(ControlError::Absent { .. }) => return Heard::Over,
        Err(error) => return Heard::Silent(error.to_string()),
    };
    let (identity, silence) = match client.ask(&Question::Who) {
        Ok(Answer::Manager(identity)) => (Some(identity), None),
        Ok(_) => (None, None),
        Err(error) => (None, Some(error.to_string())),
    };
    let named = managers::named(directory, identity, wanted);
    match silence {
        // Its name is not known for sure until it answers, or has a command line.
        Some(silence) if named.is_wanted || !named.is_known => return Heard::Silent(silence),
        _ if !named.is_wanted => return Heard::Unwanted,
        _ => {}
    }
    let group = named.group;
    let mut followed = match client.follow() {
        Ok(followed) => followed,
        Err(error @ ControlError::Refused { .. }) => return Heard::Refused(error.to_string()),
        Err(error) => return Heard::Silent(error.to_string()),
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
    Heard::Over
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
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A manager that answers each connection with the next lines, one for each question, and hangs up.
    fn manager(directory: &Path, answers: &'static [&'static [&'static str]]) -> thread::JoinHandle<()> {
        let listener = UnixListener::bind(directory.join("control.sock")).unwrap();
        thread::spawn(move || {
            for lines in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut questions = BufReader::new(stream.try_clone().unwrap()).lines();
                for line in *lines {
                    questions.next().unwrap().unwrap();
                    stream.write_all(line.as_bytes()).unwrap();
                }
            }
        })
    }

    #[test]
    fn a_manager_that_is_slow_once_is_followed_later() {
        let place = tempfile::tempdir().unwrap();
        const WHO: &str = "{\"manager\":{\"pid\":7,\"version\":\"1\",\"revision\":\"r\",\"group\":\"node\",\"started_ms\":1}}\n";
        let server =
            manager(place.path(), &[&[], &[WHO], &[WHO, "\"following\"\n{\"later\":{}}\n{\"lost\":3}\n"]]);
        let (teller, heard) = mpsc::channel();
        begin(place.path().to_path_buf(), Some("node".into()), teller);
        let heard: Vec<Heard> = heard.iter().map(|(_, heard)| heard).collect();
        assert!(
            matches!(&heard[..], [Heard::Silent(_), Heard::Lost { count: 3, .. }, Heard::Over]),
            "{heard:?}"
        );
        server.join().unwrap();
    }

    #[test]
    fn a_manager_is_given_up_by_its_answer_only() {
        let place = tempfile::tempdir().unwrap();
        const CANNOT: &str = "{\"failed\":\"the question is not understood\"}\n";
        let server = manager(place.path(), &[&[CANNOT, CANNOT], &[CANNOT]]);
        let (teller, _heard) = mpsc::channel();
        assert!(matches!(follow(place.path(), None, &teller), Heard::Refused(_)));
        assert!(matches!(follow(place.path(), Some("node"), &teller), Heard::Unwanted));
        server.join().unwrap();
    }

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
