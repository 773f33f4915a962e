//! The requests that are at work, and what each waits for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gam_task::doing::Work;
use serde::{Deserialize, Serialize};

use crate::metrics::Requests;

/// The method whose calls are long because they are meant to be.
const WAIT: &str = "Wait";
/// The runtime's commands that may take half an hour, which is no sign of trouble.
const LONG: [&str; 2] = ["checkpoint", "restore"];

/// The requests of a manager that have not been answered, or whose work goes on after that.
#[derive(Debug, Default)]
pub struct Calls(Mutex<AtWork>);

#[derive(Debug, Default)]
struct AtWork {
    last: u64,
    /// By number, so the oldest first.
    calls: BTreeMap<u64, Arc<Work>>,
}

/// A request at work, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// The method, as containerd calls it.
    pub method: String,
    /// The container, `NAMESPACE/ID`, once it is known.
    pub container: Option<String>,
    /// The exec; none for init.
    pub exec: Option<String>,
    /// How old it is, in milliseconds.
    pub age_ms: u64,
    /// What it waits for; none while it computes.
    pub waits_for: Option<String>,
    /// For how long, in milliseconds.
    pub waits_ms: u64,
    /// The pid of the runtime's command it waits for; none if it waits for none.
    pub pid: Option<i32>,
}

/// A request that is at work until this is dropped.
#[derive(Debug)]
#[must_use = "the request is over when this is dropped"]
pub struct Call {
    calls: Arc<Calls>,
    number: u64,
    /// What it does.
    pub work: Arc<Work>,
}

impl Calls {
    /// A request for `method` is at work from now on.
    pub fn begin(self: &Arc<Self>, method: String) -> Call {
        let work = Arc::new(Work::new(method));
        let mut at_work = self.lock();
        at_work.last += 1;
        let number = at_work.last;
        at_work.calls.insert(number, Arc::clone(&work));
        drop(at_work);
        Call { calls: Arc::clone(self), number, work }
    }

    /// How long the oldest request has been at work that is no Wait, and has no checkpoint written or read; zero if there is none.
    #[must_use]
    pub fn oldest_change(&self) -> Duration {
        let at_work = self.lock();
        let is_change = |work: &&Arc<Work>| {
            let command = work.waiting().and_then(|waiting| waiting.command);
            work.name() != WAIT && !command.is_some_and(|command| LONG.contains(&command))
        };
        at_work.calls.values().find(is_change).map_or(Duration::ZERO, |work| work.age())
    }

    /// Every request at work, the oldest first.
    #[must_use]
    pub fn stacks(&self) -> Vec<Stack> {
        let works: Vec<Arc<Work>> = self.lock().calls.values().cloned().collect();
        works.iter().map(|work| Stack::of(work)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, AtWork> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Requests for Calls {
    fn oldest(&self) -> Duration {
        self.oldest_change()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.lock().calls.remove(&self.number);
    }
}

impl Stack {
    fn of(work: &Work) -> Self {
        let waiting = work.waiting();
        Self {
            method: work.name().to_owned(),
            container: work.container().map(ToString::to_string),
            exec: work.exec().map(str::to_owned),
            age_ms: millis(work.age()),
            waits_for: waiting.map(|waiting| match waiting.command {
                Some(command) => format!("{} {command}", waiting.what),
                None => waiting.what.to_owned(),
            }),
            waits_ms: waiting.map_or(0, |waiting| millis(waiting.since.elapsed())),
            pid: waiting.map(|waiting| waiting.pid).filter(|pid| *pid != 0),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use gam_task::doing;

    use super::*;

    #[tokio::test]
    async fn a_request_is_listed_with_what_it_waits_for_until_it_is_over() {
        let calls = Arc::new(Calls::default());
        let call = calls.begin("Create".into());
        let work = Arc::clone(&call.work);
        work.scope(async {
            doing::about(&gam_task::id::Key::new("ns", "c").unwrap());
            let step = doing::command("create");
            step.pid(9);
            let stacks = calls.stacks();
            assert_eq!(stacks.len(), 1);
            assert_eq!(stacks[0].method, "Create");
            assert_eq!(stacks[0].container.as_deref(), Some("ns/c"));
            assert_eq!(stacks[0].waits_for.as_deref(), Some("the runtime's create"));
            assert_eq!(stacks[0].pid, Some(9));
        })
        .await;
        drop(call);
        assert!(calls.stacks().is_empty());
    }

    #[tokio::test]
    async fn one_that_panics_or_is_dropped_is_over() {
        let calls = Arc::new(Calls::default());
        let call = calls.begin("Start".into());
        let panicked = tokio::spawn(async move {
            let _call = call;
            panic!("as it should");
        });
        assert!(panicked.await.is_err());
        assert!(calls.stacks().is_empty());
        let call = calls.begin("Kill".into());
        let hanging = async move {
            let _call = call;
            std::future::pending::<()>().await;
        };
        assert!(tokio::time::timeout(Duration::from_millis(20), hanging).await.is_err());
        assert!(calls.stacks().is_empty());
    }

    #[test]
    fn waits_are_not_what_is_old() {
        let calls = Arc::new(Calls::default());
        let _wait = calls.begin("Wait".into());
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(calls.oldest_change(), Duration::ZERO);
        let _delete = calls.begin("Delete".into());
        std::thread::sleep(Duration::from_millis(2));
        let oldest = calls.oldest_change();
        assert!(oldest >= Duration::from_millis(2), "{oldest:?}");
        assert!(oldest < Duration::from_millis(calls.stacks()[0].age_ms), "{oldest:?} is the Wait's");
    }
}
