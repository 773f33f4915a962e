//! A client of the Container Runtime Interface, version v1: the messages with the fields that tests use, and calls.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use containerd_client::tonic::codegen::http::uri::PathAndQuery;
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Request, client::Grpc};
use prost::Message;
use tonic_prost::ProstCodec;

use crate::client::{Answer, RUNTIME};

/// Defines messages: `Name { field: type = "prost attributes" }`.
macro_rules! messages {
    ($($name:ident { $($(#[$field_attribute:meta])* $field:ident: $type:ty),* $(,)? })*) => {
        $(
            #[doc = concat!("`runtime.v1.", stringify!($name), "`.")]
            #[derive(Clone, PartialEq, Message)]
            #[allow(missing_docs)]
            pub struct $name { $($(#[$field_attribute])* pub $field: $type),* }
        )*
    };
}

messages! {
    Empty {}
    PodId { #[prost(string, tag = "1")] id: String }
    ContainerId { #[prost(string, tag = "1")] id: String }
    Metadata {
        #[prost(string, tag = "1")] name: String,
        #[prost(string, tag = "2")] uid: String,
        #[prost(string, tag = "3")] namespace: String,
        #[prost(uint32, tag = "4")] attempt: u32,
    }
    NamespaceOption {
        #[prost(int32, tag = "1")] network: i32,
        #[prost(int32, tag = "2")] pid: i32,
        #[prost(int32, tag = "3")] ipc: i32,
        #[prost(message, optional, tag = "5")] user: Option<UserNamespace>,
    }
    UserNamespace {
        #[prost(int32, tag = "1")] mode: i32,
        #[prost(message, repeated, tag = "2")] uids: Vec<IdMapping>,
        #[prost(message, repeated, tag = "3")] gids: Vec<IdMapping>,
    }
    IdMapping {
        #[prost(uint32, tag = "1")] host: u32,
        #[prost(uint32, tag = "2")] container: u32,
        #[prost(uint32, tag = "3")] length: u32,
    }
    SecurityProfile {
        #[prost(int32, tag = "1")] profile_type: i32,
        #[prost(string, tag = "2")] localhost_ref: String,
    }
    PodSecurity {
        #[prost(message, optional, tag = "1")] namespaces: Option<NamespaceOption>,
        #[prost(bool, tag = "4")] readonly_rootfs: bool,
        #[prost(bool, tag = "6")] privileged: bool,
        #[prost(message, optional, tag = "9")] seccomp: Option<SecurityProfile>,
    }
    PodLinux {
        #[prost(string, tag = "1")] cgroup_parent: String,
        #[prost(message, optional, tag = "2")] security: Option<PodSecurity>,
    }
    PodConfig {
        #[prost(message, optional, tag = "1")] metadata: Option<Metadata>,
        #[prost(string, tag = "2")] hostname: String,
        #[prost(string, tag = "3")] log_directory: String,
        #[prost(map = "string, string", tag = "6")] labels: HashMap<String, String>,
        #[prost(map = "string, string", tag = "7")] annotations: HashMap<String, String>,
        #[prost(message, optional, tag = "8")] linux: Option<PodLinux>,
    }
    RunPodSandbox {
        #[prost(message, optional, tag = "1")] config: Option<PodConfig>,
        #[prost(string, tag = "2")] runtime_handler: String,
    }
    PodStatus { #[prost(string, tag = "1")] id: String, #[prost(int32, tag = "3")] state: i32 }
    PodStatusAnswer {
        #[prost(message, optional, tag = "1")] status: Option<PodStatus>,
        #[prost(map = "string, string", tag = "2")] info: HashMap<String, String>,
    }
    Verbosely { #[prost(string, tag = "1")] id: String, #[prost(bool, tag = "2")] verbose: bool }
    ContainerMetadata { #[prost(string, tag = "1")] name: String, #[prost(uint32, tag = "2")] attempt: u32 }
    ImageSpec { #[prost(string, tag = "1")] image: String }
    Resources {
        #[prost(int64, tag = "3")] cpu_shares: i64,
        #[prost(int64, tag = "4")] memory_limit: i64,
    }
    ContainerSecurity {
        #[prost(bool, tag = "2")] privileged: bool,
        #[prost(message, optional, tag = "3")] namespaces: Option<NamespaceOption>,
        #[prost(bool, tag = "7")] readonly_rootfs: bool,
        #[prost(message, optional, tag = "15")] seccomp: Option<SecurityProfile>,
    }
    ContainerLinux {
        #[prost(message, optional, tag = "1")] resources: Option<Resources>,
        #[prost(message, optional, tag = "2")] security: Option<ContainerSecurity>,
    }
    ContainerConfig {
        #[prost(message, optional, tag = "1")] metadata: Option<ContainerMetadata>,
        #[prost(message, optional, tag = "2")] image: Option<ImageSpec>,
        #[prost(string, repeated, tag = "3")] command: Vec<String>,
        #[prost(string, tag = "11")] log_path: String,
        #[prost(bool, tag = "12")] stdin: bool,
        #[prost(bool, tag = "13")] stdin_once: bool,
        #[prost(bool, tag = "14")] tty: bool,
        #[prost(message, optional, tag = "15")] linux: Option<ContainerLinux>,
    }
    CreateContainer {
        #[prost(string, tag = "1")] pod: String,
        #[prost(message, optional, tag = "2")] config: Option<ContainerConfig>,
        #[prost(message, optional, tag = "3")] pod_config: Option<PodConfig>,
    }
    StopContainer { #[prost(string, tag = "1")] id: String, #[prost(int64, tag = "2")] timeout: i64 }
    ContainerStatus {
        #[prost(string, tag = "1")] id: String,
        #[prost(int32, tag = "3")] state: i32,
        #[prost(int64, tag = "6")] finished_at: i64,
        #[prost(int32, tag = "7")] exit_code: i32,
        #[prost(string, tag = "10")] reason: String,
    }
    ContainerStatusAnswer {
        #[prost(message, optional, tag = "1")] status: Option<ContainerStatus>,
        #[prost(map = "string, string", tag = "2")] info: HashMap<String, String>,
    }
    Exec {
        #[prost(string, tag = "1")] id: String,
        #[prost(string, repeated, tag = "2")] command: Vec<String>,
        #[prost(bool, tag = "3")] tty: bool,
        #[prost(bool, tag = "4")] stdin: bool,
        #[prost(bool, tag = "5")] stdout: bool,
        #[prost(bool, tag = "6")] stderr: bool,
    }
    Attach {
        #[prost(string, tag = "1")] id: String,
        #[prost(bool, tag = "2")] stdin: bool,
        #[prost(bool, tag = "3")] tty: bool,
        #[prost(bool, tag = "4")] stdout: bool,
        #[prost(bool, tag = "5")] stderr: bool,
    }
    PortForward {
        #[prost(string, tag = "1")] id: String,
        #[prost(int32, repeated, tag = "2")] port: Vec<i32>,
    }
    Url { #[prost(string, tag = "1")] url: String }
    ExecSync {
        #[prost(string, tag = "1")] id: String,
        #[prost(string, repeated, tag = "2")] command: Vec<String>,
        #[prost(int64, tag = "3")] timeout: i64,
    }
    ExecSyncAnswer {
        #[prost(bytes = "vec", tag = "1")] stdout: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")] stderr: Vec<u8>,
        #[prost(int32, tag = "3")] exit_code: i32,
    }
    Value { #[prost(uint64, tag = "1")] value: u64 }
    Usage { #[prost(int64, tag = "1")] at: i64, #[prost(message, optional, tag = "2")] value: Option<Value> }
    Stats {
        #[prost(message, optional, tag = "2")] cpu: Option<Usage>,
        #[prost(message, optional, tag = "3")] memory: Option<Usage>,
    }
    StatsAnswer { #[prost(message, optional, tag = "1")] stats: Option<Stats> }
    Features { #[prost(bool, tag = "2")] user_namespaces: bool }
    Handler {
        #[prost(string, tag = "1")] name: String,
        #[prost(message, optional, tag = "2")] features: Option<Features>,
    }
    StatusAnswer { #[prost(message, repeated, tag = "3")] handlers: Vec<Handler> }
    ImageStatus { #[prost(message, optional, tag = "1")] image: Option<ImageSpec> }
    ImageStatusAnswer { #[prost(message, optional, tag = "1")] image: Option<PodId> }
    Listed { #[prost(string, tag = "1")] id: String }
    List { #[prost(message, repeated, tag = "1")] items: Vec<Listed> }
}

/// `NamespaceMode`: the node's.
pub const NODE: i32 = 2;
/// `NamespaceMode`: the container's own.
pub const OWN: i32 = 1;
/// `NamespaceMode`: the pod's.
pub const POD: i32 = 0;
/// `ContainerState`: it runs.
pub const RUNNING: i32 = 1;
/// `ContainerState`: it has ended.
pub const EXITED: i32 = 2;

/// A connection to the CRI services of a containerd.
#[derive(Clone, Debug)]
pub struct Cri(Channel);

impl Cri {
    /// Connects to the socket `path`.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn connect(path: &Path) -> Result<Self, String> {
        let connected = RUNTIME.block_on(containerd_client::connect(path));
        connected.map(Self).map_err(|error| error.to_string())
    }

    /// A call of the runtime service, of 60 seconds at most.
    ///
    /// # Errors
    /// What containerd answers.
    ///
    /// # Panics
    /// Never: method names are plain.
    pub fn call<Q, A>(&self, method: &str, message: Q) -> Answer<A>
    where
        Q: Message + Default + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.service("RuntimeService", method, message)
    }

    /// A call of `service`.
    ///
    /// # Errors
    /// What containerd answers.
    ///
    /// # Panics
    /// Never: method names are plain.
    pub fn service<Q, A>(&self, service: &str, method: &str, message: Q) -> Answer<A>
    where
        Q: Message + Default + Clone + 'static,
        A: Message + Default + 'static,
    {
        let path: PathAndQuery = format!("/runtime.v1.{service}/{method}").parse().expect("a path");
        let mut grpc = Grpc::new(self.0.clone());
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_secs(60));
        RUNTIME.block_on(async move {
            grpc.ready().await.map_err(|error| {
                containerd_client::tonic::Status::unavailable(format!("containerd is not ready: {error}"))
            })?;
            Ok(grpc.unary(request, path, ProstCodec::<Q, A>::default()).await?.into_inner())
        })
    }
}
