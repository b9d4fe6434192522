//! Colours to numbers and back: 24 bits as they are, 16 bits as 5-6-5, and fewer by a palette.
//!
//! The slow twin is `foretoken.reference.pixel`.

mod fit;

pub use fit::fit;

use fearless_simd::dispatch;

use crate::error::{Error, Result};
use crate::parallel::{spread_into, threads_of};
use crate::quantize::residual::check_ids;
use crate::simd::LEVEL;

/// Most colours of a palette.
pub const MAX_COLOURS: usize = 1 << KEY;
/// Bits of a colour's number: with 18 of a squared distance, a key fits 32.
const KEY: usize = 12;
/// Colours that are compared side by side.
const LANES: usize = 16;
/// Pixels of a share.
const UNIT: usize = 1024;

/// Red, green and blue.
pub type Colour = [u8; 3];

/// A number of 24 bits for each pixel: `red << 16 | green << 8 | blue`.
pub fn encode_24(pixels: &[Colour]) -> Vec<i64> {
    pixels.iter().map(|&colour| number(colour)).collect()
}

/// The pixels of numbers of 24 bits.
///
/// # Errors
/// A number of more bits.
pub fn decode_24(ids: &[i64]) -> Result<Vec<Colour>> {
    check_ids("ids", ids, 1 << 24)?;
    Ok(ids.iter().map(|&id| [(id >> 16) as u8, (id >> 8) as u8, id as u8]).collect())
}

fn number([red, green, blue]: Colour) -> i64 {
    i64::from(red) << 16 | i64::from(green) << 8 | i64::from(blue)
}

/// Each of 0..=255 in as many levels, rounded to the nearest; no two are equally near.
const fn levels<const N: usize>(from: usize, to: usize) -> [u8; N] {
    let mut table = [0; N];
    let mut level = 0;
    while level < N {
        table[level] = ((level * to + from / 2) / from) as u8;
        level += 1;
    }
    table
}

static TO_5: [u8; 256] = levels(255, 31);
static TO_6: [u8; 256] = levels(255, 63);
static FROM_5: [u8; 32] = levels(31, 255);
static FROM_6: [u8; 64] = levels(63, 255);

/// A number of 16 bits for each pixel: five of red, six of green and five of blue, each rounded to the nearest.
pub fn encode_565(pixels: &[Colour]) -> Vec<i64> {
    let code = |&[red, green, blue]: &Colour| {
        let [red, green, blue] = [TO_5[usize::from(red)], TO_6[usize::from(green)], TO_5[usize::from(blue)]];
        i64::from(red) << 11 | i64::from(green) << 5 | i64::from(blue)
    };
    pixels.iter().map(code).collect()
}

/// The pixels of numbers of 16 bits, each part rounded to the nearest of 0..=255.
///
/// # Errors
/// A number of more bits.
pub fn decode_565(ids: &[i64]) -> Result<Vec<Colour>> {
    check_ids("ids", ids, 1 << 16)?;
    let colour = |&id: &i64| {
        let id = id as usize;
        [FROM_5[id >> 11], FROM_6[id >> 5 & 63], FROM_5[id & 31]]
    };
    Ok(ids.iter().map(colour).collect())
}

/// The number of the palette's nearest colour for each pixel: by squared distance, the lowest number among equals.
///
/// # Errors
/// A palette without colours, or with too many.
pub fn encode(pixels: &[Colour], palette: &[Colour], threads: i64) -> Result<Vec<i64>> {
    let (threads, palette) = (threads_of(threads)?, Palette::new(palette)?);
    let mut ids = vec![0; pixels.len()];
    spread_into(&mut ids, 1, UNIT, threads, |range, ids| palette.encode(&pixels[range], ids));
    Ok(ids)
}

/// The colours of numbers.
///
/// # Errors
/// A number that the palette does not have.
pub fn decode(ids: &[i64], palette: &[Colour]) -> Result<Vec<Colour>> {
    check_size(palette)?;
    check_ids("ids", ids, palette.len() as u64)?;
    Ok(ids.iter().map(|&id| palette[id as usize]).collect())
}

fn check_size(palette: &[Colour]) -> Result<()> {
    match palette.len() {
        0 => Err(Error::Empty { name: "palette" }),
        1..=MAX_COLOURS => Ok(()),
        given => Err(Error::TooLarge { name: "palette", unit: "colours", given, limit: MAX_COLOURS }),
    }
}

/// A palette by channels, in blocks of as many colours as are compared side by side.
struct Palette {
    blocks: Vec<[[i32; LANES]; 4]>,
}

impl Palette {
    fn new(palette: &[Colour]) -> Result<Self> {
        check_size(palette)?;
        let mut blocks = vec![[[0; LANES]; 4]; palette.len().div_ceil(LANES)];
        for id in 0..blocks.len() * LANES {
            // The last block is filled with the last colour, which wins by its lower number.
            let [red, green, blue] = palette[id.min(palette.len() - 1)];
            let numbers = [i32::from(red), i32::from(green), i32::from(blue), id.min(palette.len() - 1) as i32];
            for (channel, number) in blocks[id / LANES].iter_mut().zip(numbers) {
                channel[id % LANES] = number;
            }
        }
        Ok(Self { blocks })
    }

    fn encode(&self, pixels: &[Colour], ids: &mut [i64]) {
        let mut last = None;
        dispatch!(*LEVEL, _simd => for (id, &pixel) in ids.iter_mut().zip(pixels) {
            // Many pixels are like the one before.
            let found = match last {
                Some((colour, found)) if colour == pixel => found,
                _ => self.nearest(pixel),
            };
            last = Some((pixel, found));
            *id = found;
        });
    }

    #[allow(clippy::inline_always)] // only what is inlined is compiled for the wide instructions
    #[inline(always)]
    fn nearest(&self, pixel: Colour) -> i64 {
        let [red, green, blue] = pixel.map(i32::from);
        let mut best = [i32::MAX; LANES];
        for [reds, greens, blues, numbers] in &self.blocks {
            for lane in 0..LANES {
                let (r, g, b) = (reds[lane] - red, greens[lane] - green, blues[lane] - blue);
                let key = (r * r + g * g + b * b) << KEY | numbers[lane];
                best[lane] = best[lane].min(key);
            }
        }
        let best = best.into_iter().fold(i32::MAX, i32::min);
        i64::from(best & ((1 << KEY) - 1))
    }
}
