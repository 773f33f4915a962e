//! Services as tables of methods, ready to be registered with a server.
#![cfg(feature = "services")]

use std::collections::HashMap;
use std::sync::Arc;

use ttrpc::asynchronous::Service;

use crate::task::Task;

/// The names under which one and the same Task service is served.
pub const TASK: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// The table of the Task service, once under each of its names.
#[must_use]
pub fn task(service: &Arc<dyn Task + Send + Sync>) -> HashMap<String, Service> {
    let table = |name: &str| {
        let made = crate::generated::task_ttrpc::create_task(Arc::clone(service));
        made.into_values().next().map(|table| (name.to_owned(), table))
    };
    TASK.into_iter().filter_map(table).collect()
}
