//! Sizes: of what patches cover, of the grid they make, and of everything before it is allocated.

use crate::error::{Error, PictureError, Result};

/// The longest side of a picture, before and after it is resized.
pub const MAX_SIDE: usize = 1 << 20;
/// The most channels.
pub const MAX_CHANNELS: usize = 1 << 10;
/// The most numbers that a call may write: 8 GB of them in 32 bits.
pub const MAX_NUMBERS: usize = 1 << 31;
const SMALL: std::ops::RangeInclusive<usize> = 1..=1 << 16;

/// How pictures are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Height and width of a patch.
    pub patch: [usize; 2],
    /// How far apart patches begin: as far as they are large, or less if they overlap.
    pub stride: [usize; 2],
    /// Blocks of so many by so many patches stand together, row by row; 1 for raster order.
    pub merge: usize,
    /// How many neighbouring frames a patch spans.
    pub frames: usize,
    /// Whether the last frame stands for those that a film lacks.
    pub repeat: bool,
}

/// What is cut out of a frame: it is resized to `size`, and patches cover `area` from `corner` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    pub(crate) size: [usize; 2],
    pub(crate) corner: [usize; 2],
    pub(crate) area: [usize; 2],
}

impl Cut {
    /// Refuses what cuts nothing.
    ///
    /// # Errors
    /// A number that is zero or absurd, or patches that would leave gaps.
    pub fn check(&self) -> Result<()> {
        let expected = "a number in 1..=65536";
        let sizes =
            [("patch", self.patch[0]), ("patch", self.patch[1]), ("merge", self.merge), ("frames", self.frames)];
        for (name, given) in sizes {
            if !SMALL.contains(&given) {
                return Err(Error::Range { name, value: given as f64, expected });
            }
        }
        for (stride, patch) in self.stride.into_iter().zip(self.patch) {
            if !(1..=patch).contains(&stride) {
                return Err(Error::Range { name: "stride", value: stride as f64, expected: "one in 1..=patch" });
            }
        }
        Ok(())
    }

    /// How many numbers one patch has.
    pub fn width(&self, channels: usize) -> usize {
        product(&[channels, self.frames, self.patch[0], self.patch[1]])
    }

    /// How many pixels so many patches cover along an axis.
    pub fn covered(&self, axis: usize, patches: usize) -> usize {
        product(&[patches - 1, self.stride[axis]]).saturating_add(self.patch[axis])
    }

    /// What is cut out of a film (frames, height, width), and its grid of patches (time, height, width).
    ///
    /// # Errors
    /// A film without pixels, one that patches do not fill, or one larger than films may be.
    pub fn grid(
        &self,
        picture: usize,
        [frames, height, width]: [usize; 3],
        size: Option<[usize; 2]>,
        crop: Option<[usize; 2]>,
    ) -> std::result::Result<(Region, [usize; 3]), PictureError> {
        let size = size.unwrap_or([height, width]);
        for [height, width] in [[height, width], size] {
            if !(1..=MAX_SIDE).contains(&height) || !(1..=MAX_SIDE).contains(&width) {
                return Err(PictureError::Side { picture, height, width, limit: MAX_SIDE });
            }
        }
        if frames == 0 || (frames % self.frames != 0 && !self.repeat) {
            return Err(PictureError::Frames { picture, given: frames, frames: self.frames });
        }
        let area = crop.unwrap_or(size);
        if area[0] > size[0] || area[1] > size[1] {
            let ([height, width], [crop_height, crop_width]) = (size, area);
            return Err(PictureError::Crop { picture, height, width, crop_height, crop_width });
        }
        let corner = [(size[0] - area[0]) / 2, (size[1] - area[1]) / 2];
        // The most patches that fit, in whole blocks, but never none.
        let fit = |axis: usize| match area[axis].checked_sub(self.patch[axis]) {
            Some(rest) => ((rest / self.stride[axis] + 1) / self.merge * self.merge).max(self.merge),
            None => self.merge,
        };
        let [rows, columns] = [fit(0), fit(1)];
        let near = [self.covered(0, rows), self.covered(1, columns)];
        if near != area {
            return Err(PictureError::Uneven {
                picture,
                height: area[0],
                width: area[1],
                near_height: near[0],
                near_width: near[1],
            });
        }
        Ok((Region { size, corner, area }, [frames.div_ceil(self.frames), rows, columns]))
    }

    /// How many rows grids have together, and refuses more numbers than a call may write.
    ///
    /// # Errors
    /// More than that.
    pub fn rows(&self, channels: usize, grids: impl Iterator<Item = [usize; 3]>) -> Result<usize> {
        let rows = grids.fold(0_usize, |sum, grid| sum.saturating_add(product(&grid)));
        let given = product(&[rows, self.width(channels)]);
        if given > MAX_NUMBERS {
            return Err(Error::TooLarge { name: "the patches", unit: "numbers", given, limit: MAX_NUMBERS });
        }
        Ok(rows)
    }

    /// The place of a patch in its frame's grid among the rows.
    pub(crate) fn place(&self, columns: usize, row: usize, column: usize) -> usize {
        let merge = self.merge;
        (row / merge * columns + column / merge * merge) * merge + row % merge * merge + column % merge
    }
}

/// A product that ends at the largest number instead of going beyond it.
pub(crate) fn product(parts: &[usize]) -> usize {
    parts.iter().fold(1_usize, |all, &part| all.saturating_mul(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QWEN: Cut = Cut { patch: [14, 14], stride: [14, 14], merge: 2, frames: 2, repeat: true };

    #[test]
    fn grids_count_patches() {
        let (region, grid) = QWEN.grid(0, [1, 56, 84], None, None).unwrap();
        assert_eq!((region.area, grid), ([56, 84], [1, 4, 6]));
        let (region, grid) = QWEN.grid(0, [5, 10, 10], Some([60, 70]), Some([56, 28])).unwrap();
        assert_eq!((region.corner, grid), ([2, 21], [3, 4, 2]));
        let overlapping = Cut { patch: [4, 6], stride: [2, 3], merge: 1, frames: 1, repeat: false };
        assert_eq!(overlapping.grid(0, [1, 10, 12], None, None).unwrap().1, [1, 4, 3]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let uneven = |near_height, near_width, height, width| PictureError::Uneven {
            picture: 3,
            height,
            width,
            near_height,
            near_width,
        };
        assert_eq!(QWEN.grid(3, [1, 60, 84], None, None).unwrap_err(), uneven(56, 84, 60, 84));
        assert_eq!(QWEN.grid(3, [1, 1, 84], None, None).unwrap_err(), uneven(28, 84, 1, 84));
        assert!(matches!(QWEN.grid(0, [1, 0, 84], None, None), Err(PictureError::Side { .. })));
        assert!(matches!(QWEN.grid(0, [1, 28, 28], Some([1 << 21, 28]), None), Err(PictureError::Side { .. })));
        assert!(matches!(QWEN.grid(0, [1, 28, 28], None, Some([28, 56])), Err(PictureError::Crop { .. })));
        assert!(matches!(QWEN.grid(0, [0, 28, 28], None, None), Err(PictureError::Frames { .. })));
        let strict = Cut { repeat: false, ..QWEN };
        assert!(matches!(strict.grid(0, [3, 28, 28], None, None), Err(PictureError::Frames { .. })));
        assert!(matches!(QWEN.rows(3, [[1, 1 << 30, 1 << 30]].into_iter()), Err(Error::TooLarge { .. })));
        assert!(Cut { stride: [15, 14], ..QWEN }.check().is_err());
        assert!(Cut { merge: 0, ..QWEN }.check().is_err());
    }

    #[test]
    fn places_run_through_blocks() {
        let order: Vec<usize> = (0..2).flat_map(|row| (0..4).map(move |column| QWEN.place(4, row, column))).collect();
        assert_eq!(order, [0, 1, 4, 5, 2, 3, 6, 7]);
        assert_eq!(QWEN.place(4, 2, 0), 8);
    }
}
