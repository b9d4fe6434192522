//! What a pixel becomes: `(pixel * scale - mean) / std`, by channel.

use crate::error::{Error, PictureError, Result};

/// Mean and deviation of each channel, in the units of pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Tone {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl Tone {
    /// Folds the scale into mean and deviation, in the order and precision in which transformers does.
    ///
    /// # Errors
    /// Another number of entries than channels and than one, or one that is not finite, or by which one cannot divide.
    pub fn new(mean: &[f64], std: &[f64], scale: f64, channels: usize) -> Result<Self> {
        let unit = (1.0 / scale) as f32;
        if !unit.is_finite() || unit <= 0.0 || scale <= 0.0 {
            return Err(Error::Range { name: "scale", value: scale, expected: "a number above 0" });
        }
        let fold = |name, values: &[f64], least: f32| -> Result<Vec<f32>> {
            if values.len() != 1 && values.len() != channels {
                return Err(Error::Picture(PictureError::Channels { name, given: values.len(), expected: channels }));
            }
            let folded = |&value: &f64| {
                let folded = value as f32 * unit;
                if folded.is_finite() && folded >= least {
                    return Ok(folded);
                }
                let expected = if name == "std" { "numbers above 0" } else { "finite numbers" };
                Err(Error::Range { name, value, expected })
            };
            let folded = values.iter().map(folded).collect::<Result<Vec<f32>>>()?;
            Ok(if folded.len() == 1 { vec![folded[0]; channels] } else { folded })
        };
        Ok(Self { mean: fold("mean", mean, f32::NEG_INFINITY)?, deviation: fold("std", std, f32::MIN_POSITIVE)? })
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// What pixels of a channel become.
    pub(crate) fn shade(&self, channel: usize) -> Shade {
        Shade { mean: self.mean[channel], deviation: self.deviation[channel] }
    }
}

/// The tone of one channel.
#[derive(Clone, Copy)]
pub(crate) struct Shade {
    mean: f32,
    deviation: f32,
}

#[allow(clippy::inline_always)] // only inlined code is compiled for the instruction set
impl Shade {
    /// What a pixel becomes.
    ///
    /// Divided, not multiplied with the inverse: so it is to the bit what transformers computes. A table of what 256 bytes become
    /// took longer, for it is read one byte at a time; a product with the inverse, corrected to the same bits by what it leaves
    /// (Markstein 1990), took as long.
    #[inline(always)]
    pub fn of(self, pixel: f32) -> f32 {
        (pixel - self.mean) / self.deviation
    }

    /// What was a pixel.
    #[inline(always)]
    pub fn back(self, value: f32) -> f32 {
        value * self.deviation + self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_there_and_back() {
        let tone = Tone::new(&[0.48, 0.45, 0.4], &[0.26, 0.26, 0.27], 1.0 / 255.0, 3).unwrap();
        for (channel, (mean, std)) in [(0.48, 0.26), (0.45, 0.26), (0.4, 0.27)].into_iter().enumerate() {
            for byte in 0..=255_u8 {
                let value = tone.shade(channel).of(byte.into());
                assert!((f64::from(value) - (f64::from(byte) / 255.0 - mean) / std).abs() < 1e-5);
                assert!((tone.shade(channel).back(value) - f32::from(byte)).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn what_is_no_tone_is_refused() {
        assert!(matches!(
            Tone::new(&[0.0; 2], &[1.0], 1.0, 3),
            Err(Error::Picture(PictureError::Channels { given: 2, .. }))
        ));
        for (mean, std, scale) in
            [(f64::NAN, 1.0, 1.0), (0.0, 0.0, 1.0), (0.0, -1.0, 1.0), (0.0, 1.0, 0.0), (0.0, 1.0, f64::NAN)]
        {
            assert!(matches!(Tone::new(&[mean], &[std], scale, 1), Err(Error::Range { .. })), "{mean} {std} {scale}");
        }
    }
}
