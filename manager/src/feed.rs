//! Events for operators who follow them, beside their way to containerd.
//!
//! Each follower has its place in one bounded buffer. A slow one loses events and is told how many: whoever publishes never
//! waits for it. Without followers there is no buffer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use gam_task::event::{Event, EventSink, What};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{Receiver, Sender};

/// How many events a follower may be behind.
const BEHIND: usize = 256;

/// An event as a follower is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// When it happened, in milliseconds since 1970.
    pub at_ms: u64,
    /// The containerd namespace.
    pub namespace: String,
    /// containerd's topic, such as `/tasks/exit`.
    pub topic: String,
    /// The container's id.
    pub container: String,
    /// The exec it is about; none for init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<String>,
    /// The pid it is about; none where it is about none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The exit status; none where nothing ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<u32>,
}

/// Where a manager's events go: to containerd, and to whoever follows.
pub struct Feed {
    containerd: Arc<dyn EventSink>,
    followers: Mutex<Option<Sender<Arc<Told>>>>,
}

impl Feed {
    /// Events go to `containerd`; nobody follows yet.
    #[must_use]
    pub fn new(containerd: Arc<dyn EventSink>) -> Self {
        Self { containerd, followers: Mutex::default() }
    }

    /// Follows from now on.
    pub fn follow(&self) -> Receiver<Arc<Told>> {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        followers.get_or_insert_with(|| Sender::new(BEHIND)).subscribe()
    }

    fn tell(&self, event: &Event) {
        let mut followers = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = followers.as_ref() else { return };
        // It fails where nobody is left.
        if sender.send(Arc::new(Told::of(event))).is_err() {
            *followers = None;
        }
    }
}

impl EventSink for Feed {
    fn publish(&self, event: Event) {
        self.tell(&event);
        self.containerd.publish(event);
    }
}

impl Told {
    fn of(event: &Event) -> Self {
        let (topic, exec, pid, exit) = match &event.what {
            What::Created(created) => ("/tasks/create", None, Some(created.pid), None),
            What::Started { pid } => ("/tasks/start", None, Some(*pid), None),
            What::Oom => ("/tasks/oom", None, None, None),
            What::Exited { exec_id, pid, exit } => ("/tasks/exit", exec_id.as_ref(), Some(*pid), Some(exit)),
            What::Deleted { pid, exit } => ("/tasks/delete", None, Some(*pid), Some(exit)),
            What::ExecAdded { exec_id } => ("/tasks/exec-added", Some(exec_id), None, None),
            What::ExecStarted { exec_id, pid } => ("/tasks/exec-started", Some(exec_id), Some(*pid), None),
            What::Paused => ("/tasks/paused", None, None, None),
            What::Resumed => ("/tasks/resumed", None, None, None),
            What::Checkpointed { .. } => ("/tasks/checkpointed", None, None, None),
        };
        let since = event.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            namespace: event.container.namespace.to_string(),
            topic: topic.to_owned(),
            container: event.container.id.to_string(),
            exec: exec.map(ToString::to_string),
            pid,
            exit_status: exit.map(|exit| exit.status),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use gam_task::id::Key;
    use tokio::sync::broadcast::error::{RecvError, TryRecvError};

    use super::*;

    #[derive(Default)]
    struct Daemon(Mutex<usize>);

    impl EventSink for Daemon {
        fn publish(&self, _: Event) {
            *self.0.lock().unwrap() += 1;
        }
    }

    fn event(id: &str) -> Event {
        Event {
            container: Key::new("ns", id).unwrap(),
            at: SystemTime::now(),
            what: What::Started { pid: 7 },
        }
    }

    #[tokio::test]
    async fn a_follower_is_told_in_order_from_when_it_came() {
        let daemon = Arc::new(Daemon::default());
        let feed = Feed::new(Arc::clone(&daemon) as _);
        feed.publish(event("before"));
        let mut follower = feed.follow();
        feed.publish(event("a"));
        feed.publish(event("b"));
        let told = follower.recv().await.unwrap();
        assert_eq!((told.container.as_str(), told.topic.as_str(), told.pid), ("a", "/tasks/start", Some(7)));
        assert_eq!(follower.recv().await.unwrap().container, "b");
        assert_eq!(*daemon.0.lock().unwrap(), 3, "containerd gets all");
    }

    #[tokio::test]
    async fn a_slow_follower_loses_events_and_is_told_how_many() {
        let daemon = Arc::new(Daemon::default());
        let feed = Feed::new(Arc::clone(&daemon) as _);
        let mut slow = feed.follow();
        for _ in 0..BEHIND + 10 {
            feed.publish(event("c"));
        }
        assert!(matches!(slow.recv().await, Err(RecvError::Lagged(10))));
        assert!(slow.recv().await.is_ok());
        assert_eq!(*daemon.0.lock().unwrap(), BEHIND + 10);
    }

    #[test]
    fn nothing_is_kept_when_nobody_follows_any_more() {
        let feed = Feed::new(Arc::new(Daemon::default()));
        drop(feed.follow());
        feed.publish(event("c"));
        assert!(feed.followers.lock().unwrap().is_none());
        let mut again = feed.follow();
        assert!(matches!(again.try_recv(), Err(TryRecvError::Empty)));
    }
}
