//! What containerd publishes: a recorder of task events, and the rules of their order.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use containerd_client::events::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOom, TaskPaused, TaskResumed,
    TaskStart,
};
use containerd_client::services::v1::events_client::EventsClient;
use containerd_client::services::v1::{PublishRequest, SubscribeRequest};
use containerd_client::tonic::Request;
use containerd_client::types::Envelope;
use prost::Message;
use prost_types::Any;

use crate::client::{Client, RUNTIME};
use crate::poll::{LONG, slow};

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Create,
    Start,
    Oom,
    Exit,
    Delete,
    ExecAdded,
    ExecStarted,
    Paused,
    Resumed,
    Checkpointed,
}

/// One event of a task or exec.
#[derive(Clone, PartialEq)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// containerd's namespace.
    pub namespace: String,
    /// The container.
    pub container: String,
    /// The exec; empty for the container's init.
    pub exec: String,
    /// The pid, where the event has one.
    pub pid: u32,
    /// The exit status of an exit or delete.
    pub status: u32,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, container, exec, pid, status, .. } = self;
        write!(f, "{kind:?} {container}/{exec} pid {pid} status {status}")
    }
}

fn decode(envelope: &Envelope) -> Option<Event> {
    let value = envelope.event.as_ref()?.value.as_slice();
    let made = |kind, container, exec, pid, status| {
        Some(Event { kind, namespace: envelope.namespace.clone(), container, exec, pid, status })
    };
    macro_rules! read {
        ($message:ty) => {
            <$message>::decode(value).ok()?
        };
    }
    match envelope.topic.as_str() {
        "/tasks/create" => {
            let event = read!(TaskCreate);
            made(Kind::Create, event.container_id, String::new(), event.pid, 0)
        }
        "/tasks/start" => {
            let event = read!(TaskStart);
            made(Kind::Start, event.container_id, String::new(), event.pid, 0)
        }
        "/tasks/oom" => made(Kind::Oom, read!(TaskOom).container_id, String::new(), 0, 0),
        "/tasks/exit" => {
            let event = read!(TaskExit);
            let exec = if event.id == event.container_id { String::new() } else { event.id };
            made(Kind::Exit, event.container_id, exec, event.pid, event.exit_status)
        }
        "/tasks/delete" => {
            let event = read!(TaskDelete);
            let exec = if event.id == event.container_id { String::new() } else { event.id };
            made(Kind::Delete, event.container_id, exec, event.pid, event.exit_status)
        }
        "/tasks/exec-added" => {
            let event = read!(TaskExecAdded);
            made(Kind::ExecAdded, event.container_id, event.exec_id, 0, 0)
        }
        "/tasks/exec-started" => {
            let event = read!(TaskExecStarted);
            made(Kind::ExecStarted, event.container_id, event.exec_id, event.pid, 0)
        }
        "/tasks/paused" => made(Kind::Paused, read!(TaskPaused).container_id, String::new(), 0, 0),
        "/tasks/resumed" => made(Kind::Resumed, read!(TaskResumed).container_id, String::new(), 0, 0),
        "/tasks/checkpointed" => {
            made(Kind::Checkpointed, read!(TaskPaused).container_id, String::new(), 0, 0)
        }
        _ => None,
    }
}

const PROBE: &str = "/gam-e2e/probe";

#[derive(Default)]
struct Seen {
    events: Vec<Event>,
    probes: u64,
}

/// Everything published since the daemon's start, kept across its restarts.
#[derive(Clone, Default)]
pub struct Recorder {
    seen: Arc<(Mutex<Seen>, Condvar)>,
}

impl Recorder {
    /// Subscribes at `client`'s daemon; returns when events arrive.
    ///
    /// # Panics
    /// Where the subscription fails.
    pub fn attach(&self, client: &Client) {
        let mut events = EventsClient::new(client.channel());
        let seen = self.seen.clone();
        let before = seen.0.lock().unwrap().probes;
        RUNTIME.spawn(async move {
            let Ok(stream) = events.subscribe(SubscribeRequest::default()).await else { return };
            let mut stream = stream.into_inner();
            while let Ok(Some(envelope)) = stream.message().await {
                let mut recorded = seen.0.lock().unwrap();
                if envelope.topic == PROBE {
                    recorded.probes += 1;
                }
                recorded.events.extend(decode(&envelope));
                seen.1.notify_all();
            }
        });
        let end = Instant::now() + slow(LONG);
        while self.seen.0.lock().unwrap().probes == before {
            assert!(Instant::now() < end, "the subscription to events did not begin");
            let mut events = EventsClient::new(client.channel());
            let event = Any { type_url: "google.protobuf.Empty".into(), value: Vec::new() };
            let mut request = Request::new(PublishRequest { topic: PROBE.into(), event: Some(event) });
            request.metadata_mut().insert("containerd-namespace", "default".parse().unwrap());
            let _ = RUNTIME.block_on(events.publish(request));
            let recorded = self.seen.0.lock().unwrap();
            drop(self.seen.1.wait_timeout(recorded, Duration::from_millis(50)).unwrap());
        }
    }

    /// The events of one container so far, in the order they came.
    ///
    /// # Panics
    /// Where the recording thread has.
    #[must_use]
    pub fn of(&self, namespace: &str, container: &str) -> Vec<Event> {
        let seen = self.seen.0.lock().unwrap();
        let is = |event: &&Event| event.namespace == namespace && event.container == container;
        seen.events.iter().filter(is).cloned().collect()
    }

    /// Waits until the container's events satisfy `enough`; them.
    ///
    /// # Panics
    /// After [`LONG`].
    pub fn wait(
        &self,
        namespace: &str,
        container: &str,
        what: &str,
        enough: impl Fn(&[Event]) -> bool,
    ) -> Vec<Event> {
        let end = Instant::now() + slow(LONG);
        loop {
            let events = self.of(namespace, container);
            if enough(&events) {
                return events;
            }
            assert!(Instant::now() < end, "the events of {container} do not become {what}: {events:#?}");
            let recorded = self.seen.0.lock().unwrap();
            drop(self.seen.1.wait_timeout(recorded, Duration::from_millis(50)).unwrap());
        }
    }
}

/// The rules of BEHAVIOUR section 0 for the events of ONE container that has come to rest; `Err` says which is broken.
///
/// # Errors
/// The first broken rule.
pub fn check_order(events: &[Event]) -> Result<(), String> {
    let place = |kind, exec: &str| -> Vec<usize> {
        let is = |(at, event): (usize, &Event)| (event.kind == kind && event.exec == exec).then_some(at);
        events.iter().enumerate().filter_map(is).collect()
    };
    let before = |first: &[usize], second: &[usize], what: &str| match (first.last(), second.first()) {
        (Some(first), Some(second)) if first > second => Err(format!("{what} is out of order")),
        (None, Some(_)) => Err(format!("{what}: the first is missing")),
        _ => Ok(()),
    };
    let (create, start) = (place(Kind::Create, ""), place(Kind::Start, ""));
    let (exit, delete, oom) = (place(Kind::Exit, ""), place(Kind::Delete, ""), place(Kind::Oom, ""));
    for (what, places) in [("create", &create), ("start", &start), ("exit", &exit), ("delete", &delete)] {
        if places.len() > 1 {
            return Err(format!("{} events of {what}", places.len()));
        }
    }
    if !start.is_empty() && exit.len() != 1 {
        return Err("it started and has no exit".into());
    }
    before(&create, &start, "create before start")?;
    if !start.is_empty() {
        before(&start, &exit, "start before exit")?;
    }
    if !exit.is_empty() {
        before(&exit, &delete, "exit before delete")?;
    }
    if let (Some(oom), Some(exit)) = (oom.last(), exit.first()) {
        if oom > exit {
            return Err("an oom after the exit".into());
        }
    }
    let mut execs: HashMap<&str, ()> = HashMap::new();
    for event in events.iter().filter(|event| !event.exec.is_empty()) {
        execs.insert(&event.exec, ());
    }
    for exec in execs.into_keys() {
        let (added, started) = (place(Kind::ExecAdded, exec), place(Kind::ExecStarted, exec));
        let exited = place(Kind::Exit, exec);
        let wrong = |what: &str| Err(format!("exec {exec}: {what}"));
        if !started.is_empty() && exited.len() != started.len() {
            return wrong(&format!("{} starts and {} exits", started.len(), exited.len()));
        }
        before(&added, &started, &format!("exec {exec} added before started"))?;
        before(&started, &exited, &format!("exec {exec} started before exit"))?;
        if let (Some(last), Some(init)) = (exited.last(), exit.first()) {
            if last > init {
                return wrong("its exit comes after init's");
            }
        }
        if let (Some(last), Some(init)) = (started.last(), exit.first()) {
            if last > init {
                return wrong("it started after init's exit");
            }
        }
    }
    Ok(())
}

/// [`check_order`], as a panic with the events.
///
/// # Panics
/// With the rule that is broken.
pub fn assert_order(events: &[Event]) {
    if let Err(broken) = check_order(events) {
        panic!("{broken}: {events:#?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Kind, exec: &str) -> Event {
        let (namespace, container) = ("n".into(), "c".into());
        Event { kind, namespace, container, exec: exec.into(), pid: 1, status: 0 }
    }

    fn check(events: &[(Kind, &str)]) -> Result<(), String> {
        check_order(&events.iter().map(|(kind, exec)| event(*kind, exec)).collect::<Vec<_>>())
    }

    #[test]
    fn a_whole_life_is_in_order() {
        use Kind::*;
        let life = [
            (Create, ""),
            (Start, ""),
            (ExecAdded, "e"),
            (ExecStarted, "e"),
            (Exit, "e"),
            (Oom, ""),
            (Exit, ""),
            (Delete, ""),
        ];
        assert_eq!(check(&life), Ok(()));
        assert_eq!(check(&[(Create, ""), (Delete, "")]), Ok(()));
    }

    #[test]
    fn every_rule_can_be_broken() {
        use Kind::*;
        let lives: [&[(Kind, &str)]; 9] = [
            &[(Create, ""), (Exit, ""), (Start, "")],
            &[(Create, ""), (Start, "")],
            &[(Start, ""), (Exit, "")],
            &[(Create, ""), (Start, ""), (Exit, ""), (Exit, "")],
            &[(Create, ""), (Start, ""), (Delete, ""), (Exit, "")],
            &[(Create, ""), (Start, ""), (Exit, ""), (Oom, "")],
            &[(Create, ""), (Start, ""), (ExecAdded, "e"), (ExecStarted, "e"), (Exit, ""), (Exit, "e")],
            &[(Create, ""), (Start, ""), (ExecAdded, "e"), (ExecStarted, "e"), (Exit, "")],
            &[(Create, ""), (Start, ""), (ExecStarted, "e"), (ExecAdded, "e"), (Exit, "e"), (Exit, "")],
        ];
        for life in lives {
            assert!(check(life).is_err(), "{life:?}");
        }
    }
}
