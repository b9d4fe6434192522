//! Books in a row: each codes what the ones before it left over (residual vector quantisation).

use fearless_simd::dispatch;

use super::{Book, ROWS, Search, check_numbers};
use crate::error::{Error, Result};
use crate::parallel::{spread, spread_into, threads_of};
use crate::simd::LEVEL;

/// Codebooks (books, codes, width).
#[derive(Debug, Clone, Copy)]
pub struct Books<'a> {
    /// All numbers.
    pub codes: &'a [f32],
    /// How many books there are.
    pub count: usize,
    /// Columns of a code.
    pub width: usize,
}

impl<'a> Books<'a> {
    fn all(self) -> Result<impl Iterator<Item = &'a [f32]>> {
        if self.count == 0 || self.width == 0 || self.codes.is_empty() {
            return Err(Error::Empty { name: "codebooks" });
        }
        check_numbers("codebooks", self.codes, self.count * self.width)?;
        Ok(self.codes.chunks_exact(self.codes.len() / self.count))
    }

    fn codes(self) -> usize {
        self.codes.len() / (self.count * self.width)
    }
}

/// Code numbers (rows, books) of vectors (rows, width): each book's nearest to what is left, which the code is then taken from
/// in f32.
///
/// # Errors
/// Sizes that do not fit, numbers that are not finite or leave f32.
pub fn encode(vectors: &[f32], books: Books, threads: i64) -> Result<Vec<i64>> {
    let threads = threads_of(threads)?;
    let width = books.width;
    let packed = books.all()?.map(|codes| Book::new("codebooks", codes, width)).collect::<Result<Vec<_>>>()?;
    check_numbers("vectors", vectors, width)?;
    let parts = spread(vectors.len() / width, ROWS, threads, |range| {
        let mut ids = vec![0; range.len() * packed.len()];
        let mut searches: Vec<_> = packed.iter().map(|_| Search::new(1)).collect();
        let (mut rest, mut row) = (Vec::with_capacity(ROWS * width), range.start);
        for ids in ids.chunks_mut(ROWS * packed.len()) {
            let rows = ids.len() / packed.len();
            rest.clear();
            rest.extend_from_slice(&vectors[row * width..][..rows * width]);
            for (number, (book, search)) in packed.iter().zip(&mut searches).enumerate() {
                search.run(book, &rest);
                for (index, rest) in rest.chunks_exact_mut(width).enumerate() {
                    let id = search.rows[index].nearest().next().map_or(0, |(_, id)| id);
                    ids[index * packed.len() + number] = i64::from(id);
                    rest.iter_mut().zip(book.code(id)).for_each(|(rest, &number)| *rest -= number);
                    if let Some(&value) = rest.iter().find(|number| !number.is_finite()) {
                        let name = "what a codebook leaves of vectors";
                        return Err(Error::NotFinite { name, place: row + index, value: f64::from(value) });
                    }
                }
            }
            row += rows;
        }
        Ok(ids)
    });
    Ok(parts.into_iter().collect::<Result<Vec<_>>>()?.concat())
}

/// Vectors (rows, width) of code numbers (rows, books): the sum of the codes, in f32, in the order of the books.
///
/// # Errors
/// Sizes that do not fit, a number that no code has.
pub fn decode(ids: &[i64], books: Books, threads: i64) -> Result<Vec<f32>> {
    let threads = threads_of(threads)?;
    let all: Vec<_> = books.all()?.collect();
    let (count, width) = (books.count, books.width);
    if !ids.len().is_multiple_of(count) {
        return Err(Error::Size {
            name: "ids",
            unit: "entries",
            given: ids.len(),
            expected: ids.len() / count * count,
        });
    }
    check_ids("ids", ids, books.codes() as u64)?;
    let mut vectors = vec![0.0; ids.len() / count * width];
    spread_into(&mut vectors, width, ROWS, threads, |range, vectors| {
        for (vector, ids) in vectors.chunks_exact_mut(width).zip(ids[range.start * count..].chunks_exact(count)) {
            let mut codes = all.iter().zip(ids).map(|(codes, &id)| &codes[id as usize * width..][..width]);
            vector.copy_from_slice(codes.next().unwrap_or(&[]));
            for code in codes {
                vector.iter_mut().zip(code).for_each(|(sum, &number)| *sum += number);
            }
        }
    });
    Ok(vectors)
}

/// Refuses numbers outside `0..limit`.
pub(crate) fn check_ids(name: &'static str, ids: &[i64], limit: u64) -> Result<()> {
    // A negative number is a large one without a sign.
    let most = dispatch!(*LEVEL, _simd => ids.iter().fold(0, |most, &id| u64::max(most, id as u64)));
    if most < limit || ids.is_empty() {
        return Ok(());
    }
    let place = ids.iter().position(|&id| id as u64 >= limit).unwrap_or(0);
    Err(Error::Code { name, place, value: ids[place], limit })
}
