//! Pairs of requests that meet, in every order: one begins while the other is at work in a runtime that takes its time.

use std::future::Future;
use std::time::Duration;

use gam_protos::types::Status;
use gam_tests::shim::event::Kind;
use gam_tests::shim::fake::on;
use gam_tests::shim::{Container, Lab, code, until_is, within};
use ttrpc::Code;

use crate::cases;

/// How long every command of the runtime takes before and after what it does.
const SLOW: u64 = 60;

/// By how many milliseconds the second is later than the first: before, during and after the slow runtime.
const OFFSETS: [i64; 7] = [-150, -90, -30, 0, 30, 90, 150];

fn slow(lab: &Lab) {
    let commands = ["create", "start", "exec", "kill", "delete", "pause", "resume"];
    lab.fake().set(&commands.map(|command| on(command).before(SLOW).after(SLOW)));
}

async fn delayed<T>(millis: i64, work: impl Future<Output = T>) -> T {
    tokio::time::sleep(Duration::from_millis(millis.max(0).unsigned_abs())).await;
    work.await
}

/// Lets two requests meet; `offset` is by how much the second is later, and negative if it is earlier.
async fn meet<A, B>(offset: i64, a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let both = async { tokio::join!(delayed(-offset, a), delayed(offset, b)) };
    within(Duration::from_secs(30), "a meeting", both).await
}

/// Brings a container to its end, whatever became of it.
async fn settle(c: &Container) {
    match c.status("").await {
        Err(error) => assert_eq!(code::<()>(&Err(error)), Code::NOT_FOUND),
        Ok(_) => {
            let kill = || async {
                let _ = c.kill("", 9).await;
                c.status("").await.unwrap() == Status::STOPPED
            };
            within(Duration::from_secs(30), "the end", until_is(true, kill)).await;
            let deleted = c.delete("").await;
            assert!(matches!(code(&deleted), Code::OK | Code::NOT_FOUND), "{deleted:?}");
        }
    }
    c.remove().await;
}

/// Every offset, each with a container of its own; a keeper holds the shim.
macro_rules! every_offset {
    ($lab:ident, |$c:ident, $offset:ident| $prepare:expr, $body:block) => {{
        let keeper = $lab.plan("keeper").fake().group("keeper").run().await;
        slow(&$lab);
        let all = OFFSETS.iter().enumerate().map(|(n, offset)| {
            let ($lab, $offset) = ($lab.clone(), *offset);
            async move {
                let $c = $lab.plan(&format!("m{n}")).fake().group("keeper");
                let $c = $prepare;
                $body
                settle(&$c).await;
            }
        });
        gam_tests::shim::together(all).await;
        assert_eq!(keeper.status("").await.unwrap(), Status::RUNNING);
        $lab.fake().set(&[]);
    }};
}

cases! {
    async fn delete_meets_delete(lab) {
        every_offset!(lab, |c, offset| c.script("exit 5").run().await, {
            c.wait("").await.unwrap();
            let (a, b) = meet(offset, c.delete(""), c.delete("")).await;
            assert!(matches!(code(&a), Code::OK | Code::NOT_FOUND), "{a:?}");
            assert!(matches!(code(&b), Code::OK | Code::NOT_FOUND), "{b:?}");
            let answers: Vec<_> = [a, b].into_iter().flatten().collect();
            assert!(!answers.is_empty() && answers.iter().all(|answer| answer.exit_status == 5));
            lab.events().wait_for(Kind::Delete, c.id(), "").await;
            assert_eq!(lab.events().count(Kind::Delete, c.id(), ""), 1);
        });
    }

    async fn kill_meets_delete(lab) {
        every_offset!(lab, |c, offset| c.run().await, {
            let (a, b) = meet(offset, c.kill("", 9), c.delete("")).await;
            assert!(matches!(code(&a), Code::OK | Code::NOT_FOUND), "{a:?}");
            assert!(matches!(code(&b), Code::OK | Code::FAILED_PRECONDITION), "{b:?}");
        });
    }

    async fn kill_meets_delete_of_a_stopped_task(lab) {
        every_offset!(lab, |c, offset| c.script("exit 0").run().await, {
            c.wait("").await.unwrap();
            let (a, b) = meet(offset, c.kill("", 9), c.delete("")).await;
            assert_eq!(code(&a), Code::NOT_FOUND, "{a:?}");
            assert_eq!(code(&b), Code::OK, "{b:?}");
        });
    }

    async fn create_meets_create(lab) {
        every_offset!(lab, |c, offset| c.boot().await, {
            let (a, b) = meet(offset, c.create(), c.create()).await;
            let mut codes = [code(&a), code(&b)];
            codes.sort_by_key(|code| *code as i32);
            assert_eq!(codes, [Code::OK, Code::ALREADY_EXISTS], "{a:?} {b:?}");
            assert_eq!(c.status("").await.unwrap(), Status::CREATED);
        });
    }

    async fn create_meets_delete(lab) {
        every_offset!(lab, |c, offset| c.boot().await, {
            let (a, b) = meet(offset, c.create(), c.delete("")).await;
            // Whoever comes first: nothing may hang, and what exists in the end can be ended.
            let _ = (code(&a), code(&b));
        });
    }

    async fn start_meets_start(lab) {
        every_offset!(lab, |c, offset| c.create().await, {
            let (a, b) = meet(offset, c.start(""), c.start("")).await;
            assert_eq!([&a, &b].iter().filter(|one| one.is_ok()).count(), 1, "{a:?} {b:?}");
            let _ = (code(&a), code(&b));
            lab.events().wait_for(Kind::Start, c.id(), "").await;
        });
    }

    async fn start_meets_kill(lab) {
        every_offset!(lab, |c, offset| c.create().await, {
            let (a, b) = meet(offset, c.start(""), c.kill("", 9)).await;
            let _ = code(&a);
            assert!(matches!(code(&b), Code::OK | Code::NOT_FOUND | Code::FAILED_PRECONDITION), "{b:?}");
            if b.is_ok() {
                assert_eq!(
                    within(Duration::from_secs(20), "Wait", c.wait("")).await.unwrap().exit_status,
                    137
                );
            }
        });
    }

    async fn start_meets_delete(lab) {
        every_offset!(lab, |c, offset| c.create().await, {
            let (a, b) = meet(offset, c.start(""), c.delete("")).await;
            let _ = (code(&a), code(&b));
        });
    }

    async fn start_of_an_exec_meets_the_end_of_init(lab) {
        every_offset!(lab, |c, offset| c.run().await, {
            c.exec("e", &["sleep", "1"]).await.unwrap();
            let (a, b) = meet(offset, c.start("e"), c.kill("", 9)).await;
            assert_eq!(code(&b), Code::OK, "{b:?}");
            lab.events().wait_for(Kind::Exit, c.id(), "").await;
            if a.is_ok() {
                assert_eq!(lab.events().count(Kind::Exit, c.id(), "e"), 1);
                within(Duration::from_secs(20), "Wait", c.wait("e")).await.unwrap();
            }
        });
    }

    async fn delete_of_an_exec_meets_its_delete(lab) {
        every_offset!(lab, |c, offset| c.run().await, {
            c.run_exec("e", &["sh", "-c", "exit 8"]).await.unwrap();
            c.wait("e").await.unwrap();
            let (a, b) = meet(offset, c.delete("e"), c.delete("e")).await;
            assert!(matches!(code(&a), Code::OK | Code::NOT_FOUND), "{a:?}");
            assert!(matches!(code(&b), Code::OK | Code::NOT_FOUND), "{b:?}");
            assert!([a, b].into_iter().flatten().all(|answer| answer.exit_status == 8));
        });
    }

    async fn pause_meets_kill(lab) {
        every_offset!(lab, |c, offset| c.run().await, {
            let (a, b) = meet(offset, c.pause(), c.kill("", 9)).await;
            let _ = code(&a);
            assert!(matches!(code(&b), Code::OK | Code::NOT_FOUND), "{b:?}");
            assert_eq!(within(Duration::from_secs(20), "Wait", c.wait("")).await.unwrap().exit_status, 137);
        });
    }

    async fn pause_meets_resume(lab) {
        every_offset!(lab, |c, offset| c.run().await, {
            let (a, b) = meet(offset, c.pause(), c.resume()).await;
            let _ = (code(&a), code(&b));
            if c.status("").await.unwrap() == Status::PAUSED {
                c.resume().await.unwrap();
            }
            assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
        });
    }

    async fn exec_meets_delete_of_the_task(lab) {
        every_offset!(lab, |c, offset| c.script("exit 0").run().await, {
            c.wait("").await.unwrap();
            let (a, b) = meet(offset, c.exec("e", &["true"]), c.delete("")).await;
            assert_ne!(code(&a), Code::OK);
            assert_eq!(code(&b), Code::OK, "{b:?}");
        });
    }

    async fn shutdown_meets_create(lab) {
        every_offset!(lab, |c, offset| c.boot().await, {
            let (a, b) = meet(offset, c.create(), c.shutdown()).await;
            let _ = (code(&a), code(&b));
        });
    }

    async fn wait_meets_delete(lab) {
        every_offset!(lab, |c, offset| c.script("exit 4").run().await, {
            c.wait("").await.unwrap();
            let (a, b) = meet(offset, c.wait(""), c.delete("")).await;
            assert_eq!(code(&b), Code::OK, "{b:?}");
            match a {
                Ok(answer) => assert_eq!(answer.exit_status, 4),
                Err(error) => assert_eq!(code::<()>(&Err(error)), Code::NOT_FOUND),
            }
        });
    }
}
