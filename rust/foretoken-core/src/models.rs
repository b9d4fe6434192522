//! Models of what threads share: each is run in every order in which its threads can take turns, up to a number of preemptions.
//!
//! Their time is that of `sync.rs`. Never more than two threads wait for each other by spinning: of three, two can give way to
//! each other for ever, and loom follows them. A panic ends a model. Larger teams and what a panic leaves behind are tested with
//! real threads, where the code is.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::native::crew::Crew;
use crate::native::team::Worker;
use crate::rows::Rows;
use crate::shared::Shared;
use crate::sync::{Arc, thread};

/// Longer than a look takes here.
const ENDLESS: Duration = Duration::from_secs(60);

/// How often a thread is stopped in mid-course; most mistakes need one or two.
const PREEMPTIONS: usize = 3;

/// Runs a model in every order.
fn every_order(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(model);
}

#[test]
fn readers_see_the_changes_in_order_and_all_of_each() {
    every_order(|| {
        let shared = Arc::new(Shared::new((0, 0), (-1, -1)));
        let writers: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.write(|pair| {
                        pair.0 += 1;
                        pair.1 += 1;
                    });
                })
            })
            .collect();
        let mut last = 0;
        for _ in 0..2 {
            let (one, other) = **shared.read();
            assert!(one == other && one >= last);
            last = one;
            let seen = shared.try_read().map(|pair| **pair);
            assert!(seen.is_none_or(|(one, other)| one == other && one >= last));
        }
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(**shared.read(), (2, 2));
    });
}

#[test]
fn parts_are_those_of_this_phase() {
    every_order(|| {
        let run = |mut worker: Worker| {
            for round in 0..3 {
                let mut part = vec![(10 * round + worker.index) as f32];
                let mut found = Vec::new();
                worker.exchange(&mut part, |index, part| found.push((index, part[0])));
                assert_eq!(found, [(0, (10 * round) as f32), (1, (10 * round + 1) as f32)]);
            }
        };
        let mut team = Worker::team(2);
        let (first, second) = (team.next().unwrap(), team.next().unwrap());
        let other = thread::spawn(move || run(second));
        run(first);
        other.join().unwrap();
    });
}

#[test]
fn helpers_do_what_they_are_given_and_leave() {
    every_order(|| {
        let crew = Crew::new(1, |number: usize| number + 10);
        for round in 0..2 {
            assert!(crew.call(ENDLESS));
            crew.give([round]);
            assert_eq!(crew.collect(), [round + 10]);
        }
    });
}

#[test]
fn helpers_that_are_not_waited_for_are_there_the_next_time() {
    every_order(|| {
        let crew = Crew::new(1, |number: usize| number + 10);
        for patience in [Duration::ZERO, ENDLESS] {
            if crew.call(patience) {
                crew.give([1]);
                assert_eq!(crew.collect(), [11]);
            } else {
                assert_eq!(patience, Duration::ZERO);
            }
        }
    });
}

#[allow(clippy::unnecessary_wraps)] // as `with` asks for
fn one_more(count: &mut i32) -> Result<i32> {
    *count += 1;
    Ok(*count)
}

#[test]
fn a_row_is_started_once_and_changed_by_one_at_a_time() {
    every_order(|| {
        let rows = Arc::new(Rows::new());
        let other = {
            let rows = rows.clone();
            thread::spawn(move || {
                let started = rows.start(1, || Ok(0));
                // Whoever started it, it is there.
                rows.with(1, one_more).unwrap();
                started
            })
        };
        let started = rows.start(1, || Ok(0));
        rows.with(1, one_more).unwrap();
        let all = rows.collect(|&count| count);
        assert!(all == [(1, 1)] || all == [(1, 2)]);
        let both = [started, other.join().unwrap()];
        assert!(both.contains(&Ok(())) && both.contains(&Err(Error::RowStarted { row: 1 })), "{both:?}");
        assert_eq!(rows.collect(|&count| count), [(1, 2)]);
    });
}

#[test]
fn a_row_that_is_stopped_is_finished_first_or_gone() {
    every_order(|| {
        let rows = Arc::new(Rows::new());
        rows.start(1, || Ok(0)).unwrap();
        let other = {
            let rows = rows.clone();
            thread::spawn(move || rows.stop(1))
        };
        let changed = rows.with(1, one_more);
        assert!(changed == Ok(1) || changed == Err(Error::UnknownRow { row: 1 }));
        let stopped = [other.join().unwrap(), rows.stop(1)];
        assert_eq!(stopped, [Ok(()), Err(Error::UnknownRow { row: 1 })]);
    });
}
