//! Bands over threads.

use std::panic::resume_unwind;

/// What one step fills: a part of the result that no other step touches.
pub(crate) struct Band<'a, T> {
    /// Which film.
    pub film: usize,
    /// Which tubelet, or which frame.
    pub time: usize,
    /// Which row of blocks, or of pixels.
    pub row: usize,
    pub out: &'a mut [T],
}

/// Calls `work` with neighbouring bands, as many as make an even share of the result for each thread.
///
/// What is written does not depend on how many there are: each band is filled by itself.
pub(crate) fn spread<T: Send>(mut bands: Vec<Band<'_, T>>, threads: usize, work: impl Fn(&mut [Band<'_, T>]) + Sync) {
    let total: usize = bands.iter().map(|band| band.out.len()).sum();
    let threads = threads.min(bands.len()).max(1);
    if threads == 1 {
        work(&mut bands);
        return;
    }
    std::thread::scope(|scope| {
        let (work, mut rest, mut left) = (&work, bands.as_mut_slice(), total);
        let mut workers = Vec::with_capacity(threads - 1);
        for behind in (1..threads).rev() {
            // What remains for the threads behind this one.
            let remain = total / threads * behind;
            let mut count = 0;
            while left > remain && rest.len() > count {
                left -= rest[count].out.len();
                count += 1;
            }
            let (share, others) = rest.split_at_mut(count);
            rest = others;
            workers.push(scope.spawn(move || work(share)));
        }
        work(rest);
        for worker in workers {
            worker.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_band_is_filled_once() {
        for sizes in [vec![], vec![5], vec![1; 40], vec![100, 1, 1, 1, 50, 0, 0, 7]] {
            for threads in [1, 2, 3, 8, 100] {
                let mut out = vec![0; sizes.iter().sum()];
                let (mut rest, mut bands) = (out.as_mut_slice(), Vec::new());
                for (film, &size) in sizes.iter().enumerate() {
                    let (band, others) = std::mem::take(&mut rest).split_at_mut(size);
                    rest = others;
                    bands.push(Band { film, time: 0, row: 0, out: band });
                }
                spread(bands, threads, |bands| {
                    for band in bands {
                        band.out.iter_mut().for_each(|number| *number += 1 + band.film);
                    }
                });
                let expected: Vec<usize> =
                    sizes.iter().enumerate().flat_map(|(film, &size)| vec![film + 1; size]).collect();
                assert_eq!(out, expected);
            }
        }
    }
}
