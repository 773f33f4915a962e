use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::id::Key;
use crate::spec::Spec;
use crate::telemetry::Silent;

fn tenant(name: &str) -> Tenant {
    Tenant::of(&Key::new(name, "c").unwrap(), &Spec::default())
}

fn admission(places: usize) -> Admission {
    Admission::new(places, Arc::new(Silent))
}

/// A queue in which each command is known by a number.
struct Line(Queue<usize>);

impl Line {
    fn wait(&mut self, name: &str, command: &str, numbers: std::ops::Range<usize>) {
        for number in numbers {
            self.0.wait(&tenant(name), Class::of(command), number);
        }
    }

    /// The numbers that are admitted, each ending when the next is wanted.
    fn order(&mut self, how_many: usize) -> Vec<usize> {
        let one = |_| {
            let (tenant, place, number) = self.0.next()?;
            self.0.ended(&tenant, place);
            Some(number)
        };
        (0..how_many).map_while(one).collect()
    }
}

#[test]
fn k4_tenants_take_turns_whatever_one_of_them_wants() {
    let mut line = Line(Queue::new(1));
    line.wait("a", "create", 0..500);
    assert_eq!(line.order(2), [0, 1]);
    line.wait("b", "exec", 1000..1002);
    line.wait("c", "create", 2000..2001);
    assert_eq!(line.order(5), [1000, 2000, 2, 1001, 3]);
}

#[test]
fn k4_who_has_nothing_at_work_does_not_wait_for_who_has() {
    let mut queue = Queue::new(2);
    for number in 0..9 {
        queue.wait(&tenant("a"), Class::Make, number);
    }
    assert_eq!((0..3).filter_map(|_| queue.next()).count(), 2, "alone, a tenant has the places for all");
    queue.wait(&tenant("b"), Class::Exec, 100);
    queue.wait(&tenant("b"), Class::Exec, 101);
    queue.wait(&tenant("c"), Class::Make, 200);
    let (who, place, number) = queue.next().unwrap();
    assert_eq!((place, number), (Place::First, 100));
    assert!(queue.next().is_none(), "one such place, and b has something at work");
    queue.ended(&who, place);
    assert_eq!(queue.next().unwrap().2, 200);
    assert!(queue.next().is_none());
}

#[test]
fn k4_who_has_more_at_work_waits() {
    let mut queue = Queue::new(3);
    for number in 0..9 {
        queue.wait(&tenant("a"), Class::Make, number);
    }
    let first: Vec<_> = (0..3).filter_map(|_| queue.next()).collect();
    assert_eq!(first.len(), 3);
    assert!(queue.next().is_none());
    queue.wait(&tenant("b"), Class::Exec, 99);
    assert_eq!(queue.next().unwrap().1, Place::First);
    queue.wait(&tenant("b"), Class::Exec, 100);
    queue.wait(&tenant("b"), Class::Exec, 101);
    for (place, expected) in first.iter().map(|(_, place, _)| *place).zip([100, 3, 4]) {
        queue.ended(&tenant("a"), place);
        assert_eq!(queue.next().unwrap().2, expected);
    }
}

#[test]
fn k4_of_a_tenants_own_ends_come_first_and_execs_last_but_they_come() {
    let mut line = Line(Queue::new(1));
    line.wait("a", "exec", 400..402);
    line.wait("a", "create", 300..308);
    line.wait("a", "start", 200..202);
    line.wait("a", "delete", 100..101);
    line.wait("a", "kill", 101..102);
    let expected = [100, 101, 200, 201, 300, 301, 302, 400, 303, 304, 305, 401, 306, 307];
    assert_eq!(line.order(20), expected);
    assert!(line.0.shares().is_empty(), "who wants nothing is forgotten");
}

#[test]
fn k4_kills_do_not_wait_for_creates_and_take_no_place_from_them() {
    let mut queue = Queue::new(2);
    for number in 0..9 {
        queue.wait(&tenant("a"), Class::Make, number);
    }
    assert_eq!((0..3).filter_map(|_| queue.next()).count(), 2);
    for number in 100..103 {
        queue.wait(&tenant("a"), Class::End, number);
    }
    let (_, place, number) = queue.next().unwrap();
    assert_eq!((place, number), (Place::End, 100));
    assert!(queue.next().is_none(), "two places, and one for kills");
    queue.wait(&tenant("b"), Class::Make, 199);
    assert_eq!(queue.next().unwrap().1, Place::First);
    queue.wait(&tenant("b"), Class::Make, 200);
    queue.ended(&tenant("a"), place);
    assert_eq!(queue.next().unwrap().2, 101);
    queue.ended(&tenant("a"), Place::Any);
    assert_eq!(queue.next().unwrap().2, 200, "another's create goes before a storm of kills");
}

#[test]
fn k5_what_hangs_takes_no_place_and_after_a_while_its_tenant_only_kills() {
    let mut queue = Queue::new(2);
    for number in 0..20 {
        queue.wait(&tenant("a"), Class::Exec, number);
    }
    let mut hung = 0;
    while let Some((tenant, place, _)) = queue.next() {
        queue.overdue(&tenant, place);
        hung += 1;
    }
    assert_eq!(hung, 8);
    queue.wait(&tenant("b"), Class::Exec, 100);
    assert_eq!(queue.next().unwrap().2, 100);
    queue.wait(&tenant("a"), Class::End, 101);
    assert_eq!(queue.next().unwrap().2, 101);
    assert!(queue.next().is_none());
    queue.ended(&tenant("b"), Place::Any);
    queue.overdue_ended(&tenant("a"));
    queue.overdue_ended(&tenant("a"));
    assert_eq!(queue.next().unwrap().2, 8, "one that has ended lets another begin");
    let share = queue.shares().into_iter().find(|share| share.tenant == tenant("a")).unwrap();
    assert_eq!((share.running, share.overdue, share.waiting), (2, 6, 11));
}

#[tokio::test]
async fn no_more_run_at_a_time_than_there_are_places() {
    let admission = admission(3);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (admission, now, most) = (admission.clone(), Arc::clone(&now), Arc::clone(&most));
        tasks.spawn(async move {
            let turn = admission.turn(&tenant(if number % 4 == 0 { "b" } else { "a" }), "create").await;
            turn.run(async {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(2)).await;
                now.fetch_sub(1, Ordering::SeqCst);
            })
            .await;
        });
    }
    assert_eq!(tasks.join_all().await.len(), 40);
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert!(admission.shares().is_empty());
}

#[tokio::test]
async fn k5_a_command_that_hangs_is_overtaken() {
    let admission = admission(1);
    let hung = tokio::spawn({
        let admission = admission.clone();
        async move { admission.turn(&tenant("a"), "exec").await.run(std::future::pending::<()>()).await }
    });
    tokio::task::yield_now().await;
    let since = Instant::now();
    admission.turn(&tenant("a"), "create").await.run(async {}).await;
    assert!(since.elapsed() >= GRACE / 2 && since.elapsed() < GRACE * 10, "{:?}", since.elapsed());
    assert_eq!(admission.shares()[0].overdue, 1);
    hung.abort();
    assert!(hung.await.unwrap_err().is_cancelled());
    assert!(admission.shares().is_empty());
}

#[tokio::test]
async fn who_waits_no_more_is_passed_over() {
    let admission = admission(1);
    let first = admission.turn(&tenant("a"), "create").await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let waiters: Vec<_> = (0..100)
        .map(|number| {
            let (admission, order) = (admission.clone(), Arc::clone(&order));
            tokio::spawn(async move {
                let _turn = admission.turn(&tenant("a"), "create").await;
                order.lock().unwrap().push(number);
            })
        })
        .collect();
    tokio::task::yield_now().await;
    for waiter in waiters.iter().take(99) {
        waiter.abort();
    }
    tokio::task::yield_now().await;
    drop(first);
    for waiter in waiters {
        let _ = waiter.await;
    }
    assert_eq!(*order.lock().unwrap(), [99]);
    assert!(admission.shares().is_empty());
}

#[tokio::test]
async fn a_turn_that_is_dropped_unused_is_the_next_ones() {
    let admission = admission(1);
    drop(admission.turn(&tenant("a"), "kill").await);
    let a = tenant("a");
    let turn = admission.turn(&a, "exec").await;
    let mut waiting = std::pin::pin!(admission.turn(&a, "exec"));
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut waiting).await.is_err());
    drop(turn);
    drop(waiting.as_mut().await);
    Turn::free().run(async {}).await;
}
