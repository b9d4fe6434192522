//! Vectors to code numbers and back: the nearest code of a book, books in a row, FSQ digits, ids packed in bits.
//!
//! The slow twin is `foretoken.reference.quantize`.

pub mod bits;
mod bytes;
mod candidates;
mod panels;
pub mod residual;
pub mod scalar;
mod scores;
pub mod shard;

use std::sync::OnceLock;

use fearless_simd::{Level, dispatch};

use crate::error::{Error, Result};
use crate::parallel::{spread, threads_of};
use crate::simd::LEVEL;
use bytes::BytePanels;
use candidates::Candidates;
use panels::{Panels, Size};

/// Most columns of a vector; the bounds on rounding hold for fewer than 2^22.
const MAX_WIDTH: usize = 1 << 20;
const MAX_CODES: usize = 1 << 31;
/// Rows that walk the book together, so that a panel of codes is fetched once for all of them.
const ROWS: usize = 96;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Nearest {
    /// Code numbers (rows, k), nearest first.
    pub ids: Vec<i64>,
    /// Squared distances (rows, k).
    pub distances: Vec<f64>,
}

/// The k nearest codes of each vector, exactly: no code that is left out is nearer than one that is given.
///
/// A distance is `Σ (v_j - c_j)²` in f64, added up in the order of j; among equals the lower number comes first. All codes are
/// compared in bytes or in f32, with a bound on the error, and only what the bound leaves open is compared in f64: so the result
/// is that of the definition, to the bit, whatever the instruction set or the number of threads.
///
/// # Errors
/// Sizes that do not fit, `k` outside `1..=codes`, numbers that are not finite.
pub fn nearest(vectors: &[f32], codebook: &[f32], width: usize, k: i64, threads: i64) -> Result<Nearest> {
    let threads = threads_of(threads)?;
    let book = Book::new("codebook", codebook, width)?;
    let k = usize::try_from(k).ok().filter(|k| (1..=book.count()).contains(k)).ok_or(Error::Range {
        name: "k",
        value: k as f64,
        expected: "at least 1, and at most the number of codes",
    })?;
    check_numbers("vectors", vectors, width)?;
    let rows = vectors.len() / width;
    let parts = spread(rows, ROWS, threads, |range| {
        let (mut found, mut search) = (Nearest::default(), Search::new(k));
        for vectors in vectors[range.start * width..range.end * width].chunks(ROWS * width) {
            search.run(&book, vectors);
            for row in &search.rows[..vectors.len() / width] {
                found.ids.extend(row.nearest().map(|(_, id)| i64::from(id)));
                found.distances.extend(row.nearest().map(|(distance, _)| distance));
            }
        }
        found
    });
    Ok(parts.into_iter().reduce(Nearest::joined).unwrap_or_default())
}

impl Nearest {
    fn joined(mut self, mut other: Self) -> Self {
        self.ids.append(&mut other.ids);
        self.distances.append(&mut other.distances);
        self
    }
}

/// Codes as they were given, and packed for the search.
struct Book<'a> {
    codes: &'a [f32],
    width: usize,
    level: Level,
    bytes: Option<BytePanels>,
    /// Packed when first asked for, because bytes may do.
    panels: OnceLock<Panels>,
}

impl<'a> Book<'a> {
    fn new(name: &'static str, codes: &'a [f32], width: usize) -> Result<Self> {
        if width > MAX_WIDTH {
            return Err(Error::TooLarge { name: "a vector", unit: "columns", given: width, limit: MAX_WIDTH });
        }
        if codes.is_empty() || width == 0 {
            return Err(Error::Empty { name });
        }
        check_numbers(name, codes, width)?;
        if codes.len() / width > MAX_CODES {
            return Err(Error::TooLarge { name, unit: "codes", given: codes.len() / width, limit: MAX_CODES });
        }
        Ok(Self::packed(*LEVEL, codes, width))
    }

    fn packed(level: Level, codes: &'a [f32], width: usize) -> Self {
        let bytes = bytes::pays(level, width).then(|| BytePanels::pack(level, codes, width));
        Self { codes, width, level, bytes, panels: OnceLock::new() }
    }

    fn count(&self) -> usize {
        self.codes.len() / self.width
    }

    fn code(&self, id: u32) -> &'a [f32] {
        &self.codes[id as usize * self.width..][..self.width]
    }
}

/// What a thread needs for a block of rows, used again for the next.
struct Search {
    k: usize,
    rows: Vec<Candidates>,
    sizes: Vec<Size>,
    rounded: bytes::Rows,
    /// Bytes leave too much open on such vectors.
    coarse: bool,
}

impl Search {
    fn new(k: usize) -> Self {
        Self { k, rows: Vec::new(), sizes: Vec::new(), rounded: bytes::Rows::default(), coarse: false }
    }

    /// Finds the nearest codes of at most `ROWS` vectors.
    fn run(&mut self, book: &Book, vectors: &[f32]) {
        let rows = vectors.len() / book.width;
        match &book.bytes {
            Some(packed) if !self.coarse => {
                self.rounded.take(book.level, packed, vectors, book.width);
                self.rows.resize_with(rows.next_multiple_of(bytes::TILE), || Candidates::new(self.k));
                for (index, (row, &size)) in self.rows.iter_mut().zip(&self.rounded.sizes).enumerate() {
                    row.start(index < rows && packed.bounds.measure(size), size.square);
                }
                bytes::scan(book.level, book, packed, vectors, &self.rounded, &mut self.rows);
                let offered = self.settle(book, vectors);
                // What bytes spare, as a number of codes that could be offered in the same time.
                let spared = book.count() * book.width / (20 * (book.width / 8 + 60));
                self.coarse = offered > rows * (8 + self.k + spared);
            }
            _ => {
                let packed = book.panels.get_or_init(|| Panels::pack(book.codes, book.width));
                self.sizes.clear();
                self.sizes.extend(vectors.chunks_exact(book.width).map(panels::size));
                self.rows.resize_with(rows, || Candidates::new(self.k));
                for (row, &size) in self.rows.iter_mut().zip(&self.sizes) {
                    row.start(packed.bounds.measure(size), size.square);
                }
                scores::scan(book.level, book, packed, vectors, &self.sizes, &mut self.rows);
                self.settle(book, vectors);
            }
        }
    }

    /// Works out distances; gives how many codes were offered.
    fn settle(&mut self, book: &Book, vectors: &[f32]) -> usize {
        let rows = self.rows.iter_mut().zip(vectors.chunks_exact(book.width));
        rows.map(|(row, vector)| row.finish(book, vector)).sum()
    }
}

/// Refuses numbers that are not whole rows, and NaN or infinity.
fn check_numbers(name: &'static str, numbers: &[f32], width: usize) -> Result<()> {
    let whole = numbers.len().checked_div(width).unwrap_or(0) * width;
    if whole != numbers.len() {
        return Err(Error::Size { name, unit: "numbers", given: numbers.len(), expected: whole });
    }
    check_finite(name, numbers)
}

/// Refuses NaN and infinity.
pub(crate) fn check_finite(name: &'static str, numbers: &[f32]) -> Result<()> {
    let bits = |most, number: &f32| u32::max(most, number.to_bits() & 0x7FFF_FFFF);
    let most = dispatch!(*LEVEL, _simd => numbers.iter().fold(0, bits));
    if most < f32::INFINITY.to_bits() {
        return Ok(());
    }
    let place = numbers.iter().position(|number| !number.is_finite()).unwrap_or(0);
    Err(Error::NotFinite { name, place, value: f64::from(numbers[place]) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The instruction sets of this machine.
    fn levels() -> Vec<Level> {
        let own = *LEVEL;
        #[cfg(target_arch = "x86_64")]
        let lower = [
            own.as_sse2().map(fearless_simd::Simd::level),
            own.as_sse4_2().map(fearless_simd::Simd::level),
            own.as_avx2().map(fearless_simd::Simd::level),
        ];
        #[cfg(not(target_arch = "x86_64"))]
        let lower = [None; 1];
        lower.into_iter().flatten().chain([own]).collect()
    }

    /// Numbers of all sizes, and many that tie.
    fn numbers(count: usize) -> impl Strategy<Value = Vec<f32>> {
        let sized = |scale: f32| (-1.0..1.0_f32).prop_map(move |number| number * scale);
        let number = prop_oneof![
            (-3..4_i32).prop_map(|number| number as f32),
            sized(1.0),
            sized(1e-42),
            sized(1e-30),
            sized(1e18),
            sized(1e38)
        ];
        prop_oneof![
            proptest::collection::vec((-2..3_i32).prop_map(|number| number as f32), count),
            proptest::collection::vec(sized(1.0).prop_map(|number| number + 100.0), count),
            proptest::collection::vec(number, count),
        ]
    }

    fn case() -> impl Strategy<Value = (usize, Vec<f32>, Vec<f32>, usize)> {
        (1..40_usize, 0..20_usize, 1..150_usize).prop_flat_map(|(width, rows, codes)| {
            (Just(width), numbers(rows * width), numbers(codes * width), 1..=codes.min(9))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_instruction_set_finds_what_the_definition_says((width, vectors, codes, k) in case()) {
            let distance = |one: &[f32], other: &[f32]| {
                one.iter().zip(other).fold(0.0_f64, |sum, (&a, &b)| sum + (f64::from(a) - f64::from(b)).powi(2))
            };
            for (level, coarse) in levels().into_iter().flat_map(|level| [(level, false), (level, true)]) {
                let (book, mut search) = (Book::packed(level, &codes, width), Search::new(k));
                search.coarse = coarse;
                search.run(&book, &vectors);
                for (row, vector) in search.rows.iter().zip(vectors.chunks_exact(width)) {
                    let all = codes.chunks_exact(width).map(|code| distance(vector, code)).zip(0_u32..);
                    let mut expected: Vec<_> = all.collect();
                    expected.sort_by(|one, other| one.0.total_cmp(&other.0));
                    expected.truncate(k);
                    prop_assert_eq!(row.nearest().collect::<Vec<_>>(), expected);
                }
            }
        }
    }
}
