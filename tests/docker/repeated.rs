//! Many short containers, with execs beside their lives.

use gam_tests::poll;
use gam_tests::suite::Test;

use crate::engine::{Engine, shared};

gam_tests::tests![a_hundred_runs_with_execs_beside_them, runs_and_execs_at_once];

/// One life of `docker run --rm`: an exec in its midst, and every other time one that its end cuts off.
fn life(name: &str, round: u32) {
    let engine = shared();
    let script = format!("read line; echo $line; exit {}", round % 7);
    let options = ["--interactive", "--name", name];
    let mut running = engine.begin(&Engine::arguments(&["run", "--rm"], &options, &["sh", "-c", &script]));
    // The exec is asked for while the container comes up: until it runs, it is refused.
    let said = format!("hi {round}\n");
    poll::holds("an exec is taken", || {
        assert!(!running.ended(), "round {round}: the run has ended by itself");
        let outcome = engine.docker(&["exec", name, "echo", "hi", &round.to_string()]);
        if outcome.status == 0 {
            assert_eq!(outcome.stdout, said, "round {round}: what the exec said: {outcome:?}");
        }
        outcome.status == 0
    });
    let container = engine.container_named(name);
    let cut = (round % 2 == 1).then(|| engine.begin(&["exec", name, "sleep", "1000"]));
    running.write("bye\n");
    let outcome = running.finish();
    assert_eq!(outcome.status, i32::try_from(round % 7).unwrap(), "round {round}: {outcome:?}");
    assert_eq!(outcome.stdout, "bye\n", "round {round}");
    if let Some(cut) = cut {
        let outcome = cut.finish();
        assert_ne!(outcome.status, 0, "round {round}: {outcome:?}");
    }
    container.removed_itself();
}

fn a_hundred_runs_with_execs_beside_them(_: &Test) {
    for round in 0..100 {
        life(&format!("repeated-{round}"), round);
    }
}

fn runs_and_execs_at_once(_: &Test) {
    std::thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || {
                for round in 0..5 {
                    life(&format!("at-once-{worker}-{round}"), round);
                }
            });
        }
    });
}
