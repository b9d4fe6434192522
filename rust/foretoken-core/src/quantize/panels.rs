//! A codebook in the order in which it is compared, and how far a comparison can be off.
//!
//! The score of a code is `|c|²/2 - v·c`, half its squared distance but for what all codes share.

use std::ops::Range;

/// Codes that are compared side by side.
pub(super) const LANES: usize = 16;

/// One number of each code of a panel.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub(super) struct Line(pub [f32; LANES]);

/// Norms above this square to what f32 cannot hold with room to spare.
const LARGEST: f64 = 1e18;

/// How far the scores of each panel can be off: by at most `base + fixed + norm·slope + lost·reach` for a vector of that
/// `Size`.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    fixed: Vec<f32>,
    slope: Vec<f32>,
    reach: Vec<f32>,
    /// The largest norm of a code.
    largest: f64,
}

/// What matters of a vector for the bounds.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    /// Not below its norm.
    pub norm: f32,
    /// Not below the norm of what was lost when it was rounded.
    pub lost: f32,
    /// How far half its distance from zero can be off.
    pub base: f32,
    /// Its squared norm.
    pub square: f64,
}

impl Size {
    /// The size of a vector (width) of that norm, which lost so much.
    ///
    /// A distance in f64 is off by less than (width + 2)·2⁻⁵³ of what it adds up, at most twice `|v|² + |c|²`; what the code has
    /// to do with that is little beside the rounding of scores.
    pub fn new(width: usize, norm: f64, lost: f64) -> Self {
        let base = (4 * width + 16) as f64 * 2.0_f64.powi(-53) * norm * norm;
        Self { norm: above(norm + lost), lost: above(lost), base: above(base), square: norm * norm }
    }
}

impl Bounds {
    /// Adds a panel of which no code has a larger norm, nor lost more when it was rounded; what is computed with so many
    /// roundings is off by at most so many times 2⁻²⁴ of what is added up, which is at most `|c|²/2 + |v||c|`.
    ///
    /// Twice as many and 12 more cover the comparisons of scores with each other, and the rounding of distances in f64 as far
    /// as it grows with the code. What is lost where products leave the range of f32 at its lower end is at most 2⁻¹²⁶ for each, even on a
    /// machine told to flush such numbers to zero.
    pub fn push(&mut self, norm: f64, lost: f64, roundings: usize) {
        let relative = (2 * roundings + 12) as f64 * 2.0_f64.powi(-24);
        let absolute = (2 * roundings + 8) as f64 * 2.0_f64.powi(-126);
        self.fixed.push(above(relative * norm * norm / 2.0 + absolute * (1.0 + norm)));
        self.slope.push(above(relative * norm + lost + absolute));
        self.reach.push(above(norm));
        self.largest = self.largest.max(norm);
    }

    /// The largest bounds of some panels.
    #[inline]
    pub fn of(&self, panels: Range<usize>) -> [f32; 3] {
        panels.fold([0.0_f32; 3], |[fixed, slope, reach], panel| {
            [fixed.max(self.fixed[panel]), slope.max(self.slope[panel]), reach.max(self.reach[panel])]
        })
    }

    /// Whether the scores of such a vector stay within f32.
    pub fn measure(&self, size: Size) -> bool {
        self.largest <= LARGEST && f64::from(size.norm) <= LARGEST
    }
}

/// How far scores can be off.
#[inline]
pub(super) fn error([fixed, slope, reach]: [f32; 3], size: Size) -> f32 {
    size.base + fixed + size.norm * slope + size.lost * reach
}

/// The codes in panels of 16, each a run of `width` lines.
#[derive(Debug)]
pub(super) struct Panels {
    /// Of the codes, times -1.
    pub lines: Vec<Line>,
    /// `|c|²/2`, and +inf where a panel has no code.
    pub halves: Vec<Line>,
    pub bounds: Bounds,
}

impl Panels {
    /// Packs (codes, width) finite numbers.
    pub fn pack(codes: &[f32], width: usize) -> Self {
        let panels = (codes.len() / width).div_ceil(LANES);
        let mut lines = vec![Line([0.0; LANES]); panels * width];
        let mut halves = vec![Line([f32::INFINITY; LANES]); panels];
        let mut bounds = Bounds::default();
        for (panel, codes) in codes.chunks(LANES * width).enumerate() {
            let mut norm = 0.0_f64;
            for (lane, code) in codes.chunks_exact(width).enumerate() {
                let square = square(code);
                norm = norm.max(square.sqrt());
                halves[panel].0[lane] = (square / 2.0) as f32;
                for (line, &number) in lines[panel * width..].iter_mut().zip(code) {
                    line.0[lane] = -number;
                }
            }
            // A product and an addition for each number, the half, and its rounding.
            bounds.push(norm, 0.0, width + 2);
        }
        Self { lines, halves, bounds }
    }
}

/// The size of a vector that is not rounded.
pub(super) fn size(vector: &[f32]) -> Size {
    Size::new(vector.len(), square(vector).sqrt(), 0.0)
}

/// An f32 that is not below.
fn above(number: f64) -> f32 {
    (number * (1.0 + 1e-6)) as f32
}

/// The sum of squares, in lanes, because nothing depends on its last bits.
fn square(vector: &[f32]) -> f64 {
    let (eights, rest) = vector.as_chunks::<8>();
    let mut sums = [0.0_f64; 8];
    for eight in eights {
        for (sum, &number) in sums.iter_mut().zip(eight) {
            *sum += f64::from(number) * f64::from(number);
        }
    }
    rest.iter().map(|&number| f64::from(number) * f64::from(number)).sum::<f64>() + sums.iter().sum::<f64>()
}
