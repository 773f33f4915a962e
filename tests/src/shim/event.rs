//! containerd's ear: takes the events that shims forward, and may be slow, deaf or absent.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use gam_manager::server::{ConnectionId, Observer, Server};
use gam_protos::events::{
    TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskOOM, TaskPaused, TaskResumed,
    TaskStart,
};
use gam_protos::forward::{Events, ForwardRequest, create_events};
use gam_protos::task::Empty;
use protobuf::Message;
use tokio::net::UnixListener;
use tokio::sync::watch;
use ttrpc::asynchronous::TtrpcContext;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    Other,
}

/// An event as it came.
#[derive(Debug, Clone)]
pub struct Event {
    /// What.
    pub kind: Kind,
    /// containerd's namespace.
    pub namespace: String,
    /// The container.
    pub container: String,
    /// The exec; empty for init.
    pub exec: String,
    /// The process.
    pub pid: u32,
    /// Its exit status, of `Exit` and `Delete`.
    pub status: u32,
    /// When it came.
    pub at: Instant,
}

/// How `Forward` is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// At once.
    Willing,
    /// So late; taken before.
    Slow(Duration),
    /// The next so many are refused and not taken.
    Refusing(usize),
    /// Not at all, and not taken.
    Still,
}

struct Shared {
    list: Mutex<Vec<Event>>,
    mood: Mutex<Mood>,
    count: watch::Sender<usize>,
}

/// Records events at a socket.
pub struct Recorder {
    path: PathBuf,
    shared: Arc<Shared>,
    server: tokio::sync::Mutex<Option<Server>>,
}

struct Deaf;

impl Observer for Deaf {
    fn answered(&self, _: &str, _: &'static str, _: Duration) {}
    fn closed(&self, _: ConnectionId) {}
}

fn parsed<M: Message>(bytes: &[u8]) -> M {
    M::parse_from_bytes(bytes).expect("an event holds what its topic says")
}

fn decode(request: ForwardRequest) -> Event {
    let envelope = request.envelope.unwrap_or_default();
    let bytes = envelope.event.unwrap_or_default().value;
    let of = |kind, container: String, exec: String, pid, status| Event {
        kind,
        namespace: envelope.namespace.clone(),
        exec: if exec == container { String::new() } else { exec },
        container,
        pid,
        status,
        at: Instant::now(),
    };
    match envelope.topic.as_str() {
        "/tasks/create" => {
            let it: TaskCreate = parsed(&bytes);
            of(Kind::Create, it.container_id, String::new(), it.pid, 0)
        }
        "/tasks/start" => {
            let it: TaskStart = parsed(&bytes);
            of(Kind::Start, it.container_id, String::new(), it.pid, 0)
        }
        "/tasks/oom" => of(Kind::Oom, parsed::<TaskOOM>(&bytes).container_id, String::new(), 0, 0),
        "/tasks/exit" => {
            let it: TaskExit = parsed(&bytes);
            of(Kind::Exit, it.container_id, it.id, it.pid, it.exit_status)
        }
        "/tasks/delete" => {
            let it: TaskDelete = parsed(&bytes);
            of(Kind::Delete, it.container_id, it.id, it.pid, it.exit_status)
        }
        "/tasks/exec-added" => {
            let it: TaskExecAdded = parsed(&bytes);
            of(Kind::ExecAdded, it.container_id, it.exec_id, 0, 0)
        }
        "/tasks/exec-started" => {
            let it: TaskExecStarted = parsed(&bytes);
            of(Kind::ExecStarted, it.container_id, it.exec_id, it.pid, 0)
        }
        "/tasks/paused" => of(Kind::Paused, parsed::<TaskPaused>(&bytes).container_id, String::new(), 0, 0),
        "/tasks/resumed" => {
            of(Kind::Resumed, parsed::<TaskResumed>(&bytes).container_id, String::new(), 0, 0)
        }
        _ => of(Kind::Other, String::new(), String::new(), 0, 0),
    }
}

impl Shared {
    /// Waits for so long, or until the mood is no longer `mood`.
    async fn patient(&self, mood: Mood, limit: Duration) {
        let since = Instant::now();
        while since.elapsed() < limit && *self.mood.lock().unwrap_or_else(PoisonError::into_inner) == mood {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

struct Ear(Arc<Shared>);

#[async_trait]
impl Events for Ear {
    async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let mood = {
            let mut mood = self.0.mood.lock().unwrap_or_else(PoisonError::into_inner);
            let now = *mood;
            if let Mood::Refusing(left) = now {
                *mood = if left > 1 { Mood::Refusing(left - 1) } else { Mood::Willing };
            }
            now
        };
        match mood {
            Mood::Refusing(_) => {
                return Err(ttrpc::Error::RpcStatus(ttrpc::get_status(ttrpc::Code::UNAVAILABLE, "not now")));
            }
            Mood::Still => {
                self.0.patient(Mood::Still, Duration::MAX).await;
                return Err(ttrpc::Error::RpcStatus(ttrpc::get_status(
                    ttrpc::Code::UNAVAILABLE,
                    "not any more",
                )));
            }
            Mood::Willing | Mood::Slow(_) => {}
        }
        let event = decode(request);
        self.0.list.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        self.0.count.send_modify(|count| *count += 1);
        if let Mood::Slow(delay) = mood {
            self.0.patient(mood, delay).await;
        }
        Ok(Empty::new())
    }
}

impl Recorder {
    /// Listens at `path`.
    pub async fn start(path: &Path) -> Self {
        let shared = Arc::new(Shared {
            list: Mutex::new(Vec::new()),
            mood: Mutex::new(Mood::Willing),
            count: watch::Sender::new(0),
        });
        let recorder = Self { path: path.to_owned(), shared, server: tokio::sync::Mutex::new(None) };
        recorder.back().await;
        recorder
    }

    /// Goes away, as a containerd that is restarted: the socket and every connection.
    pub async fn away(&self) {
        if let Some(server) = self.server.lock().await.take() {
            server.stop(Duration::ZERO).await;
        }
        let _ = std::fs::remove_file(&self.path);
    }

    /// Ends: whatever stands still is let go.
    pub(super) async fn end(&self) {
        self.be(Mood::Willing);
        if let Some(server) = self.server.lock().await.take() {
            server.stop(Duration::from_secs(2)).await;
        }
    }

    /// Comes back.
    pub async fn back(&self) {
        let _ = std::fs::remove_file(&self.path);
        let listener = UnixListener::bind(&self.path).expect("socket for events");
        let services = create_events(Arc::new(Ear(Arc::clone(&self.shared))));
        *self.server.lock().await = Some(Server::start(listener, services, Arc::new(Deaf), Arc::default()));
    }

    /// Answers as `mood` says from now on.
    pub fn be(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    /// What came so far.
    #[must_use]
    pub fn list(&self) -> Vec<Event> {
        self.shared.list.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The events of `container` so far.
    #[must_use]
    pub fn of(&self, container: &str) -> Vec<Event> {
        self.list().into_iter().filter(|event| event.container == container).collect()
    }

    /// How many events of that kind came for that process.
    #[must_use]
    pub fn count(&self, kind: Kind, container: &str, exec: &str) -> usize {
        self.of(container).iter().filter(|event| event.kind == kind && event.exec == exec).count()
    }

    /// Waits until `seen` holds of the list.
    ///
    /// # Panics
    /// After 30 s, with the list.
    pub async fn until(&self, what: &str, mut seen: impl FnMut(&[Event]) -> bool) {
        let mut count = self.shared.count.subscribe();
        let wait = async {
            while !seen(&self.list()) {
                let _ = count.changed().await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(30), wait).await.is_err() {
            panic!("events never showed {what}:\n{}", self.text());
        }
    }

    /// Waits for an event and answers it.
    pub async fn wait_for(&self, kind: Kind, container: &str, exec: &str) -> Event {
        let fits = |event: &Event| event.kind == kind && event.container == container && event.exec == exec;
        self.until(&format!("{kind:?} of {container}/{exec}"), |list| list.iter().any(fits)).await;
        self.list().into_iter().find(fits).expect("it was there")
    }

    /// The list, a line each.
    #[must_use]
    pub fn text(&self) -> String {
        let list = self.list();
        let first = list.first().map(|event| event.at);
        let line = |event: &Event| {
            let at = first.map_or(Duration::ZERO, |first| event.at.duration_since(first));
            let Event { kind, container, exec, pid, status, .. } = event;
            format!("  {at:>12?} {kind:?} {container}/{exec} pid {pid} status {status}\n")
        };
        list.iter().map(line).collect()
    }
}
