//! What gam changes of itself, and its children do not see. This binary has one test: it changes the whole process.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fs;
use std::time::Duration;

use gam_task::process::Command;
use gam_task::reaper::Reaper;
use gam_task::sys::inherit;
use gam_task::telemetry::Silent;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

struct Seen {
    score: String,
    huge_pages: bool,
    open_files: Vec<u64>,
}

fn seen(pid: &str) -> Seen {
    let of = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap();
    let limits = of("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    Seen {
        score: of("oom_score_adj").trim().to_owned(),
        huge_pages: of("status").lines().any(|line| line == "THP_enabled:\t1"),
        open_files: line.split_whitespace().filter_map(|word| word.parse().ok()).collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e13_i5_children_inherit_what_was_before() {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(600), maximum: hard }).unwrap();
    let before = seen("self");
    inherit::disable_huge_pages().unwrap();
    let original = inherit::raise_nofile().unwrap();
    let score = inherit::raise_oom_score_adj().unwrap();
    assert_eq!(inherit::raise_oom_score_adj().unwrap(), score, "a second call changes nothing");
    assert_eq!(original.current, Some(600));
    assert_eq!(inherit::raise_nofile().unwrap().current, Some(600));

    let own = seen("self");
    assert_eq!(own.score, score.to_string());
    let one_more = (before.score.parse::<i32>().unwrap() + 1).min(1000);
    assert_eq!(score, one_more);
    assert!(!own.huge_pages);
    assert_eq!(own.open_files[0], own.open_files[1]);

    let reaper = Reaper::new(std::sync::Arc::new(Silent)).unwrap();
    let spawns: Vec<_> = (0..30)
        .map(|_| {
            let reaper = reaper.clone();
            tokio::spawn(async move {
                let mut child = reaper.spawn(Command::new("/bin/sleep").arg("100")).unwrap();
                let child_sees = seen(&child.pid().to_string());
                child.kill(libc::SIGKILL).unwrap();
                child.wait().await.unwrap();
                child_sees
            })
        })
        .collect();
    for spawned in spawns {
        let child = spawned.await.unwrap();
        assert_eq!(child.score, before.score);
        assert_eq!(child.huge_pages, before.huge_pages);
        assert_eq!(child.open_files, before.open_files);
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let own = seen("self");
    assert_eq!(own.score, score.to_string(), "gam has its own score back");
    assert!(!own.huge_pages);
    assert_eq!(own.open_files[0], own.open_files[1]);
}
