//! Rows F: events arrive, in order, however containerd behaves.

use std::time::Duration;

use gam_protos::types::Status;
use gam_tests::shim::event::{Kind, Mood};
use gam_tests::shim::{Subject, together, until, within};

use crate::cases;

cases! {
    async fn f1_every_event_of_many_containers_arrives(lab) {
        let keeper = lab.plan("keeper").fake().group("keeper").run().await;
        let all = (0..8).map(|n| {
            let plan = lab.plan(&format!("f{n}")).fake().group("keeper").script("exit 0");
            async move {
                let c = plan.run().await;
                c.wait("").await.unwrap();
                c.delete("").await.unwrap();
                c.id().to_owned()
            }
        });
        for id in together(all).await {
            for kind in [Kind::Create, Kind::Start, Kind::Exit, Kind::Delete] {
                lab.events().wait_for(kind, &id, "").await;
            }
        }
        keeper.state("").await.unwrap();
    }

    async fn f2_a_slow_listener_gets_everything(lab) {
        lab.events().be(Mood::Slow(Duration::from_millis(300)));
        let c = lab.plan("f2").fake().run().await;
        for n in 0..5 {
            let id = format!("e{n}");
            c.run_exec(&id, &["true"]).await.unwrap();
            c.wait(&id).await.unwrap();
        }
        c.kill("", 9).await.unwrap();
        lab.events().wait_for(Kind::Exit, "f2", "").await;
    }

    async fn f3_events_are_kept_while_containerd_is_away(lab) {
        let c = lab.plan("f3").fake().script("sleep 1; exit 6").run().await;
        lab.events().wait_for(Kind::Start, "f3", "").await;
        lab.events().away().await;
        assert_eq!(c.wait("").await.unwrap().exit_status, 6);
        assert_eq!(c.status("").await.unwrap(), Status::STOPPED);
        // Longer than the 1 + 2 + 3 + 4 + 5 s after which containerd's own publisher gives an event up.
        tokio::time::sleep(Duration::from_secs(18)).await;
        lab.events().back().await;
        assert_eq!(lab.events().wait_for(Kind::Exit, "f3", "").await.status, 6);
    }

    async fn f4_what_is_refused_is_not_overtaken(lab) {
        lab.events().be(Mood::Refusing(6));
        let c = lab.plan("f4").fake().script("exit 1").run().await;
        c.wait("").await.unwrap();
        c.delete("").await.unwrap();
        lab.events().wait_for(Kind::Delete, "f4", "").await;
        let kinds: Vec<Kind> = lab.events().of("f4").iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [Kind::Create, Kind::Start, Kind::Exit, Kind::Delete]);
    }

    async fn f4_a_restart_of_the_listener_keeps_the_order(lab) {
        let c = lab.plan("f4").fake().run().await;
        for n in 0..12 {
            let id = format!("e{n}");
            if n % 4 == 1 {
                lab.events().away().await;
            }
            c.run_exec(&id, &["true"]).await.unwrap();
            c.wait(&id).await.unwrap();
            if n % 4 == 2 {
                lab.events().back().await;
            }
        }
        c.kill("", 9).await.unwrap();
        lab.events().back().await;
        lab.events().wait_for(Kind::Exit, "f4", "").await;
    }

    async fn f5_a_listener_that_stands_still_does_not_keep_the_shim(lab) {
        let c = lab.plan("f5").fake().run().await;
        lab.events().wait_for(Kind::Start, "f5", "").await;
        lab.events().be(Mood::Still);
        let shim = c.shim().await;
        c.kill("", 9).await.unwrap();
        c.wait("").await.unwrap();
        within(Duration::from_secs(5), "Delete", c.delete("")).await.unwrap();
        c.remove().await;
        until("the shim has gone", || !shim.alive()).await;
        lab.expect_no_exit();
    }

    async fn f7_the_last_events_are_not_lost_when_the_shim_leaves(lab) {
        let c = lab.plan("f7").fake().run().await;
        lab.events().be(Mood::Slow(Duration::from_millis(400)));
        c.kill("", 9).await.unwrap();
        c.wait("").await.unwrap();
        c.delete("").await.unwrap();
        c.remove().await;
        lab.events().wait_for(Kind::Delete, "f7", "").await;
    }

    async fn f6_oom_is_in_the_same_queue(lab) {
        // A container that allocates far more than it may: dd's buffer is touched whole.
        let c = lab
            .plan("f6")
            .memory(8 << 20)
            .script("dd if=/dev/zero of=/dev/null bs=64M count=1; exit 1")
            .run()
            .await;
        let exit = c.wait("").await.unwrap();
        lab.events().wait_for(Kind::Exit, "f6", "").await;
        if lab.subject() == Subject::Gam {
            assert_ne!(exit.exit_status, 0);
            assert_eq!(lab.events().count(Kind::Oom, "f6", ""), 1, "{}", lab.events().text());
        }
    }
}
