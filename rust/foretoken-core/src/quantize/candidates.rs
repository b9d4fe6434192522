//! The codes that may be among the nearest of one vector, until their distances are known.

use super::Book;

/// So many codes more than asked for are kept in mind.
const CROWD: usize = 64;

/// The k nearest of what has been offered, and what may be.
#[derive(Debug)]
pub(super) struct Candidates {
    k: usize,
    /// No score above this is among the k lowest.
    bound: f32,
    /// The k lowest upper bounds of scores, rising.
    uppers: Vec<f32>,
    /// Lower bounds of scores, with their codes.
    open: Vec<(f32, u32)>,
    /// Distances and codes, the k lowest.
    known: Vec<(f64, u32)>,
    /// How many distances have been worked out.
    worked: usize,
}

impl Candidates {
    pub fn new(k: usize) -> Self {
        Self { k, bound: f32::MAX, uppers: Vec::with_capacity(k), open: Vec::new(), known: Vec::new(), worked: 0 }
    }

    /// Begins with a vector; nothing is offered if its scores cannot be told.
    pub fn start(&mut self, measures: bool) {
        self.bound = if measures { f32::MAX } else { f32::NEG_INFINITY };
        self.uppers.clear();
        self.open.clear();
        self.known.clear();
        self.worked = 0;
    }

    /// No score above this matters, if scores are off by at most `error`.
    #[inline]
    pub fn limit(&self, error: f32) -> f32 {
        self.bound + error
    }

    /// Takes some scores, of codes `first` and on, where `bits` says that they are within the limit.
    #[inline(never)]
    pub fn offer(&mut self, scores: &[f32], mut bits: u64, error: f32, first: usize, (book, vector): (&Book, &[f32])) {
        while bits != 0 {
            let lane = bits.trailing_zeros() as usize;
            bits &= bits - 1;
            let (lower, upper) = (scores[lane] - error, scores[lane] + error);
            if lower > self.bound {
                continue;
            }
            self.open.push((lower, (first + lane) as u32));
            if upper < self.bound {
                self.uppers.insert(self.uppers.partition_point(|&other| other <= upper), upper);
                self.uppers.truncate(self.k);
                if self.uppers.len() == self.k {
                    self.bound = self.uppers[self.k - 1];
                }
            }
        }
        // What records have left behind is dropped, and a crowd of near ties is sorted out before it takes much memory.
        let many = 2 * self.k + CROWD;
        if self.open.len() > many {
            let bound = self.bound;
            self.open.retain(|&(lower, _)| lower <= bound);
            if self.open.len() > many / 2 {
                self.settle(book, vector);
            }
        }
    }

    /// Works out what is left; gives how many distances that took in all.
    pub fn finish(&mut self, book: &Book, vector: &[f32]) -> usize {
        if self.bound == f32::NEG_INFINITY {
            for first in (0..book.count()).step_by(CROWD) {
                self.know(book, vector, (first..book.count().min(first + CROWD)).map(|id| id as u32));
            }
        } else {
            self.settle(book, vector);
        }
        self.worked
    }

    fn settle(&mut self, book: &Book, vector: &[f32]) {
        let (bound, mut open) = (self.bound, std::mem::take(&mut self.open));
        self.know(book, vector, open.drain(..).filter(|&(lower, _)| lower <= bound).map(|(_, id)| id));
        self.open = open;
    }

    fn know(&mut self, book: &Book, vector: &[f32], mut ids: impl Iterator<Item = u32>) {
        while let Some(first) = ids.next() {
            // Four at a time, because each addition waits for the one before it.
            let mut next = || ids.next().unwrap_or(first);
            let four = [first, next(), next(), next()];
            let [a, b, c, d] = four;
            let distances = distances(vector, [book.code(a), book.code(b), book.code(c), book.code(d)]);
            self.known.extend(distances.into_iter().zip(four));
            self.worked += 4;
        }
        self.keep();
    }

    fn keep(&mut self) {
        self.known.sort_unstable_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        self.known.dedup();
        self.known.truncate(self.k);
    }

    /// Distances and codes, nearest first.
    pub fn nearest(&self) -> impl Iterator<Item = (f64, u32)> {
        self.known.iter().copied()
    }
}

/// Squared distances, in the order that defines them.
fn distances(vector: &[f32], codes: [&[f32]; 4]) -> [f64; 4] {
    let [a, b, c, d] = codes;
    let mut sums = [0.0_f64; 4];
    for ((((&number, &a), &b), &c), &d) in vector.iter().zip(a).zip(b).zip(c).zip(d) {
        let number = f64::from(number);
        let four = [number - f64::from(a), number - f64::from(b), number - f64::from(c), number - f64::from(d)];
        for (sum, difference) in sums.iter_mut().zip(four) {
            *sum += difference * difference;
        }
    }
    sums
}
