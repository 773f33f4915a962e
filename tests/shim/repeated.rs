//! The races again and again, on real runc with small containers: what a fault injected once shows, a thousand ordinary
//! lives must not.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gam_protos::types::Status;
use gam_tests::shim::event::Kind;
use gam_tests::shim::process::Proc;
use gam_tests::shim::{Container, beside, code, together, within};
use ttrpc::Code;

use crate::cases;

/// How often a race is run.
fn times() -> usize {
    std::env::var("GAM_E2E_REPEAT").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// Runs `one` for every number below `total`, four at a time.
async fn repeat<F: Future<Output = ()> + Send + 'static>(
    total: usize,
    one: impl Fn(usize) -> F + Clone + Send + 'static,
) {
    let next = Arc::new(AtomicUsize::new(0));
    let workers = (0..4).map(|_| {
        let (next, one) = (Arc::clone(&next), one.clone());
        async move {
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= total {
                    return;
                }
                one(number).await;
            }
        }
    });
    together(workers).await;
}

async fn wait(c: &Container, exec: &str) -> u32 {
    within(Duration::from_secs(40), &format!("Wait of {}/{exec}", c.id()), c.wait(exec))
        .await
        .unwrap()
        .exit_status
}

cases! {
    Long:
    async fn a1_repeated_containers_that_end_at_once(lab) {
        let keeper = lab.plan("keeper").fake().group("keeper").run().await;
        let of = lab.clone();
        repeat(times(), move |n| {
            let lab = of.clone();
            async move {
                let id = format!("r{n}");
                let c = lab.plan(&id).group("keeper").script("exit 3").run().await;
                assert_eq!(wait(&c, "").await, 3);
                assert_eq!(c.delete("").await.unwrap().exit_status, 3);
                c.remove().await;
                lab.events().wait_for(Kind::Delete, &id, "").await;
                let kinds: Vec<Kind> = lab.events().of(&id).iter().map(|event| event.kind).collect();
                assert_eq!(kinds, [Kind::Create, Kind::Start, Kind::Exit, Kind::Delete]);
            }
        })
        .await;
        assert_eq!(keeper.status("").await.unwrap(), Status::RUNNING);
    }

    async fn a2_repeated_execs_that_meet_the_end_of_init(lab) {
        let keeper = lab.plan("keeper").fake().group("keeper").run().await;
        let of = lab.clone();
        repeat(times() / 2, move |n| {
            let lab = of.clone();
            async move {
                let id = format!("r{n}");
                let c = lab.plan(&id).group("keeper").run().await;
                c.exec("e", &["true"]).await.unwrap();
                c.exec("f", &["sleep", "1000"]).await.unwrap();
                let starts = ["e", "f"].map(|exec| {
                    let c = c.clone();
                    beside(async move { c.start(exec).await })
                });
                // From before the execs to well after them.
                tokio::time::sleep(Duration::from_millis((n as u64 * 7) % 90)).await;
                c.kill("", 9).await.unwrap();
                assert_eq!(wait(&c, "").await, 137);
                for (start, exec) in starts.into_iter().zip(["e", "f"]) {
                    if start.await.unwrap().is_ok() {
                        wait(&c, exec).await;
                    }
                }
                lab.events().wait_for(Kind::Exit, &id, "").await;
                c.delete("").await.unwrap();
                c.remove().await;
            }
        })
        .await;
        assert_eq!(keeper.status("").await.unwrap(), Status::RUNNING);
    }

    async fn a3_repeated_execs_in_one_container(lab) {
        let c = lab.plan("a3").run().await;
        let of = c.clone();
        repeat(times(), move |n| {
            let c = of.clone();
            async move {
                let id = format!("e{n}");
                c.run_exec(&id, &["sh", "-c", &format!("exit {}", n % 100)]).await.unwrap();
                assert_eq!(wait(&c, &id).await, n as u32 % 100);
                c.delete(&id).await.unwrap();
            }
        })
        .await;
        lab.events()
            .until("every exit", |list| {
                list.iter().filter(|event| event.kind == Kind::Exit && !event.exec.is_empty()).count()
                    == times()
            })
            .await;
        assert_eq!(c.status("").await.unwrap(), Status::RUNNING);
    }

    async fn a5_repeated_starts_in_a_dying_container(lab) {
        let keeper = lab.plan("keeper").fake().group("keeper").run().await;
        let of = lab.clone();
        repeat(times() / 2, move |n| {
            let lab = of.clone();
            async move {
                let c = lab.plan(&format!("r{n}")).group("keeper").shared_pids().run().await;
                c.exec("e", &["sleep", "1000"]).await.unwrap();
                Proc::of(c.pid()).unwrap().kill();
                tokio::time::sleep(Duration::from_millis(n as u64 % 10)).await;
                let started = c.start("e").await;
                assert_eq!(wait(&c, "").await, 137);
                if started.is_ok() {
                    wait(&c, "e").await;
                }
                assert_ne!(code(&c.start("e").await), Code::OK);
                c.delete("").await.unwrap();
                c.remove().await;
            }
        })
        .await;
        assert_eq!(keeper.status("").await.unwrap(), Status::RUNNING);
    }

    async fn a13_repeated_pairs_of_execs_with_one_id(lab) {
        let c = lab.plan("a13").fake().run().await;
        let of = c.clone();
        repeat(times(), move |n| {
            let c = of.clone();
            async move {
                let id = format!("e{n}");
                let both = (0..2).map(|_| {
                    let (c, id) = (c.clone(), id.clone());
                    async move { code(&c.exec(&id, &["true"]).await) }
                });
                let mut codes = together(both).await;
                codes.sort_by_key(|code| *code as i32);
                assert_eq!(codes, [Code::OK, Code::ALREADY_EXISTS]);
                c.start(&id).await.unwrap();
                assert_eq!(wait(&c, &id).await, 0);
                c.delete(&id).await.unwrap();
            }
        })
        .await;
    }

    async fn d2_repeated_pairs_of_deletes(lab) {
        let keeper = lab.plan("keeper").fake().group("keeper").run().await;
        let of = lab.clone();
        repeat(times(), move |n| {
            let lab = of.clone();
            async move {
                let id = format!("r{n}");
                let c = lab.plan(&id).fake().group("keeper").script("exit 1").run().await;
                wait(&c, "").await;
                let both = (0..2).map(|_| {
                    let c = c.clone();
                    async move { c.delete("").await }
                });
                let both = together(both).await;
                assert!(both.iter().all(|one| matches!(code(one), Code::OK | Code::NOT_FOUND)), "{both:?}");
                assert!(both.iter().flatten().count() >= 1);
                assert!(both.iter().flatten().all(|answer| answer.exit_status == 1));
                lab.events().wait_for(Kind::Delete, &id, "").await;
                c.remove().await;
                assert_eq!(lab.events().count(Kind::Delete, &id, ""), 1);
            }
        })
        .await;
        assert_eq!(keeper.status("").await.unwrap(), Status::RUNNING);
    }

    async fn a9_repeated_mass_deaths(lab) {
        let keeper = lab.plan("keeper").fake().group("keeper").run().await;
        let of = lab.clone();
        repeat(times() / 20, move |n| {
            let lab = of.clone();
            async move {
                let c = lab.plan(&format!("r{n}")).group("keeper").run().await;
                let execs = (0..8).map(|e| {
                    let c = c.clone();
                    async move { c.run_exec(&format!("e{e}"), &["sleep", "1000"]).await.unwrap() }
                });
                together(execs).await;
                c.kill("", 9).await.unwrap();
                for e in 0..8 {
                    assert_eq!(wait(&c, &format!("e{e}")).await, 137);
                }
                assert_eq!(wait(&c, "").await, 137);
                c.delete("").await.unwrap();
                c.remove().await;
            }
        })
        .await;
        assert_eq!(keeper.status("").await.unwrap(), Status::RUNNING);
    }
}
