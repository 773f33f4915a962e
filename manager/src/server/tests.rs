use std::sync::Mutex;

use async_trait::async_trait;
use gam_protos::{services, task as api};
use protobuf::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use ttrpc::asynchronous::TtrpcContext;
use ttrpc::{Code, Request, Response};

use super::*;

/// A service that panics, takes its time, or never answers.
#[derive(Default)]
struct Moody {
    done: Mutex<Vec<String>>,
}

#[async_trait]
impl api::Task for Moody {
    async fn state(&self, _: &TtrpcContext, _: api::StateRequest) -> ttrpc::Result<api::StateResponse> {
        panic!("a fault of this handler only")
    }

    async fn create(
        &self,
        _: &TtrpcContext,
        req: api::CreateTaskRequest,
    ) -> ttrpc::Result<api::CreateTaskResponse> {
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.done.lock().unwrap().push(req.id);
        Ok(api::CreateTaskResponse { pid: u32::try_from(connection_of()).unwrap(), ..Default::default() })
    }

    async fn wait(&self, _: &TtrpcContext, _: api::WaitRequest) -> ttrpc::Result<api::WaitResponse> {
        std::future::pending().await
    }
}

#[derive(Default)]
struct Seen {
    answers: Mutex<Vec<(String, &'static str)>>,
    closed: Mutex<Vec<ConnectionId>>,
}

impl Observer for Seen {
    fn answered(&self, method: &str, code: &'static str, _: Duration) {
        self.answers.lock().unwrap().push((method.to_owned(), code));
    }

    fn closed(&self, connection: ConnectionId) {
        self.closed.lock().unwrap().push(connection);
    }
}

struct Stage {
    _dir: tempfile::TempDir,
    path: std::path::PathBuf,
    server: Server,
    moody: Arc<Moody>,
    seen: Arc<Seen>,
    calls: Arc<Calls>,
}

fn stage() -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let moody = Arc::new(Moody::default());
    let seen = Arc::new(Seen::default());
    let service: Arc<dyn api::Task + Send + Sync> = Arc::clone(&moody) as _;
    let listener = UnixListener::bind(&path).unwrap();
    let calls = Arc::new(Calls::default());
    let observer = Arc::clone(&seen) as _;
    let server = Server::start(listener, services::task(&service), observer, Arc::clone(&calls));
    Stage { _dir: dir, path, server, moody, seen, calls }
}

async fn send(to: &mut UnixStream, stream: u32, service: &str, method: &str, payload: Vec<u8>, timeout: i64) {
    let request = Request {
        service: service.to_owned(),
        method: method.to_owned(),
        payload,
        timeout_nano: timeout,
        ..Default::default()
    };
    let payload = request.write_to_bytes().unwrap();
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(stream.to_be_bytes());
    bytes.extend([frame::REQUEST, 0]);
    bytes.extend(payload);
    to.write_all(&bytes).await.unwrap();
}

async fn receive(from: &mut UnixStream) -> (u32, Response) {
    let frame =
        tokio::time::timeout(Duration::from_secs(10), frame::read(from)).await.unwrap().unwrap().unwrap();
    (frame.stream, Response::parse_from_bytes(&frame.payload.unwrap()).unwrap())
}

async fn ask(to: &mut UnixStream, service: &str, method: &str, payload: Vec<u8>) -> Response {
    send(to, 1, service, method, payload, 0).await;
    receive(to).await.1
}

fn create(id: &str) -> Vec<u8> {
    api::CreateTaskRequest { id: id.to_owned(), ..Default::default() }.write_to_bytes().unwrap()
}

const V2: &str = "containerd.task.v2.Task";

#[tokio::test]
async fn k5_a_panic_is_answered_and_hurts_nobody() {
    let stage = stage();
    let mut client = UnixStream::connect(&stage.path).await.unwrap();
    assert_eq!(ask(&mut client, V2, "State", Vec::new()).await.status().code(), Code::INTERNAL);
    let answer = ask(&mut client, "containerd.task.v3.Task", "Create", create("c")).await;
    assert_eq!(answer.status().code(), Code::OK);
}

#[tokio::test]
async fn h3_what_is_not_served_is_unimplemented() {
    let stage = stage();
    let mut client = UnixStream::connect(&stage.path).await.unwrap();
    for (service, method) in [("containerd.runtime.sandbox.v1.Sandbox", "Platform"), (V2, "Unheard")] {
        let answer = ask(&mut client, service, method, Vec::new()).await;
        assert_eq!(answer.status().code(), Code::UNIMPLEMENTED, "{service}/{method}");
    }
    assert_eq!(
        stage.seen.answers.lock().unwrap().as_slice(),
        [("unknown".to_owned(), "UNIMPLEMENTED"), ("unknown".to_owned(), "UNIMPLEMENTED")]
    );
}

#[tokio::test]
async fn what_cannot_be_decoded_is_invalid_and_what_is_too_long_exhausts() {
    let stage = stage();
    let mut client = UnixStream::connect(&stage.path).await.unwrap();
    let answer = ask(&mut client, V2, "Create", b"\x0a\x05c".to_vec()).await;
    assert_eq!(answer.status().code(), Code::INVALID_ARGUMENT);
    let answer = ask(&mut client, V2, "Create", vec![0; frame::MOST]).await;
    assert_eq!(answer.status().code(), Code::RESOURCE_EXHAUSTED);
    client.write_all(b"\0\0\0\x03\0\0\0\x01\x01\0abc").await.unwrap();
    assert_eq!(receive(&mut client).await.1.status().code(), Code::INVALID_ARGUMENT);
}

#[tokio::test]
async fn work_goes_on_when_its_caller_leaves_and_when_its_deadline_passes() {
    let stage = stage();
    let mut leaver = UnixStream::connect(&stage.path).await.unwrap();
    send(&mut leaver, 1, V2, "Create", create("left"), 0).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(leaver);
    let mut hasty = UnixStream::connect(&stage.path).await.unwrap();
    send(&mut hasty, 1, V2, "Create", create("late"), 10_000_000).await;
    assert_eq!(receive(&mut hasty).await.1.status().code(), Code::DEADLINE_EXCEEDED);
    stage.server.stop(Duration::from_secs(5)).await;
    let mut done = stage.moody.done.lock().unwrap().clone();
    done.sort();
    assert_eq!(done, ["late", "left"]);
}

#[tokio::test]
async fn h7_a_wait_ends_with_its_connection_and_the_closing_is_told() {
    let stage = stage();
    let mut client = UnixStream::connect(&stage.path).await.unwrap();
    send(&mut client, 1, V2, "Wait", Vec::new(), 0).await;
    send(&mut client, 3, V2, "Create", create("c"), 0).await;
    let (stream, answer) = receive(&mut client).await;
    assert_eq!(stream, 3);
    let connection = api::CreateTaskResponse::parse_from_bytes(&answer.payload).unwrap().pid;
    drop(client);
    for _ in 0..100 {
        if stage.seen.answers.lock().unwrap().len() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(stage.seen.answers.lock().unwrap().last(), Some(&("Wait".to_owned(), "CANCELLED")));
    assert_eq!(stage.seen.closed.lock().unwrap().as_slice(), [u64::from(connection)]);
}

#[tokio::test]
async fn requests_are_listed_while_they_are_at_work_and_not_when_they_panicked_or_nobody_waits_for_them() {
    let stage = stage();
    let mut client = UnixStream::connect(&stage.path).await.unwrap();
    assert_eq!(ask(&mut client, V2, "State", Vec::new()).await.status().code(), Code::INTERNAL);
    assert!(stage.calls.stacks().is_empty(), "one that panicked");
    send(&mut client, 1, V2, "Wait", Vec::new(), 0).await;
    send(&mut client, 3, V2, "Create", create("c"), 10_000_000).await;
    assert_eq!(receive(&mut client).await.1.status().code(), Code::DEADLINE_EXCEEDED);
    let methods = || stage.calls.stacks().into_iter().map(|stack| stack.method).collect::<Vec<_>>();
    assert_eq!(methods(), ["Wait", "Create"], "the work goes on after its deadline");
    stage.server.stop(Duration::from_secs(5)).await;
    drop(client);
    for _ in 0..100 {
        if methods().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?} are left", methods());
}

#[tokio::test]
async fn d14_a_reply_is_on_the_wire_before_the_connection_closes() {
    let stage = stage();
    let mut client = UnixStream::connect(&stage.path).await.unwrap();
    send(&mut client, 1, V2, "Create", create("c"), 0).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    stage.server.stop(Duration::from_secs(5)).await;
    assert_eq!(receive(&mut client).await.1.status().code(), Code::OK);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn many_connections_are_served() {
    let stage = stage();
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = UnixStream::connect(&stage.path).await.unwrap();
        send(&mut client, 1, V2, "Create", create("c"), 0).await;
        clients.push(client);
    }
    for client in &mut clients {
        assert_eq!(receive(client).await.1.status().code(), Code::OK);
    }
    assert_eq!(stage.moody.done.lock().unwrap().len(), 200);
}
