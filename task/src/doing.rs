//! What a piece of work is about and what it waits for now, for whoever asks why something hangs.
//!
//! A [`Work`] goes with the task that does it; wherever that may take long, the code says so by a [`step`], for as long as it
//! holds it. Outside of a work, as in tests and short commands, saying so does nothing.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::id::{Key, MAX_ID};

/// How many steps are known at once; those within them are not told.
const DEEPEST: usize = 4;

tokio::task_local! {
    static WORK: Arc<Work>;
}

/// A piece of work from its beginning to its end.
#[derive(Debug)]
pub struct Work {
    name: String,
    since: Instant,
    container: OnceLock<Key>,
    exec: OnceLock<Arc<str>>,
    steps: Mutex<[Option<Waiting>; DEEPEST]>,
}

/// What a work waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// In words, such as `mounting its root file system`; for a command of the runtime `the runtime's`.
    pub what: &'static str,
    /// The command of the runtime that is waited for, such as `create`; none else.
    pub command: Option<&'static str>,
    /// The pid of that command; 0 before it has one.
    pub pid: i32,
    /// Since when.
    pub since: Instant,
}

impl Work {
    /// Work that begins now; `name` says what was asked for.
    #[must_use]
    pub fn new(name: String) -> Self {
        Self {
            name,
            since: Instant::now(),
            container: OnceLock::new(),
            exec: OnceLock::new(),
            steps: Mutex::default(),
        }
    }

    /// What was asked for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long it has been going on.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Which container it is about, once that is known.
    #[must_use]
    pub fn container(&self) -> Option<&Key> {
        self.container.get()
    }

    /// Which exec it is about; none for init.
    #[must_use]
    pub fn exec(&self) -> Option<&str> {
        self.exec.get().map(|id| &**id)
    }

    /// What it waits for now, the innermost step; none while it computes.
    #[must_use]
    pub fn waiting(&self) -> Option<Waiting> {
        self.steps().iter().rev().flatten().next().copied()
    }

    /// Does `work` as this.
    pub async fn scope<F: Future>(self: &Arc<Self>, work: F) -> F::Output {
        WORK.scope(Arc::clone(self), work).await
    }

    fn steps(&self) -> MutexGuard<'_, [Option<Waiting>; DEEPEST]> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a step above those that are there; none if there are too many.
    fn begin(&self, waiting: Waiting) -> Option<usize> {
        let mut steps = self.steps();
        let above = steps.iter().rposition(Option::is_some).map_or(0, |top| top + 1);
        let slot = steps.get_mut(above)?;
        *slot = Some(waiting);
        Some(above)
    }
}

/// A step that is being taken until this is dropped.
#[derive(Debug)]
#[must_use = "the step ends when this is dropped"]
pub struct Step(Option<(Arc<Work>, usize)>);

impl Step {
    /// Says which process is waited for.
    pub fn pid(&self, pid: i32) {
        if let Some((work, at)) = &self.0
            && let Some(Some(waiting)) = work.steps().get_mut(*at)
        {
            waiting.pid = pid;
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some((work, at)) = &self.0
            && let Some(slot) = work.steps().get_mut(*at)
        {
            *slot = None;
        }
    }
}

/// The work of this task waits for `what` from now on.
pub fn step(what: &'static str) -> Step {
    begin(what, None)
}

/// The work of this task waits for a command of the runtime from now on.
pub fn command(command: &'static str) -> Step {
    begin("the runtime's", Some(command))
}

/// The work of this task is about `container`.
pub fn about(container: &Key) {
    let _ = WORK.try_with(|work| work.container.get_or_init(|| container.clone()).id.len());
}

/// The work of this task is about the exec `id`; one that no exec can have is not noted.
pub fn about_exec(id: &str) {
    if id.len() > MAX_ID {
        return;
    }
    let _ = WORK.try_with(|work| work.exec.get_or_init(|| id.into()).len());
}

fn begin(what: &'static str, command: Option<&'static str>) -> Step {
    let waiting = Waiting { what, command, pid: 0, since: Instant::now() };
    let begun = WORK.try_with(|work| work.begin(waiting).map(|at| (Arc::clone(work), at)));
    Step(begun.ok().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_innermost_step_is_told_and_ends_with_its_guard() {
        let work = Arc::new(Work::new("Create".into()));
        work.scope(async {
            about(&Key::new("ns", "c").unwrap());
            about_exec("e");
            assert_eq!(work.waiting(), None);
            let outer = step("the outer");
            {
                let inner = command("create");
                inner.pid(7);
                let waiting = work.waiting().unwrap();
                assert_eq!(
                    (waiting.what, waiting.command, waiting.pid),
                    ("the runtime's", Some("create"), 7)
                );
            }
            assert_eq!(work.waiting().unwrap().what, "the outer");
            drop(outer);
        })
        .await;
        assert_eq!(work.waiting(), None);
        assert_eq!((work.container().unwrap().to_string().as_str(), work.exec()), ("ns/c", Some("e")));
    }

    #[tokio::test]
    async fn a_step_whose_future_is_dropped_or_panics_is_over() {
        let work = Arc::new(Work::new("Wait".into()));
        let hanging = work.scope(async {
            let _step = step("for ever");
            std::future::pending::<()>().await;
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), hanging).await.is_err());
        assert_eq!(work.waiting(), None);
        let own = Arc::clone(&work);
        let panicking = tokio::spawn(async move {
            own.scope(async {
                let _step = step("what panics");
                panic!("as it should");
            })
            .await
        });
        assert!(panicking.await.is_err());
        assert_eq!(work.waiting(), None);
    }

    #[tokio::test]
    async fn steps_beyond_the_deepest_and_outside_of_a_work_do_nothing() {
        drop(step("nobody's"));
        let work = Arc::new(Work::new("Start".into()));
        work.scope(async {
            let steps: Vec<Step> = (0..DEEPEST + 2).map(|_| step("one more")).collect();
            drop(steps);
            assert_eq!(work.waiting(), None);
            let _again = step("again");
            assert_eq!(work.waiting().unwrap().what, "again");
        })
        .await;
    }
}
