//! Row K4: what many want at once from one manager. The runtime only sleeps, so that times tell who waited for whom.

use std::time::{Duration, Instant};

use gam_tests::shim::fake::{Call, on};
use gam_tests::shim::{Container, Lab, Subject, code, together};
use ttrpc::Code;

use crate::cases;

/// How long the runtime's create takes: less than what makes it overdue.
const CREATE: u64 = 200;

/// The configuration, one manager for all tenants.
fn configure(lab: &Lab, more: &str) {
    let text = format!("linger = \"1s\"\ngrouping = \"node\"\n{more}\n[events]\npatience = \"3s\"\n");
    std::fs::write(lab.config_file(), text).unwrap();
}

/// Containers of another tenant, of which none is created yet.
async fn crowd(lab: &Lab, count: usize) -> Vec<Container> {
    let namespace = format!("{}-crowd", lab.namespace());
    together((0..count).map(|number| {
        let plan = lab.plan(&format!("n{number}")).fake().unlogged().namespace(&namespace);
        async move { plan.boot().await }
    }))
    .await
}

/// Has all of them created, and answers when two are.
async fn burst(lab: &Lab, crowd: &[Container]) -> tokio::task::JoinHandle<()> {
    lab.fake().set(&[on("create").before(CREATE)]);
    let before = lab.fake().count("create");
    let crowd = crowd.to_vec();
    let burst = tokio::spawn(async move {
        for created in together(crowd.into_iter().map(|one| async move { one.create().await })).await {
            created.unwrap();
        }
    });
    lab.fake().begun("create", before + 2).await;
    burst
}

/// How many calls of the runtime were at work at the same time at most.
fn most_at_once(calls: &[Call]) -> usize {
    let (mut now, mut most) = (0_usize, 0);
    for call in calls {
        now = if call.end { now.saturating_sub(1) } else { now + 1 };
        most = most.max(now);
    }
    most
}

cases! {
    async fn k4_creates_of_one_tenant_do_not_hold_up_anothers(lab) {
        if lab.subject() == Subject::Go {
            return;
        }
        configure(&lab, "[scheduler]\nconcurrency = 2");
        let other = lab.plan("other").fake().boot().await;
        let crowd = crowd(&lab, 24).await;
        let burst = burst(&lab, &crowd).await;
        let since = Instant::now();
        other.create().await.unwrap();
        let took = since.elapsed();
        other.start("").await.unwrap();
        other.kill("", 9).await.unwrap();
        other.wait("").await.unwrap();
        other.delete("").await.unwrap();
        let whole = since.elapsed();
        assert!(!burst.is_finished(), "there was no burst left to wait for");
        assert!(took < Duration::from_millis(3 * CREATE), "another's Create took {took:?}");
        assert!(whole < Duration::from_millis(5 * CREATE), "another's life took {whole:?}");
        burst.await.unwrap();
        // Two places, one for kills and deletes, and one for a tenant that has nothing at work.
        let most = most_at_once(&lab.fake().calls());
        assert!((2..=4).contains(&most), "{most} runtime commands at once");
    }

    async fn k4_a_kill_goes_before_its_own_tenants_creates(lab) {
        if lab.subject() == Subject::Go {
            return;
        }
        configure(&lab, "[scheduler]\nconcurrency = 2");
        let crowd = crowd(&lab, 25).await;
        let (runs, rest) = crowd.split_first().unwrap();
        runs.create().await.unwrap();
        runs.start("").await.unwrap();
        let burst = burst(&lab, rest).await;
        let since = Instant::now();
        runs.kill("", 9).await.unwrap();
        runs.wait("").await.unwrap();
        runs.delete("").await.unwrap();
        let took = since.elapsed();
        assert!(!burst.is_finished(), "there was no burst left to wait for");
        assert!(took < Duration::from_millis(3 * CREATE), "Kill, Wait and Delete took {took:?}");
        burst.await.unwrap();
    }

    async fn k5_runtimes_that_hang_leave_places_for_everybody(lab) {
        if lab.subject() == Subject::Go {
            return;
        }
        configure(&lab, "[scheduler]\nconcurrency = 1");
        let stuck = crowd(&lab, 6).await;
        lab.fake().set(&[on("create").of("n0").before(4000), on("create").of("n1").before(4000)]);
        let creating: Vec<_> = stuck
            .iter()
            .cloned()
            .map(|one| tokio::spawn(async move { one.create().await }))
            .collect();
        lab.fake().begun("create", 1).await;
        let since = Instant::now();
        let other = lab.plan("other").fake().run().await;
        other.kill("", 9).await.unwrap();
        other.wait("").await.unwrap();
        other.delete("").await.unwrap();
        assert!(since.elapsed() < Duration::from_secs(3), "another's life took {:?}", since.elapsed());
        // The tenant's own others do not wait for the two that hang either.
        let mut done = 0;
        for one in creating {
            one.await.unwrap().unwrap();
            done += 1;
        }
        assert_eq!(done, 6);
        assert!(since.elapsed() < Duration::from_secs(7), "{:?}", since.elapsed());
    }

    async fn k4_what_is_above_a_tenants_limit_is_refused_by_name(lab) {
        if lab.subject() == Subject::Go {
            return;
        }
        let crowded = format!("{}-crowd", lab.namespace());
        let limits = format!("[limits]\nexecs = 1\n[limits.tenants.\"{crowded}\"]\ncontainers = 2");
        configure(&lab, &limits);
        let crowd = crowd(&lab, 3).await;
        for one in &crowd[..2] {
            one.create().await.unwrap();
        }
        let refused = crowd[2].create().await;
        assert_eq!(code(&refused), Code::RESOURCE_EXHAUSTED);
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(&crowded) && text.contains("2 containers"), "{text}");
        let other = lab.plan("other").fake().run().await;
        crowd[0].kill("", 9).await.unwrap();
        crowd[0].wait("").await.unwrap();
        crowd[0].delete("").await.unwrap();
        crowd[2].create().await.unwrap();

        other.exec("a", &["true"]).await.unwrap();
        let refused = other.exec("b", &["true"]).await;
        assert_eq!(code(&refused), Code::RESOURCE_EXHAUSTED);
        assert!(refused.unwrap_err().to_string().contains("1 execs"));
        other.start("a").await.unwrap();
        other.wait("a").await.unwrap();
        assert_eq!(code(&other.exec("b", &["true"]).await), Code::RESOURCE_EXHAUSTED);
        other.delete("a").await.unwrap();
        other.exec("b", &["true"]).await.unwrap();
        // A refused exec is none: its id is free.
        other.delete("b").await.unwrap();
        other.exec("b", &["true"]).await.unwrap();
    }

    async fn k4_an_exec_that_waits_for_its_turn_is_in_nobodys_way(lab) {
        if lab.subject() == Subject::Go {
            return;
        }
        configure(&lab, "[scheduler]\nconcurrency = 1");
        let busy = lab.plan("busy").fake().run().await;
        let other = lab.plan("other").fake().run().await;
        lab.fake().set(&[on("exec").of("busy").before(6000)]);
        let mut slow = Vec::new();
        for number in 0..4 {
            busy.exec(&format!("e{number}"), &["true"]).await.unwrap();
            let busy = busy.clone();
            slow.push(tokio::spawn(async move { busy.start(&format!("e{number}")).await }));
        }
        // As many as a tenant may have at work: the next one waits.
        lab.fake().begun("exec", 4).await;
        other.exec("probe", &["true"]).await.unwrap();
        let probe = tokio::spawn({
            let other = other.clone();
            async move { other.start("probe").await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let since = Instant::now();
        other.kill("", 9).await.unwrap();
        other.wait("").await.unwrap();
        other.delete("").await.unwrap();
        assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
        assert!(!probe.is_finished(), "the exec did not wait");
        for one in slow {
            one.await.unwrap().unwrap();
        }
        assert_ne!(code(&probe.await.unwrap()), Code::OK);
    }

    async fn k4_a_creation_that_nobody_wants_leaves_the_queue(lab) {
        if lab.subject() == Subject::Go {
            return;
        }
        configure(&lab, "[scheduler]\nconcurrency = 1");
        let crowd = crowd(&lab, 5).await;
        let (unwanted, slow) = crowd.split_last().unwrap();
        lab.fake().set(&[on("create").before(5000)]);
        let creating: Vec<_> =
            slow.iter().cloned().map(|one| tokio::spawn(async move { one.create().await })).collect();
        lab.fake().begun("create", 4).await;
        let waiting = tokio::spawn({
            let unwanted = unwanted.clone();
            async move { unwanted.create().await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let since = Instant::now();
        assert_eq!(code(&unwanted.delete("").await), Code::NOT_FOUND);
        assert!(since.elapsed() < Duration::from_secs(2), "{:?}", since.elapsed());
        assert_eq!(code(&waiting.await.unwrap()), Code::CANCELLED);
        for one in creating {
            one.await.unwrap().unwrap();
        }
        assert_eq!(lab.fake().count("create"), 4, "the runtime made what nobody wants");
    }
}
