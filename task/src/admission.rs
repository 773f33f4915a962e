//! Which runtime command runs next (K4).
//!
//! A runtime command is a process that computes for some milliseconds; a hundred at once make every one slow, also those
//! of whoever wants just one. So a manager runs a limited number at a time, and where more are wanted: the tenant goes
//! first that has the fewest at work, and of those the one that was served longest ago; of a tenant's own, what ends
//! something goes before what goes on with something, that before what makes something, and that before execs. Kills and
//! deletes have places of their own besides, so that they do not wait for anybody's creates, and so have tenants with
//! nothing at work, so that who wants one thing at a time does not wait for who wants everything at once.
//!
//! A command that takes longer than [`GRACE`] is waiting for something, not computing, and does not count any more: a
//! runtime that hangs takes no place from others (K5), and after a while none from its own tenant's kills.

mod queue;

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

pub use queue::Share;

use self::queue::{Place, Queue};
use crate::telemetry::Telemetry;
use crate::tenant::Tenant;

/// How long a command keeps its place: some ten times what one takes on an idle machine.
pub const GRACE: Duration = Duration::from_millis(300);

/// How urgent a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It ends something.
    End,
    /// It goes on with what has been made.
    GoOn,
    /// It makes something.
    Make,
    /// It runs something more in what runs.
    Exec,
}

impl Class {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 4] = [Self::End, Self::GoOn, Self::Make, Self::Exec];

    /// The class of a runtime's command.
    #[must_use]
    pub fn of(command: &str) -> Self {
        match command {
            "kill" | "delete" => Self::End,
            "create" | "restore" | "checkpoint" => Self::Make,
            "exec" => Self::Exec,
            _ => Self::GoOn,
        }
    }

    /// The name used in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::GoOn => "go_on",
            Self::Make => "make",
            Self::Exec => "exec",
        }
    }
}

/// Admits the runtime commands of a manager.
#[derive(Clone)]
pub struct Admission(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue<oneshot::Sender<Turn>>>,
    telemetry: Arc<dyn Telemetry>,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue<oneshot::Sender<Turn>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Admission {
    /// Runs `concurrency` commands at a time, at least one, and besides half as many kills and deletes, and half as many of tenants
    /// that have nothing else at work.
    #[must_use]
    pub fn new(concurrency: usize, telemetry: Arc<dyn Telemetry>) -> Self {
        Self(Arc::new(Shared { queue: Mutex::new(Queue::new(concurrency)), telemetry }))
    }

    /// As many at a time as keep this machine's cores busy.
    #[must_use]
    pub fn cores() -> usize {
        std::thread::available_parallelism().map_or(2, usize::from).max(2)
    }

    /// Waits until a command of `tenant` may run. Who drops this wants it no more.
    pub async fn turn(&self, tenant: &Tenant, command: &'static str) -> Turn {
        let class = Class::of(command);
        let since = Instant::now();
        let turn = loop {
            let (sender, receiver) = oneshot::channel();
            self.0.queue().wait(tenant, class, sender);
            self.admit();
            // The sender is in the queue, which we hold, so it is not dropped without being used.
            if let Ok(turn) = receiver.await {
                break turn;
            }
        };
        self.0.telemetry.queued(class, since.elapsed());
        turn
    }

    /// Who has commands at work or waiting.
    #[must_use]
    pub fn shares(&self) -> Vec<Share> {
        self.0.queue().shares()
    }

    fn admit(&self) {
        loop {
            // A statement of its own, so that the lock is free again when a turn is handed over.
            let next = self.0.queue().next();
            let Some((tenant, place, waiter)) = next else { return };
            let held = Held { admission: self.clone(), tenant, place: Some(place) };
            // Taken back without looking for the next, which this loop does.
            if let Err(mut unwanted) = waiter.send(Turn(Some(held)))
                && let Some(mut held) = unwanted.0.take()
            {
                held.give_back();
            }
        }
    }
}

/// The right to run one command.
pub struct Turn(Option<Held>);

/// What a turn that was waited for holds.
struct Held {
    admission: Admission,
    tenant: Tenant,
    /// None once the command is overdue: then it counts as its tenant's only.
    place: Option<Place>,
}

impl Turn {
    /// One that nobody has to be asked for.
    #[must_use]
    pub fn free() -> Self {
        Self(None)
    }

    /// Runs the command. Its place is another's when it has ended, or has taken longer than [`GRACE`].
    pub async fn run<T>(mut self, work: impl Future<Output = T>) -> T {
        let Some(held) = &mut self.0 else { return work.await };
        let mut work = std::pin::pin!(work);
        match tokio::time::timeout(GRACE, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                held.fall_behind();
                work.await
            }
        }
    }
}

impl Held {
    fn fall_behind(&mut self) {
        if let Some(place) = self.place.take() {
            self.admission.0.queue().overdue(&self.tenant, place);
            self.admission.admit();
        }
    }

    fn give_back(&mut self) {
        let mut queue = self.admission.0.queue();
        match self.place.take() {
            Some(place) => queue.ended(&self.tenant, place),
            None => queue.overdue_ended(&self.tenant),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(mut held) = self.0.take() {
            held.give_back();
            held.admission.admit();
        }
    }
}

#[cfg(test)]
mod tests;
