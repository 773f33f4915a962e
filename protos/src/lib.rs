//! The wire: the messages and services that containerd and its shims exchange, and nothing else.
//!
//! The .proto files in `proto/` hold what containerd's own hold, field for field; the modules here give what is generated
//! from them names that belong together. Services need the feature `services`.

pub mod any;
pub mod services;

#[allow(missing_docs, unreachable_pub, unused_qualifications)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/generated/modules.rs"));
}

pub use generated::{bootstrap, cgroups_v1, cgroups_v2, events, runc_options, runtimeoptions, version};

/// `containerd.types`: mounts, platforms, envelopes of events, what a runtime is.
pub mod types {
    pub use crate::generated::task_types::*;
    pub use crate::generated::types::*;
}

/// `containerd.task.v2`, which v3 differs from by its name only.
pub mod task {
    pub use protobuf::well_known_types::empty::Empty;

    pub use crate::generated::task::*;
    #[cfg(feature = "services")]
    pub use crate::generated::task_ttrpc::{Task, TaskClient};
}

/// `containerd.services.events.ttrpc.v1`; the gRPC service takes the same request.
pub mod forward {
    pub use crate::generated::events_ttrpc::*;
    #[cfg(feature = "services")]
    pub use crate::generated::events_ttrpc_ttrpc::{Events, EventsClient, create_events};
}

/// `containerd.runtime.sandbox.v1`.
pub mod sandbox {
    pub use crate::generated::sandbox::*;
    #[cfg(feature = "services")]
    pub use crate::generated::sandbox_ttrpc::{Sandbox, SandboxClient, create_sandbox};
}
