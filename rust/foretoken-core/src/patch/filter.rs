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

/// Which pixels each new pixel is made of, and how much each of them counts.
#[derive(Debug)]
pub(crate) struct Taps<W> {
    /// The first pixel of each, and where its weights begin; one entry more at the end.
    places: Vec<(usize, usize)>,
    weights: Vec<W>,
}

impl<W> Taps<W> {
    /// Those of new pixels `first..first + count` where `from` pixels become `to`.
    pub fn new(filter: Filter, from: usize, to: usize, first: usize, count: usize, weight: impl Fn(f64) -> W) -> Self {
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let (mut places, mut weights) = (Vec::with_capacity(count + 1), Vec::new());
        let mut exact = Vec::new();
        for pixel in first..first + count {
            let center = (pixel as f64 + 0.5) * scale;
            let start = (center - support + 0.5).max(0.0) as usize; // cut off, not rounded down: as Pillow does
            let end = ((center + support + 0.5) as usize).min(from);
            exact.clear();
            // Divided as Pillow does: multiplied by the inverse.
            exact.extend((start..end).map(|old| filter.at((old as f64 - center + 0.5) * (1.0 / stretch))));
            let sum: f64 = exact.iter().sum();
            places.push((start, weights.len()));
            weights.extend(exact.iter().map(|&value| weight(if sum == 0.0 { value } else { value / sum })));
        }
        places.push((from, weights.len()));
        Self { places, weights }
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
                let taps = Taps::new(filter, from, to, 0, to, |weight| weight);
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
            let taps = Taps::new(filter, 20, 20, 3, 5, |weight| weight);
            for pixel in 0..5 {
                let (start, weights) = taps.of(pixel);
                let own =
                    |(place, &weight): (usize, &f64)| (weight - f64::from(start + place == pixel + 3)).abs() < 1e-15;
                assert!(weights.iter().enumerate().all(own), "{filter:?} {weights:?}");
            }
        }
    }
}
