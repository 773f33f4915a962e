//! Rows G: pausing, killing, and the codes of what is refused.

use std::time::{Duration, Instant};

use gam_protos::types::Status;
use gam_tests::shim::event::Kind;
use gam_tests::shim::fake::on;
use gam_tests::shim::process::Proc;
use gam_tests::shim::{beside, code, until_is, within};
use ttrpc::Code;

use crate::cases;

cases! {
    async fn g1_a_container_that_ends_while_paused_can_be_deleted(lab) {
        let c = lab.plan("g1").fake().run().await;
        c.pause().await.unwrap();
        assert_eq!(c.status("").await.unwrap(), Status::PAUSED);
        Proc::of(c.pid()).unwrap().kill();
        assert_eq!(c.wait("").await.unwrap().exit_status, 137);
        lab.events().wait_for(Kind::Exit, "g1", "").await;
        assert_eq!(c.status("").await.unwrap(), Status::STOPPED);
        c.delete("").await.unwrap();
        c.remove().await;
    }

    async fn g1_pause_and_resume_leave_a_container_as_it_was(lab) {
        let c = lab.plan("g1").run().await;
        for _ in 0..5 {
            c.pause().await.unwrap();
            assert_eq!(c.status("").await.unwrap(), Status::PAUSED);
            c.resume().await.unwrap();
            assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
        }
        lab.events()
            .until("5 resumptions", |list| {
                list.iter().filter(|event| event.kind == Kind::Resumed).count() == 5
            })
            .await;
    }

    async fn g2_a_paused_container_can_be_killed(lab) {
        let c = lab.plan("g2").run().await;
        c.pause().await.unwrap();
        within(Duration::from_secs(20), "Kill", c.kill("", 9)).await.unwrap();
        assert_eq!(within(Duration::from_secs(20), "Wait", c.wait("")).await.unwrap().exit_status, 137);
    }

    async fn g2_delete_after_a_dead_shim_ends_a_paused_container(lab) {
        let c = lab.plan("g2").run().await;
        c.pause().await.unwrap();
        let (shim, init) = (c.shim().await, Proc::of(c.pid()).unwrap());
        shim.kill();
        c.close();
        c.delete_command().await.unwrap();
        gam_tests::shim::until("init is dead", || !init.alive()).await;
        c.forget();
        lab.expect_no_exit();
    }

    async fn g3_a_kill_that_hangs_blocks_nothing_else(lab) {
        let c = lab.plan("g3").fake().run().await;
        lab.fake().set(&[on("kill").before(5000)]);
        let killing = beside({
            let c = c.clone();
            async move { c.kill("", 9).await }
        });
        lab.fake().begun("kill", 1).await;
        within(Duration::from_secs(2), "State", c.state("")).await.unwrap();
        let more = beside({
            let c = c.clone();
            async move { c.kill("", 9).await }
        });
        within(Duration::from_secs(2), "State", c.state("")).await.unwrap();
        killing.await.unwrap().unwrap();
        c.wait("").await.unwrap();
        assert!(matches!(code(&more.await.unwrap()), Code::OK | Code::NOT_FOUND));
    }

    async fn g3_a_kill_is_answered_before_the_delete_that_follows(lab) {
        let c = lab.plan("g3").fake().run().await;
        lab.fake().set(&[on("kill").after(1000)]);
        let killing = beside({
            let c = c.clone();
            async move { (c.kill("", 9).await, Instant::now()) }
        });
        c.wait("").await.unwrap();
        c.delete("").await.unwrap();
        let deleted = Instant::now();
        let (answer, at) = killing.await.unwrap();
        answer.unwrap();
        assert!(at < deleted + Duration::from_millis(300), "{:?} after it", at - deleted);
        c.remove().await;
    }

    async fn g4_kill_of_what_does_not_run_is_not_found(lab) {
        let c = lab.plan("g4").fake().script("exit 0").run().await;
        c.wait("").await.unwrap();
        assert_eq!(code(&c.kill("", 9).await), Code::NOT_FOUND);
        assert_eq!(code(&c.kill("nobody", 9).await), Code::NOT_FOUND);
    }

    async fn g4_the_runtime_s_words_become_codes(lab) {
        let c = lab.plan("g4").fake().run().await;
        for text in [
            "os: process already finished",
            "container not running",
            "no such process",
            "container does not exist",
        ] {
            lab.fake().set(&[on("kill").fails(text)]);
            assert_eq!(code(&c.kill("", 15).await), Code::NOT_FOUND, "{text}");
        }
        lab.fake().set(&[]);
    }

    async fn g4_unknown_tasks_are_not_found(lab) {
        let c = lab.plan("g4").fake().boot().await;
        assert_eq!(code(&c.state("").await), Code::NOT_FOUND);
        assert_eq!(code(&c.start("").await), Code::NOT_FOUND);
        assert_eq!(code(&c.kill("", 9).await), Code::NOT_FOUND);
        assert_eq!(code(&c.delete("").await), Code::NOT_FOUND);
        assert_eq!(code(&c.wait("").await), Code::NOT_FOUND);
        assert_eq!(code(&c.exec("e", &["true"]).await), Code::NOT_FOUND);
        assert_eq!(code(&c.stats().await), Code::NOT_FOUND);
    }

    async fn g5_pausing_can_be_seen_and_no_exec_starts_while_paused(lab) {
        let c = lab.plan("g5").fake().run().await;
        c.run_exec("e", &["sleep", "1000"]).await.unwrap();
        c.exec("f", &["true"]).await.unwrap();
        lab.fake().set(&[on("pause").before(2000)]);
        let pausing = beside({
            let c = c.clone();
            async move { c.pause().await }
        });
        lab.fake().begun("pause", 1).await;
        assert_eq!(c.status("").await.unwrap(), Status::PAUSING);
        pausing.await.unwrap().unwrap();
        assert_eq!(c.status("").await.unwrap(), Status::PAUSED);
        assert_eq!(c.status("e").await.unwrap(), Status::PAUSED);
        assert_ne!(code(&c.start("f").await), Code::OK);
        assert_ne!(code(&c.exec("g", &["true"]).await), Code::OK);
        c.resume().await.unwrap();
        assert_eq!(c.status("e").await.unwrap(), Status::RUNNING);
    }

    async fn g5_a_pause_that_fails_leaves_the_container_running(lab) {
        let c = lab.plan("g5").fake().run().await;
        lab.fake().set(&[on("pause").fails("unable to freeze")]);
        assert_ne!(code(&c.pause().await), Code::OK);
        until_is(Status::RUNNING, || async { c.status("").await.unwrap() }).await;
        lab.fake().set(&[]);
        c.pause().await.unwrap();
        c.resume().await.unwrap();
    }

    async fn g6_every_signal_number_is_taken(lab) {
        let c = lab
            .plan("g6")
            .script("trap 'echo' 34 64; trap '' 10; while true; do sleep 0.1; done")
            .run()
            .await;
        for signal in [0, 10, 17, 18] {
            c.kill("", signal).await.unwrap_or_else(|error| panic!("signal {signal}: {error}"));
        }
        assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
        c.run_exec("e", &["sleep", "1000"]).await.unwrap();
        c.kill("e", 0).await.unwrap();
        c.kill("e", 64).await.unwrap();
        assert_eq!(c.wait("e").await.unwrap().exit_status, 128 + 64);
        assert_ne!(code(&c.kill("", 65).await), Code::OK);
        assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
    }
}
