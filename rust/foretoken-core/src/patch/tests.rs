//! Films are cut as a slow definition says, come back as they were, and do not depend on threads.

use proptest::prelude::*;

use crate::error::{Error, PictureError};
use crate::patch::filter::{Filter, Rounding, Taps};
use crate::patch::format::{Brain, Format, Half, Single};
use crate::patch::{Cut, Film, Paste, Plan, Sample, Tone, layout, patchify, unpatchify};

/// How films are cut, and what remains of their sides behind the first block of patches.
fn cuts() -> impl Strategy<Value = (Cut, [usize; 2], usize)> {
    let side = (1..20_usize).prop_flat_map(|patch| (Just(patch), 1..=patch));
    (side.clone(), side, 1..4_usize, 1..4_usize, [0..4_usize, 0..4_usize], 1..6_usize).prop_map(
        |((high, down), (wide, across), merge, frames, more, length)| {
            let cut = Cut { patch: [high, wide], stride: [down, across], merge, frames, repeat: true };
            let sides = [0, 1].map(|axis| cut.covered(axis, merge * (1 + more[axis])));
            (cut, sides, length)
        },
    )
}

/// Pixels that look random.
fn noise(count: usize, seed: usize) -> Vec<u8> {
    (0..count).map(|place| ((place + seed).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8).collect()
}

fn tone(channels: usize) -> Tone {
    let mean: Vec<f64> = (0..channels).map(|channel| 0.4 + 0.01 * channel as f64).collect();
    Tone::new(&mean, &[0.27], 1.0 / 255.0, channels).unwrap()
}

fn plan<'a>(cut: Cut, tone: &'a Tone, sizes: Option<&'a [[usize; 2]]>, threads: usize) -> Plan<'a> {
    Plan { cut, sizes, crop: None, filter: Filter::Bicubic, rounding: Rounding::Pillow13, tone, threads }
}

/// The patches of films, and their grids.
fn cut_all<P: Sample, F: Format>(films: &[Film<'_, P>], plan: &Plan<'_>) -> (Vec<F::Bits>, Vec<[usize; 3]>) {
    let channels = plan.tone.channels();
    let found = layout(&plan.cut, plan.sizes, plan.crop, channels, films.iter().map(|film| film.shape)).unwrap();
    let grids: Vec<[usize; 3]> = found.iter().map(|(_, grid)| *grid).collect();
    let rows = plan.cut.rows(channels, grids.iter().copied()).unwrap();
    let mut out = vec![F::Bits::default(); rows * plan.cut.width(channels)];
    patchify::<P, F>(films, plan, &mut out).unwrap();
    (out, grids)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn patches_are_those_of_the_definition((cut, [height, width], length) in cuts(), channels in 1..6_usize, seed: u16) {
        let pixels = noise(length * height * width * channels, seed.into());
        let (film, tone) = (Film { pixels: &pixels[..], shape: [length, height, width, channels] }, tone(channels));
        let (rows, grids) = cut_all::<u8, Single>(&[film], &plan(cut, &tone, None, 1));
        let [times, high, wide] = grids[0];
        prop_assert_eq!(times, length.div_ceil(cut.frames));
        let mut places = rows.iter();
        // In the order of rows: blocks of patches, patches of a block, then channels, frames, rows and columns of a patch.
        for time in 0..times {
            for (top, left) in (0..high / cut.merge).flat_map(|top| (0..wide / cut.merge).map(move |left| (top, left))) {
                for (down, across) in (0..cut.merge).flat_map(|down| (0..cut.merge).map(move |across| (down, across))) {
                    let y = (top * cut.merge + down) * cut.stride[0];
                    let x = (left * cut.merge + across) * cut.stride[1];
                    for channel in 0..channels {
                        for slot in 0..cut.frames {
                            let frame = (time * cut.frames + slot).min(length - 1);
                            for (row, column) in (0..cut.patch[0]).flat_map(|row| (0..cut.patch[1]).map(move |column| (row, column))) {
                                let place = ((frame * height + y + row) * width + x + column) * channels + channel;
                                let expected = tone.shade(channel).of(pixels[place].into());
                                prop_assert_eq!(places.next().unwrap().to_bits(), expected.to_bits());
                            }
                        }
                    }
                }
            }
        }
        prop_assert!(places.next().is_none());
    }

    #[test]
    fn films_come_back_as_they_were((cut, [height, width], length) in cuts(), channels in 1..6_usize, seed: u16, threads in 1..4_usize) {
        let pixels = noise(length * height * width * channels, seed.into());
        let (film, tone) = (Film { pixels: &pixels[..], shape: [length, height, width, channels] }, tone(channels));
        let windows = [0, 1].map(|axis| (0..cut.patch[axis]).map(|place| 0.1 + place as f64).collect::<Vec<f64>>());
        let plan = plan(cut, &tone, None, threads);
        let (rows, grids) = cut_all::<u8, Single>(&[film, film], &plan);
        let paste = Paste { cut, grids: &grids, lengths: &[length; 2], tone: &tone, windows: [&windows[0], &windows[1]], threads };
        let mut back = vec![vec![0_u8; pixels.len()]; 2];
        unpatchify::<Single, u8>(&rows, &paste, back.iter_mut().map(Vec::as_mut_slice).collect()).unwrap();
        prop_assert!(back.iter().all(|back| *back == pixels));
        let (rows, _) = cut_all::<u8, Half>(&[film, film], &plan);
        unpatchify::<Half, u8>(&rows, &paste, back.iter_mut().map(Vec::as_mut_slice).collect()).unwrap();
        prop_assert!(back.iter().all(|back| *back == pixels));
    }

    #[test]
    fn resizing_is_that_of_the_definition(
        from in [1..40_usize, 1..40], to in [1..40_usize, 1..40], channels in 1..6_usize, kind in 0..5_usize,
        mode in 0..3_usize, seed: u16,
    ) {
        let cut = Cut { patch: [1, 1], stride: [1, 1], merge: 1, frames: 1, repeat: false };
        let (filter, rounding, pixels) = (Filter::ALL[kind], Rounding::ALL[mode], noise(from[0] * from[1] * channels, seed.into()));
        let tone = Tone::new(&[0.0], &[1.0], 1.0, channels).unwrap();
        let sizes = [to];
        let plan = Plan { filter, rounding, ..plan(cut, &tone, Some(&sizes), 2) };
        let film = Film { pixels: &pixels[..], shape: [1, from[0], from[1], channels] };
        let (rows, _) = cut_all::<u8, Single>(&[film], &plan);
        let lost = [from[0] as i64 - to[0] as i64, from[1] as i64 - to[1] as i64];
        let across_first = rounding != Rounding::Pillow13 || !(lost[0] > 0 && lost[0] > 2 * lost[1]);
        let mut order = [1, 0];
        if !across_first {
            order.reverse();
        }
        let (mut sides, mut slow) = (from, pixels.clone());
        for axis in order {
            (sides, slow) = along(axis, sides, &slow, to[axis], channels, (filter, rounding));
        }
        let found: Vec<u8> = rows.iter().map(|&value| value as u8).collect();
        prop_assert_eq!(found, slow);
    }

    #[test]
    fn threads_change_nothing((cut, sides, length) in cuts(), from in [1..70_usize, 1..70], threads in 2..6_usize) {
        let tone = tone(3);
        let (small, large) = (noise(length * from[0] * from[1] * 3, 1), noise(50 * 30 * 3, 2));
        let floats: Vec<f32> = large.iter().map(|&byte| f32::from(byte) - 7.5).collect();
        let films = [
            Film { pixels: &small[..], shape: [length, from[0], from[1], 3] },
            Film { pixels: &large[..], shape: [1, 50, 30, 3] },
        ];
        let sizes = [sides; 2];
        let one = cut_all::<u8, Brain>(&films, &plan(cut, &tone, Some(&sizes), 1));
        prop_assert_eq!(one, cut_all::<u8, Brain>(&films, &plan(cut, &tone, Some(&sizes), threads)));
        let films = [Film { pixels: &floats[..], shape: [1, 50, 30, 3] }];
        let one = cut_all::<f32, Single>(&films, &plan(cut, &tone, Some(&sizes[..1]), 1));
        prop_assert_eq!(one, cut_all::<f32, Single>(&films, &plan(cut, &tone, Some(&sizes[..1]), threads)));
    }
}

/// Resizes along one axis, pixel by pixel.
fn along(
    axis: usize,
    from: [usize; 2],
    pixels: &[u8],
    to: usize,
    channels: usize,
    how: (Filter, Rounding),
) -> ([usize; 2], Vec<u8>) {
    let mut sides = from;
    sides[axis] = to;
    if from == sides {
        return (sides, pixels.to_vec());
    }
    let taps = Taps::new(how, (from[axis], to), 0..to, u8::weight);
    let mut out = Vec::new();
    for (y, x) in (0..sides[0]).flat_map(|y| (0..sides[1]).map(move |x| (y, x))) {
        for channel in 0..channels {
            let (start, weights) = taps.of(if axis == 0 { y } else { x });
            let sum: i64 = (start..).zip(weights).fold(1 << (taps.precision - 1), |sum, (place, &weight)| {
                let (y, x) = if axis == 0 { (place, x) } else { (y, place) };
                sum + i64::from(weight) * i64::from(pixels[(y * from[1] + x) * channels + channel])
            });
            out.push((sum >> taps.precision).clamp(0, 255) as u8);
        }
    }
    (sides, out)
}

#[test]
fn what_is_no_number_is_refused_before_anything_is_written() {
    let tone = tone(1);
    let cut = Cut { patch: [2, 2], stride: [2, 2], merge: 1, frames: 1, repeat: false };
    let mut pixels = vec![0.5_f32; 8];
    pixels[5] = f32::NAN;
    let film = Film { pixels: &pixels[..], shape: [1, 2, 4, 1] };
    let mut out = vec![-1.0; 8];
    let found = patchify::<f32, Single>(&[film], &plan(cut, &tone, None, 1), &mut out);
    assert_eq!(found, Err(Error::Picture(PictureError::NotFinite { name: "picture", index: 0, place: 5 })));
    assert_eq!(out, [-1.0; 8]);
    let window = [1.0; 2];
    let paste = Paste { cut, grids: &[[1, 1, 2]], lengths: &[1], tone: &tone, windows: [&window, &window], threads: 1 };
    let mut back = vec![7_u8; 8];
    let found = unpatchify::<Single, u8>(&pixels, &paste, vec![&mut back]);
    assert_eq!(found, Err(Error::Picture(PictureError::NotFinite { name: "row", index: 1, place: 1 })));
    assert_eq!(back, [7; 8]);
}
