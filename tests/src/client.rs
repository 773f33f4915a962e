//! A client of containerd's gRPC API, blocking, for tests that are threads.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::version_client::VersionClient;
use containerd_client::services::v1::{
    CheckpointTaskRequest, CloseIoRequest, Container, CreateContainerRequest, CreateTaskRequest,
    DeleteContainerRequest, DeleteProcessRequest, DeleteTaskRequest, ExecProcessRequest, GetRequest,
    KillRequest, ListPidsRequest, ListTasksRequest, MetricsRequest, PauseTaskRequest, ResizePtyRequest,
    ResumeTaskRequest, StartRequest, UpdateTaskRequest, WaitRequest,
};
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Code, Request, Status};
use containerd_client::types::v1::{Process, ProcessInfo};
use prost_types::{Any, Timestamp};
use tokio::runtime::{Builder, Runtime};

use crate::poll::slow;

/// No call may take longer; the longest legitimate ones wait for a container.
const CALL_LIMIT: Duration = Duration::from_secs(50);

pub(crate) static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"));

/// How a process ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Exit {
    /// Its exit status, 128 + n for signal n.
    pub status: u32,
    /// When, by the shim's clock.
    pub at: Timestamp,
}

/// What a Delete answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Deleted {
    /// The process's pid.
    pub pid: u32,
    /// How it ended.
    pub exit: Exit,
}

/// A connection to a containerd.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
}

/// What calls return.
pub type Answer<T> = Result<T, Status>;

fn request<T>(namespace: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("containerd-namespace", namespace.parse().expect("a plain namespace"));
    request
}

fn exit(status: u32, at: Option<Timestamp>) -> Exit {
    Exit { status, at: at.unwrap_or_default() }
}

macro_rules! call {
    ($self:ident . $client:ident . $method:ident, $namespace:expr, $message:expr) => {{
        let request = request($namespace, $message);
        RUNTIME
            .block_on(async {
                tokio::time::timeout(slow(CALL_LIMIT), $client::new($self.channel.clone()).$method(request))
                    .await
            })
            .unwrap_or_else(|_| Err(Status::deadline_exceeded(concat!("no answer to ", stringify!($method)))))
            .map(|answer| answer.into_inner())
    }};
}

impl Client {
    /// Connects to the socket at `address`.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn connect(address: &Path) -> Result<Self, String> {
        let channel =
            RUNTIME.block_on(containerd_client::connect(address)).map_err(|error| error.to_string())?;
        Ok(Self { channel })
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The daemon's version.
    ///
    /// # Errors
    /// The daemon's.
    pub fn version(&self) -> Answer<String> {
        call!(self.VersionClient.version, "default", ()).map(|answer| answer.version)
    }

    /// Makes a container object.
    ///
    /// # Errors
    /// The daemon's.
    pub fn create_container(&self, namespace: &str, container: Container) -> Answer<()> {
        let message = CreateContainerRequest { container: Some(container) };
        call!(self.ContainersClient.create, namespace, message).map(|_| ())
    }

    /// Removes a container object.
    ///
    /// # Errors
    /// The daemon's.
    pub fn delete_container(&self, namespace: &str, id: &str) -> Answer<()> {
        call!(self.ContainersClient.delete, namespace, DeleteContainerRequest { id: id.into() })
    }

    /// Creates a task; its pid.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn create(&self, namespace: &str, message: CreateTaskRequest) -> Answer<u32> {
        call!(self.TasksClient.create, namespace, message).map(|answer| answer.pid)
    }

    /// Starts a task, or an exec where `exec` is not empty; its pid.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn start(&self, namespace: &str, id: &str, exec: &str) -> Answer<u32> {
        let message = StartRequest { container_id: id.into(), exec_id: exec.into() };
        call!(self.TasksClient.start, namespace, message).map(|answer| answer.pid)
    }

    /// Deletes a task.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn delete(&self, namespace: &str, id: &str) -> Answer<Deleted> {
        call!(self.TasksClient.delete, namespace, DeleteTaskRequest { container_id: id.into() })
            .map(|answer| Deleted { pid: answer.pid, exit: exit(answer.exit_status, answer.exited_at) })
    }

    /// Deletes an exec.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn delete_exec(&self, namespace: &str, id: &str, exec: &str) -> Answer<Deleted> {
        let message = DeleteProcessRequest { container_id: id.into(), exec_id: exec.into() };
        call!(self.TasksClient.delete_process, namespace, message)
            .map(|answer| Deleted { pid: answer.pid, exit: exit(answer.exit_status, answer.exited_at) })
    }

    /// The state of a task or exec.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn get(&self, namespace: &str, id: &str, exec: &str) -> Answer<Process> {
        let message = GetRequest { container_id: id.into(), exec_id: exec.into() };
        call!(self.TasksClient.get, namespace, message)?
            .process
            .ok_or_else(|| Status::new(Code::DataLoss, "an answer without a process"))
    }

    /// Every task of a namespace.
    ///
    /// # Errors
    /// The daemon's.
    pub fn list(&self, namespace: &str) -> Answer<Vec<Process>> {
        call!(self.TasksClient.list, namespace, ListTasksRequest::default()).map(|answer| answer.tasks)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn kill(&self, namespace: &str, id: &str, exec: &str, signal: u32, all: bool) -> Answer<()> {
        let message = KillRequest { container_id: id.into(), exec_id: exec.into(), signal, all };
        call!(self.TasksClient.kill, namespace, message)
    }

    /// Adds an exec.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn exec(&self, namespace: &str, message: ExecProcessRequest) -> Answer<()> {
        call!(self.TasksClient.exec, namespace, message)
    }

    /// Sets a terminal's size.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn resize(&self, namespace: &str, id: &str, exec: &str, width: u32, height: u32) -> Answer<()> {
        let message = ResizePtyRequest { container_id: id.into(), exec_id: exec.into(), width, height };
        call!(self.TasksClient.resize_pty, namespace, message)
    }

    /// Closes stdin.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn close_stdin(&self, namespace: &str, id: &str, exec: &str) -> Answer<()> {
        let message = CloseIoRequest { container_id: id.into(), exec_id: exec.into(), stdin: true };
        call!(self.TasksClient.close_io, namespace, message)
    }

    /// Freezes a task.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn pause(&self, namespace: &str, id: &str) -> Answer<()> {
        call!(self.TasksClient.pause, namespace, PauseTaskRequest { container_id: id.into() })
    }

    /// Thaws a task.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn resume(&self, namespace: &str, id: &str) -> Answer<()> {
        call!(self.TasksClient.resume, namespace, ResumeTaskRequest { container_id: id.into() })
    }

    /// The processes of a task.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn pids(&self, namespace: &str, id: &str) -> Answer<Vec<ProcessInfo>> {
        call!(self.TasksClient.list_pids, namespace, ListPidsRequest { container_id: id.into() })
            .map(|answer| answer.processes)
    }

    /// Asks for a checkpoint.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn checkpoint(&self, namespace: &str, id: &str, options: Option<Any>) -> Answer<()> {
        let message = CheckpointTaskRequest { container_id: id.into(), options, ..Default::default() };
        call!(self.TasksClient.checkpoint, namespace, message).map(|_| ())
    }

    /// Changes a task's resources, an OCI `LinuxResources`.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn update(&self, namespace: &str, id: &str, resources: &serde_json::Value) -> Answer<()> {
        let resources = Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into(),
            value: resources.to_string().into_bytes(),
        };
        let message =
            UpdateTaskRequest { container_id: id.into(), resources: Some(resources), ..Default::default() };
        call!(self.TasksClient.update, namespace, message)
    }

    /// A task's statistics as the shim packed them; none where containerd left the task out because its shim failed.
    ///
    /// # Errors
    /// The daemon's.
    pub fn metrics(&self, namespace: &str, id: &str) -> Answer<Option<Any>> {
        let message = MetricsRequest { filters: vec![format!("id=={id}")] };
        let answer = call!(self.TasksClient.metrics, namespace, message)?;
        Ok(answer.metrics.into_iter().find(|metric| metric.id == id).and_then(|metric| metric.data))
    }

    /// Waits for the end of a task or exec.
    ///
    /// # Errors
    /// The daemon's and the shim's.
    pub fn wait(&self, namespace: &str, id: &str, exec: &str) -> Answer<Exit> {
        let message = WaitRequest { container_id: id.into(), exec_id: exec.into() };
        call!(self.TasksClient.wait, namespace, message)
            .map(|answer| exit(answer.exit_status, answer.exited_at))
    }
}
