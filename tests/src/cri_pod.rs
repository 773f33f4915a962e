//! A pod and its containers, by CRI.

use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_client::tonic::Code;

use crate::client::Answer;
use crate::cri::{
    Attach, ContainerConfig, ContainerId, ContainerLinux, ContainerMetadata, ContainerStatus,
    ContainerStatusAnswer, CreateContainer, Empty, Exec, ExecSync, ExecSyncAnswer, ImageSpec, PodConfig,
    PodId, PodStatusAnswer, PortForward, StopContainer, Url, Verbosely,
};
use crate::cri_node::Node;
use crate::cri_stream::Streams;
use crate::{image, poll};

/// The pid in what containerd tells verbosely.
fn pid(info: Option<&String>) -> u32 {
    let info: serde_json::Value = serde_json::from_str(info.expect("the info")).expect("the info is JSON");
    info["pid"].as_u64().and_then(|pid| pid.try_into().ok()).unwrap_or_default()
}

/// A pod; it is stopped and removed when dropped.
pub struct Pod<'n> {
    pub(crate) node: &'n Node,
    /// The sandbox's id.
    pub id: String,
    /// Its configuration.
    pub config: PodConfig,
}

impl Pod<'_> {
    /// The configuration of a container that runs `script`, with the log file `NAME.log`.
    #[must_use]
    pub fn config_of(&self, name: &str, script: &str, linux: ContainerLinux) -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.into(), attempt: 0 }),
            image: Some(ImageSpec { image: image::NAME.into() }),
            command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            log_path: format!("{name}.log"),
            linux: Some(linux),
            ..ContainerConfig::default()
        }
    }

    /// Creates and starts such a container.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn container(&self, name: &str, script: &str, linux: ContainerLinux) -> String {
        self.start(self.config_of(name, script, linux))
    }

    /// Creates and starts a container.
    ///
    /// # Panics
    /// Where it does not start, or the pod's manager does not serve it.
    #[must_use]
    pub fn start(&self, config: ContainerConfig) -> String {
        self.try_start(config).unwrap_or_else(|status| panic!("starting a container: {status}"))
    }

    /// Creates and starts a container, and sees to it that the pod's manager serves it; its id.
    ///
    /// # Errors
    /// What containerd answers.
    ///
    /// # Panics
    /// Where another manager serves it.
    pub fn try_start(&self, config: ContainerConfig) -> Answer<String> {
        let cri = self.node.cri();
        let created = self.create(config)?;
        let _: Empty = cri.call("StartContainer", created.clone())?;
        if let (Some(pods), Some(its)) =
            (self.node.manager_of(self.pid()), self.node.manager_of(self.pid_of(&created.id)))
        {
            assert_eq!(pods, its, "the pod's manager serves its containers");
        }
        Ok(created.id)
    }

    /// Creates a container.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn create(&self, config: ContainerConfig) -> Answer<ContainerId> {
        let request = CreateContainer {
            pod: self.id.clone(),
            config: Some(config),
            pod_config: Some(self.config.clone()),
        };
        self.node.cri().call("CreateContainer", request)
    }

    /// The pid of the sandbox, 0 where it has ended.
    ///
    /// # Panics
    /// Where containerd does not know the sandbox.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let request = Verbosely { id: self.id.clone(), verbose: true };
        let answer: PodStatusAnswer =
            self.node.cri().call("PodSandboxStatus", request).expect("PodSandboxStatus");
        pid(answer.info.get("info"))
    }

    /// The pid of the container `id`, 0 where it has ended.
    ///
    /// # Panics
    /// Where containerd does not know it.
    #[must_use]
    pub fn pid_of(&self, id: &str) -> u32 {
        let request = Verbosely { id: id.into(), verbose: true };
        let answer: ContainerStatusAnswer =
            self.node.cri().call("ContainerStatus", request).expect("ContainerStatus");
        pid(answer.info.get("info"))
    }

    /// Executes `script` in the container `id` with streams: stdin, stdout, and either a terminal or stderr.
    ///
    /// # Panics
    /// Where there is no such stream.
    #[must_use]
    pub fn exec_stream(&self, id: &str, script: &str, tty: bool) -> Streams {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let request = Exec { id: id.into(), command, tty, stdin: true, stdout: true, stderr: !tty };
        let answer: Url = self.node.cri().call("Exec", request).expect("Exec");
        Streams::connect(self.node, &answer.url)
    }

    /// Attaches to the streams of the container `id`: stdin, stdout, and either a terminal or stderr.
    ///
    /// # Panics
    /// Where there is no such stream.
    #[must_use]
    pub fn attach(&self, id: &str, tty: bool) -> Streams {
        let request = Attach { id: id.into(), tty, stdin: true, stdout: true, stderr: !tty };
        let answer: Url = self.node.cri().call("Attach", request).expect("Attach");
        Streams::connect(self.node, &answer.url)
    }

    /// Forwards to `port` of the pod.
    ///
    /// # Panics
    /// Where there is no such stream.
    #[must_use]
    pub fn port_forward(&self, port: u16) -> Streams {
        let request = PortForward { id: self.id.clone(), port: vec![port.into()] };
        let answer: Url = self.node.cri().call("PortForward", request).expect("PortForward");
        // A WebSocket names the port in the query.
        Streams::connect(self.node, &format!("{}?port={port}", answer.url))
    }

    /// The log file of the container `name`.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        Path::new(&self.config.log_directory).join(format!("{name}.log"))
    }

    /// Executes `script` in the container `id`, for at most `timeout` seconds where that is not 0.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn exec(&self, id: &str, script: &str, timeout: i64) -> Answer<ExecSyncAnswer> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        self.node.cri().call("ExecSync", ExecSync { id: id.into(), command, timeout })
    }

    /// What `script` prints in the container `id`.
    ///
    /// # Panics
    /// Where it fails.
    #[must_use]
    pub fn output(&self, id: &str, script: &str) -> String {
        let answer = self.exec(id, script, 20).expect("ExecSync");
        assert_eq!(answer.exit_code, 0, "{script}: {}", String::from_utf8_lossy(&answer.stderr));
        String::from_utf8_lossy(&answer.stdout).trim().to_owned()
    }

    /// A container's status.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    pub fn status(&self, id: &str) -> ContainerStatus {
        let answer: ContainerStatusAnswer =
            self.node.cri().call("ContainerStatus", ContainerId { id: id.into() }).expect("ContainerStatus");
        answer.status.expect("a status")
    }

    /// Waits for a container's end.
    ///
    /// # Panics
    /// Where it does not end.
    #[must_use]
    pub fn ended(&self, id: &str) -> ContainerStatus {
        poll::until("the container has ended", || {
            Some(self.status(id)).filter(|status| status.state == crate::cri::EXITED)
        })
    }

    /// Whether the sandbox is ready.
    ///
    /// # Panics
    /// Where it is not known.
    #[must_use]
    pub fn ready(&self) -> bool {
        let answer: PodStatusAnswer = self
            .node
            .cri()
            .call("PodSandboxStatus", PodId { id: self.id.clone() })
            .expect("PodSandboxStatus");
        answer.status.expect("a status").state == 0
    }

    /// Stops a container, killing it after `timeout` seconds.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn stop_container(&self, id: &str, timeout: i64) -> Answer<Empty> {
        self.node.cri().call("StopContainer", StopContainer { id: id.into(), timeout })
    }

    /// Stops and removes the pod, with all in it.
    ///
    /// # Errors
    /// What containerd answers.
    pub fn remove(&self) -> Answer<()> {
        let cri = self.node.cri();
        let _: Empty = cri.call("StopPodSandbox", PodId { id: self.id.clone() })?;
        let _: Empty = cri.call("RemovePodSandbox", PodId { id: self.id.clone() })?;
        Ok(())
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        if !self.node.up() {
            return;
        }
        self.node.forget(&self.id);
        // A test may have removed it.
        if let Err(status) = self.remove()
            && status.code() != Code::NotFound
        {
            assert!(std::thread::panicking(), "removing the pod: {status}");
            eprintln!("removing the pod: {status}");
        }
        let state = Path::new("/run/containerd/runc/k8s.io").join(&self.id);
        let gone = poll::within(Duration::from_secs(10), || (!state.exists()).then_some(()));
        assert!(gone.is_some() || std::thread::panicking(), "{} is left", state.display());
    }
}
