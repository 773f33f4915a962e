//! An event as containerd takes it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use gam_protos::any::{Named, pack};
use gam_protos::{events, forward, types};
use gam_task::event::{Created, Event, What};
use gam_task::exit::Exit;
use gam_task::mount::Mount;
use hyper::body::Bytes;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::timestamp::Timestamp;
use protobuf::{Message as _, MessageField};

use super::dropped::EXIT;

/// An event, encoded once however often it is sent.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) topic: &'static str,
    pub(super) namespace: Arc<str>,
    /// When it happened.
    pub(super) at: SystemTime,
    /// Whether containerd publishes this one itself when the connection to the shim closes: init's exit and the delete.
    pub(super) left_to_containerd: bool,
    /// An encoded `ForwardRequest`.
    pub(super) request: Bytes,
}

impl Parcel {
    /// The encoded `Any` inside, which is what the binary reads.
    ///
    /// # Errors
    /// None for what [`encode`] made.
    pub(super) fn any(&self) -> protobuf::Result<Vec<u8>> {
        forward::ForwardRequest::parse_from_bytes(&self.request)?.envelope.event.write_to_bytes()
    }
}

/// Encodes an event.
///
/// # Errors
/// Where it is too large to be encoded.
pub(super) fn encode(event: &Event) -> protobuf::Result<Parcel> {
    let id = &event.container.id;
    let (topic, any) = message(id, &event.what)?;
    let mut envelope = types::Envelope::new();
    envelope.timestamp = timestamp(event.at);
    envelope.namespace = event.container.namespace.as_ref().to_owned();
    envelope.topic = topic.to_owned();
    envelope.event = MessageField::some(any);
    let mut request = forward::ForwardRequest::new();
    request.envelope = MessageField::some(envelope);
    Ok(Parcel {
        topic,
        namespace: Arc::clone(&event.container.namespace),
        at: event.at,
        left_to_containerd: matches!(event.what, What::Exited { exec_id: None, .. } | What::Deleted { .. }),
        request: request.write_to_bytes()?.into(),
    })
}

/// The topic and the message of what happened to the container `id`.
fn message(id: &str, what: &What) -> protobuf::Result<(&'static str, Any)> {
    let container_id = id.to_owned();
    match what {
        What::Created(created) => about("/tasks/create", &task_create(container_id, created)),
        What::Started { pid } => {
            about("/tasks/start", &events::TaskStart { container_id, pid: *pid, ..Default::default() })
        }
        What::Oom => about("/tasks/oom", &events::TaskOOM { container_id, ..Default::default() }),
        What::Exited { exec_id, pid, exit } => {
            let process = exec_id.as_deref().unwrap_or(id);
            about(EXIT, &task_exit(container_id, process, *pid, exit))
        }
        What::Deleted { pid, exit } => about("/tasks/delete", &task_delete(container_id, *pid, exit)),
        What::ExecAdded { exec_id } => {
            let exec_id = exec_id.as_ref().to_owned();
            about("/tasks/exec-added", &events::TaskExecAdded { container_id, exec_id, ..Default::default() })
        }
        What::ExecStarted { exec_id, pid } => {
            let (exec_id, pid) = (exec_id.as_ref().to_owned(), *pid);
            let started = events::TaskExecStarted { container_id, exec_id, pid, ..Default::default() };
            about("/tasks/exec-started", &started)
        }
        What::Paused => about("/tasks/paused", &events::TaskPaused { container_id, ..Default::default() }),
        What::Resumed => about("/tasks/resumed", &events::TaskResumed { container_id, ..Default::default() }),
        What::Checkpointed { path } => {
            let checkpoint = path.clone();
            about(
                "/tasks/checkpointed",
                &events::TaskCheckpointed { container_id, checkpoint, ..Default::default() },
            )
        }
    }
}

fn about<M: Named>(topic: &'static str, message: &M) -> protobuf::Result<(&'static str, Any)> {
    Ok((topic, pack(message)?))
}

fn task_create(container_id: String, created: &Created) -> events::TaskCreate {
    let io = events::TaskIO {
        stdin: created.stdin.clone(),
        stdout: created.stdout.clone(),
        stderr: created.stderr.clone(),
        terminal: created.terminal,
        ..Default::default()
    };
    events::TaskCreate {
        container_id,
        bundle: created.bundle.clone(),
        rootfs: created.rootfs.iter().map(mount).collect(),
        io: MessageField::some(io),
        checkpoint: created.checkpoint.clone(),
        pid: created.pid,
        ..Default::default()
    }
}

fn mount(mount: &Mount) -> types::Mount {
    types::Mount {
        type_: mount.kind.clone(),
        source: mount.source.clone(),
        target: mount.target.clone(),
        options: mount.options.clone(),
        ..Default::default()
    }
}

/// `id` is the process's: an exec's own, or the container's for init.
fn task_exit(container_id: String, id: &str, pid: u32, exit: &Exit) -> events::TaskExit {
    events::TaskExit {
        container_id,
        id: id.to_owned(),
        pid,
        exit_status: exit.status,
        exited_at: timestamp(exit.at),
        ..Default::default()
    }
}

/// `id` stays empty, which stands for init.
fn task_delete(container_id: String, pid: u32, exit: &Exit) -> events::TaskDelete {
    events::TaskDelete {
        container_id,
        pid,
        exit_status: exit.status,
        exited_at: timestamp(exit.at),
        ..Default::default()
    }
}

/// A time as protobuf has it: nanoseconds count forward, also before 1970.
fn timestamp(at: SystemTime) -> MessageField<Timestamp> {
    let nanos = match at.duration_since(UNIX_EPOCH) {
        Ok(since) => i128::try_from(since.as_nanos()).unwrap_or(i128::MAX),
        Err(before) => i128::try_from(before.duration().as_nanos()).map_or(i128::MIN, |nanos| -nanos),
    };
    let seconds = i64::try_from(nanos.div_euclid(1_000_000_000)).unwrap_or_default();
    let nanos = i32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or_default();
    MessageField::some(Timestamp { seconds, nanos, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gam_protos::any::unpack;
    use gam_task::id::Key;

    use super::*;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn sent(what: What) -> (Parcel, types::Envelope) {
        let container = Key::new("k8s.io", "c").unwrap();
        let parcel = encode(&Event { container, at: at(2_500), what }).unwrap();
        let request = forward::ForwardRequest::parse_from_bytes(&parcel.request).unwrap();
        let envelope = request.envelope.unwrap();
        assert_eq!(envelope.topic, parcel.topic);
        assert_eq!(envelope.namespace, "k8s.io");
        assert_eq!((envelope.timestamp.seconds, envelope.timestamp.nanos), (2, 500_000_000));
        assert_eq!(parcel.any().unwrap(), envelope.event.write_to_bytes().unwrap());
        (parcel, envelope)
    }

    fn event<M: Named + PartialEq>(what: What) -> (Parcel, M) {
        let (parcel, envelope) = sent(what);
        let message = unpack(&envelope.event).unwrap().unwrap();
        (parcel, message)
    }

    #[test]
    fn an_exit_names_the_process_that_ended() {
        let exit = Exit { status: 137, at: at(1_250) };
        let (parcel, init) = event::<events::TaskExit>(What::Exited { exec_id: None, pid: 7, exit });
        assert_eq!((parcel.topic, parcel.left_to_containerd), ("/tasks/exit", true));
        assert_eq!(
            (init.container_id.as_str(), init.id.as_str(), init.pid, init.exit_status),
            ("c", "c", 7, 137)
        );
        assert_eq!((init.exited_at.seconds, init.exited_at.nanos), (1, 250_000_000));
        let (parcel, exec) =
            event::<events::TaskExit>(What::Exited { exec_id: Some("e".into()), pid: 8, exit });
        assert!(!parcel.left_to_containerd, "containerd does not know of an exec");
        assert_eq!((exec.container_id.as_str(), exec.id.as_str(), exec.pid), ("c", "e", 8));
    }

    #[test]
    fn a_create_carries_mounts_and_streams() {
        let rootfs = vec![Mount {
            kind: "overlay".into(),
            source: "overlay".into(),
            target: String::new(),
            options: vec!["lowerdir=/a".into(), "ro".into()],
        }];
        let created = Created {
            bundle: "/b".into(),
            rootfs,
            stdin: "i".into(),
            stdout: "o".into(),
            stderr: "e".into(),
            terminal: true,
            checkpoint: "/cp".into(),
            pid: 9,
        };
        let (parcel, create) = event::<events::TaskCreate>(What::Created(Box::new(created)));
        assert_eq!(parcel.topic, "/tasks/create");
        assert_eq!((create.bundle.as_str(), create.checkpoint.as_str(), create.pid), ("/b", "/cp", 9));
        let io = create.io.unwrap();
        assert_eq!((io.stdin, io.stdout, io.stderr, io.terminal), ("i".into(), "o".into(), "e".into(), true));
        let mount = create.rootfs.first().unwrap();
        assert_eq!((mount.type_.as_str(), mount.options.len()), ("overlay", 2));
    }

    #[test]
    fn every_other_event_has_its_topic_and_fields() {
        let exit = Exit { status: 1, at: at(1) };
        let (parcel, delete) = event::<events::TaskDelete>(What::Deleted { pid: 7, exit });
        assert_eq!((parcel.topic, parcel.left_to_containerd), ("/tasks/delete", true));
        assert_eq!((delete.container_id.as_str(), delete.id.as_str(), delete.pid), ("c", "", 7));
        let (parcel, start) = event::<events::TaskStart>(What::Started { pid: 7 });
        assert_eq!((parcel.topic, start.pid), ("/tasks/start", 7));
        let (parcel, added) = event::<events::TaskExecAdded>(What::ExecAdded { exec_id: "e".into() });
        assert_eq!((parcel.topic, added.exec_id.as_str()), ("/tasks/exec-added", "e"));
        let what = What::ExecStarted { exec_id: "e".into(), pid: 8 };
        let (parcel, started) = event::<events::TaskExecStarted>(what);
        assert_eq!((parcel.topic, started.exec_id.as_str(), started.pid), ("/tasks/exec-started", "e", 8));
        let (parcel, done) = event::<events::TaskCheckpointed>(What::Checkpointed { path: "/p".into() });
        assert_eq!((parcel.topic, done.checkpoint.as_str()), ("/tasks/checkpointed", "/p"));
        assert_eq!(event::<events::TaskOOM>(What::Oom).0.topic, "/tasks/oom");
        assert_eq!(event::<events::TaskPaused>(What::Paused).0.topic, "/tasks/paused");
        assert_eq!(event::<events::TaskResumed>(What::Resumed).0.topic, "/tasks/resumed");
    }

    #[test]
    fn a_time_before_1970_counts_its_nanoseconds_forward() {
        let early = timestamp(UNIX_EPOCH - Duration::from_millis(250)).unwrap();
        assert_eq!((early.seconds, early.nanos), (-1, 750_000_000));
    }
}
