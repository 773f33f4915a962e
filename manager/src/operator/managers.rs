//! The managers of this machine, asked all at once: one that hangs keeps no other's answer.

use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{OperatorError, cmdline, older};
use crate::control::{Answer, Client, ControlError, Identity, NOT_UNDERSTOOD, Question};
use crate::group::{Group, run_dir};

/// How long a manager may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// When a person is told what is waited for.
const TELL: Duration = Duration::from_secs(1);

/// A manager and what it answered.
#[derive(Debug)]
pub(super) struct Found {
    /// The directory of its group.
    pub(super) directory: PathBuf,
    /// Its pid as its file says; none without one.
    pub(super) pid: Option<u32>,
    /// Who it says that it is; none if it does not say.
    pub(super) identity: Option<Identity>,
    /// The group on its command line, for one that does not say who it is.
    pub(super) called: Option<String>,
    /// What it answered.
    pub(super) answer: Result<Answer, Silence>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nobody listens.
    Dead,
    /// It does not answer in time, or nothing that is understood.
    Silent(String),
    /// It says that it cannot.
    Failed(String),
    /// It is of an older build, which does not know the question.
    Older(String),
}

impl Silence {
    /// One word for a table.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Silent(_) => "silent",
            Self::Failed(_) => "failed",
            Self::Older(_) => "older",
        }
    }

    /// A sentence.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Dead => "nobody listens: it is dead, see `gam gc`".to_owned(),
            Self::Silent(text) | Self::Failed(text) | Self::Older(text) => text.clone(),
        }
    }
}

impl Found {
    fn new(directory: &Path, identity: Option<Identity>, answer: Result<Answer, Silence>) -> Self {
        let pid = fs::read_to_string(Group::at("", directory).pid_file()).ok();
        let pid = pid.and_then(|text| text.trim().parse().ok());
        let is_asked = identity.is_none() && answer != Err(Silence::Dead);
        let called = pid.filter(|_| is_asked).and_then(|pid| cmdline::group_of(directory, pid));
        Self { directory: directory.to_path_buf(), pid, identity, called, answer }
    }

    /// Whether it did not do what was asked of it, and should have.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.answer, Err(Silence::Silent(_) | Silence::Failed(_)))
    }

    /// The last part of the directory.
    pub(super) fn hash(&self) -> String {
        self.directory.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Its group's name, if that can be found out.
    pub(super) fn name(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| identity.group.as_str()).or(self.called.as_deref())
    }

    /// Its group's name; that of its directory if there is no other.
    pub(super) fn group(&self) -> String {
        self.name().map_or_else(|| self.hash(), str::to_owned)
    }

    /// Its pid: as it says, or as its file does.
    pub(super) fn pid(&self) -> Option<u32> {
        self.identity.as_ref().map(|identity| identity.pid).or(self.pid)
    }

    /// Whether it is the one that is meant by `wanted`: a group's whole name, its last word, or the beginning of its
    /// directory's name. None is every one.
    fn is(&self, wanted: Option<&str>) -> bool {
        let Some(wanted) = wanted else { return true };
        let named =
            self.name().is_some_and(|group| group == wanted || group.rsplit(' ').next() == Some(wanted));
        named || self.hash().starts_with(wanted)
    }
}

/// How a manager is named.
#[derive(Debug)]
pub(super) struct Named {
    /// Its group, or what stands for it.
    pub(super) group: String,
    /// Whether that is the name of its group for sure.
    pub(super) is_known: bool,
    /// Whether it is meant.
    pub(super) is_wanted: bool,
}

/// The name of the manager of `directory`, which says that it is `identity`, and whether `wanted` means it.
pub(super) fn named(directory: &Path, identity: Option<Identity>, wanted: Option<&str>) -> Named {
    let found = Found::new(directory, identity, Err(Silence::Silent(String::new())));
    Named { group: found.group(), is_known: found.name().is_some(), is_wanted: found.is(wanted) }
}

/// What a command that asked these managers exits with: it has failed if one of them did not answer, or could not. That
/// there is none any more, or that it is older than the question, is no failure.
pub(super) fn code(found: &[Found]) -> ExitCode {
    if found.iter().any(Found::has_failed) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The directories of groups in [`run_dir`] that have, or had, a manager.
///
/// # Errors
/// [`OperatorError::Read`] if they cannot be listed; that there are none is no error.
pub(super) fn directories() -> Result<Vec<PathBuf>, OperatorError> {
    let run = run_dir();
    let entries = match fs::read_dir(&run) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(OperatorError::Read { path: run, source }),
    };
    let is_kept = |path: &Path| path.extension().is_some_and(|extension| extension == "kept");
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| !is_kept(path) && path.is_dir() && Group::at("", path).pid_file().exists())
        .collect();
    found.sort();
    Ok(found)
}

/// Asks the managers of `group`, or all, the same question.
///
/// # Errors
/// [`OperatorError::Read`]; [`OperatorError::NoGroup`] if a group is named and there is none.
pub(super) fn ask(group: Option<&str>, question: &Question) -> Result<Vec<Found>, OperatorError> {
    let directories = directories()?;
    let mut found = all(&directories, question);
    found.retain(|found| found.is(group));
    match group {
        Some(group) if found.is_empty() => Err(OperatorError::NoGroup(group.to_owned())),
        _ => Ok(found),
    }
}

/// The managers of `group` that live, or all of them, and where they are met.
///
/// # Errors
/// Those of [`ask`].
pub(super) fn living(group: Option<&str>) -> Result<Vec<Found>, OperatorError> {
    let mut found = ask(group, &Question::Who)?;
    found.retain(|found| !matches!(found.answer, Err(Silence::Dead)));
    Ok(found)
}

/// Asks a manager that was found before another question.
pub(super) fn again(directory: &Path, question: &Question) -> Result<Answer, Silence> {
    all(&[directory.to_path_buf()], question).pop().map_or(Err(Silence::Dead), |found| found.answer)
}

fn all(directories: &[PathBuf], question: &Question) -> Vec<Found> {
    let (told, answers) = mpsc::channel();
    for directory in directories {
        let (told, directory, question) = (told.clone(), directory.clone(), question.clone());
        // One whose manager hangs is left behind; it ends with this process.
        thread::spawn(move || {
            let asked = one(&directory, &question);
            let _ = told.send((directory, asked));
        });
    }
    drop(told);
    let begin = Instant::now();
    let mut answered = Vec::new();
    let mut is_told = false;
    loop {
        let until = if is_told { PATIENCE } else { TELL };
        match answers.recv_timeout(until.saturating_sub(begin.elapsed())) {
            Ok(answer) => answered.push(answer),
            Err(RecvTimeoutError::Timeout) if !is_told => {
                is_told = true;
                tell(directories.len() - answered.len());
            }
            Err(_) => break,
        }
    }
    directories.iter().map(|directory| found(directory, &mut answered)).collect()
}

fn found(directory: &Path, answered: &mut Vec<(PathBuf, Asked)>) -> Found {
    let at = answered.iter().position(|(known, _)| known == directory);
    let (identity, answer) = at.map_or_else(
        || (None, Err(Silence::Silent(format!("no answer within {} s", PATIENCE.as_secs())))),
        |at| answered.swap_remove(at).1,
    );
    Found::new(directory, identity, answer)
}

type Asked = (Option<Identity>, Result<Answer, Silence>);

/// Asks one manager who it is, then the question. An older one may know neither.
fn one(directory: &Path, question: &Question) -> Asked {
    let mut client = match Client::connect(&Group::at("", directory).control_socket(), PATIENCE) {
        Ok(client) => client,
        Err(ControlError::Absent { .. }) => return (None, Err(Silence::Dead)),
        Err(error) => return (None, Err(Silence::Silent(error.to_string()))),
    };
    let mut put = |question: &Question| match client.ask(question) {
        Ok(Answer::Failed(text)) if text.starts_with(NOT_UNDERSTOOD) => Err(Silence::Older(text)),
        Ok(Answer::Failed(text)) => Err(Silence::Failed(text)),
        Ok(answer) => Ok(answer),
        Err(error) => Err(Silence::Silent(error.to_string())),
    };
    match put(&Question::Who) {
        Ok(Answer::Manager(identity)) if *question == Question::Who => {
            (Some(identity.clone()), Ok(Answer::Manager(identity)))
        }
        Ok(Answer::Manager(identity)) => (Some(identity), put(question)),
        Err(Silence::Failed(_) | Silence::Older(_)) => {
            // It is older than that question; this one every manager has known.
            let dump = put(&Question::Dump);
            let identity = match &dump {
                Ok(Answer::Dumped(dump)) => older::identity(dump),
                _ => None,
            };
            let answer = match (question, dump) {
                (Question::List, Ok(Answer::Dumped(dump))) => Ok(Answer::Listed(older::list(&dump))),
                (Question::Dump, dump) => dump,
                (Question::Who, Ok(_)) => Ok(Answer::Manager(identity.clone().unwrap_or_default())),
                (_, Err(silence)) => Err(silence),
                _ => put(question),
            };
            (identity, answer)
        }
        Ok(other) => (None, Err(Silence::Silent(format!("it answers {other:?}")))),
        Err(silence) => (None, Err(silence)),
    }
}

/// Says on a terminal what takes so long.
fn tell(missing: usize) {
    if io::stderr().is_terminal() {
        eprintln!("gam: waiting for {missing} of the managers ...");
    }
}

/// What stands in JSON in the place of what a manager did not tell; its pid is called `pid`.
pub(super) fn untold(found: &Found, silence: &Silence, pid: &str) -> Value {
    json!({
        pid: found.pid(),
        "group": found.group(),
        "directory": found.directory,
        "state": silence.word(),
        "error": silence.text(),
    })
}

/// Says on stderr which managers did not answer, and why.
pub(super) fn complain<'f>(found: impl IntoIterator<Item = &'f Found>) {
    for found in found {
        if let Err(silence) = &found.answer {
            eprintln!("gam: the manager of {}: {}", found.group().escape_debug(), silence.text());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn group(run: &Path, name: &str) -> PathBuf {
        let directory = run.join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("pid"), "7").unwrap();
        directory
    }

    #[test]
    fn a_manager_that_hangs_and_one_that_is_dead_keep_no_other_waiting() {
        let run = tempfile::tempdir().unwrap();
        let (dead, hung) = (group(run.path(), "dead"), group(run.path(), "hung"));
        let _listener = UnixListener::bind(hung.join("control.sock")).unwrap();
        let begin = Instant::now();
        let found = all(&[dead, hung], &Question::List);
        assert!(begin.elapsed() < PATIENCE * 3);
        assert_eq!(found[0].answer, Err(Silence::Dead));
        assert!(matches!(found[1].answer, Err(Silence::Silent(_))), "{:?}", found[1]);
        assert_eq!(found[1].pid, Some(7));
    }

    #[test]
    fn only_a_manager_that_should_have_answered_is_a_failure() {
        for (answer, failed) in [
            (Ok(Answer::Unknown), false),
            (Err(Silence::Dead), false),
            (Err(Silence::Older("x".into())), false),
            (Err(Silence::Silent("x".into())), true),
            (Err(Silence::Failed("x".into())), true),
        ] {
            let found = Found::new(Path::new("/nowhere"), None, answer);
            assert_eq!(found.has_failed(), failed, "{found:?}");
        }
    }

    #[test]
    fn a_manager_that_hangs_is_named_by_its_command_line() {
        let found = Found {
            directory: "/run/gam/0123".into(),
            pid: Some(7),
            identity: None,
            called: Some("namespace k8s.io payments".into()),
            answer: Err(Silence::Silent("no answer".into())),
        };
        assert!(found.is(Some("payments")) && found.is(Some("012")) && !found.is(Some("search")));
        assert_eq!(found.group(), "namespace k8s.io payments");
    }

    #[test]
    fn an_older_manager_is_asked_all_the_same() {
        use std::io::{BufRead as _, BufReader, Write as _};
        let run = tempfile::tempdir().unwrap();
        let old = group(run.path(), "old");
        let listener = UnixListener::bind(old.join("control.sock")).unwrap();
        let server = thread::spawn(move || {
            for stream in listener.incoming().take(3).map(Result::unwrap) {
                for line in BufReader::new(&stream).lines().map_while(Result::ok) {
                    let answer = match line.as_str() {
                        r#""dump""# => r#"{"dumped":{"pid":7}}"#,
                        _ => r#"{"failed":"the question is not understood"}"#,
                    };
                    writeln!(&stream, "{answer}").unwrap();
                }
            }
        });
        let asked = |question| all(std::slice::from_ref(&old), &question).pop().unwrap().answer;
        assert_eq!(asked(Question::Dump), Ok(Answer::Dumped(serde_json::json!({"pid": 7}))));
        assert_eq!(asked(Question::List), Ok(Answer::Listed(Vec::new())));
        assert!(matches!(asked(Question::Stacks), Err(Silence::Older(_))), "what it cannot tell is said");
        server.join().unwrap();
    }

    #[test]
    fn a_group_is_named_by_its_name_its_last_word_or_its_directory() {
        let identity = Identity { group: "namespace k8s.io payments".into(), ..Identity::default() };
        let found = Found {
            directory: "/run/gam/0123".into(),
            pid: None,
            identity: Some(identity),
            called: None,
            answer: Err(Silence::Dead),
        };
        for wanted in [None, Some("namespace k8s.io payments"), Some("payments"), Some("012")] {
            assert!(found.is(wanted), "{wanted:?}");
        }
        assert!(!found.is(Some("pay")) && !found.is(Some("k8s.io")));
    }
}
