//! Every order of starts, exits, execs, kills, deletions, pauses and OOMs, explored against section 0.

use std::collections::HashSet;

use super::*;

/// What the kernel and the runtime are doing: which answers are still to come and which processes live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct World {
    creating: bool,
    starting: bool,
    pausing: bool,
    resuming: bool,
    deleting: bool,
    killing: bool,
    init: Life,
    execs: [Life; 2],
    exec_starting: [bool; 2],
    ooms_left: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Life {
    #[default]
    Unborn,
    Alive,
    Dead,
}

/// What has been announced so far; checks each announcement against section 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Seen {
    created: bool,
    started: bool,
    exited: bool,
    deleted: bool,
    execs: [SeenExec; 2],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct SeenExec {
    added: bool,
    started: bool,
    exited: bool,
}

impl Seen {
    fn check(&mut self, effect: &Effect, world: &World, state: &State) {
        assert!(!self.deleted, "{effect:?} after TaskDelete");
        match effect {
            Effect::AnnounceCreated => assert!(!std::mem::replace(&mut self.created, true), "two TaskCreate"),
            Effect::AnnounceStarted => {
                assert!(self.created && !self.exited, "TaskStart out of order");
                assert!(!std::mem::replace(&mut self.started, true), "two TaskStart");
            }
            Effect::AnnounceOom => assert!(self.created && !self.exited, "TaskOOM out of order"),
            Effect::AnnounceExit(_) => {
                assert!(self.created && world.init == Life::Dead, "TaskExit of a living init");
                assert!(!std::mem::replace(&mut self.exited, true), "two TaskExit");
                assert!(!world.killing, "TaskExit before the survivors were killed");
                assert!(
                    world.exec_starting.iter().all(|starting| !starting),
                    "TaskExit while an exec starts"
                );
                for exec in &self.execs {
                    assert!(!exec.started || exec.exited, "init's TaskExit before an exec's");
                }
            }
            Effect::AnnounceDeleted => {
                assert!(self.created, "TaskDelete before TaskCreate");
                assert!(self.exited || state.init.pid == 0, "TaskDelete before TaskExit");
                self.deleted = true;
            }
            Effect::AnnounceExecAdded(id) => {
                assert!(self.created && !self.exited);
                self.execs[index(id)] = SeenExec { added: true, ..SeenExec::default() };
            }
            Effect::AnnounceExecStarted(id) => {
                assert!(!self.exited && self.started, "an exec started outside its init's life");
                let exec = &mut self.execs[index(id)];
                assert!(exec.added && !exec.exited && !std::mem::replace(&mut exec.started, true));
            }
            Effect::AnnounceExecExit(id, _) => {
                assert!(!self.exited, "an exec's TaskExit after init's");
                let exec = &mut self.execs[index(id)];
                assert!(exec.started && !std::mem::replace(&mut exec.exited, true));
                assert_eq!(world.execs[index(id)], Life::Dead);
            }
            Effect::AnnouncePaused | Effect::AnnounceResumed => assert!(self.started && !self.exited),
            Effect::ExecFailed(_) | Effect::Thaw | Effect::KillAll | Effect::KillExec(_) => {}
        }
    }
}

fn ids() -> [ExecId; 2] {
    ["a".into(), "b".into()]
}

fn index(id: &ExecId) -> usize {
    usize::from(&**id == "b")
}

fn exit(status: u32) -> Exit {
    Exit { status, at: std::time::UNIX_EPOCH }
}

/// Everything that can happen next: what somebody may ask, and what the world may answer.
fn moves(world: &World) -> Vec<(Input, World)> {
    let mut moves = Vec::new();
    let mut add = |input: Input, change: &dyn Fn(&mut World)| {
        let mut next = world.clone();
        change(&mut next);
        moves.push((input, next));
    };
    add(Input::Start, &|w| w.starting = true);
    add(Input::Pause, &|w| w.pausing = true);
    add(Input::Resume, &|w| w.resuming = true);
    add(Input::Delete, &|w| w.deleting = true);
    if world.ooms_left > 0 {
        add(Input::Oom, &|w| w.ooms_left -= 1);
    }
    if world.creating {
        add(Input::Created { pid: 1 }, &|w| (w.creating, w.init) = (false, Life::Alive));
        add(Input::Restorable, &|w| w.creating = false);
    }
    if world.starting {
        let restored = world.init == Life::Unborn;
        add(Input::Started { pid: 1 }, &|w| {
            w.starting = false;
            if restored {
                w.init = Life::Alive;
            }
        });
        add(Input::StartFailed, &|w| w.starting = false);
    }
    if world.pausing {
        add(Input::Paused, &|w| w.pausing = false);
        add(Input::PauseFailed, &|w| w.pausing = false);
    }
    if world.resuming {
        add(Input::Resumed, &|w| w.resuming = false);
        add(Input::ResumeFailed, &|w| w.resuming = false);
    }
    if world.deleting {
        // Deleting a container that never started kills its init; the driver waits for that exit.
        if world.init != Life::Alive && !world.killing {
            add(Input::Deleted, &|w| w.deleting = false);
        }
        add(Input::DeleteFailed, &|w| w.deleting = false);
    }
    if world.killing {
        add(Input::AllKilled, &|w| w.killing = false);
    }
    if world.init == Life::Alive {
        add(Input::InitExited(exit(1)), &|w| w.init = Life::Dead);
    }
    for (at, id) in ids().into_iter().enumerate() {
        add(Input::AddExec(id.clone()), &|w| w.execs[at] = Life::Unborn);
        add(Input::StartExec(id.clone()), &|w| (w.exec_starting[at], w.execs[at]) = (true, Life::Alive));
        add(Input::DeleteExec(id.clone()), &|_| {});
        if world.exec_starting[at] {
            add(Input::ExecStarted { id: id.clone(), pid: 2 }, &|w| w.exec_starting[at] = false);
            if world.execs[at] == Life::Alive {
                let failed = &|w: &mut World| (w.exec_starting[at], w.execs[at]) = (false, Life::Unborn);
                add(Input::ExecStartFailed(id.clone()), failed);
            }
        }
        if world.execs[at] == Life::Alive {
            add(Input::ExecExited { id, exit: exit(2) }, &|w| w.execs[at] = Life::Dead);
        }
    }
    moves
}

/// Walks every reachable combination of machine, world and announcements once.
fn explore(survivors: bool) -> usize {
    let world = World { creating: true, ooms_left: 1, ..World::default() };
    let mut open = vec![(State::new(survivors), world, Seen::default())];
    let mut known = HashSet::new();
    while let Some((state, world, seen)) = open.pop() {
        if !known.insert(format!("{state:?}{world:?}{seen:?}")) {
            continue;
        }
        let rests = !(world.starting || world.pausing || world.resuming || world.deleting || world.killing)
            && world.exec_starting == [false; 2]
            && world.execs.iter().all(|life| *life != Life::Alive);
        if rests && world.init == Life::Dead {
            assert!(seen.exited, "at rest, init dead, and no TaskExit: {state:?} {world:?}");
        }
        for (input, mut next_world) in moves(&world) {
            let mut next = state.clone();
            let allowed = next.allows(&input);
            let stepped = next.step(input.clone());
            assert_eq!(allowed.err(), stepped.as_ref().err().cloned(), "{input:?}");
            match stepped {
                Err(refusal) => {
                    assert_eq!(next, state, "{input:?} was refused ({refusal}) and changed the state");
                    let answer = !matches!(
                        input,
                        Input::Start
                            | Input::Pause
                            | Input::Resume
                            | Input::Delete
                            | Input::AddExec(_)
                            | Input::StartExec(_)
                            | Input::DeleteExec(_)
                    );
                    assert!(
                        !answer,
                        "the world's answer {input:?} was refused ({refusal}) in {state:?} {world:?}"
                    );
                }
                Ok(effects) => {
                    let mut next_seen = seen.clone();
                    if let Input::StartExec(_) = input {
                        assert!(
                            world.init == Life::Alive && seen.started,
                            "exec started without a running init"
                        );
                    }
                    next_world.killing |= effects.contains(&Effect::KillAll);
                    for effect in &effects {
                        next_seen.check(effect, &next_world, &next);
                    }
                    open.push((next, next_world, next_seen));
                }
            }
        }
    }
    known.len()
}

#[test]
fn section_0_holds_in_every_order() {
    assert!(explore(false) > 1_000);
}

#[test]
fn a6_section_0_holds_in_every_order_where_processes_outlive_init() {
    assert!(explore(true) > 1_000);
}

fn run(inputs: impl IntoIterator<Item = Input>) -> (State, Vec<Effect>) {
    let mut state = State::new(false);
    let effects = inputs.into_iter().flat_map(|input| state.step(input).unwrap()).collect();
    (state, effects)
}

fn running() -> Vec<Input> {
    vec![Input::Created { pid: 1 }, Input::Start, Input::Started { pid: 1 }]
}

#[test]
fn a1_an_exit_seen_while_start_is_in_flight_is_announced_after_it() {
    let inputs =
        [Input::Created { pid: 1 }, Input::Start, Input::InitExited(exit(0)), Input::Started { pid: 1 }];
    let (_, effects) = run(inputs);
    assert_eq!(effects[1..], [Effect::AnnounceStarted, Effect::AnnounceExit(exit(0))]);
}

#[test]
fn a4_init_exit_waits_for_running_execs_and_for_nothing_else() {
    let [a, b] = ids();
    let mut inputs = running();
    inputs.extend([Input::AddExec(a.clone()), Input::AddExec(b), Input::StartExec(a.clone())]);
    inputs.extend([Input::InitExited(exit(7)), Input::ExecStarted { id: a.clone(), pid: 2 }]);
    let (mut state, effects) = run(inputs);
    assert!(!effects.contains(&Effect::AnnounceExit(exit(7))));
    assert!(effects.contains(&Effect::KillExec(a.clone())));
    let last = state.step(Input::ExecExited { id: a.clone(), exit: exit(137) }).unwrap();
    assert_eq!(last, [Effect::AnnounceExecExit(a, exit(137)), Effect::AnnounceExit(exit(7))]);
}

#[test]
fn a5_no_exec_starts_once_init_was_reaped() {
    let [a, _] = ids();
    let mut inputs = running();
    inputs.extend([Input::AddExec(a.clone()), Input::InitExited(exit(0))]);
    let (mut state, _) = run(inputs);
    assert!(matches!(state.step(Input::StartExec(a)), Err(Refusal::Container { .. })));
}

#[test]
fn a14_a_failed_exec_start_lets_init_end() {
    let [a, _] = ids();
    let mut inputs = running();
    inputs.extend([Input::AddExec(a.clone()), Input::StartExec(a.clone()), Input::InitExited(exit(3))]);
    let (mut state, _) = run(inputs);
    let effects = state.step(Input::ExecStartFailed(a.clone())).unwrap();
    assert_eq!(effects, [Effect::ExecFailed(a), Effect::AnnounceExit(exit(3))]);
}

#[test]
fn g1_an_init_that_ends_while_paused_is_thawed_first() {
    let mut inputs = running();
    inputs.extend([Input::Pause, Input::Paused, Input::InitExited(exit(137))]);
    let (_, effects) = run(inputs);
    assert_eq!(effects[3..], [Effect::Thaw, Effect::AnnounceExit(exit(137))]);
}

#[test]
fn d20_a_running_container_is_not_deleted() {
    let (mut state, _) = run(running());
    assert!(matches!(
        state.step(Input::Delete),
        Err(Refusal::Container { action: "delete", state: "running" })
    ));
}
