//! Rows C: what is read and written, as far as it is the protocol's.

use std::process::Command;
use std::time::{Duration, Instant};

use gam_protos::types::Status;
use tokio::io::AsyncWriteExt as _;

use gam_tests::shim::{Subject, code, fifo, together, until, within};

use crate::cases;

cases! {
    async fn c1_a_child_that_holds_stdout_does_not_hold_delete(lab) {
        let c = lab.plan("c1").shared_pids().run().await;
        let (request, [out, _err]) =
            c.exec_request_with_output("e", &["sh", "-c", "echo here; sleep 1000 & exit 0"]);
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
        let a = lab.plan("a").fake().group("a").run().await;
        let b = lab.plan("b").fake().group("a").run().await;
        // What is worth a line: somebody else sits in the container's cgroup, so that it cannot be removed.
        let cgroup = std::path::PathBuf::from(format!("/sys/fs/cgroup/memory/gs-{}-b", lab.namespace()));
        let mut squatter = Command::new("/bin/busybox").args(["sleep", "1000"]).spawn().unwrap();
        std::fs::write(cgroup.join("cgroup.procs"), squatter.id().to_string()).unwrap();
        b.kill("", 9).await.unwrap();
        b.wait("").await.unwrap();
        b.delete("").await.unwrap();
        let said = || b.log().unwrap().text().contains("cgroup");
        let since = Instant::now();
        while !said() && since.elapsed() < Duration::from_secs(15) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        squatter.kill().unwrap();
        squatter.wait().unwrap();
        assert!(said(), "no line in the log of b; in that of a: {}", a.log().unwrap().text());
        assert!(!a.log().unwrap().text().contains("cgroup"), "{}", a.log().unwrap().text());
        b.remove().await;
        // The end of the case finds the cgroup if nobody came back to it (D13).
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

    async fn c7_a_writer_outlives_its_readers(lab) {
        let c = lab.plan("c7").run().await;
        let (request, streams) = c.exec_request_with_output(
            "e",
            &["sh", "-c", "while true; do echo tick; echo tock >&2; sleep 0.02; done"],
        );
        c.exec_with(request).await.unwrap();
        c.start("e").await.unwrap();
        streams[0].until("tick").await;
        let path = streams[0].path().to_owned();
        drop(streams);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(c.status("e").await.unwrap(), Status::RUNNING);
        let again = fifo::Collector::start(&path);
        again.until("tick").await;
        c.kill("e", 9).await.unwrap();
        assert_eq!(c.wait("e").await.unwrap().exit_status, 137);
    }

    async fn c_output_can_go_to_a_file(lab) {
        let c = lab.plan("file").run().await;
        let path = lab.directory().join("deep/er/out");
        let mut request = c.exec_request("e", &["sh", "-c", "echo one; echo two >&2"]);
        request.stdout = format!("file://{}", path.display());
        request.stderr.clone_from(&request.stdout);
        c.exec_with(request).await.unwrap();
        c.start("e").await.unwrap();
        assert_eq!(c.wait("e").await.unwrap().exit_status, 0);
        let text = || std::fs::read_to_string(&path).unwrap_or_default();
        until("both lines", || text().contains("one\n") && text().contains("two\n")).await;
    }

    async fn c16_output_can_go_to_a_logger(lab) {
        let c = lab.plan("c16").run().await;
        let (logger, log) = (lab.directory().join("logger"), lab.directory().join("logged"));
        let script = format!(
            "#!/bin/busybox sh\nexec 5>&-\necho $CONTAINER_ID $CONTAINER_NAMESPACE $* > {0}\nbusybox cat <&3 >> {0}\n",
            log.display()
        );
        std::fs::write(&logger, script).unwrap();
        std::fs::set_permissions(&logger, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut request = c.exec_request("e", &["echo", "hello"]);
        request.stdout = format!("binary://{}?one=two", logger.display());
        request.stderr.clone_from(&request.stdout);
        c.exec_with(request).await.unwrap();
        c.start("e").await.unwrap();
        assert_eq!(c.wait("e").await.unwrap().exit_status, 0);
        c.delete("e").await.unwrap();
        let text = || std::fs::read_to_string(&log).unwrap_or_default();
        until("what the logger wrote", || text().contains("hello\n")).await;
        // The Go shim gives an exec's id as CONTAINER_ID.
        let first = format!(
            "{} {} one two\n",
            if lab.subject() == Subject::Go { "e" } else { "c16" },
            lab.namespace()
        );
        assert!(text().starts_with(&first), "{}", text());
    }

    async fn c16_a_logger_that_dies_at_once_is_an_error(lab) {
        let c = lab.plan("c16").run().await;
        let mut request = c.exec_request("e", &["echo", "hello"]);
        request.stdout = "binary:///bin/false".into();
        request.stderr.clone_from(&request.stdout);
        let added = c.exec_with(request).await;
        let started = c.start("e").await;
        // EOF is taken as ready with `binary`; only a logger that cannot be run must be told.
        let _ = (code(&added), code(&started));
        let mut request = c.exec_request("f", &["echo", "hello"]);
        request.stdout = "binary:///nowhere/logger".into();
        request.stderr.clone_from(&request.stdout);
        let added = c.exec_with(request).await;
        assert!(added.is_err() || c.start("f").await.is_err());
        assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
    }
}
