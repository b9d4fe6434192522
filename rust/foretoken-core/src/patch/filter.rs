//! How much each pixel counts when a picture is resized: antialiased filters, to the bit as Pillow has them.

use std::ops::Range;

/// A filter; when a picture shrinks, it is stretched over as many pixels as become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The mean of what a pixel covers.
    Box,
    /// A triangle.
    Bilinear,
    /// A cosine bell on a triangle's support.
    Hamming,
    /// The cubic with a = -1/2 (Keys 1981).
    Bicubic,
    /// A windowed sinc over three pixels.
    Lanczos,
}

impl Filter {
    /// In the order of `foretoken.kernels.Filter`.
    pub const ALL: [Self; 5] = [Self::Box, Self::Bilinear, Self::Hamming, Self::Bicubic, Self::Lanczos];

    /// Beyond how many pixels nothing counts.
    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear | Self::Hamming => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        use std::f64::consts::PI;
        let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) };
        let size = x.abs();
        match self {
            Self::Box => f64::from(x > -0.5 && x <= 0.5),
            Self::Bilinear => (1.0 - size).max(0.0),
            Self::Hamming if size == 0.0 => 1.0,
            Self::Hamming if size >= 1.0 => 0.0,
            // The constants have single precision, as in Pillow.
            Self::Hamming => {
                (size * PI).sin() / (size * PI) * (f64::from(0.54_f32) + f64::from(0.46_f32) * (size * PI).cos())
            }
            Self::Bicubic if size < 1.0 => ((1.5 * size) - 2.5) * size * size + 1.0,
            Self::Bicubic if size < 2.0 => (((size - 5.0) * size + 8.0) * size - 4.0) * -0.5,
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Bicubic | Self::Lanczos => 0.0,
        }
    }
}

/// How bytes are rounded on the way, which is all that tells libraries apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Weights of 22 bits; along the columns first where the height loses more than twice the pixels that the width loses.
    Pillow13,
    /// Weights of 22 bits; always along the rows first.
    Pillow,
    /// Weights of 16 bits, with as many behind the point as the largest allows; always along the rows first.
    Torch,
}

/// Bits behind the point of a weight: 8 of a pixel, 22 of these and 2 to overflow into fill 32.
const PRECISION: u32 = 32 - 8 - 2;

impl Rounding {
    /// In the order of `foretoken.kernels.Rounding`.
    pub const ALL: [Self; 3] = [Self::Pillow13, Self::Pillow, Self::Torch];

    /// How many bits stand behind the point of weights.
    fn precision(self, weights: &[f64]) -> u32 {
        if self != Self::Torch {
            return PRECISION;
        }
        let largest = weights.iter().fold(0.0_f64, |most, &weight| most.max(weight));
        (0..PRECISION).find(|bits| 0.5 + largest * f64::from(2 << bits) >= f64::from(1 << 15)).unwrap_or(PRECISION)
    }
}

/// Which pixels each new pixel is made of, and how much each of them counts.
#[derive(Debug)]
pub(crate) struct Taps<W> {
    /// The first pixel of each, and where its weights begin; one entry more at the end.
    places: Vec<(usize, usize)>,
    weights: Vec<W>,
    /// How many bits of a weight stand behind the point, where they are whole numbers.
    pub precision: u32,
}

impl<W> Taps<W> {
    /// Those of new pixels `part`, where `from` pixels become `to`.
    pub fn new(
        (filter, rounding): (Filter, Rounding),
        (from, to): (usize, usize),
        part: Range<usize>,
        weight: impl Fn(f64, u32) -> W,
    ) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let (mut places, mut exact) = (Vec::with_capacity(part.len() + 1), Vec::new());
        // The precision depends on all, whichever are used.
        let every = if rounding == Rounding::Torch { 0..to } else { part.clone() };
        for pixel in every.clone() {
            let center = (pixel as f64 + 0.5) * scale;
            let start = (center - support + 0.5).max(0.0) as usize; // cut off, not rounded down: as Pillow does
            let end = ((center + support + 0.5) as usize).min(from);
            let first = exact.len();
            // Divided as Pillow does: multiplied by the inverse.
            exact.extend((start..end).map(|old| filter.at((old as f64 - center + 0.5) * (1.0 / stretch))));
            let sum: f64 = exact[first..].iter().sum();
            if sum != 0.0 {
                exact[first..].iter_mut().for_each(|weight| *weight /= sum);
            }
            places.push((start, first));
        }
        places.push((from, exact.len()));
        let precision = rounding.precision(&exact);
        let places = places[part.start - every.start..=part.end - every.start].to_vec();
        Self { places, weights: exact.into_iter().map(|exact| weight(exact, precision)).collect(), precision }
    }

    /// The first pixel that a new one is made of, and the weights of it and those behind.
    #[inline]
    pub fn of(&self, pixel: usize) -> (usize, &[W]) {
        let ((start, from), (_, to)) = (self.places[pixel], self.places[pixel + 1]);
        (start, &self.weights[from..to])
    }

    /// The pixels that count for any of some new ones.
    pub fn between(&self, pixels: &Range<usize>) -> Range<usize> {
        let (last, weights) = self.of(pixels.end - 1);
        self.of(pixels.start).0..last + weights.len()
    }

    /// The pixels that count for any.
    pub fn span(&self) -> Range<usize> {
        self.between(&(0..self.len()))
    }

    /// How many new pixels there are.
    pub fn len(&self) -> usize {
        self.places.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_stay_inside() {
        for filter in Filter::ALL {
            for (from, to) in [(1, 1), (1, 9), (9, 1), (1024, 448), (7, 1000), (100, 99)] {
                let taps = Taps::new((filter, Rounding::Torch), (from, to), 0..to, |weight, _| weight);
                assert_eq!(taps.len(), to);
                for pixel in 0..to {
                    let (start, weights) = taps.of(pixel);
                    assert!(!weights.is_empty() && start + weights.len() <= from);
                    assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{filter:?} {from} {to}");
                }
            }
        }
    }

    #[test]
    fn nothing_moves_where_the_size_stays() {
        for filter in Filter::ALL {
            let taps = Taps::new((filter, Rounding::Pillow), (20, 20), 3..8, |weight, _| weight);
            for pixel in 0..5 {
                let (start, weights) = taps.of(pixel);
                let own =
                    |(place, &weight): (usize, &f64)| (weight - f64::from(start + place == pixel + 3)).abs() < 1e-15;
                assert!(weights.iter().enumerate().all(own), "{filter:?} {weights:?}");
            }
        }
    }
}
