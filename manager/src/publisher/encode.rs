//! Events on the wire.

use std::sync::Arc;
use std::time::SystemTime;

use gam_protos::any::pack;
use gam_protos::events::{
    TaskCheckpointed, TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted, TaskExit, TaskIO, TaskOOM,
    TaskPaused, TaskResumed, TaskStart,
};
use gam_protos::forward::ForwardRequest;
use gam_protos::types::{Envelope, Mount};
use gam_task::event::{Created, Event, What};
use protobuf::Message as _;
use protobuf::well_known_types::any::Any;

use crate::service::decode::timestamp;

/// An event, ready to be sent.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) topic: &'static str,
    pub(super) namespace: Arc<str>,
    /// A ForwardRequest.
    pub(super) request: Arc<[u8]>,
    /// When the process ended whose exit it tells.
    pub(super) exit: Option<SystemTime>,
    /// How often containerd had trouble with it.
    pub(super) troubles: u32,
}

/// Encodes an event; none only if it is larger than a message can be.
pub(super) fn parcel(event: Event) -> Option<Parcel> {
    let exit = match &event.what {
        What::Exited { exit, .. } => Some(exit.at),
        _ => None,
    };
    let id = event.container.id.to_string();
    let (topic, any) = message(id, event.what);
    let mut envelope = Envelope::new();
    envelope.timestamp = Some(timestamp(event.at)).into();
    envelope.namespace = event.container.namespace.to_string();
    envelope.topic = topic.to_owned();
    envelope.event = Some(any.ok()?).into();
    let mut request = ForwardRequest::new();
    request.envelope = Some(envelope).into();
    let request = request.write_to_bytes().ok()?.into();
    Some(Parcel { topic, namespace: event.container.namespace, request, exit, troubles: 0 })
}

fn message(container_id: String, what: What) -> (&'static str, protobuf::Result<Any>) {
    match what {
        What::Created(created) => ("/tasks/create", pack(&create(container_id, *created))),
        What::Started { pid } => ("/tasks/start", pack(&TaskStart { container_id, pid, ..TaskStart::new() })),
        What::Oom => ("/tasks/oom", pack(&TaskOOM { container_id, ..TaskOOM::new() })),
        What::Exited { exec_id, pid, exit } => {
            let mut message = TaskExit::new();
            message.id = exec_id.map_or_else(|| container_id.clone(), |id| id.to_string());
            message.container_id = container_id;
            message.pid = pid;
            message.exit_status = exit.status;
            message.exited_at = Some(timestamp(exit.at)).into();
            ("/tasks/exit", pack(&message))
        }
        What::Deleted { pid, exit } => {
            let mut message = TaskDelete::new();
            message.container_id = container_id;
            message.pid = pid;
            message.exit_status = exit.status;
            message.exited_at = Some(timestamp(exit.at)).into();
            ("/tasks/delete", pack(&message))
        }
        What::ExecAdded { exec_id } => {
            let exec_id = exec_id.to_string();
            ("/tasks/exec-added", pack(&TaskExecAdded { container_id, exec_id, ..TaskExecAdded::new() }))
        }
        What::ExecStarted { exec_id, pid } => {
            let exec_id = exec_id.to_string();
            let message = TaskExecStarted { container_id, exec_id, pid, ..TaskExecStarted::new() };
            ("/tasks/exec-started", pack(&message))
        }
        What::Paused => ("/tasks/paused", pack(&TaskPaused { container_id, ..TaskPaused::new() })),
        What::Resumed => ("/tasks/resumed", pack(&TaskResumed { container_id, ..TaskResumed::new() })),
        What::Checkpointed { path } => {
            let message = TaskCheckpointed { container_id, checkpoint: path, ..TaskCheckpointed::new() };
            ("/tasks/checkpointed", pack(&message))
        }
    }
}

fn create(container_id: String, created: Created) -> TaskCreate {
    let mut message = TaskCreate::new();
    message.container_id = container_id;
    message.bundle = created.bundle;
    message.rootfs = created
        .rootfs
        .into_iter()
        .map(|mount| Mount {
            type_: mount.kind,
            source: mount.source,
            target: mount.target,
            options: mount.options,
            ..Mount::new()
        })
        .collect();
    message.io = Some(TaskIO {
        stdin: created.stdin,
        stdout: created.stdout,
        stderr: created.stderr,
        terminal: created.terminal,
        ..TaskIO::new()
    })
    .into();
    message.checkpoint = created.checkpoint;
    message.pid = created.pid;
    message
}
