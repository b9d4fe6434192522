//! Products against a plain loop, and bits that do not depend on the company.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::native::cache::Head;
use crate::native::config::Config;
use crate::native::crew::Crew;
use crate::native::forward::{Task, Unit, forward};
use crate::native::matrix::{Dtype, LANES, Matrix, are_bfloat16};
use crate::native::model::{BlockWeights, Model, Weights};

const DTYPES: [Dtype; 3] = [Dtype::Float32, Dtype::BFloat16, Dtype::Int8];

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let noise =
        |i: usize| crate::noise::Place { seed, row: 0, position: (i >> 16) as u32, stream: 0 }.uniform(i as u32);
    (0..count).map(|i| noise(i) as f32 - 0.5).collect()
}

proptest! {
    #[test]
    fn a_product_is_that_of_a_plain_loop(
        seed: u64, panels in 1usize..10, inputs in 1usize..5, rows in 1usize..10, skipped in 0usize..3,
    ) {
        let (inputs, skipped) = (inputs * LANES, skipped.min(panels - 1));
        let weights = numbers(seed, panels * LANES * inputs);
        let x = numbers(seed ^ 1, rows * inputs);
        for dtype in DTYPES {
            let matrix = Matrix::pack(dtype, inputs, &weights);
            let width = (panels - skipped) * LANES;
            let mut out = vec![f32::NAN; rows * width];
            matrix.product(skipped..panels, &x, &mut out);
            let mut kept = vec![0.0; inputs];
            for output in 0..width {
                matrix.row(skipped * LANES + output, &mut kept);
                let own = &weights[(skipped * LANES + output) * inputs..][..inputs];
                let error = match dtype { Dtype::Float32 => 0.0, Dtype::BFloat16 => 0.001, Dtype::Int8 => 0.00198 };
                for (kept, own) in kept.iter().zip(own) {
                    prop_assert!((kept - own).abs() <= error);
                }
                for row in 0..rows {
                    let products = kept.iter().zip(&x[row * inputs..]).map(|(w, x)| f64::from(*w) * f64::from(*x));
                    prop_assert!((f64::from(out[row * width + output]) - products.sum::<f64>()).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn a_row_has_its_bits_in_any_company(seed: u64, panels in 1usize..10, rows in 1usize..20, depth in 1usize..4) {
        let inputs = depth * LANES;
        let x = numbers(seed ^ 1, rows * inputs);
        for dtype in DTYPES {
            let matrix = Matrix::pack(dtype, inputs, &numbers(seed, panels * LANES * inputs));
            let width = panels * LANES;
            let mut together = vec![0.0; rows * width];
            matrix.product(0..panels, &x, &mut together);
            for row in 0..rows {
                for panel in 0..panels {
                    let mut alone = [0.0; LANES];
                    matrix.product(panel..panel + 1, &x[row * inputs..][..inputs], &mut alone);
                    let found = &together[row * width + panel * LANES..][..LANES];
                    prop_assert!(found.iter().zip(&alone).all(|(a, b)| a.to_bits() == b.to_bits()));
                }
            }
        }
    }
}

#[test]
fn bfloat16_rounds_to_the_nearest_and_keeps_its_own() {
    let cases = [
        (1.0f32, 1.0f32),
        (1.003_906_3, 1.0),
        (1.003_907, 1.007_812_5),
        (1.011_718_8, 1.015_625),
        (-3.389e38, -3.389_531_4e38),
    ];
    for (weight, expected) in cases {
        let matrix = Matrix::pack(Dtype::BFloat16, LANES, &[weight; LANES * LANES]);
        let mut row = [0.0; LANES];
        matrix.row(3, &mut row);
        assert_eq!(row, [expected; LANES], "{weight}");
        assert!(are_bfloat16(&row));
    }
    assert!(!are_bfloat16(&[1.0, 1.003_907]));
    let mut row = [0.0; LANES];
    Matrix::pack(Dtype::BFloat16, LANES, &[f32::MAX; LANES * LANES]).row(0, &mut row);
    assert!(row[0].is_finite());
}

#[test]
fn parts_make_the_same_matrix_and_nothing_else_does() {
    for dtype in DTYPES {
        let matrix = Matrix::pack(dtype, 2 * LANES, &numbers(1, 4 * LANES * 2 * LANES));
        let (words, scales) = (matrix.words(), matrix.scales().to_vec());
        assert_eq!(Matrix::from_parts(dtype, 4 * LANES, 2 * LANES, &words, scales.clone()), Some(matrix));
        assert_eq!(Matrix::from_parts(dtype, 5 * LANES, 2 * LANES, &words, scales.clone()), None);
        assert_eq!(Matrix::from_parts(dtype, 4 * LANES, 2 * LANES, &words[1..], scales.clone()), None);
        assert_eq!(Matrix::from_parts(dtype, 4 * LANES, 0, &words, scales), None);
        assert_eq!(Matrix::from_parts(dtype, 4 * LANES, 2 * LANES, &words, vec![1.0]), None);
    }
}

/// A model of odd sizes: 3 key-value heads of width 10, 43 tokens.
fn model(seed: u64, dtype: Dtype) -> Model {
    let config = Config {
        vocab_size: 43,
        hidden_size: 24,
        intermediate_size: 40,
        layers: 2,
        heads: 6,
        kv_heads: 3,
        head_dim: 10,
        context: 32,
        eps: 1e-5,
        theta: 1e4,
    };
    let sizes = [60 * 24, 30 * 24, 30 * 24, 24 * 60, 40 * 24, 40 * 24, 24 * 40, 24, 24];
    let parts: Vec<Vec<f32>> = (0..18).map(|i| numbers(seed ^ (i as u64 + 1), sizes[i % 9])).collect();
    let block = |parts: &'_ [Vec<f32>]| -> [Vec<f32>; 9] { std::array::from_fn(|i| parts[i].clone()) };
    let (first, second) = (block(&parts[..9]), block(&parts[9..]));
    let weights = |block: &'static [Vec<f32>; 9]| BlockWeights {
        query: &block[0],
        key: &block[1],
        value: &block[2],
        out: &block[3],
        gate: &block[4],
        up: &block[5],
        down: &block[6],
        attention_norm: &block[7],
        mlp_norm: &block[8],
    };
    let leak = |block: [Vec<f32>; 9]| -> &'static [Vec<f32>; 9] { Box::leak(Box::new(block)) };
    let blocks = vec![weights(leak(first)), weights(leak(second))];
    let (embedding, norm) = (numbers(seed, 43 * 24), numbers(seed ^ 0x63, 24));
    let all = Weights { embedding: &embedding, blocks, norm: &norm, head: None };
    Model::new(config, &all, Some(dtype)).unwrap()
}

/// Logits of two rows, read in chunks of these widths.
fn logits(model: &Model, widths: &[usize], threads: usize) -> Vec<u32> {
    let room = || Head::new(&model.config, 2, 2, 32, 0).unwrap();
    let mut heads: Vec<Head> = (0..3).map(|_| room()).collect();
    let (model, mut logits) = (Arc::new(model.clone()), vec![f32::NAN; 2 * 12 * 43]);
    let crew = Crew::new(threads - 1, Task::run);
    let mut start = 0;
    for &width in widths {
        let places: Vec<(usize, usize)> =
            (0..2).flat_map(|row| (start..start + width).map(move |at| (row, at))).collect();
        let unit = |&(row, position): &(usize, usize)| Unit {
            token: (row * 7 + position * 5) as u32 % 43,
            row,
            position,
            node: None,
        };
        let units: Vec<Unit> = places.iter().map(unit).collect();
        assert!(crew.call(Duration::from_secs(60)));
        let wanted = (0..units.len()).collect();
        let (found, _) = forward(&model, &mut heads, units, wanted, &[], Some(&crew));
        for ((row, at), found) in places.into_iter().zip(found.chunks_exact(43)) {
            logits[(row * 12 + at) * 43..][..43].copy_from_slice(found);
        }
        start += width;
    }
    logits.into_iter().map(f32::to_bits).collect()
}

#[test]
fn logits_have_their_bits_in_any_chunks_and_threads() {
    for dtype in DTYPES {
        let model = model(5, dtype);
        let expected = logits(&model, &[1; 12], 1);
        assert!(expected.iter().all(|bits| f32::from_bits(*bits).is_finite()));
        for (widths, threads) in [(&[12][..], 1), (&[5, 7], 2), (&[1, 11], 3), (&[4, 4, 3, 1], 7), (&[1; 12], 2)] {
            assert_eq!(logits(&model, widths, threads), expected, "{widths:?} in {threads} threads");
        }
        assert_ne!(logits(&self::model(6, dtype), &[12], 1), expected);
    }
}

#[test]
fn the_parts_of_a_model_make_it_again() {
    for dtype in DTYPES {
        let model = model(5, dtype);
        let matrices: Vec<Matrix> = model.matrices().cloned().collect();
        let gains: Vec<Vec<f32>> = model.gains().map(<[f32]>::to_vec).collect();
        let again = Model::from_parts(model.config, dtype, matrices.clone(), gains.clone()).unwrap();
        assert_eq!(logits(&again, &[12], 1), logits(&model, &[12], 1));
        assert!(Model::from_parts(model.config, dtype, matrices[1..].to_vec(), gains.clone()).is_err());
        assert!(Model::from_parts(model.config, dtype, matrices, gains[1..].to_vec()).is_err());
    }
}
