//! Rows C: what is read and written, as far as it is the protocol's.

use std::time::Duration;

use gam_protos::types::Status;
use gam_tests::shim::fake::on;
use tokio::io::AsyncWriteExt as _;

use gam_tests::shim::{fifo, together, until, within};

use crate::cases;

cases! {
    async fn c1_a_child_that_holds_stdout_does_not_hold_delete(lab) {
        let c = lab.plan("c1").shared_pids().run().await;
        let (request, [out, _err]) = c.exec_request_with_output("e", &["sh", "-c", "echo here; sleep 1000 & exit 0"]);
        c.exec_with(request).await.unwrap();
        c.start("e").await.unwrap();
        assert_eq!(c.wait("e").await.unwrap().exit_status, 0);
        out.until("here").await;
        within(Duration::from_secs(20), "Delete of the exec", c.delete("e")).await.unwrap();
        c.kill("", 9).await.unwrap();
        c.wait("").await.unwrap();
        within(Duration::from_secs(20), "Delete", c.delete("")).await.unwrap();
    }

    async fn c2_everything_that_was_written_arrives(lab) {
        let c = lab.plan("c2").output().script("yes 0123456789abcde | head -n 100000; echo END").run().await;
        assert_eq!(c.wait("").await.unwrap().exit_status, 0);
        c.stdout().until("END\n").await;
        assert_eq!(c.stdout().text().len(), 100_000 * 16 + 4);
    }

    async fn c4_a_stdin_that_nobody_opens_holds_nothing_up(lab) {
        let plan = lab.plan("c4").stdin().output().script("echo up; exec cat");
        let c = within(Duration::from_secs(20), "Create and Start", plan.run()).await;
        c.stdout().until("up").await;
        assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
    }

    async fn c5_close_io_ends_the_input(lab) {
        let c = lab.plan("c5").stdin().output().args(&["cat"]).run().await;
        fifo::write(c.stdin(), b"hello\n").await.unwrap();
        c.stdout().until("hello\n").await;
        c.close_io("").await.unwrap();
        assert_eq!(within(Duration::from_secs(20), "Wait", c.wait("")).await.unwrap().exit_status, 0);
    }

    async fn c5_close_io_before_start_is_remembered(lab) {
        let c = lab.plan("c5").run().await;
        let stdin = lab.directory().join("e-in");
        fifo::make(&stdin);
        let (mut request, [out, _err]) = c.exec_request_with_output("e", &["cat"]);
        request.stdin = stdin.to_string_lossy().into_owned();
        // The client's end: open, and written to, before anybody reads.
        let mut client = fifo::hold(&stdin);
        client.write_all(b"last words\n").await.unwrap();
        c.exec_with(request).await.unwrap();
        c.close_io("e").await.unwrap();
        c.start("e").await.unwrap();
        out.until("last words\n").await;
        drop(client);
        assert_eq!(within(Duration::from_secs(20), "Wait", c.wait("e")).await.unwrap().exit_status, 0);
    }

    async fn c6_what_was_written_before_close_io_arrives(lab) {
        let c = lab.plan("c6").stdin().output().script("cat; echo END").run().await;
        let text = "0123456789abcde\n".repeat(4000);
        let stdin = c.stdin().to_owned();
        let bytes = text.clone().into_bytes();
        tokio::spawn(async move { fifo::write(&stdin, &bytes).await }).await.unwrap().unwrap();
        c.close_io("").await.unwrap();
        c.stdout().until("END\n").await;
        assert_eq!(c.stdout().text(), format!("{text}END\n"));
        c.wait("").await.unwrap();
    }

    async fn c14_every_bundle_has_its_own_log(lab) {
        let a = lab.plan("a").fake().group("a").debug().run().await;
        lab.fake().set(&[on("kill").of("b").fails("something odd")]);
        let b = lab.plan("b").fake().group("a").debug().run().await;
        let _ = b.kill("", 9).await;
        lab.fake().set(&[]);
        b.end().await;
        until("lines in the log of b", || !b.log().unwrap().text().is_empty()).await;
        a.end().await;
    }

    async fn c15_a_log_that_nobody_reads_holds_nothing_up(lab) {
        let plan = lab.plan("c15").fake().debug().unlogged();
        let path = plan.path();
        std::fs::create_dir_all(&path).unwrap();
        fifo::make(&path.join("log"));
        let stuffed = fifo::hold(&path.join("log"));
        fifo::stuff(&stuffed).await;
        let c = plan.run().await;
        let execs = (0..20).map(|n| {
            let c = c.clone();
            async move {
                let id = format!("e{n}");
                c.run_exec(&id, &["true"]).await.unwrap();
                c.wait(&id).await.unwrap();
                c.delete(&id).await.unwrap();
            }
        });
        within(Duration::from_secs(30), "20 execs", together(execs)).await;
        drop(stuffed);
    }

    async fn c17_resize_without_a_terminal_is_no_error(lab) {
        let c = lab.plan("c17").terminal().output().script("stty size; exec sleep 1000").create().await;
        c.resize("", 100, 40).await.unwrap();
        c.start("").await.unwrap();
        c.stdout().until("40 100").await;
        c.kill("", 9).await.unwrap();
        c.wait("").await.unwrap();
        c.resize("", 80, 24).await.unwrap();
    }

    async fn c18_only_the_streams_that_were_asked_for_are_made(lab) {
        let c = lab.plan("c18").run().await;
        let (mut request, [out, _err]) = c.exec_request_with_output("e", &["ls", "-l", "/proc/self/fd/"]);
        request.stderr.clear();
        c.exec_with(request).await.unwrap();
        c.start("e").await.unwrap();
        assert_eq!(c.wait("e").await.unwrap().exit_status, 0);
        out.until(" 1 -> ").await;
        let text = out.text();
        assert!(text.contains("0 -> /dev/null") && text.contains("2 -> /dev/null"), "{text}");
    }
}
