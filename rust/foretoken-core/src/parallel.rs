//! Rows over threads that live for one call: there is no pool.

use std::ops::Range;
use std::panic::resume_unwind;

use crate::error::{Error, Result};

/// Refuses a number of threads below one.
pub(crate) fn threads_of(threads: i64) -> Result<usize> {
    let expected = "1 or more";
    usize::try_from(threads).ok().filter(|&threads| threads > 0).ok_or(Error::Range {
        name: "threads",
        value: threads as f64,
        expected,
    })
}

/// Calls `work` with ranges that make up `0..count`, each but the last a multiple of `unit` long, in as many threads;
/// gives the results in order.
///
/// The calling thread works, too, and alone if there is no more than one unit for each thread.
pub(crate) fn spread<T: Send>(
    count: usize,
    unit: usize,
    threads: usize,
    work: impl Fn(Range<usize>) -> T + Sync,
) -> Vec<T> {
    let units = count.div_ceil(unit);
    let threads = threads.min(units).max(1);
    let edge = |index: usize| (units * index / threads * unit).min(count);
    std::thread::scope(|scope| {
        let work = &work;
        let others: Vec<_> =
            (1..threads).map(|index| scope.spawn(move || work(edge(index)..edge(index + 1)))).collect();
        let own = std::iter::once(work(0..edge(1)));
        own.chain(others.into_iter().map(|other| other.join().unwrap_or_else(|panic| resume_unwind(panic)))).collect()
    })
}

/// As `spread`, for work that writes `width` numbers a row in place.
pub(crate) fn spread_into<T: Send>(
    out: &mut [T],
    width: usize,
    unit: usize,
    threads: usize,
    work: impl Fn(Range<usize>, &mut [T]) + Sync,
) {
    let count = out.len().checked_div(width).unwrap_or(0);
    let units = count.div_ceil(unit);
    let threads = threads.min(units).max(1);
    let edge = |index: usize| (units * index / threads * unit).min(count);
    std::thread::scope(|scope| {
        let (work, mut rest) = (&work, out);
        for index in (0..threads).rev() {
            let (before, own) = rest.split_at_mut(edge(index) * width);
            rest = before;
            let range = edge(index)..edge(index + 1);
            if index > 0 {
                scope.spawn(move || work(range, own));
            } else {
                work(range, own);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_done_once_and_in_order() {
        for (count, unit, threads) in [(0, 4, 2), (1, 4, 3), (17, 4, 3), (100, 7, 5), (8, 1, 20)] {
            let parts = spread(count, unit, threads, Iterator::collect::<Vec<_>>);
            assert_eq!(parts.concat(), (0..count).collect::<Vec<_>>());
            let mut out = vec![0; count * 2];
            spread_into(&mut out, 2, unit, threads, |range, out| {
                for (row, pair) in range.zip(out.chunks_exact_mut(2)) {
                    pair.copy_from_slice(&[row, row + 1]);
                }
            });
            assert_eq!(out, (0..count).flat_map(|row| [row, row + 1]).collect::<Vec<_>>());
        }
    }

    #[test]
    #[should_panic(expected = "on purpose")]
    fn a_panic_is_passed_on() {
        spread(2, 1, 2, |range| assert!(range.start == 0, "on purpose"));
    }
}
