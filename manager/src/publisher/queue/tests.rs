use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;

fn key(n: u8) -> Key {
    Key::new("ns", &format!("c{n}")).unwrap()
}

/// The bytes tell one parcel from another.
fn parcel(n: u64, left_to_containerd: bool) -> Arc<Parcel> {
    let request = n.to_be_bytes().to_vec().into();
    let at = SystemTime::UNIX_EPOCH;
    Arc::new(Parcel { topic: "/tasks/oom", namespace: "ns".into(), at, left_to_containerd, request })
}

fn overflow(news: bool) -> Pushed {
    Pushed::Overflow { dropped: Dropped { events: 1, exits: 0 }, news }
}

fn number(parcel: &Parcel) -> u64 {
    u64::from_be_bytes(parcel.request.as_ref().try_into().unwrap())
}

#[test]
fn f4_the_next_event_waits_for_the_one_before() {
    let mut queue = Queue::new(10, 1000);
    for n in 0..3 {
        assert_eq!(queue.push(&key(1), parcel(n, false)), Pushed::Kept);
    }
    queue.push(&key(2), parcel(10, false));
    let first = queue.take().unwrap();
    assert_eq!((first.0, number(&first.1)), (key(1), 0));
    assert_eq!(number(&queue.take().unwrap().1), 10);
    assert!(queue.take().is_none(), "one of each container is in flight");
    queue.again(&key(1));
    assert_eq!(number(&queue.take().unwrap().1), 0, "what is sent again is not overtaken");
    assert_eq!(queue.fail(&key(1)), 1);
    let now = Instant::now();
    queue.rest(&key(1), now + Duration::from_secs(1));
    assert!(queue.take().is_none());
    assert_eq!(queue.rouse(now), Some(now + Duration::from_secs(1)));
    assert_eq!(queue.rouse(now + Duration::from_secs(1)), None);
    assert_eq!(number(&queue.take().unwrap().1), 0);
    assert_eq!(queue.fail(&key(1)), 2);
    assert!(queue.done(&key(1)));
    assert!(!queue.done(&key(1)), "what is not in flight cannot be done");
    assert_eq!(number(&queue.take().unwrap().1), 1);
    assert_eq!(queue.fail(&key(1)), 1, "failures are an event's own");
}

#[test]
fn over_the_bound_the_oldest_of_the_longest_lane_goes() {
    let mut queue = Queue::new(4, 1000);
    queue.push(&key(2), parcel(10, false));
    for n in 0..3 {
        queue.push(&key(1), parcel(n, false));
    }
    assert_eq!(number(&queue.take().unwrap().1), 10);
    assert_eq!(number(&queue.take().unwrap().1), 0);
    assert_eq!(queue.push(&key(3), parcel(20, false)), overflow(true));
    assert_eq!(queue.push(&key(3), parcel(21, false)), overflow(false));
    assert_eq!(queue.len(), 4);
    assert!(queue.done(&key(1)), "what is in flight is not dropped");
    // Of lane 1, event 1 was dropped first; then one of two lanes of equal length lost its oldest.
    let mut rest: Vec<u64> = std::iter::from_fn(|| {
        let (key, parcel) = queue.take()?;
        queue.done(&key);
        Some(number(&parcel))
    })
    .collect();
    rest.sort_unstable();
    assert!(rest == [2, 21] || rest == [20, 21], "{rest:?}");
}

#[test]
fn bytes_are_bounded_too() {
    let mut queue = Queue::new(100, 20);
    queue.push(&key(1), parcel(0, false));
    queue.push(&key(1), parcel(1, false));
    assert!(matches!(
        queue.push(&key(1), parcel(2, false)),
        Pushed::Overflow { dropped: Dropped { events: 1, .. }, .. }
    ));
    assert_eq!((queue.len(), queue.bytes()), (2, 16));
    assert_eq!(number(&queue.take().unwrap().1), 1);
}

#[test]
fn what_containerd_publishes_itself_is_left_to_it_but_not_what_is_in_flight() {
    let mut queue = Queue::new(100, 10_000);
    queue.push(&key(1), parcel(0, true));
    queue.take().unwrap();
    queue.push(&key(1), parcel(1, false));
    queue.push(&key(1), parcel(2, true));
    queue.push(&key(2), parcel(3, true));
    assert_eq!(queue.leave().events, 2);
    assert_eq!((queue.len(), queue.bytes()), (2, 16));
    assert!(matches!(queue.push(&key(3), parcel(4, true)), Pushed::Stopping(_)));
    assert_eq!(queue.push(&key(3), parcel(5, false)), Pushed::Kept);
    assert!(queue.done(&key(1)));
    assert_eq!(queue.close().events, 2);
    assert_eq!((queue.len(), queue.bytes(), queue.has_ready()), (0, 0, false));
    assert!(matches!(queue.push(&key(3), parcel(6, false)), Pushed::Stopping(_)));
}

proptest! {
    /// Whatever happens, each container's events come in order, at most one at a time, and each event that was handed over is
    /// delivered, dropped and counted, or pending.
    #[test]
    fn order_and_counts_hold(steps in proptest::collection::vec((0_u8..7, 0_u8..5), 1..400)) {
        let mut queue = Queue::new(12, 1_000);
        let (mut pushed, mut dropped, mut delivered) = (0_u64, 0_u64, 0_u64);
        let mut last: HashMap<Key, u64> = HashMap::new();
        let mut flying: HashMap<Key, u64> = HashMap::new();
        let mut now = Instant::now();
        for (step, n) in steps {
            let key = key(n);
            match step {
                0..3 => {
                    pushed += 1;
                    if let Pushed::Overflow { dropped: d, .. } = queue.push(&key, parcel(pushed, false)) {
                        dropped += d.events;
                    }
                }
                3 => if let Some((key, parcel)) = queue.take() {
                    let number = number(&parcel);
                    prop_assert!(last.get(&key).is_none_or(|last| *last <= number), "out of order");
                    last.insert(key.clone(), number);
                    prop_assert!(flying.insert(key, number).is_none(), "two of a container in flight");
                }
                4 => {
                    let done = queue.done(&key);
                    prop_assert_eq!(done, flying.remove(&key).is_some());
                    if done {
                        delivered += 1;
                        // The next one is a later one.
                        last.entry(key).and_modify(|last| *last += 1);
                    }
                }
                5 => if flying.remove(&key).is_some() { queue.again(&key) },
                _ => {
                    if flying.remove(&key).is_some() {
                        queue.rest(&key, now + Duration::from_secs(u64::from(n)));
                    }
                    now += Duration::from_secs(1);
                    queue.rouse(now);
                }
            }
            prop_assert_eq!(queue.len() as u64, pushed - dropped - delivered);
            prop_assert_eq!(queue.lengths().map(|(_, length)| length).sum::<usize>(), queue.len());
            prop_assert_eq!(queue.bytes(), queue.len() * 8);
            prop_assert!(queue.len() <= 12);
        }
        // All that is left can be had.
        queue.rouse(now + Duration::from_secs(100));
        for key in flying.keys() {
            queue.done(key);
        }
        while let Some((key, _)) = queue.take() {
            queue.done(&key);
        }
        prop_assert_eq!(queue.len(), 0);
    }
}
