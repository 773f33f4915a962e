//! One container, as containerd sees it: a bundle, a connection, calls.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gam_protos::task::{
    CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, DeleteRequest, DeleteResponse,
    ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StateRequest, StateResponse, StatsRequest, StatsResponse, TaskClient,
    UpdateTaskRequest, WaitRequest, WaitResponse,
};
use gam_protos::types::{Mount, Status};
use protobuf::Message as _;
use protobuf::well_known_types::any::Any;
use serde_json::json;
use ttrpc::context::Context;
use ttrpc::{Code, Error, Result};

use super::bundle::Plan;
use super::fifo::Collector;
use super::lab::Lab;
use super::process::{self, Answer, Proc, Streams};
use super::subject::Subject;
use super::wire;

/// How long a call may take before the client gives up.
const PATIENCE: Duration = Duration::from_secs(40);

/// The status code of an outcome.
///
/// # Panics
/// If there was no answer at all: the connection broke, or nothing came in time.
pub fn code<T>(outcome: &Result<T>) -> Code {
    match outcome {
        Ok(_) => Code::OK,
        Err(Error::RpcStatus(status)) => status.code(),
        Err(other) => panic!("no answer: {other}"),
    }
}

/// How `start` is run.
pub(super) struct Boot {
    pub(super) environment: Vec<(String, String)>,
    pub(super) debug: bool,
}

/// A container.
#[derive(Clone)]
pub struct Container(Arc<Inner>);

struct Inner {
    lab: Lab,
    plan: Plan,
    bundle: PathBuf,
    address: String,
    client: Mutex<Option<TaskClient>>,
    log: Option<Collector>,
    streams: Vec<Collector>,
    stdin: Option<PathBuf>,
    pid: Mutex<u32>,
    created: AtomicBool,
    removed: AtomicBool,
}

impl Container {
    pub(super) async fn launch(
        lab: &Lab,
        plan: &Plan,
        bundle: PathBuf,
        log: Option<Collector>,
        streams: Vec<Collector>,
        stdin: Option<PathBuf>,
        boot: &Boot,
    ) -> std::result::Result<Self, String> {
        let mut command = lab.command(&plan.namespace, &plan.id, &bundle, boot.debug);
        command.envs(boot.environment.iter().map(|(name, value)| (name, value))).arg("start");
        let answer = spawn(command, Streams::Together, Duration::from_secs(10)).await?;
        if !answer.status.success() {
            return Err(format!("start ended with {}: {}", answer.status, answer.text()));
        }
        let address = wire::parse_answer(&answer.text())?;
        lab.note_address(&address);
        let client = wire::dial(&address).await.map_err(|error| format!("cannot dial {address}: {error}"))?;
        let inner = Inner {
            lab: lab.clone(),
            plan: plan.clone(),
            bundle,
            address,
            client: Mutex::new(Some(TaskClient::new(client))),
            log,
            streams,
            stdin,
            pid: Mutex::new(0),
            created: AtomicBool::new(false),
            removed: AtomicBool::new(false),
        };
        let container = Self(Arc::new(inner));
        let connected = container.connect().await.map_err(|error| format!("Connect: {error}"))?;
        lab.note_shim(connected.shim_pid);
        Ok(container)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.plan.id
    }

    /// containerd's namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.0.plan.namespace
    }

    /// Its bundle.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.0.bundle
    }

    /// What `start` answered.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.0.address
    }

    /// Init's pid as Create answered it; 0 before.
    #[must_use]
    pub fn pid(&self) -> u32 {
        *self.0.pid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came out of `log`.
    #[must_use]
    pub fn log(&self) -> Option<&Collector> {
        self.0.log.as_ref()
    }

    /// What came out of stdout.
    ///
    /// # Panics
    /// If the plan had no output.
    #[must_use]
    pub fn stdout(&self) -> &Collector {
        self.0.streams.first().expect("the plan has output")
    }

    /// The FIFO of stdin.
    ///
    /// # Panics
    /// If the plan had none.
    #[must_use]
    pub fn stdin(&self) -> &Path {
        self.0.stdin.as_deref().expect("the plan has stdin")
    }

    /// Whether it was removed with everything of it.
    #[must_use]
    pub fn removed(&self) -> bool {
        self.0.removed.load(Ordering::SeqCst)
    }

    /// The client of its connection.
    ///
    /// # Panics
    /// If the connection was closed.
    #[must_use]
    pub fn client(&self) -> TaskClient {
        let client = self.0.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        client.unwrap_or_else(|| panic!("the connection of {} is closed", self.id()))
    }

    /// Closes the connection.
    pub fn close(&self) {
        *self.0.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Closes the connection and opens another, as after a restart of containerd.
    ///
    /// # Panics
    /// If nobody listens.
    pub async fn redial(&self) {
        let client = wire::dial(&self.0.address).await.expect("the shim listens");
        *self.0.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(TaskClient::new(client));
    }

    /// The context of a call: containerd's namespace and a deadline.
    #[must_use]
    pub fn context(&self) -> Context {
        context(self.namespace())
    }

    /// The request that Create sends.
    #[must_use]
    pub fn create_request(&self) -> CreateTaskRequest {
        let path = |collector: &Collector| collector.path().to_string_lossy().into_owned();
        let mut request = CreateTaskRequest::new();
        request.id = self.id().to_owned();
        request.bundle = self.0.bundle.to_string_lossy().into_owned();
        request.terminal = self.0.plan.is_terminal();
        request.stdin =
            self.0.stdin.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        request.stdout = self.0.streams.first().map(path).unwrap_or_default();
        request.stderr = self.0.streams.get(1).map(path).unwrap_or_default();
        request.options = Some(self.0.plan.runtime_options()).into();
        if self.0.plan.is_mounted() {
            let mut mount = Mount::new();
            mount.type_ = "bind".into();
            mount.source = self.0.lab.rootfs().to_string_lossy().into_owned();
            mount.options = vec!["rbind".into(), "ro".into()];
            request.rootfs.push(mount);
        }
        request
    }

    /// Creates; answers init's pid.
    ///
    /// # Errors
    /// The shim's.
    pub async fn create(&self) -> Result<u32> {
        let answer = self.client().create(self.context(), &self.create_request()).await?;
        self.0.created.store(true, Ordering::SeqCst);
        *self.0.pid.lock().unwrap_or_else(PoisonError::into_inner) = answer.pid;
        self.0.lab.note_process(answer.pid);
        Ok(answer.pid)
    }

    /// Starts init, or an exec.
    ///
    /// # Errors
    /// The shim's.
    pub async fn start(&self, exec: &str) -> Result<u32> {
        let mut request = StartRequest::new();
        request.id = self.id().to_owned();
        request.exec_id = exec.to_owned();
        let pid = self.client().start(self.context(), &request).await?.pid;
        self.0.lab.note_process(pid);
        Ok(pid)
    }

    /// State of init, or an exec.
    ///
    /// # Errors
    /// The shim's.
    pub async fn state(&self, exec: &str) -> Result<StateResponse> {
        let mut request = StateRequest::new();
        request.id = self.id().to_owned();
        request.exec_id = exec.to_owned();
        self.client().state(self.context(), &request).await
    }

    /// The status alone.
    ///
    /// # Errors
    /// The shim's.
    pub async fn status(&self, exec: &str) -> Result<Status> {
        self.state(exec).await.map(|state| state.status.enum_value_or_default())
    }

    /// The pids.
    ///
    /// # Errors
    /// The shim's.
    pub async fn pids(&self) -> Result<Vec<u32>> {
        let mut request = PidsRequest::new();
        request.id = self.id().to_owned();
        let answer = self.client().pids(self.context(), &request).await?;
        Ok(answer.processes.iter().map(|process| process.pid).collect())
    }

    /// Connect.
    ///
    /// # Errors
    /// The shim's.
    pub async fn connect(&self) -> Result<ConnectResponse> {
        let mut request = ConnectRequest::new();
        request.id = self.id().to_owned();
        self.client().connect(self.context(), &request).await
    }

    /// Kills.
    ///
    /// # Errors
    /// The shim's.
    pub async fn kill(&self, exec: &str, signal: u32) -> Result<()> {
        let mut request = KillRequest::new();
        request.id = self.id().to_owned();
        request.exec_id = exec.to_owned();
        request.signal = signal;
        self.client().kill(self.context(), &request).await.map(drop)
    }

    /// Waits.
    ///
    /// # Errors
    /// The shim's.
    pub async fn wait(&self, exec: &str) -> Result<WaitResponse> {
        let mut request = WaitRequest::new();
        request.id = self.id().to_owned();
        request.exec_id = exec.to_owned();
        self.client().wait(self.context(), &request).await
    }

    /// Deletes.
    ///
    /// # Errors
    /// The shim's.
    pub async fn delete(&self, exec: &str) -> Result<DeleteResponse> {
        let mut request = DeleteRequest::new();
        request.id = self.id().to_owned();
        request.exec_id = exec.to_owned();
        self.client().delete(self.context(), &request).await
    }

    /// Adds an exec without streams.
    ///
    /// # Errors
    /// The shim's.
    pub async fn exec(&self, exec: &str, args: &[&str]) -> Result<()> {
        self.exec_with(self.exec_request(exec, args)).await
    }

    /// The request for an exec without streams.
    #[must_use]
    pub fn exec_request(&self, exec: &str, args: &[&str]) -> ExecProcessRequest {
        let process = json!({
            "terminal": false, "user": {"uid": 0, "gid": 0}, "args": args, "env": ["PATH=/bin"], "cwd": "/",
        });
        let mut spec = Any::new();
        spec.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Process".into();
        spec.value = process.to_string().into_bytes();
        let mut request = ExecProcessRequest::new();
        request.id = self.id().to_owned();
        request.exec_id = exec.to_owned();
        request.spec = Some(spec).into();
        request
    }

    /// The request for an exec with stdout and stderr, and what will come out of stdout.
    #[must_use]
    pub fn exec_request_with_output(
        &self,
        exec: &str,
        args: &[&str],
    ) -> (ExecProcessRequest, [Collector; 2]) {
        let fifo = |name: &str| {
            Collector::start(&self.0.lab.directory().join(format!("{}-{exec}-{name}", self.id())))
        };
        let streams = [fifo("stdout"), fifo("stderr")];
        let mut request = self.exec_request(exec, args);
        request.stdout = streams[0].path().to_string_lossy().into_owned();
        request.stderr = streams[1].path().to_string_lossy().into_owned();
        (request, streams)
    }

    /// Adds an exec.
    ///
    /// # Errors
    /// The shim's.
    pub async fn exec_with(&self, request: ExecProcessRequest) -> Result<()> {
        self.client().exec(self.context(), &request).await.map(drop)
    }

    /// Adds an exec and starts it.
    ///
    /// # Errors
    /// The shim's.
    pub async fn run_exec(&self, exec: &str, args: &[&str]) -> Result<u32> {
        self.exec(exec, args).await?;
        self.start(exec).await
    }

    /// Pauses.
    ///
    /// # Errors
    /// The shim's.
    pub async fn pause(&self) -> Result<()> {
        let mut request = PauseRequest::new();
        request.id = self.id().to_owned();
        self.client().pause(self.context(), &request).await.map(drop)
    }

    /// Resumes.
    ///
    /// # Errors
    /// The shim's.
    pub async fn resume(&self) -> Result<()> {
        let mut request = ResumeRequest::new();
        request.id = self.id().to_owned();
        self.client().resume(self.context(), &request).await.map(drop)
    }

    /// Closes stdin.
    ///
    /// # Errors
    /// The shim's.
    pub async fn close_io(&self, exec: &str) -> Result<()> {
        let mut request = CloseIORequest::new();
        request.id = self.id().to_owned();
        request.exec_id = exec.to_owned();
        request.stdin = true;
        self.client().close_io(self.context(), &request).await.map(drop)
    }

    /// Resizes the terminal.
    ///
    /// # Errors
    /// The shim's.
    pub async fn resize(&self, exec: &str, width: u32, height: u32) -> Result<()> {
        let mut request = ResizePtyRequest::new();
        request.id = self.id().to_owned();
        request.exec_id = exec.to_owned();
        request.width = width;
        request.height = height;
        self.client().resize_pty(self.context(), &request).await.map(drop)
    }

    /// Updates the limits.
    ///
    /// # Errors
    /// The shim's.
    pub async fn update(&self, resources: &serde_json::Value) -> Result<()> {
        let mut any = Any::new();
        any.type_url = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into();
        any.value = resources.to_string().into_bytes();
        let mut request = UpdateTaskRequest::new();
        request.id = self.id().to_owned();
        request.resources = Some(any).into();
        self.client().update(self.context(), &request).await.map(drop)
    }

    /// Statistics.
    ///
    /// # Errors
    /// The shim's.
    pub async fn stats(&self) -> Result<StatsResponse> {
        let mut request = StatsRequest::new();
        request.id = self.id().to_owned();
        self.client().stats(self.context(), &request).await
    }

    /// Shutdown. A shim that ends with it may close before it has answered, which is no error.
    ///
    /// # Errors
    /// The shim's.
    pub async fn shutdown(&self) -> Result<()> {
        let mut request = ShutdownRequest::new();
        request.id = self.id().to_owned();
        match self.client().shutdown(self.context(), &request).await {
            Ok(_)
            | Err(
                Error::RemoteClosed | Error::LocalClosed | Error::Eof | Error::Socket(_) | Error::Others(_),
            ) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Runs the `delete` command in the bundle.
    ///
    /// # Errors
    /// Where it fails, is not done in 10 s, or prints something else than a response.
    pub async fn delete_command(&self) -> std::result::Result<DeleteResponse, String> {
        let mut command = self.0.lab.command(self.namespace(), self.id(), &self.0.bundle, false);
        command.arg("-bundle").arg(&self.0.bundle).arg("delete");
        let answer = spawn(command, Streams::Apart, Duration::from_secs(10)).await?;
        if !answer.status.success() {
            return Err(format!("delete ended with {}: {}", answer.status, answer.text()));
        }
        DeleteResponse::parse_from_bytes(&answer.output)
            .map_err(|error| format!("delete printed {:?}: {error}", answer.text()))
    }

    /// What containerd does once a task is deleted: Shutdown, close, `delete`, the bundle.
    ///
    /// # Panics
    /// If the `delete` command fails. The Go shim's may where nothing was ever created.
    pub async fn remove(&self) {
        let open = self.0.client.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if open {
            let _ = self.shutdown().await;
        }
        self.close();
        let outcome = self.delete_command().await;
        let _ = std::fs::remove_dir_all(&self.0.bundle);
        self.0.removed.store(true, Ordering::SeqCst);
        let excused = self.0.lab.subject() == Subject::Go && !self.0.created.load(Ordering::SeqCst);
        if let (Err(error), false) = (outcome, excused) {
            panic!("delete of {}: {error}", self.id());
        }
    }

    /// Opens the connection again if somebody still listens; asks for Shutdown then. Takes the bundle away.
    pub async fn redial_or_forget(&self) {
        if let Ok(client) = wire::dial(&self.0.address).await {
            *self.0.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(TaskClient::new(client));
            let _ = self.shutdown().await;
        }
        self.forget();
    }

    /// Takes the bundle away; nothing more is done at the end of the case.
    pub fn forget(&self) {
        self.close();
        let _ = std::fs::remove_dir_all(&self.0.bundle);
        self.0.removed.store(true, Ordering::SeqCst);
    }

    /// Kills, waits, deletes, removes. Of a shim that is gone already only the rest is asked.
    ///
    /// # Panics
    /// If one of these fails.
    pub async fn end(&self) {
        let open = self.0.client.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if open && self.0.created.load(Ordering::SeqCst) {
            match self.status("").await {
                Ok(status) => self.finish_task(status).await,
                Err(Error::RpcStatus(status)) if status.code() == Code::NOT_FOUND => {}
                Err(Error::RpcStatus(status)) => panic!("State of {}: {status:?}", self.id()),
                Err(_) => self.close(),
            }
        }
        self.remove().await;
    }

    async fn finish_task(&self, status: Status) {
        if status == Status::PAUSED {
            let _ = self.resume().await;
        }
        if status != Status::STOPPED {
            let killed = self.kill("", 9).await;
            assert!(matches!(code(&killed), Code::OK | Code::NOT_FOUND), "Kill of {}: {killed:?}", self.id());
        }
        self.wait("").await.unwrap_or_else(|error| panic!("Wait of {}: {error}", self.id()));
        let deleted = self.delete("").await;
        assert!(matches!(code(&deleted), Code::OK | Code::NOT_FOUND), "Delete of {}: {deleted:?}", self.id());
    }

    /// The shim's process.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn shim(&self) -> Proc {
        let pid = self.connect().await.expect("Connect").shim_pid;
        Proc::of(pid).expect("the shim that answered lives")
    }
}

/// A call's context.
#[must_use]
pub fn context(namespace: &str) -> Context {
    let mut context = ttrpc::context::with_duration(PATIENCE);
    context.add("containerd-namespace-ttrpc".into(), namespace.to_owned());
    context
}

/// Runs a command on a thread where waiting disturbs nobody.
pub(super) async fn spawn(
    command: Command,
    streams: Streams,
    limit: Duration,
) -> std::result::Result<Answer, String> {
    let shown = format!("{command:?}");
    let run = tokio::task::spawn_blocking(move || process::run(command, streams, limit));
    let answer = run.await.map_err(|error| error.to_string())?;
    answer.map_err(|error| format!("{shown}: {error}"))
}
