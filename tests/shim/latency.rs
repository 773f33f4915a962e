//! Rows B: what is slow or stuck disturbs nothing else.

use std::time::Duration;

use gam_protos::types::Status;
use gam_tests::shim::event::Kind;
use gam_tests::shim::fake::on;
use gam_tests::shim::process::Proc;
use gam_tests::shim::{Subject, beside, code, until, within};
use ttrpc::Code;

use crate::cases;

/// containerd's own limit for State.
const STATE: Duration = Duration::from_secs(2);

cases! {
    async fn b1_a_slow_create_delays_nobody_else(lab) {
        let a = lab.plan("a").fake().group("a").run().await;
        lab.fake().set(&[on("create").of("b").before(5000)]);
        let b = lab.plan("b").fake().group("a").boot().await;
        let creating = beside({
            let b = b.clone();
            async move { b.create().await }
        });
        lab.fake().begun("create", 2).await;
        within(STATE, "State during Create", a.state("")).await.unwrap();
        within(STATE, "Pids during Create", a.pids()).await.unwrap();
        within(STATE, "Connect during Create", a.connect()).await.unwrap();
        within(STATE, "a whole exec during Create", async {
            a.run_exec("e", &["true"]).await.unwrap();
            a.wait("e").await.unwrap();
        })
        .await;
        assert!(!creating.is_finished());
        creating.await.unwrap().unwrap();
    }

    async fn b1_state_of_a_container_that_is_being_created_is_answered(lab) {
        lab.fake().set(&[on("create").before(4000)]);
        let c = lab.plan("b1").fake().boot().await;
        let creating = beside({
            let c = c.clone();
            async move { c.create().await }
        });
        lab.fake().begun("create", 1).await;
        let state = within(STATE, "State", c.state("")).await;
        assert!(matches!(code(&state), Code::OK | Code::NOT_FOUND | Code::FAILED_PRECONDITION), "{state:?}");
        within(STATE, "Connect", c.connect()).await.unwrap();
        creating.await.unwrap().unwrap();
    }

    async fn b3_delete_of_an_exec_whose_stdout_is_held_delays_nobody(lab) {
        let c = lab.plan("b3").fake().run().await;
        let (request, [out, _err]) =
            c.exec_request_with_output("e", &["sh", "-c", "sleep 5 & echo here $!; exit 0"]);
        c.exec_with(request).await.unwrap();
        c.start("e").await.unwrap();
        c.wait("e").await.unwrap();
        out.until("\n").await;
        let child = out.text().split_whitespace().nth(1).and_then(|pid| Proc::of(pid.parse().ok()?));
        let deleting = beside({
            let c = c.clone();
            async move { c.delete("e").await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        within(STATE, "State during Delete of an exec", c.state("")).await.unwrap();
        within(STATE, "a whole exec during Delete of an exec", async {
            c.run_exec("f", &["true"]).await.unwrap();
            c.wait("f").await.unwrap();
        })
        .await;
        within(Duration::from_secs(20), "Delete of the exec", deleting).await.unwrap().unwrap();
        until("the child has ended", || !child.is_some_and(Proc::alive)).await;
    }

    async fn b4_queries_are_answered_while_the_runtime_hangs(lab) {
        let c = lab.plan("b4").fake().run().await;
        lab.fake().set(&[
            on("kill").before(6000),
            on("ps").before(6000),
            on("state").before(6000),
            on("events").before(6000),
        ]);
        let killing = beside({
            let c = c.clone();
            async move { c.kill("", 9).await }
        });
        lab.fake().begun("kill", 1).await;
        assert_eq!(within(STATE, "State", c.status("")).await.unwrap(), Status::RUNNING);
        assert!(!within(STATE, "Pids", c.pids()).await.unwrap().is_empty());
        within(STATE, "Connect", c.connect()).await.unwrap();
        let stats = within(STATE, "Stats", c.stats()).await;
        assert!(matches!(code(&stats), Code::OK | Code::NOT_FOUND), "{stats:?}");
        killing.await.unwrap().unwrap();
        within(Duration::from_secs(20), "Wait", c.wait("")).await.unwrap();
    }

    async fn b4_exits_are_seen_while_the_runtime_hangs(lab) {
        let c = lab.plan("b4").fake().script("sleep 1; exit 4").run().await;
        lab.fake().set(&[on("kill").before(8000)]);
        let killing = beside({
            let c = c.clone();
            async move { c.kill("", 15).await }
        });
        lab.fake().begun("kill", 1).await;
        assert_eq!(within(Duration::from_secs(5), "Wait", c.wait("")).await.unwrap().exit_status, 4);
        lab.events().wait_for(Kind::Exit, "b4", "").await;
        assert!(!killing.is_finished(), "the exit waited for the runtime");
        let _ = killing.await.unwrap();
    }

    async fn b5_state_does_not_run_the_runtime(lab) {
        let c = lab.plan("b5").fake().run().await;
        for _ in 0..20 {
            c.state("").await.unwrap();
        }
        assert_eq!(lab.fake().count("state"), 0);
    }

    async fn b6_a_runtime_that_writes_a_megabyte_to_stderr_is_drained(lab) {
        lab.fake().set(&[on("create").noisy(1 << 20), on("start").noisy(1 << 20), on("exec").noisy(1 << 20)]);
        let c = lab.plan("b6").fake().run().await;
        c.run_exec("e", &["true"]).await.unwrap();
        assert_eq!(c.wait("e").await.unwrap().exit_status, 0);
    }

    async fn b6_an_error_that_is_a_megabyte_long_is_bounded(lab) {
        lab.fake().set(&[on("create").noisy(1 << 20).fails("it did not work out")]);
        let (c, created) = lab.plan("b6").fake().try_create().await;
        let error = created.unwrap_err().to_string();
        assert!(error.len() < 70_000, "an error of {} bytes", error.len());
        assert!(error.contains("it did not work out"), "{error}");
        c.remove().await;
    }

    async fn b7_a_publish_binary_that_hangs_holds_nothing_up(lab) {
        std::fs::write(lab.publish_binary(), "#!/bin/sh\nexec sleep 1000\n").unwrap();
        lab.events().away().await;
        let c = lab.plan("b7").fake().run().await;
        c.run_exec("e", &["true"]).await.unwrap();
        within(Duration::from_secs(5), "Wait of the exec", c.wait("e")).await.unwrap();
        c.kill("", 9).await.unwrap();
        within(Duration::from_secs(5), "Wait", c.wait("")).await.unwrap();
        within(Duration::from_secs(5), "Delete", c.delete("")).await.unwrap();
        if lab.subject() == Subject::Gam {
            lab.events().back().await;
            lab.events().wait_for(Kind::Delete, "b7", "").await;
        }
        c.remove().await;
    }
}
