//! Whatever comes in: a status goes out, the shim serves on, and nothing panics.

use std::time::Duration;

use gam_protos::any::pack;
use gam_protos::runc_options::Options;
use gam_protos::task::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, CreateTaskRequest, DeleteRequest,
    ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, ResizePtyRequest, ResumeRequest,
    ShutdownRequest, StartRequest, StateRequest, StatsRequest, UpdateTaskRequest, WaitRequest,
};
use gam_protos::types::{Mount, Status};
use gam_tests::shim::{Container, Lab, code, together, wire, within};
use protobuf::Message;
use protobuf::well_known_types::any::Any;
use ttrpc::proto::KeyValue;
use ttrpc::{Code, Error, Request};

use crate::cases;

/// A small generator of numbers: the same seed, the same requests.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn seeded(worker: u64) -> Self {
        let seed =
            std::env::var("GAM_E2E_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_240_501_u64);
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(worker + 1))
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len() as u64) as usize]
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let count = self.below(most);
        (0..count).map(|_| self.next() as u8).collect()
    }

    fn id(&mut self) -> String {
        let fixed =
            ["victim", "victim", "victim", "", "..", "../victim", "a/b", "\0", "-x", "ä", "nobody", "e", "f"];
        match self.below(20) {
            0 => "x".repeat(1 + self.below(300_000) as usize),
            1 => String::from_utf8_lossy(&self.bytes(40)).into_owned(),
            _ => self.of(&fixed).to_owned(),
        }
    }

    /// A path or URI. None that is good leads out of the lab.
    fn path(&mut self, lab: &Lab) -> String {
        let inside = lab.directory().join("garbage");
        let inside = inside.display();
        match self.below(12) {
            0 => format!("{inside}/{}", self.below(10)),
            1 => format!("file://{inside}/{}", self.below(10)),
            2 => format!("binary://{inside}/nothing?a=b"),
            3 => "binary:///nowhere/at/all".into(),
            4 => "ttrpc+unix:///nothing?streaming_id=1".into(),
            5 => "://".into(),
            6 => "/".repeat(1 + self.below(9000) as usize) + "dev/null/x",
            7 => "relative/to/what".into(),
            8 => "/proc/self/nothing\0".into(),
            9 => String::from_utf8_lossy(&self.bytes(60)).into_owned(),
            _ => String::new(),
        }
    }

    fn any(&mut self, lab: &Lab) -> Any {
        let mut any = Any::new();
        let names = [
            "containerd.runc.v1.Options",
            "runtimeoptions.v1.Options",
            "containerd.runc.v1.CheckpointOptions",
            "type.googleapis.com/containerd.runc.v1.Options",
            "",
            "/",
            "nothing.of.Note",
            "types.containerd.io/opencontainers/runtime-spec/1/Process",
        ];
        any.type_url = self.of(&names).to_owned();
        any.value = match self.below(6) {
            0 => Vec::new(),
            1 => b"{\"args\": [], \"cwd\": 7}".to_vec(),
            2 => b"{\"args\": [\"true\"], \"cwd\": \"/\", \"terminal\": true, \"user\": {\"uid\": -1}}"
                .to_vec(),
            3 => vec![b'['; 100_000],
            4 => {
                let mut options = Options::new();
                options.binary_name = "/nowhere/runtime".into();
                options.root = self.path(lab);
                options.io_uid = self.next() as u32;
                options.criu_image_path = self.path(lab);
                return pack(&options).unwrap();
            }
            _ => self.bytes(200),
        };
        any
    }

    fn number(&mut self) -> u32 {
        match self.below(4) {
            0 => 0,
            1 => u32::MAX,
            2 => self.below(70) as u32,
            _ => self.next() as u32,
        }
    }

    /// A method and what is sent to it.
    fn request(&mut self, lab: &Lab) -> (&'static str, Vec<u8>) {
        let (id, exec_id) = (self.id(), if self.below(2) == 0 { String::new() } else { self.id() });
        macro_rules! encode {
            ($type:ident { $($field:ident: $value:expr),* $(,)? }) => {{
                let mut request = $type::new();
                $(request.$field = $value;)*
                request.write_to_bytes().unwrap()
            }};
        }
        let (method, mut bytes) = match self.below(17) {
            0 => ("State", encode!(StateRequest { id: id, exec_id: exec_id })),
            1 => {
                let mut mount = Mount::new();
                mount.type_ = self.of(&["nonsense", "", "bind", "overlay"]).to_owned();
                mount.source = "/nowhere".into();
                mount.target = self.of(&["", "..", "../../x"]).to_owned();
                mount.options = vec![self.id(), "lowerdir=/nowhere".into()];
                let rootfs = if self.below(3) == 0 { vec![mount] } else { Vec::new() };
                // "victim" exists, so that Create of it is refused; no other id has a bundle.
                (
                    "Create",
                    encode!(CreateTaskRequest {
                        id: id,
                        bundle: self.path(lab),
                        rootfs: rootfs,
                        terminal: self.below(2) == 0,
                        stdin: self.path(lab),
                        stdout: self.path(lab),
                        stderr: self.path(lab),
                        checkpoint: self.of(&["", "/nowhere"]).to_owned(),
                        options: Some(self.any(lab)).into(),
                    }),
                )
            }
            2 => ("Start", encode!(StartRequest { id: id, exec_id: exec_id })),
            3 => ("Delete", encode!(DeleteRequest { id: id, exec_id: exec_id })),
            4 => ("Pids", encode!(PidsRequest { id: id })),
            5 => ("Pause", encode!(PauseRequest { id: id })),
            6 => ("Resume", encode!(ResumeRequest { id: id })),
            7 => (
                "Checkpoint",
                encode!(CheckpointTaskRequest {
                    id: id,
                    path: self.path(lab),
                    options: Some(self.any(lab)).into(),
                }),
            ),
            8 => (
                "Kill",
                encode!(KillRequest {
                    id: id,
                    exec_id: exec_id,
                    signal: self.number(),
                    all: self.below(2) == 0
                }),
            ),
            9 => (
                "Exec",
                encode!(ExecProcessRequest {
                    id: id,
                    exec_id: exec_id,
                    terminal: self.below(2) == 0,
                    stdin: self.path(lab),
                    stdout: self.path(lab),
                    stderr: self.path(lab),
                    spec: (self.below(4) > 0).then(|| self.any(lab)).into(),
                }),
            ),
            10 => (
                "ResizePty",
                encode!(ResizePtyRequest {
                    id: id,
                    exec_id: exec_id,
                    width: self.number(),
                    height: self.number(),
                }),
            ),
            11 => {
                ("CloseIO", encode!(CloseIORequest { id: id, exec_id: exec_id, stdin: self.below(2) == 0 }))
            }
            12 => (
                "Update",
                encode!(UpdateTaskRequest {
                    id: id,
                    resources: (self.below(4) > 0).then(|| self.any(lab)).into()
                }),
            ),
            13 => ("Wait", encode!(WaitRequest { id: id, exec_id: exec_id })),
            14 => ("Stats", encode!(StatsRequest { id: id })),
            15 => ("Connect", encode!(ConnectRequest { id: id })),
            _ => ("Shutdown", encode!(ShutdownRequest { id: id, now: self.below(2) == 0 })),
        };
        match self.below(10) {
            0 => bytes = self.bytes(100),
            1 => bytes.truncate(self.below(bytes.len() as u64 + 1) as usize),
            2 if !bytes.is_empty() => {
                let at = self.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << self.below(8);
            }
            _ => {}
        }
        (method, bytes)
    }
}

/// The shim has not been replaced, serves, and has not panicked.
async fn still_well(lab: &Lab, keeper: &Container, shim: u32) {
    assert_eq!(keeper.connect().await.unwrap().shim_pid, shim);
    assert_eq!(keeper.status("").await.unwrap(), Status::RUNNING);
    within(Duration::from_secs(20), "a whole exec", async {
        keeper.run_exec("well", &["true"]).await.unwrap();
        assert_eq!(keeper.wait("well").await.unwrap().exit_status, 0);
        keeper.delete("well").await.unwrap();
    })
    .await;
    let log = keeper.log().unwrap().text();
    let panicked = log.lines().find(|line| line.contains("panick") || line.contains("goroutine"));
    assert_eq!(panicked, None);
    let _ = lab;
}

cases! {
    Long:
    async fn ten_thousand_bad_requests_get_a_status_each(lab) {
        let keeper = lab.plan("keeper").fake().group("keeper").run().await;
        let victim = lab.plan("victim").fake().group("keeper").run().await;
        let shim = keeper.connect().await.unwrap().shim_pid;
        std::fs::create_dir(lab.directory().join("garbage")).unwrap();
        let workers = (0..8_u64).map(|worker| {
            let (lab, address, namespace) =
                (lab.clone(), keeper.address().to_owned(), keeper.namespace().to_owned());
            async move {
                let mut dice = Dice::seeded(worker);
                let client = wire::dial(&address).await.unwrap();
                for number in 0..1250 {
                    let (method, payload) = dice.request(&lab);
                    let mut request = Request::new();
                    request.service = "containerd.task.v2.Task".into();
                    request.method = method.into();
                    request.payload = payload;
                    // Wait of what runs is answered when it ends, and that may be never.
                    request.timeout_nano = if method == "Wait" { 100_000_000 } else { 30_000_000_000 };
                    let mut pair = KeyValue::new();
                    pair.key = "containerd-namespace-ttrpc".into();
                    pair.value = if dice.below(50) == 0 { dice.id() } else { namespace.clone() };
                    if pair.value == "victim" {
                        pair.value.clear();
                    }
                    request.metadata.push(pair);
                    let shown = format!("request {number} of worker {worker}, {method}");
                    match client.request(request).await {
                        Ok(_) => {}
                        Err(Error::RpcStatus(status)) => {
                            let code = status.code();
                            let bad = code == Code::DEADLINE_EXCEEDED && method != "Wait";
                            assert!(!bad && !status.message.contains("panick"), "{shown}: {status:?}");
                        }
                        // The client's own deadline came first.
                        Err(other) if method == "Wait" && other.to_string().contains("deadline") => {}
                        Err(other) => panic!("{shown}: {other}"),
                    }
                }
            }
        });
        together(workers).await;
        still_well(&lab, &keeper, shim).await;
        let _ = victim.resume().await;
        victim.end().await;
        still_well(&lab, &keeper, shim).await;
    }

    async fn garbage_frames_hurt_only_their_connection(lab) {
        let keeper = lab.plan("keeper").fake().run().await;
        let shim = keeper.connect().await.unwrap().shim_pid;
        let mut dice = Dice::seeded(77);
        for round in 0..300 {
            let mut raw = wire::Raw::dial(keeper.address()).await.unwrap();
            let payload = dice.bytes(300);
            let (stream, kind) = (dice.number(), dice.next() as u8);
            let _ = match round % 6 {
                0 => raw.write(&payload).await,
                1 => raw.frame(stream, kind, &payload).await,
                2 => raw.frame(1, 1, &payload).await,
                3 => raw.write(&[0xff; 10]).await,
                4 => raw.write(&[0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 7, 7]).await,
                _ => raw.write(&payload[..payload.len().min(7)]).await,
            };
            if round % 6 == 2
                && let Ok(Some((stream, payload))) = raw.answer().await
            {
                assert_eq!(stream, 1);
                let answer = ttrpc::Response::parse_from_bytes(&payload).unwrap();
                assert_ne!(answer.status.code(), Code::OK);
            }
        }
        still_well(&lab, &keeper, shim).await;
    }

    async fn connections_that_say_nothing_hurt_nobody(lab) {
        let keeper = lab.plan("keeper").fake().run().await;
        let shim = keeper.shim().await;
        let before = shim.descriptors();
        let mut silent = Vec::new();
        for _ in 0..300 {
            silent.push(wire::Raw::dial(keeper.address()).await.unwrap());
        }
        still_well(&lab, &keeper, shim.pid).await;
        drop(silent);
        gam_tests::shim::until("the descriptors are closed", || shim.descriptors() <= before + 5).await;
    }

    async fn bad_options_are_refused_and_the_next_create_works(lab) {
        let keeper = lab.plan("keeper").fake().group("keeper").run().await;
        let shim = keeper.connect().await.unwrap().shim_pid;
        let named = |name: &str, value: &[u8]| {
            let mut any = Any::new();
            any.type_url = name.into();
            any.value = value.to_vec();
            any
        };
        let all = [
            named("containerd.runc.v1.Options", b"\xff\xff\xff"),
            named("containerd.runc.v1.Options", b"\x32\x10/nowhere/runtime"),
            named("runtimeoptions.v1.Options", b"\x0a\x01"),
            named("runtimeoptions.v1.Options", b"\x1a\x03= ="),
            named("nothing.of.Note", b"\x0a\x01x"),
        ];
        for (n, options) in all.into_iter().enumerate() {
            let c = lab.plan(&format!("o{n}")).group("keeper").fake().options(options).boot().await;
            let created = within(Duration::from_secs(20), "Create", c.create()).await;
            assert_ne!(code(&created), Code::OK, "options {n}");
            c.remove().await;
        }
        let c = lab.plan("good").group("keeper").fake().run().await;
        assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
        still_well(&lab, &keeper, shim).await;
    }
}
