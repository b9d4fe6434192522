//! The codes that may be among the nearest of one vector, until their distances are known.

use fearless_simd::dispatch;

use super::Book;

/// So many codes more than asked for are kept in mind.
const CROWD: usize = 64;

/// The k nearest of what has been offered, and what may be.
///
/// A code that is offered gets its distance in f32, whose error is a small part of itself; so of many codes that a coarse score
/// leaves open, few are left for f64.
#[derive(Debug)]
pub(super) struct Candidates {
    k: usize,
    /// The squared norm of the vector as scores see it.
    square: f64,
    /// No score above this is among the k lowest.
    bound: f32,
    /// The k lowest upper bounds of distances, rising; no distance above the last is among the k lowest.
    uppers: Vec<f32>,
    /// Lower bounds of distances, with their codes.
    open: Vec<(f32, u32)>,
    /// Distances and codes, the k lowest.
    known: Vec<(f64, u32)>,
    /// How many codes have been offered.
    offered: usize,
}

impl Candidates {
    pub fn new(k: usize) -> Self {
        let (open, known, uppers) = (Vec::new(), Vec::new(), Vec::with_capacity(k));
        Self { k, square: 0.0, bound: f32::MAX, uppers, open, known, offered: 0 }
    }

    /// Begins with a vector; nothing is offered if its scores cannot be told.
    pub fn start(&mut self, measures: bool, square: f64) {
        self.bound = if measures { f32::MAX } else { f32::NEG_INFINITY };
        self.square = square;
        self.uppers.clear();
        self.open.clear();
        self.known.clear();
        self.offered = 0;
    }

    /// No score above this matters, if scores are off by at most `error`.
    #[inline]
    pub fn limit(&self, error: f32) -> f32 {
        (self.bound + error).next_up()
    }

    /// Takes some scores, of codes `first` and on, where `bits` says that they are within the limit.
    #[inline(never)]
    pub fn offer(&mut self, scores: &[f32], mut bits: u64, error: f32, first: usize, (book, vector): (&Book, &[f32])) {
        while bits != 0 {
            // The lowest first: it may rule out the others.
            let (mut lane, mut rest) = (bits.trailing_zeros() as usize, bits & (bits - 1));
            while rest != 0 {
                let other = rest.trailing_zeros() as usize;
                lane = if scores[other] < scores[lane] { other } else { lane };
                rest &= rest - 1;
            }
            if scores[lane] > self.limit(error) {
                break;
            }
            bits &= !(1 << lane);
            self.take(book, vector, (first + lane) as u32);
        }
    }

    /// Bounds the distance of a code, which stays open if it may be among the lowest.
    fn take(&mut self, book: &Book, vector: &[f32], id: u32) {
        self.offered += 1;
        let distance = dispatch!(book.level, _simd => rough(vector, book.code(id)));
        // A sum of n squares of differences is off by less than (n + 3)·2⁻²⁴ of itself, and by what leaves the range of f32.
        let relative = (2 * vector.len() + 16) as f32 * 0.5_f32.powi(24);
        let absolute = (2 * vector.len() + 8) as f32 * f32::MIN_POSITIVE;
        let (lower, upper) = (distance * (1.0 - relative) - absolute, distance * (1.0 + relative) + absolute);
        if self.uppers.len() == self.k && lower > self.uppers[self.k - 1] {
            return;
        }
        self.open.push((lower, id));
        self.uppers.insert(self.uppers.partition_point(|&other| other <= upper), upper);
        if self.uppers.len() > self.k {
            self.uppers.pop();
        }
        if self.uppers.len() == self.k {
            // Half a squared distance is a score and half the vector's square.
            let bound = ((f64::from(self.uppers[self.k - 1]) - self.square) / 2.0) as f32;
            self.bound = self.bound.min(bound.next_up());
        }
        // A crowd of ties is sorted out before it takes much memory.
        if self.open.len() > 2 * self.k + CROWD {
            self.settle(book, vector);
        }
    }

    /// Works out what is left; gives how many codes were offered.
    pub fn finish(&mut self, book: &Book, vector: &[f32]) -> usize {
        if self.bound == f32::NEG_INFINITY {
            for first in (0..book.count()).step_by(CROWD) {
                self.know(book, vector, (first..book.count().min(first + CROWD)).map(|id| id as u32));
            }
        } else {
            self.settle(book, vector);
        }
        self.offered
    }

    fn settle(&mut self, book: &Book, vector: &[f32]) {
        let bound = if self.uppers.len() == self.k { self.uppers[self.k - 1] } else { f32::INFINITY };
        let mut open = std::mem::take(&mut self.open);
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

/// A squared distance in f32, in lanes.
#[allow(clippy::inline_always)] // only what is inlined is compiled for the wide instructions
#[inline(always)]
fn rough(vector: &[f32], code: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let ((vector, one), (code, other)) = (vector.as_chunks::<16>(), code.as_chunks::<16>());
    for (vector, code) in vector.iter().zip(code) {
        for lane in 0..16 {
            let difference = vector[lane] - code[lane];
            sums[lane] += difference * difference;
        }
    }
    for ((sum, &one), &other) in sums.iter_mut().zip(one).zip(other) {
        *sum += (one - other) * (one - other);
    }
    let mut sum = 0.0;
    for part in sums {
        sum += part;
    }
    sum
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
