//! Rows H and J: restarts of containerd, versions, limits, the environment.

use std::time::Duration;

use gam_protos::task::{ConnectRequest, ConnectResponse};
use gam_protos::types::Status;
use gam_tests::shim::event::Kind;
use gam_tests::shim::fake::on;
use gam_tests::shim::{Subject, beside, code, container, together, until, wire, within};
use protobuf::Message as _;
use ttrpc::{Code, Request, Response};

use crate::cases;

async fn ask(
    client: &ttrpc::asynchronous::Client,
    service: &str,
    method: &str,
    payload: Vec<u8>,
) -> ttrpc::Result<Response> {
    let mut request = Request::new();
    request.service = service.to_owned();
    request.method = method.to_owned();
    request.payload = payload;
    request.timeout_nano = 10_000_000_000;
    client.request(request).await
}

cases! {
    async fn h3_what_is_not_served_is_unimplemented(lab) {
        let c = lab.plan("h3").fake().run().await;
        let client = wire::dial(c.address()).await.unwrap();
        for (service, method) in [
            ("containerd.task.v2.Task", "Nothing"),
            ("containerd.task.v9.Task", "Connect"),
            ("containerd.runtime.sandbox.v9.Sandbox", "Platform"),
            ("", ""),
        ] {
            let outcome = ask(&client, service, method, Vec::new()).await;
            assert_eq!(code(&outcome), Code::UNIMPLEMENTED, "{service}/{method}");
        }
        let mut request = ConnectRequest::new();
        request.id = "h3".into();
        let answer = ask(&client, "containerd.task.v2.Task", "Connect", request.write_to_bytes().unwrap())
            .await
            .unwrap();
        assert_ne!(ConnectResponse::parse_from_bytes(&answer.payload).unwrap().shim_pid, 0);
        if lab.subject() == Subject::Gam {
            ask(&client, "containerd.task.v3.Task", "Connect", request.write_to_bytes().unwrap())
                .await
                .unwrap();
        }
    }

    async fn h5_start_does_not_wait_for_a_reader_of_the_log(lab) {
        let plan = lab.plan("h5").fake().unlogged();
        std::fs::create_dir_all(plan.path()).unwrap();
        gam_tests::shim::fifo::make(&plan.path().join("log"));
        let c = within(Duration::from_secs(10), "start", plan.boot()).await;
        within(Duration::from_secs(10), "Create", c.create()).await.unwrap();
        c.start("").await.unwrap();
    }

    async fn h7_waits_end_with_their_connection(lab) {
        let c = lab.plan("h7").fake().run().await;
        let shim = c.shim().await;
        let before = shim.descriptors();
        for _ in 0..5 {
            let waits = (0..40).map(|_| {
                let address = c.address().to_owned();
                let namespace = c.namespace().to_owned();
                async move {
                    let client = gam_protos::task::TaskClient::new(wire::dial(&address).await.unwrap());
                    let mut request = gam_protos::task::WaitRequest::new();
                    request.id = "h7".into();
                    let wait = client.wait(container::context(&namespace), &request);
                    let _ = tokio::time::timeout(Duration::from_millis(200), wait).await;
                }
            });
            together(waits).await;
        }
        until("the descriptors are closed", || shim.descriptors() <= before + 5).await;
        let waiting = beside({
            let c = c.clone();
            async move { c.wait("").await }
        });
        c.kill("", 9).await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().exit_status, 137);
    }

    async fn h8_an_exit_while_containerd_is_away_is_not_lost(lab) {
        let c = lab.plan("h8").fake().script("sleep 1; exit 11").run().await;
        c.close();
        lab.events().away().await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        c.redial().await;
        assert_ne!(c.connect().await.unwrap().shim_pid, 0);
        assert_eq!(c.pids().await.unwrap(), [c.pid()]);
        let state = c.state("").await.unwrap();
        assert_eq!(
            (state.status.enum_value_or_default(), state.exit_status, state.pid),
            (Status::STOPPED, 11, c.pid())
        );
        assert_eq!(c.wait("").await.unwrap().exit_status, 11);
        lab.events().back().await;
        assert_eq!(lab.events().wait_for(Kind::Exit, "h8", "").await.status, 11);
    }

    async fn h8_a_wait_that_began_before_delete_gets_the_exit(lab) {
        let c = lab.plan("h8").fake().script("sleep 1; exit 12").run().await;
        let waits: Vec<_> = (0..5)
            .map(|_| {
                beside({
                    let c = c.clone();
                    async move { c.wait("").await }
                })
            })
            .collect();
        c.wait("").await.unwrap();
        c.delete("").await.unwrap();
        for wait in waits {
            assert_eq!(wait.await.unwrap().unwrap().exit_status, 12);
        }
    }

    async fn j7_a_large_exec_is_run_and_a_too_large_one_refused(lab) {
        let c = lab.plan("j7").fake().run().await;
        let large = "x".repeat(100_000);
        let args: Vec<&str> = ["true"].into_iter().chain(std::iter::repeat_n(large.as_str(), 10)).collect();
        within(Duration::from_secs(20), "Exec of 1 MB", c.run_exec("e", &args)).await.unwrap();
        c.wait("e").await.unwrap();
        let mut raw = wire::Raw::dial(c.address()).await.unwrap();
        let sent = raw.frame(1, 1, &vec![b'x'; 5 << 20]).await;
        if sent.is_ok()
            && let Some((stream, payload)) = raw.answer().await.unwrap()
        {
            assert_eq!(stream, 1);
            let response = Response::parse_from_bytes(&payload).unwrap();
            assert_eq!(response.status.code(), Code::RESOURCE_EXHAUSTED);
        }
        assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
    }

    async fn j10_nothing_of_the_spec_is_in_errors(lab) {
        let c = lab.plan("j10").run().await;
        let mut request = c.exec_request("e", &["/nowhere"]);
        let spec = String::from_utf8(request.spec.value.clone()).unwrap();
        request.spec.as_mut().unwrap().value = spec.replace("PATH=/bin", "SECRET=swordfish").into_bytes();
        c.exec_with(request).await.unwrap();
        let error = c.start("e").await.unwrap_err().to_string();
        assert!(!error.contains("swordfish"), "{error}");
        let mut request = c.exec_request("f", &["true"]);
        request.spec.as_mut().unwrap().value = b"{\"env\": [\"SECRET=swordfish\"], \"args\": 7}".to_vec();
        let outcome = c.exec_with(request).await;
        assert!(!format!("{outcome:?}").contains("swordfish"), "{outcome:?}");
    }

    async fn j11_no_runtime_sees_notify_socket_or_listen(lab) {
        let plan = lab.plan("j11").fake().env("NOTIFY_SOCKET", "/run/nobody").env("LISTEN_FDS", "1");
        let plan = plan.env("LISTEN_PID", "1").env("LISTEN_FDNAMES", "x");
        let c = plan.run().await;
        c.run_exec("e", &["true"]).await.unwrap();
        c.wait("e").await.unwrap();
        c.kill("", 9).await.unwrap();
        c.wait("").await.unwrap();
        c.delete("").await.unwrap();
        c.remove().await;
        let calls = lab.fake().calls();
        assert!(calls.iter().any(|call| call.command == "start"));
        for call in calls {
            assert_eq!(call.environment, Vec::<String>::new(), "{}", call.command);
        }
    }

    async fn j11_a_real_start_does_not_wait_for_ready(lab) {
        let plan = lab.plan("j11").env("NOTIFY_SOCKET", "/run/nobody");
        let c = within(Duration::from_secs(20), "Create and Start", plan.run()).await;
        assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
    }

    async fn a_create_whose_connection_closed_is_undone(lab) {
        let keeper = lab.plan("keeper").fake().group("keeper").run().await;
        lab.fake().set(&[on("create").of("gone").before(500).after(500)]);
        let c = lab.plan("gone").fake().group("keeper").boot().await;
        let creating = beside({
            let c = c.clone();
            async move { c.create().await }
        });
        lab.fake().begun("create", 2).await;
        creating.abort();
        c.close();
        let state = lab.runtime_root().join(lab.namespace()).join("gone");
        until("the runtime was asked to delete", || {
            lab.fake().calls().iter().any(|call| call.command == "delete" && call.id == "gone")
        })
        .await;
        until("the runtime's state is gone", || !state.exists()).await;
        c.forget();
        assert_eq!(keeper.status("").await.unwrap(), Status::RUNNING);
    }

    async fn work_goes_on_when_its_caller_has_left(lab) {
        let c = lab.plan("work").fake().run().await;
        lab.fake().set(&[on("kill").before(1500)]);
        let mut hurry = c.context();
        hurry.timeout_nano = 200_000_000;
        let mut request = gam_protos::task::KillRequest::new();
        request.id = "work".into();
        request.signal = 9;
        assert!(c.client().kill(hurry, &request).await.is_err());
        assert_eq!(within(Duration::from_secs(20), "Wait", c.wait("")).await.unwrap().exit_status, 137);
    }

    async fn d2_a_delete_whose_caller_left_is_answered_again(lab) {
        let c = lab.plan("d2").fake().script("exit 21").run().await;
        c.wait("").await.unwrap();
        lab.fake().set(&[on("delete").before(1500)]);
        let mut hurry = c.context();
        hurry.timeout_nano = 200_000_000;
        let mut request = gam_protos::task::DeleteRequest::new();
        request.id = "d2".into();
        assert!(c.client().delete(hurry, &request).await.is_err());
        assert_eq!(c.delete("").await.unwrap().exit_status, 21);
        lab.events().wait_for(Kind::Delete, "d2", "").await;
        assert_eq!(lab.events().count(Kind::Delete, "d2", ""), 1);
    }
}
