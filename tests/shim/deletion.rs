//! Rows D: deleting, and what must not be left.

use std::process::Command;
use std::time::{Duration, Instant};

use gam_protos::types::Status;
use gam_tests::shim::event::Kind;
use gam_tests::shim::fake::on;
use gam_tests::shim::process::{Proc, Streams, run};
use gam_tests::shim::{Subject, code, until, wire, within};
use ttrpc::Code;

use crate::cases;

cases! {
    async fn d1_delete_is_quick_and_the_shim_leaves_without_shutdown(lab) {
        let c = lab.plan("d1").run().await;
        let shim = c.shim().await;
        c.kill("", 9).await.unwrap();
        c.wait("").await.unwrap();
        within(Duration::from_secs(5), "Delete", c.delete("")).await.unwrap();
        c.close();
        if lab.subject() == Subject::Gam {
            until("the shim has gone without a Shutdown", || !shim.alive()).await;
        }
        c.delete_command().await.unwrap();
        c.redial_or_forget().await;
        until("the shim has gone", || !shim.alive()).await;
    }

    async fn d2_a_deleted_task_answers_the_same_again(lab) {
        let keeper = lab.plan("keeper").fake().group("keeper").run().await;
        let c = lab.plan("d2").fake().group("keeper").script("exit 9").run().await;
        c.wait("").await.unwrap();
        let first = c.delete("").await.unwrap();
        assert_eq!(first.exit_status, 9);
        assert_eq!(c.delete("").await.unwrap(), first);
        let state = c.state("").await.unwrap();
        assert_eq!((state.status.enum_value_or_default(), state.exit_status), (Status::STOPPED, 9));
        assert_eq!(code(&c.pids().await), Code::NOT_FOUND);
        assert_eq!(lab.events().count(Kind::Delete, "d2", ""), 1);
        c.shutdown().await.unwrap();
        assert_eq!(code(&c.state("").await), Code::NOT_FOUND);
        keeper.state("").await.unwrap();
    }

    async fn d2_an_id_can_be_used_again_after_delete(lab) {
        let keeper = lab.plan("keeper").fake().group("keeper").run().await;
        let c = lab.plan("d2").fake().group("keeper").script("exit 9").run().await;
        c.wait("").await.unwrap();
        c.delete("").await.unwrap();
        c.create().await.unwrap();
        assert_eq!(c.status("").await.unwrap(), Status::CREATED);
        c.end().await;
        keeper.state("").await.unwrap();
    }

    async fn d3_shutdown_is_ignored_while_tasks_remain(lab) {
        let a = lab.plan("a").fake().group("a").run().await;
        let b = lab.plan("b").fake().group("a").run().await;
        for _ in 0..3 {
            a.shutdown().await.unwrap();
            b.shutdown().await.unwrap();
        }
        a.end().await;
        b.shutdown().await.unwrap();
        assert_eq!(b.status("").await.unwrap(), Status::RUNNING);
        let shim = b.shim().await;
        b.end().await;
        until("the shim has gone", || !shim.alive()).await;
    }

    async fn d5_pids_tells_known_tasks_from_unknown(lab) {
        let c = lab.plan("d5").fake().script("sleep 1").boot().await;
        assert_eq!(code(&c.pids().await), Code::NOT_FOUND);
        c.create().await.unwrap();
        assert_eq!(c.pids().await.unwrap(), [c.pid()]);
        c.start("").await.unwrap();
        assert_eq!(c.pids().await.unwrap(), [c.pid()]);
        c.wait("").await.unwrap();
        assert_eq!(c.pids().await.unwrap(), [c.pid()]);
    }

    async fn d6_a_failed_create_leaves_nothing(lab) {
        lab.fake().set(&[on("create").fails_late("runc did not like it")]);
        let (c, created) = lab.plan("d6").fake().mounted().try_create().await;
        assert_ne!(code(&created), Code::OK);
        // The end of the case finds a process, a mount or a state that is left.
        until("the runtime's state is gone", || {
            !lab.runtime_root().join(lab.namespace()).join("d6").exists()
        })
        .await;
        assert_eq!(code(&c.pids().await), Code::NOT_FOUND);
        c.remove().await;
    }

    async fn d6_create_works_after_it_failed(lab) {
        lab.fake().set(&[on("create").fails_late("runc did not like it")]);
        let (c, created) = lab.plan("d6").fake().try_create().await;
        assert_ne!(code(&created), Code::OK);
        lab.fake().set(&[]);
        c.create().await.unwrap();
        c.start("").await.unwrap();
        assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
    }

    async fn d7_the_address_is_in_the_bundle_and_the_socket_goes_with_the_shim(lab) {
        let c = lab.plan("d7").fake().run().await;
        assert_eq!(std::fs::read_to_string(c.bundle().join("address")).unwrap(), c.address());
        let socket = wire::socket(c.address());
        assert!(socket.exists());
        c.end().await;
        until("the socket is gone", || !socket.exists()).await;
    }

    async fn d8_a_stale_socket_is_replaced(lab) {
        let c = lab.plan("d8").fake().run().await;
        let shim = c.shim().await;
        shim.kill();
        until("the shim is dead", || !shim.alive()).await;
        lab.expect_no_exit();
        c.close();
        let again = lab.plan("d8b").fake().run().await;
        assert_eq!(again.status("").await.unwrap(), Status::RUNNING);
        c.remove().await;
        let same = lab.plan("d8").fake().run().await;
        assert_eq!(same.status("").await.unwrap(), Status::RUNNING);
    }

    async fn d9_start_that_cannot_serve_says_so(lab) {
        let bundle = lab.plan("d9").bundle();
        let mut command = Command::new(lab.command("n", "d9", &bundle, false).get_program());
        command.arg("start").current_dir(&bundle);
        let answer = run(command, Streams::Together, Duration::from_secs(10)).unwrap();
        assert!(!answer.status.success(), "{answer:?}");
        assert!(!answer.output.is_empty());
        if lab.subject() == Subject::Gam {
            std::fs::write(lab.config_file(), "no_such_key = 1\n").unwrap();
            let mut command = lab.command(lab.namespace(), "d9", &bundle, false);
            command.arg("start");
            let answer = run(command, Streams::Together, Duration::from_secs(10)).unwrap();
            assert!(!answer.status.success(), "{answer:?}");
            assert!(answer.text().contains("no_such_key"), "{}", answer.text());
        }
    }

    async fn d11_a_mounted_rootfs_is_unmounted(lab) {
        let c = lab.plan("d11").mounted().run().await;
        c.kill("", 9).await.unwrap();
        c.wait("").await.unwrap();
        c.delete("").await.unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*c.bundle().to_string_lossy()));
        c.remove().await;
    }

    async fn d12_a_container_that_the_runtime_has_lost_can_be_deleted(lab) {
        let c = lab.plan("d12").fake().script("exit 2").run().await;
        c.wait("").await.unwrap();
        lab.run_fake(&["delete", "d12"]);
        assert_eq!(c.delete("").await.unwrap().exit_status, 2);
        lab.events().wait_for(Kind::Delete, "d12", "").await;
        c.remove().await;
    }

    async fn d13_the_cgroup_is_gone_with_the_container(lab) {
        let script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; exec sleep 1000";
        let c = lab.plan("d13").shared_pids().script(script).run().await;
        c.kill("", 9).await.unwrap();
        c.wait("").await.unwrap();
        c.delete("").await.unwrap();
        let group = format!("/sys/fs/cgroup/memory/gs-{}-d13", lab.namespace());
        until("the cgroup is gone", || !std::path::Path::new(&group).exists()).await;
        c.remove().await;
    }

    async fn d14_a_whole_life_has_one_exit_with_the_real_code(lab) {
        let c = lab.plan("d14").fake().script("exit 42").run().await;
        c.wait("").await.unwrap();
        assert_eq!(c.delete("").await.unwrap().exit_status, 42);
        c.remove().await;
        lab.events().wait_for(Kind::Delete, "d14", "").await;
        let of = lab.events().of("d14");
        let exits: Vec<u32> =
            of.iter().filter(|event| event.kind == Kind::Exit).map(|event| event.status).collect();
        assert_eq!(exits, [42]);
    }

    async fn d14_the_delete_command_answers_the_recorded_exit(lab) {
        let keeper = lab.plan("keeper").fake().group("keeper").run().await;
        let c = lab.plan("d14").fake().group("keeper").script("exit 42").run().await;
        c.wait("").await.unwrap();
        c.delete("").await.unwrap();
        c.close();
        let answer = c.delete_command().await.unwrap();
        assert_eq!((answer.pid, answer.exit_status), (c.pid(), 42));
        assert_eq!(keeper.status("").await.unwrap(), Status::RUNNING);
        c.redial_or_forget().await;
    }

    async fn d15_a_failed_create_publishes_nothing(lab) {
        lab.fake().set(&[on("create").fails("exec: \"nothing\": executable file not found in $PATH")]);
        let (c, created) = lab.plan("d15").fake().try_create().await;
        let error = created.unwrap_err().to_string();
        assert!(error.contains("executable file not found"), "{error}");
        let real = lab.plan("d15b").args(&["/nowhere"]).boot().await;
        if real.create().await.is_ok() {
            assert_ne!(code(&real.start("").await), Code::OK);
        }
        c.remove().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(lab.events().of("d15").len(), 0);
    }

    async fn d16_delete_after_a_dead_shim_has_the_pid_and_137(lab) {
        let c = lab.plan("d16").run().await;
        let shim = c.shim().await;
        shim.kill();
        until("the shim is dead", || !shim.alive()).await;
        c.close();
        let init = Proc::of(c.pid());
        let answer = c.delete_command().await.unwrap();
        assert_eq!((answer.pid, answer.exit_status), (c.pid(), 137));
        assert!(answer.exited_at.is_some());
        until("init is dead", || !init.is_some_and(Proc::alive)).await;
        c.forget();
        lab.expect_no_exit();
    }

    async fn d16_a_runtime_that_takes_long_does_not_keep_delete_from_answering(lab) {
        let c = lab.plan("d16").fake().run().await;
        let shim = c.shim().await;
        shim.kill();
        until("the shim is dead", || !shim.alive()).await;
        c.close();
        let init = Proc::of(c.pid());
        lab.fake().set(&[on("delete").before(7000)]);
        let since = Instant::now();
        let answer = c.delete_command().await.unwrap();
        // containerd kills it after five seconds.
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
        assert_eq!((answer.pid, answer.exit_status), (c.pid(), 137));
        assert!(!init.is_some_and(Proc::alive), "the end that is told of has come");
        let state = lab.runtime_root().join(lab.namespace()).join("d16");
        assert!(state.exists(), "the runtime was quicker than it was told to be");
        c.forget();
        until("the runtime has gone on", || !state.exists()).await;
        lab.expect_no_exit();
    }

    async fn d16_what_is_being_made_when_the_shim_dies_is_not_made_after_delete(lab) {
        let keeper = lab.plan("keeper").fake().group("d16").run().await;
        lab.fake().set(&[on("create").of("d16").before(1500)]);
        let c = lab.plan("d16").fake().group("d16").boot().await;
        let shim = keeper.shim().await;
        let creating = tokio::spawn({
            let c = c.clone();
            async move { c.create().await }
        });
        lab.fake().begun("create", 2).await;
        shim.kill();
        until("the shim is dead", || !shim.alive()).await;
        c.close();
        assert!(creating.await.unwrap().is_err());
        let answer = c.delete_command().await.unwrap();
        assert_eq!(answer.exit_status, 137);
        assert_eq!(lab.fake().count("delete"), 1, "the runtime is asked once, when it has made it");
        assert!(!lab.runtime_root().join(lab.namespace()).join("d16").exists());
        keeper.close();
        keeper.delete_command().await.unwrap();
        keeper.forget();
        // The end of the case finds a process that is left.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!lab.runtime_root().join(lab.namespace()).join("d16").exists());
        c.forget();
        lab.expect_no_exit();
    }

    async fn d17_delete_uses_the_root_and_binary_of_the_options(lab) {
        let c = lab.plan("d17").fake().run().await;
        let shim = c.shim().await;
        shim.kill();
        until("the shim is dead", || !shim.alive()).await;
        c.close();
        let init = Proc::of(c.pid());
        let since = Instant::now();
        c.delete_command().await.unwrap();
        assert!(since.elapsed() < Duration::from_secs(5));
        until("init is dead", || !init.is_some_and(Proc::alive)).await;
        assert!(lab.fake().count("delete") > 0, "the runtime of the options was not asked");
        assert!(!lab.runtime_root().join(lab.namespace()).join("d17").exists());
        c.forget();
        lab.expect_no_exit();
    }

    async fn d20_a_running_task_is_not_deleted(lab) {
        let c = lab.plan("d20").fake().run().await;
        assert_eq!(code(&c.delete("").await), Code::FAILED_PRECONDITION);
        assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
        c.run_exec("e", &["sleep", "1000"]).await.unwrap();
        assert_eq!(code(&c.delete("e").await), Code::FAILED_PRECONDITION);
        assert_eq!(c.status("e").await.unwrap(), Status::RUNNING);
        assert!(Proc::of(c.pid()).is_some_and(Proc::alive));
    }

    async fn d18_sigterm_ends_the_shim_in_order(lab) {
        let c = lab.plan("d").fake().group("d").run().await;
        c.kill("", 9).await.unwrap();
        c.wait("").await.unwrap();
        let shim = c.shim().await;
        c.delete("").await.unwrap();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(shim.pid as i32),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        if lab.subject() == Subject::Gam {
            until("the shim has gone", || !shim.alive()).await;
        }
    }

    async fn d15_the_delete_command_ends_what_is_being_started(lab) {
        if lab.subject() != Subject::Gam {
            return;
        }
        let keeper = lab.plan("keeper").fake().group("keeper").run().await;
        lab.fake().set(&[on("start").of("d15").before(1500)]);
        let c = lab.plan("d15").fake().group("keeper").create().await;
        let asked = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            c.delete_command().await
        };
        let (_, deleted) = tokio::join!(c.start(""), asked);
        assert_eq!(deleted.unwrap().pid, c.pid());
        assert_eq!(code(&c.pids().await), Code::NOT_FOUND);
        lab.fake().set(&[]);
        c.create().await.unwrap();
        c.end().await;
        assert_eq!(keeper.status("").await.unwrap(), Status::RUNNING);
    }

    async fn g1_what_ended_while_it_was_paused_can_be_deleted(lab) {
        if lab.subject() != Subject::Gam {
            return;
        }
        lab.fake().set(&[on("pause").after(1000)]);
        let c = lab.plan("g1").fake().run().await;
        let ended = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            c.kill("", 9).await.unwrap();
            c.wait("").await.unwrap();
            c.delete("").await
        };
        let (_, deleted) = tokio::join!(c.pause(), ended);
        assert_eq!(deleted.unwrap().exit_status, 137);
        c.remove().await;
    }

    async fn d6_what_a_failed_create_left_is_deleted_by_the_command(lab) {
        if lab.subject() != Subject::Gam {
            return;
        }
        lab.fake().set(&[on("create").fails_late("runc did not like it"), on("delete").fails("not now")]);
        let (c, created) = lab.plan("d6").fake().try_create().await;
        assert_ne!(code(&created), Code::OK);
        lab.fake().set(&[]);
        c.close();
        c.delete_command().await.unwrap();
        assert!(!lab.runtime_root().join(lab.namespace()).join("d6").exists());
        c.forget();
    }

    async fn d16_no_exec_takes_the_pid_of_init_away(lab) {
        let c = lab.plan("d16").fake().run().await;
        c.run_exec("init", &["true"]).await.unwrap();
        c.wait("init").await.unwrap();
        if lab.subject() == Subject::Gam {
            let text = std::fs::read_to_string(c.bundle().join("init.pid")).unwrap();
            assert_eq!(text.trim(), c.pid().to_string());
        }
    }

    async fn d5_a_create_whose_connection_closed_is_undone(lab) {
        if lab.subject() != Subject::Gam {
            return;
        }
        let keeper = lab.plan("keeper").fake().group("keeper").run().await;
        lab.fake().set(&[on("create").of("d5").before(800)]);
        let c = lab.plan("d5").fake().group("keeper").boot().await;
        assert!(tokio::time::timeout(Duration::from_millis(300), c.create()).await.is_err());
        c.close();
        until("it has been made and undone", || lab.fake().count("delete") > 0).await;
        c.redial().await;
        let state = lab.runtime_root().join(lab.namespace()).join("d5");
        until("the runtime's state is gone", || !state.exists()).await;
        assert_eq!(code(&c.pids().await), Code::NOT_FOUND);
        c.forget();
        assert_eq!(keeper.status("").await.unwrap(), Status::RUNNING);
    }
}
