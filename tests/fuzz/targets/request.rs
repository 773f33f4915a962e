//! What comes over a connection: frames, the requests in them, and what the requests hold.

#![no_main]

use std::cell::LazyCell;

use gam_manager::options::{self, Named};
use gam_manager::server::fuzzing::{read, write};
use gam_protos::task;
use libfuzzer_sys::fuzz_target;
use protobuf::Message;
use tokio::runtime::{Builder, Runtime};
use ttrpc::Request;

thread_local! {
    static RUNTIME: LazyCell<Runtime> =
        LazyCell::new(|| Builder::new_current_thread().build().expect("a runtime"));
}

fn decode(request: &Request) {
    let payload = &request.payload;
    match request.method.as_str() {
        "Create" => {
            if let Ok(create) = task::CreateTaskRequest::parse_from_bytes(payload) {
                let _ = create.options.as_ref().map(Named::from_any);
            }
        }
        "Checkpoint" => {
            if let Ok(checkpoint) = task::CheckpointTaskRequest::parse_from_bytes(payload) {
                let _ = options::checkpoint(checkpoint.options.as_ref());
            }
        }
        "Exec" => drop(task::ExecProcessRequest::parse_from_bytes(payload)),
        "Update" => drop(task::UpdateTaskRequest::parse_from_bytes(payload)),
        "Kill" => drop(task::KillRequest::parse_from_bytes(payload)),
        _ => drop(task::StateRequest::parse_from_bytes(payload)),
    }
}

fuzz_target!(|bytes: &[u8]| {
    RUNTIME.with(|runtime| {
        runtime.block_on(async {
            for (stream, kind, payload) in read(bytes).await {
                let Some(payload) = payload else { continue };
                let wire = write(stream, kind, &payload).await.expect("what was read can be written");
                assert_eq!(read(&wire).await, [(stream, kind, Some(payload.clone()))]);
                if let Ok(request) = Request::parse_from_bytes(&payload) {
                    decode(&request);
                }
            }
        });
    });
});
