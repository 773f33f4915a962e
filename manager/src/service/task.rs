//! `containerd.task.v2.Task` and v3: a thin layer that finds the container, asks it, and puts the answer on the wire.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use gam_protos::runc_options::ProcessDetails;
use gam_protos::task::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest,
    PidsRequest, PidsResponse, ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest, StartResponse,
    StateRequest, StateResponse, StatsRequest, StatsResponse, Task, UpdateTaskRequest, WaitRequest,
    WaitResponse,
};
use gam_protos::{any, types};
use gam_task::container::{Container, CreateRequest, ExecRequest, Status};
use gam_task::doing;
use gam_task::exit::Exit;
use gam_task::id::{self, Key};
use gam_task::options::Options;
use gam_task::record::StreamNames;
use gam_task::spec::{Spec, annotation};
use protobuf::well_known_types::any::Any;
use ttrpc::asynchronous::TtrpcContext;
use ttrpc::{Code, Result};

use super::decode;
use crate::containers::{Slot, Tombstone};
use crate::kept;
use crate::manager::Manager;
use crate::options::Named;
use crate::server::connection_of;
use crate::status::{refuse, status};

/// The metadata that says which containerd namespace a call is for.
const NAMESPACE: &str = "containerd-namespace-ttrpc";

/// The Task service for one containerd namespace.
pub struct TaskService {
    manager: Arc<Manager>,
    /// The namespace of calls that do not say: containerd 1.6 sends none, so each namespace has a socket of its own.
    namespace: Arc<str>,
}

impl TaskService {
    /// A service whose calls are for `namespace` unless they say otherwise.
    #[must_use]
    pub fn new(manager: Arc<Manager>, namespace: Arc<str>) -> Self {
        Self { manager, namespace }
    }

    fn key(&self, ctx: &TtrpcContext, id: &str) -> Result<Key> {
        let said = ctx.metadata.get(NAMESPACE).and_then(|values| values.first());
        let namespace = said.map_or(&*self.namespace, String::as_str);
        let key = Key::new(namespace, id).map_err(status)?;
        doing::about(&key);
        Ok(key)
    }

    fn slot(&self, key: &Key) -> Result<Slot> {
        let slot = self.manager.containers.slot(key);
        slot.ok_or_else(|| refuse(Code::NOT_FOUND, format!("container {key} does not exist")))
    }

    fn container(&self, ctx: &TtrpcContext, id: &str) -> Result<Arc<Container>> {
        let key = self.key(ctx, id)?;
        match self.slot(&key)? {
            Slot::Live(container) => Ok(container),
            Slot::Creating(_) => {
                Err(refuse(Code::NOT_FOUND, format!("container {key} is still being created")))
            }
            Slot::Deleted(_) => Err(refuse(Code::NOT_FOUND, format!("container {key} has been deleted"))),
        }
    }

    /// How the runtime is called for a container: as its options say, or those of its sandbox where they only name it.
    fn options(&self, key: &Key, any: Option<&Any>, spec: &Spec) -> Result<Options> {
        let named = any.map(Named::from_any).transpose().map_err(status)?.unwrap_or_default();
        if named.task_api_address.is_some()
            && let Some(sandbox) = self.sandbox(key, spec)
        {
            return Ok(sandbox.options().clone());
        }
        Ok(named.or(&self.manager.runtime).resolve(spec.cgroups_path()))
    }

    /// The sandbox of the pod that a container is to be in.
    fn sandbox(&self, key: &Key, spec: &Spec) -> Option<Arc<Container>> {
        let sandbox = Key::new(&key.namespace, spec.annotation(annotation::SANDBOX_ID)?).ok()?;
        self.manager.containers.live(&sandbox)
    }

    async fn make(&self, ctx: &TtrpcContext, request: CreateTaskRequest) -> Result<Arc<Container>> {
        let key = self.key(ctx, &request.id)?;
        let bundle = decode::bundle(&request.bundle)?;
        let mut reservation = self.manager.containers.reserve(&key, connection_of()).map_err(status)?;
        let started = self.manager.leases.end(&key);
        let spec = Spec::read(&bundle).unwrap_or_default();
        let options = self.options(&key, request.options.as_ref(), &spec)?;
        self.manager.welcome(&key, &bundle);
        let sandbox = spec.annotation(annotation::SANDBOX_ID).filter(|_| !started);
        if let Some(sandbox) = sandbox {
            self.manager.expect_record(&key, sandbox);
        }
        let wanted = CreateRequest {
            key: key.clone(),
            bundle,
            rootfs: decode::mounts(request.rootfs),
            streams: decode::streams(request.terminal, request.stdin, request.stdout, request.stderr),
            checkpoint: request.checkpoint,
            options,
            unwanted: Some(reservation.unwanted()),
            sandbox_init: self.sandbox(&key, &spec).and_then(|sandbox| living(&sandbox)),
        };
        let created = Container::create(&self.manager.host, wanted).await.map_err(status);
        let container = created.inspect_err(|_| {
            if let Some(sandbox) = sandbox {
                kept::forget(&self.manager.group.directory, &key, sandbox);
            }
            self.manager.farewell(&key);
        })?;
        if !started {
            self.manager.keep_record(&container);
        }
        match reservation.keep(Arc::clone(&container)) {
            Ok(()) => Ok(container),
            Err(unwanted) => {
                match unwanted.delete().await {
                    Ok(_) => self.manager.forget_record(&unwanted),
                    Err(error) => {
                        tracing::error!(container = %key, %error, "a container that nobody wants is left");
                    }
                }
                self.manager.farewell(&key);
                Err(refuse(
                    Code::CANCELLED,
                    format!("container {key} was not wanted any more when it was made"),
                ))
            }
        }
    }

    async fn remove(&self, ctx: &TtrpcContext, id: &str) -> Result<(u32, Exit)> {
        let key = self.key(ctx, id)?;
        match self.slot(&key)? {
            Slot::Live(container) => self.manager.delete(&container, connection_of()).await.map_err(status),
            Slot::Deleted(tombstone) => Ok((tombstone.pid, tombstone.exit)),
            Slot::Creating(creation) => {
                creation.abandon();
                let _step = doing::step("its creation to be undone");
                creation.ended().await;
                Err(refuse(Code::NOT_FOUND, format!("container {key} was deleted before it was made")))
            }
        }
    }
}

/// The exec that a request is about; none for init.
fn exec_of(id: &str) -> Option<&str> {
    decode::exec(id).inspect(|id| doing::about_exec(id))
}

/// The pid of a container's init, unless it has ended and the pid may be another's.
fn living(container: &Container) -> Option<u32> {
    (container.status() != Status::Stopped).then(|| container.pid())
}

#[async_trait]
impl Task for TaskService {
    async fn state(&self, ctx: &TtrpcContext, request: StateRequest) -> Result<StateResponse> {
        let key = self.key(ctx, &request.id)?;
        let exec = exec_of(&request.exec_id);
        if let (Slot::Deleted(tombstone), None) = (self.slot(&key)?, exec) {
            return Ok(buried(&request.id, &tombstone));
        }
        let container = self.container(ctx, &request.id)?;
        let report = container.report(exec).map_err(status)?;
        let mut response = state(&request.id, container.bundle().display().to_string(), report.streams);
        response.exec_id = request.exec_id;
        response.pid = report.pid;
        response.status = wire_status(report.status).into();
        if let Some(exit) = report.exit {
            response.exit_status = exit.status;
            response.exited_at = Some(decode::timestamp(exit.at)).into();
        }
        Ok(response)
    }

    async fn create(&self, ctx: &TtrpcContext, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        let container = self.make(ctx, request).await?;
        let mut response = CreateTaskResponse::new();
        response.pid = container.pid();
        Ok(response)
    }

    async fn start(&self, ctx: &TtrpcContext, request: StartRequest) -> Result<StartResponse> {
        let container = self.container(ctx, &request.id)?;
        let started = match exec_of(&request.exec_id) {
            None => container.start().await,
            Some(exec) => container.start_exec(exec).await,
        };
        let mut response = StartResponse::new();
        response.pid = started.map_err(status)?;
        Ok(response)
    }

    async fn delete(&self, ctx: &TtrpcContext, request: DeleteRequest) -> Result<DeleteResponse> {
        let (pid, exit) = match exec_of(&request.exec_id) {
            None => self.remove(ctx, &request.id).await?,
            Some(exec) => self.container(ctx, &request.id)?.delete_exec(exec).await.map_err(status)?,
        };
        Ok(deleted(pid, exit))
    }

    async fn pids(&self, ctx: &TtrpcContext, request: PidsRequest) -> Result<PidsResponse> {
        let container = self.container(ctx, &request.id)?;
        let mut response = PidsResponse::new();
        for listed in container.processes() {
            let mut process = types::ProcessInfo::new();
            process.pid = listed.pid;
            if let Some(exec_id) = listed.exec_id {
                let mut details = ProcessDetails::new();
                details.exec_id = exec_id.to_string();
                process.info = any::pack(&details).ok().into();
            }
            response.processes.push(process);
        }
        Ok(response)
    }

    async fn pause(&self, ctx: &TtrpcContext, request: PauseRequest) -> Result<Empty> {
        self.container(ctx, &request.id)?.pause().await.map_err(status)?;
        Ok(Empty::new())
    }

    async fn resume(&self, ctx: &TtrpcContext, request: ResumeRequest) -> Result<Empty> {
        self.container(ctx, &request.id)?.resume().await.map_err(status)?;
        Ok(Empty::new())
    }

    async fn checkpoint(&self, ctx: &TtrpcContext, request: CheckpointTaskRequest) -> Result<Empty> {
        let container = self.container(ctx, &request.id)?;
        let wanted = decode::checkpoint(&request.path, request.options.as_ref())?;
        container.checkpoint(wanted).await.map_err(status)?;
        Ok(Empty::new())
    }

    async fn kill(&self, ctx: &TtrpcContext, request: KillRequest) -> Result<Empty> {
        let container = self.container(ctx, &request.id)?;
        match exec_of(&request.exec_id) {
            None => container.kill(request.signal, request.all).await.map_err(status)?,
            Some(exec) => container.kill_exec(exec, request.signal).map_err(status)?,
        }
        Ok(Empty::new())
    }

    async fn exec(&self, ctx: &TtrpcContext, request: ExecProcessRequest) -> Result<Empty> {
        let container = self.container(ctx, &request.id)?;
        id::validate("exec", &request.exec_id).map_err(status)?;
        let spec = request.spec.into_option().unwrap_or_default().value;
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&spec) {
            let place = format!("line {}, column {}", error.line(), error.column());
            let text = format!("the process of exec {} is no JSON at {place}", request.exec_id);
            return Err(refuse(Code::INVALID_ARGUMENT, text));
        }
        let streams = decode::streams(request.terminal, request.stdin, request.stdout, request.stderr);
        let wanted = ExecRequest { id: request.exec_id.into(), streams, spec };
        container.add_exec(wanted).map_err(status)?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, ctx: &TtrpcContext, request: ResizePtyRequest) -> Result<Empty> {
        let container = self.container(ctx, &request.id)?;
        let exec = exec_of(&request.exec_id);
        container.resize(exec, request.width, request.height).map_err(status)?;
        Ok(Empty::new())
    }

    async fn close_io(&self, ctx: &TtrpcContext, request: CloseIORequest) -> Result<Empty> {
        let container = self.container(ctx, &request.id)?;
        if request.stdin {
            container.close_stdin(exec_of(&request.exec_id)).map_err(status)?;
        }
        Ok(Empty::new())
    }

    async fn update(&self, ctx: &TtrpcContext, request: UpdateTaskRequest) -> Result<Empty> {
        let container = self.container(ctx, &request.id)?;
        let resources = request.resources.into_option().unwrap_or_default().value;
        if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&resources) {
            let text =
                format!("the resources are no JSON at line {}, column {}", error.line(), error.column());
            return Err(refuse(Code::INVALID_ARGUMENT, text));
        }
        container.update(&resources).await.map_err(status)?;
        Ok(Empty::new())
    }

    async fn wait(&self, ctx: &TtrpcContext, request: WaitRequest) -> Result<WaitResponse> {
        let key = self.key(ctx, &request.id)?;
        let exec = exec_of(&request.exec_id);
        let exit = match (self.slot(&key)?, exec) {
            (Slot::Deleted(tombstone), None) => tombstone.exit,
            _ => self.container(ctx, &request.id)?.wait(exec).await.map_err(status)?,
        };
        let mut response = WaitResponse::new();
        response.exit_status = exit.status;
        response.exited_at = Some(decode::timestamp(exit.at)).into();
        Ok(response)
    }

    async fn stats(&self, ctx: &TtrpcContext, request: StatsRequest) -> Result<StatsResponse> {
        let container = self.container(ctx, &request.id)?;
        let mut response = StatsResponse::new();
        response.stats = Some(container.stats().map_err(status)?).into();
        Ok(response)
    }

    async fn connect(&self, ctx: &TtrpcContext, request: ConnectRequest) -> Result<ConnectResponse> {
        let mut response = ConnectResponse::new();
        // An id that is no task is no error: containerd would take a running container's bundle for it.
        let slot = self.key(ctx, &request.id).ok().and_then(|key| self.manager.containers.slot(&key));
        let task_pid = match slot {
            Some(Slot::Live(container)) => Some(container.pid()),
            Some(Slot::Deleted(tombstone)) => Some(tombstone.pid),
            Some(Slot::Creating(_)) | None => None,
        };
        if let Some(task_pid) = task_pid {
            response.task_pid = task_pid;
            response.shim_pid = std::process::id();
        }
        Ok(response)
    }

    async fn shutdown(&self, ctx: &TtrpcContext, request: ShutdownRequest) -> Result<Empty> {
        let key = self.key(ctx, &request.id)?;
        self.manager.shutdown(&key);
        Ok(Empty::new())
    }
}

fn wire_status(status: Status) -> types::Status {
    match status {
        Status::Created => types::Status::CREATED,
        Status::Running => types::Status::RUNNING,
        Status::Stopped => types::Status::STOPPED,
        Status::Paused => types::Status::PAUSED,
        Status::Pausing => types::Status::PAUSING,
    }
}

fn state(id: &str, bundle: String, streams: StreamNames) -> StateResponse {
    let mut response = StateResponse::new();
    response.id = id.to_owned();
    response.bundle = bundle;
    response.stdin = streams.stdin;
    response.stdout = streams.stdout;
    response.stderr = streams.stderr;
    response.terminal = streams.terminal;
    response
}

fn buried(id: &str, tombstone: &Tombstone) -> StateResponse {
    let bundle: PathBuf = tombstone.bundle.clone();
    let mut response = state(id, bundle.display().to_string(), tombstone.streams.clone());
    response.pid = tombstone.pid;
    response.status = types::Status::STOPPED.into();
    response.exit_status = tombstone.exit.status;
    response.exited_at = Some(decode::timestamp(tombstone.exit.at)).into();
    response
}

/// A DeleteResponse, which is also what the `delete` command prints.
#[must_use]
pub fn deleted(pid: u32, exit: Exit) -> DeleteResponse {
    let mut response = DeleteResponse::new();
    response.pid = pid;
    response.exit_status = exit.status;
    response.exited_at = Some(decode::timestamp(exit.at)).into();
    response
}
