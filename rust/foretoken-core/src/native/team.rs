//! Threads that go through one forward in step.
//!
//! Between two phases each hands its part to all others and waits for theirs. A phase lasts microseconds, so they
//! wait by spinning, and give way to others only when a wait is long.

use std::sync::PoisonError;

use crate::native::crew::rest;
use crate::sync::{Arc, AtomicBool, AtomicUsize, Ordering, RwLock, thread};

/// What the threads of one forward share.
#[derive(Default)]
struct Team {
    arrived: AtomicUsize,
    broken: AtomicBool,
    /// Two sets in turn: a thread can be one phase ahead of the slowest, never two.
    parts: Vec<[RwLock<Vec<f32>>; 2]>,
}

/// One of the threads.
pub(crate) struct Worker {
    team: Arc<Team>,
    phase: usize,
    pub index: usize,
}

impl Worker {
    /// As many as there are threads.
    pub fn team(threads: usize) -> impl Iterator<Item = Self> {
        let parts = (0..threads).map(|_| Default::default()).collect();
        let team = Arc::new(Team { parts, ..Default::default() });
        (0..threads).map(move |index| Self { team: team.clone(), phase: 0, index })
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.team.parts.len()
    }

    /// Hands over this thread's part, and calls `take(index, part)` with the part of each, in order.
    ///
    /// What `part` holds afterwards is arbitrary.
    pub fn exchange(&mut self, part: &mut Vec<f32>, mut take: impl FnMut(usize, &[f32])) {
        let parts = &self.team.parts;
        if parts.len() == 1 {
            take(0, part);
            return;
        }
        let set = self.phase % 2;
        std::mem::swap(part, &mut parts[self.index][set].write().unwrap_or_else(PoisonError::into_inner));
        self.phase += 1;
        self.wait();
        for (index, sets) in parts.iter().enumerate() {
            take(index, &sets[set].read().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn wait(&self) {
        let (team, all) = (&self.team, self.phase * self.threads());
        team.arrived.fetch_add(1, Ordering::AcqRel);
        let mut looks = 0;
        while team.arrived.load(Ordering::Acquire) < all {
            assert!(!team.broken.load(Ordering::Acquire), "another thread of this forward panicked");
            rest(&mut looks);
        }
    }
}

impl Drop for Worker {
    /// Tells the others when its thread panics, so that they do not wait for ever.
    fn drop(&mut self) {
        if thread::panicking() {
            self.team.broken.store(true, Ordering::Release);
        }
    }
}

/// What thread `index` of `threads` does of `count` things: as evenly as it goes in whole multiples of `unit`.
pub(crate) fn share(count: usize, unit: usize, threads: usize, index: usize) -> std::ops::Range<usize> {
    let units = count.div_ceil(unit);
    let edge = |index: usize| (units * index / threads * unit).min(count);
    edge(index)..edge(index + 1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn everyone_gets_every_part_in_order() {
        for threads in [1, 2, 5] {
            thread::scope(|scope| {
                for mut worker in Worker::team(threads) {
                    scope.spawn(move || {
                        for round in 0..200 {
                            let mut part = vec![(worker.index * 1000 + round) as f32];
                            let mut found = Vec::new();
                            worker.exchange(&mut part, |index, part| found.push((index, part[0] as usize)));
                            assert_eq!(found, (0..threads).map(|t| (t, t * 1000 + round)).collect::<Vec<_>>());
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn a_panic_ends_the_wait_of_the_others() {
        let mut team = Worker::team(2);
        let (mut first, second) = (team.next().unwrap(), team.next().unwrap());
        let other = thread::spawn(move || {
            let _lost = second;
            panic!("on purpose");
        });
        let waited = thread::spawn(move || first.exchange(&mut vec![1.0], |_, _| ()));
        assert!(other.join().is_err());
        assert!(waited.join().is_err());
    }

    #[test]
    fn shares_cover_everything_once() {
        for (count, unit, threads) in [(44, 4, 2), (3, 4, 2), (17, 4, 3), (1, 1, 4), (256, 4, 7)] {
            let shares: Vec<_> = (0..threads).flat_map(|index| share(count, unit, threads, index)).collect();
            assert_eq!(shares, (0..count).collect::<Vec<_>>());
        }
    }
}
