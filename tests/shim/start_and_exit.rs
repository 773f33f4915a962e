//! Rows A: how processes start and end.

use futures_like::join_all;
use gam_protos::types::Status;
use gam_tests::shim::code;
use gam_tests::shim::event::Kind;
use gam_tests::shim::fake::on;
use ttrpc::Code;

use crate::cases;

mod futures_like {
    /// Runs all at once, answers all outcomes.
    pub(crate) async fn join_all<T: Send + 'static>(
        all: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
    ) -> Vec<T> {
        let all: Vec<_> = all.into_iter().map(tokio::spawn).collect();
        let mut done = Vec::new();
        for one in all {
            done.push(one.await.expect("no panic"));
        }
        done
    }
}

cases! {
    async fn a_whole_life_with_runc(lab) {
        let c = lab.plan("life").output().script("echo out; exit 7").create().await;
        assert_eq!(c.status("").await.unwrap(), Status::CREATED);
        let pid = c.start("").await.unwrap();
        assert_eq!(pid, c.pid());
        assert_eq!(c.wait("").await.unwrap().exit_status, 7);
        c.stdout().until("out\n").await;
        let exit = lab.events().wait_for(Kind::Exit, "life", "").await;
        assert_eq!((exit.pid, exit.status), (pid, 7));
        let deleted = c.delete("").await.unwrap();
        assert_eq!((deleted.pid, deleted.exit_status), (pid, 7));
        lab.events().wait_for(Kind::Delete, "life", "").await;
        c.remove().await;
    }

    async fn a_whole_life_with_the_fake_runtime(lab) {
        let c = lab.plan("fake").fake().run().await;
        c.run_exec("e", &["sh", "-c", "exit 3"]).await.unwrap();
        assert_eq!(c.wait("e").await.unwrap().exit_status, 3);
        assert_eq!(c.delete("e").await.unwrap().exit_status, 3);
        c.kill("", 9).await.unwrap();
        assert_eq!(c.wait("").await.unwrap().exit_status, 137);
        c.end().await;
    }

    async fn a1_start_is_published_before_the_exit_it_meets(lab) {
        lab.fake().set(&[on("start").after(400)]);
        let c = lab.plan("a1").fake().args(&["true"]).run().await;
        assert_eq!(c.wait("").await.unwrap().exit_status, 0);
        lab.events().wait_for(Kind::Exit, "a1", "").await;
        let kinds: Vec<Kind> = lab.events().of("a1").iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [Kind::Create, Kind::Start, Kind::Exit]);
    }

    async fn a1_exec_started_is_published_before_the_exit_it_meets(lab) {
        lab.fake().set(&[on("exec").after(400)]);
        let c = lab.plan("a1").fake().run().await;
        c.run_exec("e", &["sh", "-c", "exit 5"]).await.unwrap();
        assert_eq!(c.wait("e").await.unwrap().exit_status, 5);
        lab.events().wait_for(Kind::Exit, "a1", "e").await;
    }

    async fn a2_init_exit_is_the_last_exit(lab) {
        let c = lab.plan("a2").run().await;
        for exec in ["e1", "e2", "e3"] {
            c.run_exec(exec, &["sleep", "1000"]).await.unwrap();
        }
        c.kill("", 9).await.unwrap();
        lab.events().wait_for(Kind::Exit, "a2", "").await;
        for exec in ["e1", "e2", "e3"] {
            assert_eq!(lab.events().count(Kind::Exit, "a2", exec), 1);
        }
    }

    async fn a3_every_one_of_many_execs_is_seen_to_exit(lab) {
        let c = lab.plan("a3").run().await;
        let execs = (0..30).map(|n| {
            let c = c.clone();
            async move {
                let id = format!("e{n}");
                c.run_exec(&id, &["sh", "-c", &format!("exit {n}")]).await.unwrap();
                assert_eq!(c.wait(&id).await.unwrap().exit_status, n);
                c.delete(&id).await.unwrap();
                id
            }
        });
        for exec in join_all(execs).await {
            lab.events().wait_for(Kind::Exit, "a3", &exec).await;
        }
    }

    async fn a4_init_exit_waits_for_running_execs(lab) {
        lab.fake().set(&[on("exec").middle(500).after(500)]);
        let c = lab.plan("a4").fake().run().await;
        c.exec("e", &["sleep", "1"]).await.unwrap();
        let starting = { let c = c.clone(); tokio::spawn(async move { c.start("e").await }) };
        lab.fake().begun("exec", 1).await;
        c.kill("", 9).await.unwrap();
        let started = starting.await.unwrap();
        lab.events().wait_for(Kind::Exit, "a4", "").await;
        assert_eq!(lab.events().count(Kind::Exit, "a4", "e"), usize::from(started.is_ok()));
        assert_eq!(c.status("").await.unwrap(), Status::STOPPED);
    }

    async fn a5_no_exec_starts_once_init_has_ended(lab) {
        let c = lab.plan("a5").fake().run().await;
        c.exec("e", &["true"]).await.unwrap();
        c.kill("", 9).await.unwrap();
        c.wait("").await.unwrap();
        assert_eq!(code(&c.start("e").await), Code::FAILED_PRECONDITION);
        assert_eq!(lab.fake().count("exec"), 0);
        assert_eq!(code(&c.exec("f", &["true"]).await), Code::FAILED_PRECONDITION);
    }
}
