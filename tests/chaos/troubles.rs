//! What a bad tenant does, each once: what a neighbour must not notice.

use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use gam_protos::task::{TaskClient, WaitRequest};
use gam_tests::case::Container;
use gam_tests::shim::{container, wire};
use gam_tests::spec::Spec;
use gam_tests::stdio;
use serde_json::json;

use crate::bad_tenant::BadTenant;

/// Its name, how often it is made in a run at least, and its making.
pub(crate) type Trouble = (&'static str, usize, fn(&BadTenant<'_>));

/// All of them.
pub(crate) const TROUBLES: &[Trouble] = &[
    ("garbled specs", 3, garbled_specs),
    ("roots that are not there", 3, missing_roots),
    ("huge specs", 3, huge_specs),
    ("FIFOs that nobody reads", 1, blocked_fifos),
    ("FIFOs that are removed", 3, removed_fifos),
    ("loggers that die", 3, dying_loggers),
    ("loggers that hang", 1, hanging_loggers),
    ("floods of FIFOs", 3, flood_of_a_fifo),
    ("floods of terminals", 3, flood_of_a_terminal),
    ("floods of loggers", 1, flood_of_a_logger),
    ("floods of files", 3, flood_of_a_file),
    ("fork bombs", 3, fork_bomb),
    ("OOMs", 3, out_of_memory),
    ("storms of execs", 3, storm_of_execs),
    ("storms of kills", 3, storm_of_kills),
    ("malformed requests", 3, malformed_requests),
    ("bytes that are no request", 10, garbage),
    ("Waits that are abandoned", 10, abandoned_waits),
];

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_millis(500);

/// Ends a container that may have ended by itself.
fn end(container: Container) {
    let _ = container.try_kill(9);
    container.finish();
}

fn garbled_specs(bad: &BadTenant<'_>) {
    assert!(bad.container().change(|spec| spec.json["linux"] = "nonsense".into()).try_create().is_err());
    let container = bad.container().run();
    let bundle = bad.daemon.bundle(&container.namespace, &container.id);
    fs::write(bundle.join("config.json"), "{ \u{1} not json").unwrap();
    let _ = container.exec("exit 0").streams([false; 3]).try_add().and_then(|exec| exec.try_start());
}

fn missing_roots(bad: &BadTenant<'_>) {
    let nowhere = |spec: &mut Spec| spec.json["root"]["path"] = "/nowhere/at/all".into();
    assert!(bad.container().change(nowhere).try_create().is_err());
    assert!(
        bad.container().rootfs(|mounts| mounts[0].source = "/nowhere/at/all".into()).try_create().is_err()
    );
    assert!(
        bad.container()
            .rootfs(|mounts| {
                let mount = &mut mounts[0];
                mount.r#type = "no-file-system".into();
                mount.options.clear();
            })
            .try_create()
            .is_err()
    );
}

fn huge_specs(bad: &BadTenant<'_>) {
    let text = "x".repeat(3 << 20);
    drop(bad.container().change(|spec| spec.annotate("huge", &text)).try_create());
}

fn blocked_fifos(bad: &BadTenant<'_>) {
    let path = bad.fifo();
    let uri = path.display().to_string();
    let container = bad.container().uris(["", &uri, &uri]).sh("head -c 1000000 /dev/zero; exit 3").run();
    thread::sleep(FLOOD);
    end(container);
}

fn removed_fifos(bad: &BadTenant<'_>) {
    let path = bad.fifo();
    let uri = path.display().to_string();
    let builder = bad.container().terminal().uris([&uri, &uri, ""]).sh("while :; do echo x; done");
    fs::remove_file(&path).unwrap();
    drop(builder.try_create());
    stdio::fifo(&path);
    let container = bad.container().uris(["", &uri, ""]).sh("while :; do echo x; done").run();
    fs::remove_file(&path).unwrap();
    end(container);
}

fn dying_loggers(bad: &BadTenant<'_>) {
    let at_once = bad.logger("at-once", "exit 1");
    drop(bad.container().uris(["", &at_once, ""]).sh("echo x").try_create());
    let midway = bad.logger("midway", "exec 5>&-; head -c 1000 <&3 >/dev/null; kill -SEGV $$");
    end(bad.container().uris(["", &midway, &midway]).sh("while :; do echo x; done").run());
}

fn hanging_loggers(bad: &BadTenant<'_>) {
    let never_ready = bad.logger("never-ready", "sleep 3; exit 1");
    drop(bad.container().uris(["", &never_ready, ""]).sh("echo x").try_create());
    let never_reads = bad.logger("never-reads", "trap '' TERM; exec 5>&-; sleep 1000");
    let container = bad.container().uris(["", &never_reads, ""]).sh("while :; do echo x; done").run();
    end(container);
}

fn flood_of_a_fifo(bad: &BadTenant<'_>) {
    let container = bad.container().sh("yes").run();
    for _ in 0..3 {
        container.io.out().hold();
        thread::sleep(Duration::from_millis(150));
        container.io.out().release();
        thread::sleep(Duration::from_millis(50));
    }
    end(container);
}

fn flood_of_a_terminal(bad: &BadTenant<'_>) {
    let container = bad.container().terminal().sh("yes").run();
    let exec = container.exec("yes").terminal().run();
    thread::sleep(FLOOD);
    drop(exec);
    end(container);
}

fn flood_of_a_logger(bad: &BadTenant<'_>) {
    let slow = bad.logger("slow", "exec 5>&-; while head -c 4096 <&3 >/dev/null; do sleep 0.1; done");
    let container = bad.container().uris(["", &slow, &slow]).sh("yes").run();
    thread::sleep(FLOOD);
    end(container);
}

fn flood_of_a_file(bad: &BadTenant<'_>) {
    let path = bad.path();
    let uri = format!("file://{}", path.display());
    let container = bad.container().uris(["", &uri, &uri]).sh("yes").run();
    thread::sleep(FLOOD);
    end(container);
}

fn fork_bomb(bad: &BadTenant<'_>) {
    let limited =
        bad.container().change(|spec| spec.json["linux"]["resources"]["pids"] = json!({ "limit": 30 }));
    let container = limited.sh("b() { b | b & }; b; while :; do sleep 1; done").run();
    thread::sleep(FLOOD);
    end(container);
}

fn out_of_memory(bad: &BadTenant<'_>) {
    let script =
        "dd if=/dev/zero of=/dev/null bs=100M count=1; exec dd if=/dev/zero of=/dev/null bs=100M count=1";
    let container = bad.container().change(|spec| spec.memory(16 << 20)).sh(script).run();
    assert_eq!(container.finish().status, 137);
}

fn storm_of_execs(bad: &BadTenant<'_>) {
    thread::scope(|scope| {
        for number in 0..8 {
            let exec = bad.sandbox.exec(&format!("exit {number}")).streams([false; 3]);
            scope.spawn(move || assert_eq!(exec.run().finish().0.status, number));
        }
    });
}

fn storm_of_kills(bad: &BadTenant<'_>) {
    let container = bad.container().sh("trap : TERM; while :; do sleep 0.05; done").run();
    thread::scope(|scope| {
        for signal in [0, 15, 10_000, 15, 28, 17] {
            let container = &container;
            scope.spawn(move || (0..8).for_each(|_| drop(container.try_kill(signal))));
        }
    });
    end(container);
}

fn malformed_requests(bad: &BadTenant<'_>) {
    let (client, namespace, id) = (bad.sandbox.client(), &bad.sandbox.namespace, &bad.sandbox.id);
    for wrong in ["../x", "a/b", "", "no-such", &"x".repeat(200)] {
        assert!(wrong.is_empty() || client.get(namespace, id, wrong).is_err());
        assert!(client.kill(namespace, wrong, "", 9, true).is_err());
        assert!(client.delete(namespace, wrong).is_err());
        assert!(wrong.is_empty() || client.start(namespace, id, wrong).is_err());
        assert!(wrong.is_empty() || client.resize(namespace, id, wrong, 1 << 30, 0).is_err());
    }
    assert!(client.update(namespace, id, &json!({ "memory": "much" })).is_err());
    let mut huge = bad.sandbox.exec("").streams([false; 3]);
    huge.process["args"] = json!(["/bin/true", "x".repeat(5 << 20)]);
    assert!(huge.try_add().is_err());
    let mut senseless = bad.sandbox.exec("").streams([false; 3]);
    senseless.process = json!([1, 2, 3]);
    if let Ok(exec) = senseless.try_add() {
        assert!(exec.try_start().is_err());
        let _ = exec.try_delete();
    }
}

fn garbage(bad: &BadTenant<'_>) {
    let address = bad.address();
    // Nothing; noise; a header and no body; a body that is no message; the longest length there is.
    let header = |length: u32, stream: u32, kind: u8| {
        let mut bytes = [length.to_be_bytes(), stream.to_be_bytes()].concat();
        bytes.extend([kind, 0]);
        bytes
    };
    let noise: Vec<u8> = (0..4096_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let unfinished = header(1 << 20, 1, 1);
    let senseless = [header(64, 1, 1), noise[..64].to_vec()].concat();
    for bytes in [&[][..], &noise, &unfinished, &senseless, &header(u32::MAX, 3, 1), &header(0, 2, 9)] {
        let mut stream = UnixStream::connect(address.trim_start_matches("unix://")).unwrap();
        // It may have been hung up on.
        let _ = stream.write_all(bytes);
    }
}

fn abandoned_waits(bad: &BadTenant<'_>) {
    let address = bad.address();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = TaskClient::new(wire::dial(&address).await.unwrap());
        let mut request = WaitRequest::new();
        request.id.clone_from(&bad.sandbox.id);
        let waits = (0..10).map(|_| client.wait(container::context(&bad.sandbox.namespace), &request));
        let waits: Vec<_> = waits.collect();
        for wait in waits {
            let answer = tokio::time::timeout(Duration::from_millis(5), wait).await;
            assert!(answer.is_err(), "the sandbox has not ended: {answer:?}");
        }
    });
}
