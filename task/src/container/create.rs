//! Create: the root file system, the streams, the runtime's `create`, and undoing all of it where one fails.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, watch};

use super::{Container, ContainerError, Host, Inner, Member};
use crate::cgroup::Cgroup;
use crate::doing;
use crate::id::Key;
use crate::mount::{self, Mount};
use crate::options::Options;
use crate::process::{Core, Process};
use crate::record::StreamNames;
use crate::runtime::{Runtime, Settings, Stdio};
use crate::spec::{Spec, annotation};
use crate::state::{Input, State};
use crate::stdio::{Context, Plan, Prepared, Streams};
use crate::tenant::{Quota, Taken, Tenant};

/// How many root file systems are mounted at a time: one whose server does not answer keeps a thread for good, and others
/// are to be left for unmounting, which every Delete needs.
static MOUNTS: Semaphore = Semaphore::const_new(16);
/// How long the cgroup of a failed creation may take to go.
const CGROUP: Duration = Duration::from_secs(2);

/// What is to be created.
#[derive(Debug)]
pub struct CreateRequest {
    /// Its name.
    pub key: Key,
    /// Its bundle, an absolute path.
    pub bundle: PathBuf,
    /// What is mounted at `rootfs` in the bundle.
    pub rootfs: Vec<Mount>,
    /// Its streams.
    pub streams: StreamNames,
    /// The checkpoint's directory that it is restored from; empty for none.
    pub checkpoint: String,
    /// How the runtime is called.
    pub options: Options,
    /// Tells when nobody wants it any more: then it is given up where that costs nothing, before the runtime is called.
    pub unwanted: Option<watch::Receiver<bool>>,
    /// The init of its pod's sandbox, with which it may share the threads of a core; none if it is the first of its pod.
    pub sandbox_init: Option<u32>,
}

impl Container {
    /// Makes a container. With a checkpoint nothing is started yet (J6); else init exists and waits for its start. Where
    /// it fails, nothing of it is left.
    ///
    /// # Errors
    /// [`ContainerError`]; streams that are refused are refused before a thing is made.
    pub async fn create(host: &Arc<Host>, mut request: CreateRequest) -> Result<Arc<Self>, ContainerError> {
        let streams = &request.streams;
        let plan = Plan::parse(streams.terminal, &streams.stdin, &streams.stdout, &streams.stderr)?;
        // A spec that cannot be read is the runtime's to complain of; until then its processes are thought to survive.
        let spec = Spec::read(&request.bundle).unwrap_or_else(|error| {
            tracing::warn!(container = %request.key, %error, "the spec is not known");
            Spec::default()
        });
        let account = host.accounts.of(&Tenant::of(&request.key, &spec));
        let taken =
            account.take(Quota::Containers).inspect_err(|error| host.telemetry.limited(error.quota))?;
        let unwanted = request.unwanted.take();
        let container = Arc::new(Self::new(host, request, plan, &spec, taken));
        container.save_first()?;
        match container.make(unwanted).await {
            Ok(()) => {
                container.save();
                Ok(container)
            }
            Err(error) => {
                container.undo().await;
                Err(error)
            }
        }
    }

    fn new(host: &Arc<Host>, request: CreateRequest, plan: Plan, spec: &Spec, taken: Taken) -> Self {
        let CreateRequest { key, bundle, rootfs, streams, checkpoint, options, sandbox_init, .. } = request;
        let core = sandbox_init.map_or(Core::New, Core::Of);
        let settings = Settings::new(&options, &key.namespace);
        let (reaper, telemetry) = (Arc::clone(&host.reaper), Arc::clone(&host.telemetry));
        Self {
            runtime: Runtime::new(reaper, telemetry, settings, &key.id, &bundle)
                .admitted_by(&host.admission, taken.account().tenant()),
            sandbox: spec.annotation(annotation::SANDBOX_ID).map(str::to_owned),
            account: Arc::clone(taken.account()),
            init: Member::init(streams, plan),
            inner: Mutex::new(Inner {
                state: State::new(spec.has_survivors()),
                execs: std::collections::BTreeMap::new(),
                taken: Some(taken),
                cgroup: None,
                oom: None,
            }),
            recorder: Mutex::new(false),
            deletion: tokio::sync::Mutex::new(()),
            kills: AtomicUsize::new(0),
            oom_kills: AtomicU64::new(0),
            checkpoint,
            created_at: SystemTime::now(),
            host: Arc::clone(host),
            key,
            bundle,
            options,
            rootfs,
            core: host.core_scheduling.then_some(core),
        }
    }

    async fn make(self: &Arc<Self>, unwanted: Option<watch::Receiver<bool>>) -> Result<(), ContainerError> {
        self.mount().await?;
        if !self.checkpoint.is_empty() {
            return Ok(self.apply(Input::Restorable)?);
        }
        let turn = tokio::select! {
            turn = self.runtime.turn("create") => turn,
            () = told(unwanted) => return Err(ContainerError::Unwanted(self.key.clone())),
        };
        turn.run(self.make_init()).await
    }

    /// Has the runtime make init.
    async fn make_init(self: &Arc<Self>) -> Result<(), ContainerError> {
        let mut prepared = self.prepare(&self.init, None).await?;
        let stdio = child_ends(&mut prepared);
        let console = prepared.console_socket().map(PathBuf::from);
        let hold = self.host.reaper.hold();
        let work = self.runtime.create(stdio, console.as_deref(), self.core);
        let (pid, streams) = prepared.run_while(work).await?;
        let process = self.adopt(pid, &hold)?;
        drop(hold);
        self.begin(&process, streams);
        self.apply(Input::Created { pid: pid.unsigned_abs() })?;
        self.watch_init(process);
        Ok(())
    }

    /// Mounts the root file system.
    async fn mount(&self) -> Result<(), ContainerError> {
        if self.rootfs.is_empty() {
            return Ok(());
        }
        let _step = doing::step("mounting its root file system");
        let _its = self.account.mount().await;
        let _all = MOUNTS.acquire().await.ok();
        let (mounts, target) = (self.rootfs.clone(), self.rootfs_path());
        let mounted = tokio::task::spawn_blocking(move || {
            // It is containerd's to make; where it cannot be made, the mount says so.
            let _ = std::fs::DirBuilder::new().mode(0o711).create(&target);
            mount::mount_all(&mounts, &target)
        })
        .await;
        mounted.map_err(|_| ContainerError::Abandoned("mounting the root file system"))?.map_err(Into::into)
    }

    pub(super) fn rootfs_path(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }

    /// Opens the streams of a process.
    pub(super) async fn prepare(
        &self,
        member: &Member,
        exec: Option<&str>,
    ) -> Result<Prepared, ContainerError> {
        let context = Context {
            key: &self.key,
            exec_id: exec,
            socket_dir: &self.host.group,
            io_uid: self.options.io_uid,
            io_gid: self.options.io_gid,
            reaper: &self.host.reaper,
            pace: self.account.pace(),
            telemetry: &self.host.telemetry,
            closer: &member.closer,
        };
        let _step = doing::step("opening its streams");
        Ok(Prepared::open(&member.plan, context).await?)
    }

    /// Takes over a process that the runtime made.
    pub(super) fn adopt(&self, pid: i32, hold: &crate::reaper::Hold) -> Result<Arc<Process>, ContainerError> {
        let adopted = self.host.reaper.adopt(pid, hold);
        adopted.map_err(|source| ContainerError::Adopt { key: self.key.clone(), pid, source })
    }

    /// Gives init its process and streams, finds its cgroup and watches its memory, before anything can start (E2).
    pub(super) fn begin(self: &Arc<Self>, process: &Arc<Process>, streams: Streams) {
        self.init.begin(process, streams);
        let cgroup = match Cgroup::of_process(process.pid()) {
            Ok(cgroup) => cgroup,
            // It may have died already, and its pid tells nothing any more.
            Err(error) => return tracing::debug!(container = %self.key, %error, "its cgroup is not known"),
        };
        let container = Arc::downgrade(self);
        let told = move |kills| {
            if let Some(container) = container.upgrade() {
                container.out_of_memory(kills);
            }
        };
        let watch = self.host.oom.as_ref().map(|monitor| monitor.watch(&cgroup, told)).transpose();
        let mut inner = self.inner();
        inner.cgroup = Some(cgroup);
        match watch {
            Ok(watch) => inner.oom = watch,
            Err(error) => tracing::warn!(container = %self.key, %error, "out of memory will not be seen"),
        }
    }

    /// Undoes a creation that failed (D6, D11).
    async fn undo(self: &Arc<Self>) {
        let deleted = self.runtime.delete(true).await;
        if let Err(error) = &deleted {
            tracing::debug!(container = %self.key, %error, "nothing of a failed creation to delete");
        }
        if let Some(process) = self.init.process() {
            let _ = process.signal(9);
            let _step = doing::step("the end of a killed init");
            // One that the kernel does not let go is seen by the sweep, some day.
            let _ = tokio::time::timeout(CGROUP, process.wait()).await;
        }
        self.init.close();
        // A watch is let go of outside the lock: one that is telling just now wants it.
        let watch = self.inner().oom.take();
        drop(watch);
        let cgroup = self.inner().cgroup.take();
        if let Some(cgroup) = cgroup {
            let _step = doing::step("removing its cgroup");
            if !cgroup.remove(CGROUP).await {
                self.host.telemetry.cgroup_left();
            }
        }
        self.unmount().await;
        let nothing_left = deleted.err().is_none_or(|error| error.is_absent());
        self.save_undone(nothing_left);
    }

    /// Unmounts the root file system and all that is below it.
    pub(super) async fn unmount(&self) {
        let target = self.rootfs_path();
        let _step = doing::step("unmounting its root file system");
        match tokio::task::spawn_blocking(move || mount::unmount_all(&target)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(container = %self.key, %error, "the root file system stays mounted")
            }
            Err(_) => tracing::error!(container = %self.key, "unmounting the root file system was abandoned"),
        }
    }
}

/// Waits until somebody says so; for ever if nobody can.
async fn told(unwanted: Option<watch::Receiver<bool>>) {
    if let Some(mut unwanted) = unwanted
        && unwanted.wait_for(|unwanted| *unwanted).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// What the runtime is given as its own streams.
pub(super) fn child_ends(prepared: &mut Prepared) -> Stdio {
    let ends = prepared.take_child();
    Stdio { stdin: ends.stdin, stdout: ends.stdout, stderr: ends.stderr }
}
