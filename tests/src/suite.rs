//! Running tests: a shared daemon, unique ids, a watchdog, and what is known to fail on the Go shim.

use std::any::Any;
use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use crate::case::Builder;
use crate::daemon::{Daemon, Settings};
use crate::poll::slow;
use crate::target::Shim;

/// The containerd namespace of tests that need no other.
pub const NAMESPACE: &str = "e2e";

static SHARED: OnceLock<Arc<Daemon>> = OnceLock::new();

/// What a test function gets.
pub struct Test {
    /// The function's name.
    pub name: &'static str,
    counter: AtomicU32,
}

impl Test {
    /// The daemon that the tests of this run share.
    #[must_use]
    pub fn daemon(&self) -> Arc<Daemon> {
        SHARED.get_or_init(|| Daemon::start(Settings::new())).clone()
    }

    /// An id that no other container has.
    #[must_use]
    pub fn id(&self) -> String {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let name: String = self.name.chars().take(60).collect();
        format!("{}-{number}", name.replace('_', "-").trim_end_matches('-'))
    }

    /// A container of the shared daemon, with a unique id.
    #[must_use]
    pub fn container(&self) -> Builder {
        self.container_of(&self.daemon())
    }

    /// A container of a daemon of the test's own, with a unique id.
    #[must_use]
    pub fn container_of(&self, daemon: &Arc<Daemon>) -> Builder {
        Builder::new(daemon, NAMESPACE, &self.id())
    }

    /// Whether the Go shim is tested.
    #[must_use]
    pub fn on_go(&self) -> bool {
        Shim::from_env() == Shim::Go
    }
}

/// A test: its path, its function.
pub type Entry = (&'static str, fn(&Test));

/// The tests of a module, as `pub fn tests() -> Vec<Entry>`.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub(crate) fn tests() -> Vec<$crate::suite::Entry> {
            vec![$((concat!(module_path!(), "::", stringify!($name)), $name as fn(&$crate::suite::Test))),*]
        }
    };
}

fn limit() -> Duration {
    let seconds = env::var("GAM_E2E_LIMIT").ok().and_then(|text| text.parse().ok()).unwrap_or(60);
    slow(Duration::from_secs(seconds))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn guarded(name: &'static str, run: fn(&Test), limit: Duration) -> Result<(), String> {
    let (sender, receiver) = channel();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let test = Test { name, counter: AtomicU32::new(1) };
            let outcome = catch_unwind(AssertUnwindSafe(|| run(&test)));
            let _ = sender.send(outcome.map_err(|panic| message(&*panic)));
        })
        .map_err(|error| format!("no thread for the test: {error}"))?;
    match receiver.recv_timeout(limit) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => {
            let log = SHARED.get().map(|daemon| daemon.log_tail(30)).unwrap_or_default();
            Err(format!("not done after {limit:?}; the shared containerd's log ends:\n{log}"))
        }
        Err(RecvTimeoutError::Disconnected) => Err("the test's thread is gone".into()),
    }
}

/// The tests that `GAM_E2E_ONLY` names, all where it is not set: words that are parts of the paths of tests. A word that
/// names none is an error, so that a list does not lose a test whose name changes.
fn chosen(entries: Vec<Entry>) -> Vec<Entry> {
    let only = env::var("GAM_E2E_ONLY").unwrap_or_default();
    let words: Vec<&str> = only.split_whitespace().collect();
    if words.is_empty() {
        return entries;
    }
    for word in &words {
        if !entries.iter().any(|(path, _)| path.contains(word)) {
            eprintln!("GAM_E2E_ONLY names {word:?}, which is in no test's path");
            std::process::exit(101);
        }
    }
    entries.into_iter().filter(|(path, _)| words.iter().any(|word| path.contains(word))).collect()
}

/// Runs the tests that the command line and `GAM_E2E_ONLY` ask for, ends the shared daemon, and exits with the outcome.
///
/// On the Go shim a test in `go_fails` may fail: the failure is told, and not counted.
pub fn main(entries: Vec<Entry>, go_fails: &'static [&'static str]) -> ! {
    let finish = || SHARED.get().map(|daemon| daemon.shutdown()).unwrap_or_default();
    let known = if Shim::from_env() == Shim::Go { go_fails } else { &[] };
    main_of(entries, known, Duration::ZERO, finish)
}

/// [`main()`] for a suite that has daemons of its own: the tests in `known` may fail on the shim under test, each may take
/// `least`, and `finish` ends the daemons and says what was left behind.
pub fn main_of(
    entries: Vec<Entry>,
    known: &'static [&'static str],
    least: Duration,
    finish: impl FnOnce() -> Vec<String>,
) -> ! {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(6));
    let shim = Shim::from_env();
    let trial = |(path, run): Entry| {
        let (_, short) = path.split_once("::").unwrap_or(("", path));
        let name = path.rsplit("::").next().unwrap_or(path);
        Trial::test(short, move || {
            let forgiven = known.contains(&name);
            match guarded(name, run, limit().max(least)) {
                Ok(()) if forgiven => println!("{name}: declared to fail on {shim:?}, and passes"),
                Err(failure) if forgiven => println!("{name}: fails on {shim:?}, as declared: {failure}"),
                Err(failure) => return Err(Failed::from(failure)),
                Ok(()) => {}
            }
            Ok(())
        })
    };
    let conclusion = libtest_mimic::run(&arguments, chosen(entries).into_iter().map(trial).collect());
    let left = finish();
    if !left.is_empty() {
        eprintln!("the suite left behind:\n  {}", left.join("\n  "));
        // Go leaves things where its tests fail as declared.
        if !conclusion.has_failed() && shim != Shim::Go {
            std::process::exit(102);
        }
    }
    conclusion.exit()
}
