//! Threads that stand by for one session.
//!
//! A helper sleeps until it is called. If it does not answer within microseconds, because its core is busy, or because
//! the process was forked and the helper is not there, the caller does the work alone: the result is the same.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process;
use std::sync::PoisonError;
use std::time::Duration;

use crate::sync::{Arc, Condvar, Instant, Mutex, MutexGuard, spin_loop, thread};

/// How long a caller waits for an answer; a helper that sleeps on a core of its own needs 5 to 50 µs.
pub(crate) const PATIENCE: Duration = Duration::from_micros(60);

/// Looks before a waiting thread gives way to others.
const LOOKS: u32 = 2048;

enum State<T> {
    Idle,
    Called,
    Ready,
    Given(T),
    Busy,
    Done(T),
    Lost,
    Closed,
}

struct Seat<T> {
    state: Mutex<State<T>>,
    bell: Condvar,
}

/// Some helpers that do one kind of work; they leave when the crew is dropped.
pub(crate) struct Crew<T> {
    seats: Vec<Arc<Seat<T>>>,
    /// The process that has the helpers: a fork of it lacks them, and has their locks as they were, some perhaps taken.
    home: u32,
}

impl<T> Crew<T> {
    /// Whether this is a fork of the process that has the helpers.
    fn is_elsewhere(&self) -> bool {
        process::id() != self.home
    }
}

impl<T: Send + 'static> Crew<T> {
    /// Starts helpers; one that the system refuses is never ready.
    pub fn new(helpers: usize, work: fn(T) -> T) -> Self {
        let seat = |_| {
            let seat = Arc::new(Seat { state: Mutex::new(State::Idle), bell: Condvar::new() });
            let own = seat.clone();
            drop(thread::Builder::new().name("foretoken".into()).spawn(move || own.serve(work)));
            seat
        };
        Self { seats: (0..helpers).map(seat).collect(), home: process::id() }
    }

    /// How many helpers there are.
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// Whether every helper answers; then each must be given a task.
    pub fn call(&self, patience: Duration) -> bool {
        if self.is_elsewhere() {
            return false;
        }
        for seat in &self.seats {
            *seat.lock() = State::Called;
            seat.bell.notify_one();
        }
        let start = Instant::now();
        let answered = |seat: &Arc<Seat<T>>| matches!(*seat.lock(), State::Ready);
        let mut looks = 0;
        let ready = self.seats.iter().all(|seat| {
            while !answered(seat) {
                if start.elapsed() > patience {
                    return false;
                }
                rest(&mut looks);
            }
            true
        });
        if !ready {
            self.seats.iter().for_each(|seat| *seat.lock() = State::Idle);
        }
        ready
    }

    /// Gives each helper its task.
    pub fn give(&self, tasks: impl IntoIterator<Item = T>) {
        for (seat, task) in self.seats.iter().zip(tasks) {
            *seat.lock() = State::Given(task);
        }
    }

    /// Waits for what the helpers have done.
    pub fn collect(&self) -> Vec<T> {
        let done = |seat: &Arc<Seat<T>>| {
            let mut looks = 0;
            loop {
                let mut state = seat.lock();
                match std::mem::replace(&mut *state, State::Idle) {
                    State::Done(task) => return task,
                    State::Lost => panic!("a helper of this session panicked"),
                    other => *state = other,
                }
                drop(state);
                rest(&mut looks);
            }
        };
        self.seats.iter().map(done).collect()
    }
}

impl<T> Seat<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, work: fn(T) -> T) {
        loop {
            let mut state = self.lock();
            while !matches!(*state, State::Called | State::Closed) {
                state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if matches!(*state, State::Closed) {
                return;
            }
            *state = State::Ready;
            drop(state);
            if let Some(task) = self.task() {
                let done = catch_unwind(AssertUnwindSafe(|| work(task)));
                let mut state = self.lock();
                if !matches!(*state, State::Closed) {
                    *state = done.map_or(State::Lost, State::Done);
                }
            }
        }
    }

    /// What a helper that answered is given; nothing if the caller went on without it.
    fn task(&self) -> Option<T> {
        let mut looks = 0;
        loop {
            let mut state = self.lock();
            match std::mem::replace(&mut *state, State::Busy) {
                State::Given(task) => return Some(task),
                State::Ready => *state = State::Ready,
                other => {
                    *state = other;
                    return None;
                }
            }
            drop(state);
            rest(&mut looks);
        }
    }
}

impl<T> Drop for Crew<T> {
    fn drop(&mut self) {
        if self.is_elsewhere() {
            return;
        }
        for seat in &self.seats {
            *seat.lock() = State::Closed;
            seat.bell.notify_one();
        }
    }
}

/// A short wait by spinning; a long one lets others have the core.
pub(crate) fn rest(looks: &mut u32) {
    *looks += 1;
    if *looks < LOOKS { spin_loop() } else { thread::yield_now() }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// On a busy machine helpers may be slow to answer.
    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn everyone_does_its_task_again_and_again() {
        let crew = Crew::new(3, |number: usize| number * 2);
        for round in 0..200 {
            assert!(crew.call(LONG));
            crew.give([round, round + 1, round + 2]);
            assert_eq!(crew.collect(), [2 * round, 2 * round + 2, 2 * round + 4]);
        }
    }

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        let crew = Crew::new(1, |long: Duration| {
            thread::sleep(long);
            long
        });
        assert!(crew.call(LONG));
        crew.give([Duration::from_millis(50)]);
        while !matches!(*crew.seats[0].lock(), State::Busy) {}
        let other = Crew { seats: crew.seats.clone(), home: crew.home };
        assert!(!other.call(PATIENCE));
        std::mem::forget(other);
    }

    #[test]
    fn a_child_waits_for_no_lock_that_its_parent_held() {
        let crew = Crew::new(1, |number: usize| number);
        let child = Crew { seats: crew.seats.clone(), home: crew.home + 1 };
        let held = crew.seats[0].lock();
        assert!(!child.call(LONG));
        drop(child);
        drop(held);
        assert!(crew.call(LONG));
        crew.give([7]);
        assert_eq!(crew.collect(), [7]);
    }

    #[test]
    #[should_panic(expected = "a helper of this session panicked")]
    fn a_panic_is_passed_on() {
        let crew = Crew::new(1, |number: usize| number / (number - 7));
        assert!(crew.call(LONG));
        crew.give([7]);
        crew.collect();
    }
}
