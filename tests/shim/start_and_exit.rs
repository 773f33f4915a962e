//! Rows A: how processes start and end.

use std::time::{Duration, Instant};

use gam_protos::types::Status;
use gam_tests::shim::event::Kind;
use gam_tests::shim::fake::on;
use gam_tests::shim::process::{Proc, children};
use gam_tests::shim::{code, together, until};
use ttrpc::Code;

use crate::cases;

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
        for exec in together(execs).await {
            lab.events().wait_for(Kind::Exit, "a3", &exec).await;
        }
    }

    async fn a4_init_exit_waits_for_running_execs(lab) {
        lab.fake().set(&[on("exec").middle(500).after(500)]);
        let c = lab.plan("a4").fake().run().await;
        c.exec("e", &["sleep", "1"]).await.unwrap();
        let starting = {
            let c = c.clone();
            tokio::spawn(async move { c.start("e").await })
        };
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

    async fn a6_nothing_survives_init_without_a_pid_namespace(lab) {
        let c = lab.plan("a6").shared_pids().script("sleep 1000 & sleep 1000 & exec sleep 1000").run().await;
        let mut pids = c.pids().await.unwrap();
        for _ in 0..100 {
            if pids.len() >= 3 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            pids = c.pids().await.unwrap();
        }
        assert!(pids.len() >= 3, "{pids:?}");
        let all: Vec<Proc> = pids.iter().filter_map(|pid| Proc::of(*pid)).collect();
        c.kill("", 9).await.unwrap();
        c.wait("").await.unwrap();
        until("no process of the container lives", || !all.iter().any(|process| process.alive())).await;
    }

    async fn a6_nothing_survives_init_if_the_spec_cannot_be_read(lab) {
        let c = lab.plan("a6").shared_pids().script("sleep 1000 & exec sleep 1000").create().await;
        std::fs::write(c.bundle().join("config.json"), "{").unwrap();
        c.start("").await.unwrap();
        let mut pids = Vec::new();
        for _ in 0..100 {
            pids = c.pids().await.unwrap();
            if pids.len() >= 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let all: Vec<Proc> = pids.iter().filter_map(|pid| Proc::of(*pid)).collect();
        c.kill("", 9).await.unwrap();
        c.wait("").await.unwrap();
        until("no process of the container lives", || !all.iter().any(|process| process.alive())).await;
    }

    async fn a7_init_that_dies_before_start_is_stopped(lab) {
        lab.fake().set(&[on("create").dies().after(300)]);
        let (c, created) = lab.plan("a7").fake().try_create().await;
        if created.is_ok() {
            for _ in 0..500 {
                if c.status("").await.unwrap() == Status::STOPPED {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(c.status("").await.unwrap(), Status::STOPPED);
            assert_ne!(code(&c.start("").await), Code::OK);
            c.delete("").await.unwrap();
        }
        c.remove().await;
    }

    async fn a7_init_that_is_killed_after_create_is_stopped(lab) {
        let c = lab.plan("a7").create().await;
        Proc::of(c.pid()).unwrap().kill();
        assert_eq!(c.wait("").await.unwrap().exit_status, 137);
        assert_eq!(c.status("").await.unwrap(), Status::STOPPED);
        assert_ne!(code(&c.start("").await), Code::OK);
    }

    async fn a8_fifty_parallel_execs_do_not_wedge_the_shim(lab) {
        let c = lab.plan("a8").fake().run().await;
        let execs = (0..50).map(|n| {
            let c = c.clone();
            async move {
                let id = format!("e{n}");
                c.run_exec(&id, &["true"]).await.unwrap();
                assert_eq!(c.wait(&id).await.unwrap().exit_status, 0);
                c.delete(&id).await.unwrap();
            }
        });
        together(execs).await;
        lab.events()
            .until("50 exits", |list| list.iter().filter(|event| event.kind == Kind::Exit).count() == 50)
            .await;
        assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
    }

    async fn a9_no_exit_is_lost_when_everything_dies_at_once(lab) {
        let c = lab.plan("a9").fake().run().await;
        let starts = (0..40).map(|n| {
            let c = c.clone();
            async move { c.run_exec(&format!("e{n}"), &["sleep", "1000"]).await.unwrap() }
        });
        let pids = together(starts).await;
        pids.iter().filter_map(|pid| Proc::of(*pid)).for_each(Proc::kill);
        Proc::of(c.pid()).unwrap().kill();
        let waits = (0..40).map(|n| {
            let c = c.clone();
            async move { c.wait(&format!("e{n}")).await.unwrap().exit_status }
        });
        assert_eq!(together(waits).await, vec![137; 40]);
        assert_eq!(c.wait("").await.unwrap().exit_status, 137);
        lab.events().wait_for(Kind::Exit, "a9", "").await;
    }

    async fn a12_a_started_exec_has_its_pid_and_state_does_not_wait_for_it(lab) {
        lab.fake().set(&[on("exec").middle(3000)]);
        let c = lab.plan("a12").fake().run().await;
        c.exec("e", &["sleep", "1000"]).await.unwrap();
        let starting = {
            let c = c.clone();
            tokio::spawn(async move { c.start("e").await.unwrap() })
        };
        lab.fake().begun("exec", 1).await;
        let since = Instant::now();
        c.state("e").await.unwrap();
        c.state("").await.unwrap();
        c.pids().await.unwrap();
        assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
        let pid = starting.await.unwrap();
        assert_ne!(pid, 0);
        let state = c.state("e").await.unwrap();
        assert_eq!((state.pid, state.status.enum_value_or_default()), (pid, Status::RUNNING));
    }

    async fn a13_an_exec_id_is_given_once(lab) {
        let c = lab.plan("a13").fake().run().await;
        let both = (0..2).map(|_| {
            let c = c.clone();
            async move { code(&c.exec("e", &["true"]).await) }
        });
        let mut codes = together(both).await;
        codes.sort_by_key(|code| *code as i32);
        assert_eq!(codes, [Code::OK, Code::ALREADY_EXISTS]);
        c.start("e").await.unwrap();
        c.wait("e").await.unwrap();
        assert_eq!(code(&c.exec("e", &["true"]).await), Code::ALREADY_EXISTS);
        c.delete("e").await.unwrap();
        c.run_exec("e", &["true"]).await.unwrap();
        c.wait("e").await.unwrap();
    }

    async fn a14_an_exec_that_fails_to_start_holds_nothing_up(lab) {
        lab.fake().set(&[on("exec").fails("exec failed: no such file or directory")]);
        let c = lab.plan("a14").fake().run().await;
        c.exec("e", &["nothing"]).await.unwrap();
        assert_ne!(code(&c.start("e").await), Code::OK);
        c.kill("", 9).await.unwrap();
        lab.events().wait_for(Kind::Exit, "a14", "").await;
        assert_eq!(lab.events().count(Kind::Exit, "a14", "e"), 0);
        assert_eq!(lab.events().count(Kind::ExecStarted, "a14", "e"), 0);
        c.delete("e").await.unwrap();
    }

    async fn a14_an_exec_whose_command_is_missing_holds_nothing_up(lab) {
        let c = lab.plan("a14").run().await;
        c.exec("e", &["/nowhere"]).await.unwrap();
        assert_ne!(code(&c.start("e").await), Code::OK);
        c.kill("", 9).await.unwrap();
        lab.events().wait_for(Kind::Exit, "a14", "").await;
    }

    async fn a15_kill_of_an_exec_that_does_not_run(lab) {
        let c = lab.plan("a15").fake().run().await;
        c.exec("e", &["true"]).await.unwrap();
        assert_eq!(code(&c.kill("e", 9).await), Code::FAILED_PRECONDITION);
        c.start("e").await.unwrap();
        c.wait("e").await.unwrap();
        assert_eq!(code(&c.kill("e", 9).await), Code::NOT_FOUND);
        assert_eq!(code(&c.kill("nobody", 9).await), Code::NOT_FOUND);
    }

    async fn a16_orphans_of_containers_are_reaped_and_not_reported(lab) {
        let script = "for i in 1 2 3 4 5; do (sleep 0.1 & sleep 0.2 &) ; done; exec sleep 1000";
        let c = lab.plan("a16").shared_pids().script(script).run().await;
        let shim = c.shim().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        until("no zombie below the shim", || !children(shim.pid).iter().any(|(_, zombie)| *zombie)).await;
        assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
        assert_eq!(lab.events().list().iter().filter(|event| event.kind == Kind::Exit).count(), 0);
    }
}
