//! Drafts of a block drafter: the pass over all places, then a chain that is drawn place by place.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::history::History;
use crate::native::block::{Drafter, Layer};
use crate::native::cache::Slot;
use crate::native::config::padded;
use crate::native::matrix::Matrix;
use crate::native::pointwise::{add, gate, norm, rotate};
use crate::noise::CHOICE;
use crate::sample::{process, sample};
use crate::sampler::Sampler;

/// How one row's guesses are drawn.
#[derive(Debug, Clone, Copy)]
pub struct Draw<'a> {
    /// The target's parameters.
    pub sampler: &'a Sampler,
    /// The row's seed.
    pub seed: u64,
    /// Which sample of its prompt the row is.
    pub sample: i64,
    /// The row's past; guesses enter a copy of it.
    pub history: Option<&'a Mutex<History>>,
    /// The noise that decides, as in `sample`; with that of drafts the laws are kept, for the ratio test.
    pub stream: u32,
    /// Seconds of a forward of the target over 1, 2, … units; none to draft as many as asked.
    pub costs: Option<&'a [f64]>,
}

/// Guesses of one row: tokens, how likely each is to be right, and the laws (k, vocabulary) if they face the ratio test.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)] // the line above says it
pub struct BlockDraft {
    pub tokens: Vec<i64>,
    pub chances: Vec<f64>,
    pub laws: Vec<f64>,
}

/// What a drafter remembers of one row: keys and values of the last `reach` units, in a ring.
pub struct Ring {
    drafter: Arc<Drafter>,
    /// Layer by layer, for each key-value head.
    slots: Vec<Vec<Slot>>,
    known: usize,
    /// Seconds of one more guess.
    step: f64,
}

impl Ring {
    /// A ring without units.
    ///
    /// # Errors
    /// There is not so much memory.
    pub fn new(drafter: Arc<Drafter>) -> Result<Self> {
        let shape = drafter.shape;
        let slot = || Slot::new(&shape.config, shape.reach + shape.block, 0);
        let layer = || (0..shape.config.kv_heads).map(|_| slot()).collect::<Result<_>>();
        let slots = (0..drafter.layers.len()).map(|_| layer()).collect::<Result<_>>()?;
        Ok(Self { drafter, slots, known: 0, step: 0.0 })
    }

    /// Reads what the target's layers said of units (n, taps, hidden), the first of which stands at `first`.
    ///
    /// # Errors
    /// Not so many numbers as units have, or units that were skipped although they can be seen.
    pub fn read(&mut self, states: &[f32], first: usize) -> Result<()> {
        let drafter = self.drafter.clone();
        let shape = drafter.shape;
        let (config, hidden) = (shape.config, padded(shape.config.hidden_size));
        let wide = shape.taps * config.hidden_size;
        let count = states.len() / wide;
        if states.len() != count * wide {
            return Err(Error::Shape { name: "states", unit: "numbers", given: states.len(), expected: count * wide });
        }
        let end = first + count;
        if end > config.context || (first != self.known && (first < self.known || count < shape.reach)) {
            let expected = "the unit behind those that were read";
            return Err(Error::Range { name: "first", value: first as f64, expected });
        }
        let ones = vec![1.0; hidden];
        let mut even = vec![0.0; count * shape.taps * hidden];
        for (x, out) in states.chunks_exact(config.hidden_size).zip(even.chunks_exact_mut(hidden)) {
            let mut padded = [0.0; 16];
            let whole = x.len() / 16 * 16;
            padded[..x.len() - whole].copy_from_slice(&x[whole..]);
            let rest = [&x[..whole], &padded[..]].concat();
            norm(&rest[..hidden], &ones, config.hidden_size, config.eps, out);
        }
        let mixed = all(&drafter.mix, &even);
        let mut context = vec![0.0; count * hidden];
        for (x, out) in mixed.chunks_exact(hidden).zip(context.chunks_exact_mut(hidden)) {
            norm(x, &drafter.mix_norm, config.hidden_size, config.eps, out);
        }
        let stride = config.stride();
        for (Layer { context: matrix, .. }, heads) in drafter.layers.iter().zip(&mut self.slots) {
            let mut kv = all(matrix, &context);
            let mut turn = vec![0.0; config.head_dim];
            for (unit, kv) in kv.chunks_exact_mut(2 * config.kv_heads * stride).enumerate() {
                config.turn(first + unit, &mut turn);
                for (slot, kv) in heads.iter_mut().zip(kv.chunks_exact_mut(2 * stride)) {
                    let (key, value) = kv.split_at_mut(stride);
                    rotate(&mut key[..config.head_dim], &turn, 1.0);
                    slot.write((first + unit) % shape.reach, key, value);
                }
            }
        }
        self.known = end;
        Ok(())
    }

    /// Guesses at most `k` tokens behind the newest one, which the target has chosen and not read.
    ///
    /// # Errors
    /// As `sample`, or an id or a number of guesses that is out of range.
    pub fn draft(&mut self, newest: i64, k: usize, draw: &Draw) -> Result<BlockDraft> {
        let drafter = self.drafter.clone();
        let started = Instant::now();
        let (vocabulary, block) = (drafter.shape.config.vocab_size, drafter.shape.block);
        if !(0..vocabulary as i64).contains(&newest) {
            return Err(Error::Token { name: "newest", token: newest, vocabulary });
        }
        if !(1..=block).contains(&k) {
            let expected = "at least 1 and at most the block";
            return Err(Error::Range { name: "k", value: k as f64, expected });
        }
        if draw.sampler.vocab_size != vocabulary {
            let given = draw.sampler.vocab_size;
            return Err(Error::Shape { name: "the sampler", unit: "tokens", given, expected: vocabulary });
        }
        let embedded = embedding(&drafter, newest as usize);
        let x = self.places(&drafter, &embedded, k);
        self.chain(&drafter, &x, &embedded, k, draw, started)
    }

    /// The residual stream of the first `k` places, (k, hidden as it is packed).
    fn places(&mut self, drafter: &Drafter, embedded: &[f32], k: usize) -> Vec<f32> {
        let shape = drafter.shape;
        let (config, block, hidden) = (shape.config, shape.block, embedded.len());
        let (stride, group) = (config.stride(), config.group());
        let own = (group + 2) * stride;
        let (seen, scale) = (self.known.min(shape.reach), 1.0 / (config.head_dim as f32).sqrt());
        let mut turns = vec![0.0; block * config.head_dim];
        for (place, turn) in turns.chunks_exact_mut(config.head_dim).enumerate() {
            config.turn(self.known + place, turn);
        }
        let mut x = drafter.start.clone();
        x[..hidden].copy_from_slice(embedded);
        let (mut scores, last) = (Vec::new(), drafter.layers.len() - 1);
        for (index, (Layer { block: weights, .. }, heads)) in drafter.layers.iter().zip(&mut self.slots).enumerate() {
            let mut qkv = if index == 0 {
                let mut qkv = drafter.start_qkv.clone();
                let first = all(&weights.qkv, &normed(drafter, &x[..hidden], &weights.attention_norm));
                qkv[..first.len()].copy_from_slice(&first);
                qkv
            } else {
                all(&weights.qkv, &normed(drafter, &x, &weights.attention_norm))
            };
            // Behind the last layer nobody asks for more places than are drawn.
            let wanted = if index == last { k } else { block };
            x.truncate(wanted * hidden);
            for (place, qkv) in qkv.chunks_exact_mut(config.kv_heads * own).enumerate() {
                let turn = &turns[place * config.head_dim..][..config.head_dim];
                for (slot, qkv) in heads.iter_mut().zip(qkv.chunks_exact_mut(own)) {
                    let (queries, kv) = qkv.split_at_mut(group * stride);
                    queries
                        .chunks_exact_mut(stride)
                        .for_each(|query| rotate(&mut query[..config.head_dim], turn, scale));
                    let (key, value) = kv.split_at_mut(stride);
                    rotate(&mut key[..config.head_dim], turn, 1.0);
                    slot.write(seen + place, key, value);
                }
            }
            let mut looked = vec![0.0; wanted * config.heads * stride];
            for (qkv, looked) in
                qkv.chunks_exact(config.kv_heads * own).zip(looked.chunks_exact_mut(config.heads * stride))
            {
                let outs = looked.chunks_exact_mut(group * stride);
                for ((slot, qkv), out) in heads.iter().zip(qkv.chunks_exact(own)).zip(outs) {
                    slot.attend(&qkv[..group * stride], stride, seen + block, &mut scores, out);
                }
            }
            add(&mut x, &all(&weights.out, &looked));
            let gates = all(&weights.gate_up, &normed(drafter, &x, &weights.mlp_norm));
            let mut inside = vec![0.0; gates.len() / 2];
            gate(&gates, &mut inside);
            add(&mut x, &all(&weights.down, &inside));
        }
        x
    }

    /// Draws the places in turn, as far as that pays.
    fn chain(
        &mut self,
        drafter: &Drafter,
        x: &[f32],
        embedded: &[f32],
        k: usize,
        draw: &Draw,
        started: Instant,
    ) -> Result<BlockDraft> {
        let shape = drafter.shape;
        let (vocabulary, hidden, rank) = (shape.config.vocab_size, embedded.len(), padded(shape.rank));
        let states = normed(drafter, x, &drafter.norm);
        let mut inside = all(&drafter.state, &states);
        inside.chunks_exact_mut(rank).for_each(|inside| add(inside, &drafter.state_bias));
        let copied = draw.history.map(|past| Mutex::new(past.lock().unwrap_or_else(PoisonError::into_inner).clone()));
        let (seeds, samples) = ([draw.seed], [draw.sample]);
        let mut draft = BlockDraft::default();
        let mut law = vec![0.0; if draw.stream == CHOICE { 0 } else { vocabulary }];
        let (mut latest, mut survives, mut expected) = (embedded.to_vec(), 1.0, 1.0);
        for (place, state) in states.chunks_exact(hidden).enumerate() {
            let begun = Instant::now();
            let told = all(&drafter.past, &latest);
            for (inside, told) in inside[place * rank..].chunks_exact_mut(rank).zip(told.chunks_exact(rank)) {
                add(inside, told);
            }
            let bent: Vec<f32> = inside[place * rank..][..rank].iter().map(|&x| x / (1.0 + (-x).exp())).collect();
            let sure = dot(state, &drafter.sure_state) + dot(&bent, &drafter.sure_bent) + drafter.sure_bias;
            let chance = 1.0 / (1.0 + f64::from(-sure).exp());
            survives *= chance;
            if let Some(costs) = draw.costs.filter(|_| place > 0) {
                let cost = |units: usize| costs.get(units - 1).or(costs.last()).copied().unwrap_or(0.0);
                let more = (cost(place + 2) - cost(place + 1)).max(0.0) + self.step;
                let spent = (begun - started).as_secs_f64();
                // What is drawn afterwards has no say in this: the law of a draft stays what it is.
                if survives * (cost(place + 1) + spent) <= expected * more {
                    break;
                }
            }
            expected += survives;
            let mut state = state.to_vec();
            add(&mut state, &all(&drafter.correction, &bent));
            let mut logits = all(&drafter.head, &state);
            logits.truncate(vocabulary);
            let position = [(self.known + 1 + place) as i64];
            let history = copied.as_ref().map(|past| [past]);
            let batch = Batch {
                logits: &logits,
                count: 1,
                seeds: &seeds,
                positions: &position,
                rows: Some(&samples),
                history: history.as_ref().map(|past| &past[..]),
                logprobs: None,
                threads: 1,
            };
            if draw.stream != CHOICE {
                process(draw.sampler, &batch, &mut law)?;
                draft.laws.extend_from_slice(&law);
            }
            let token = sample(draw.sampler, &batch, draw.stream, true)?.tokens[0];
            draft.tokens.push(token);
            draft.chances.push(chance);
            if place + 1 < k {
                latest = embedding(drafter, token as usize);
            }
            self.step += 0.1 * (begun.elapsed().as_secs_f64() - self.step);
        }
        Ok(draft)
    }
}

fn embedding(drafter: &Drafter, token: usize) -> Vec<f32> {
    let mut row = vec![0.0; drafter.embedding.shape().1];
    drafter.embedding.row(token, &mut row);
    row
}

fn normed(drafter: &Drafter, x: &[f32], gain: &[f32]) -> Vec<f32> {
    let config = &drafter.shape.config;
    let mut out = vec![0.0; x.len()];
    for (x, out) in x.chunks_exact(gain.len()).zip(out.chunks_exact_mut(gain.len())) {
        norm(x, gain, config.hidden_size, config.eps, out);
    }
    out
}

/// The whole product of a matrix with rows.
fn all(matrix: &Matrix, x: &[f32]) -> Vec<f32> {
    let (outputs, inputs) = matrix.shape();
    let mut out = vec![0.0; x.len() / inputs * outputs];
    matrix.product(0..matrix.panels(), x, &mut out);
    out
}

fn dot(x: &[f32], y: &[f32]) -> f32 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::native::block::{BlockShape, DrafterWeights};
    use crate::native::config::Config;
    use crate::native::matrix::Dtype;
    use crate::native::model::BlockWeights;
    use crate::sampler::Settings;

    const CONFIG: Config = Config {
        vocab_size: 23,
        hidden_size: 24,
        intermediate_size: 20,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 6,
        context: 40,
        eps: 1e-5,
        theta: 10000.0,
    };
    const SHAPE: BlockShape = BlockShape { config: CONFIG, taps: 2, block: 4, reach: 5, rank: 7, order: 3 };

    fn numbers(seed: u64, count: usize) -> Vec<f32> {
        let place = crate::noise::Place { seed, row: 0, position: 0, stream: 0 };
        (0..count).map(|i| place.uniform(i as u32) as f32 - 0.5).collect()
    }

    fn drafter() -> Result<Arc<Drafter>> {
        let of = |seed, rows: usize, columns: usize| numbers(seed, rows * columns);
        let square = of(1, 24, 24);
        let (keys, gates, down, gain) = (of(2, 12, 24), of(3, 20, 24), of(4, 24, 20), vec![1.0; 24]);
        let layer = BlockWeights {
            query: &square,
            key: &keys,
            value: &keys,
            out: &square,
            gate: &gates,
            up: &gates,
            down: &down,
            attention_norm: &gain,
            mlp_norm: &gain,
        };
        let (mix, masks, past, correction) = (of(5, 24, 48), of(6, 3, 24), of(7, 7, 24), of(8, 24, 7));
        let (bias, confidence, vocabulary) = (of(9, 7, 1), of(10, 32, 1), of(11, 23, 24));
        let weights = DrafterWeights {
            mix: &mix,
            mix_norm: &gain,
            layers: vec![layer; 2],
            masks: &masks,
            norm: &gain,
            past: vec![&past; 3],
            state: &past,
            state_bias: &bias,
            correction: &correction,
            confidence: &confidence,
            embedding: &vocabulary,
            unembedding: &vocabulary,
        };
        Drafter::new(SHAPE, &weights, Dtype::Float32).map(Arc::new)
    }

    fn guesses(ring: &mut Ring, stream: u32) -> Result<BlockDraft> {
        let sampler = Sampler::new(Settings::new(23))?;
        ring.draft(5, 4, &Draw { sampler: &sampler, seed: 3, sample: 0, history: None, stream, costs: None })
    }

    #[test]
    fn a_draft_is_the_same_however_its_context_was_read() -> Result<()> {
        let (drafter, states) = (drafter()?, numbers(12, 13 * 48));
        let mut whole = Ring::new(drafter.clone())?;
        whole.read(&states, 0)?;
        let expected = guesses(&mut whole, 4)?;
        assert_eq!(expected.tokens.len(), 4);
        for (place, law) in expected.laws.chunks_exact(23).enumerate() {
            assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-9, "place {place}");
        }
        let mut parts = Ring::new(drafter.clone())?;
        for (first, count) in [(0, 3), (3, 1), (4, 7), (11, 2)] {
            parts.read(&states[first * 48..][..count * 48], first)?;
            if first == 3 {
                guesses(&mut parts, 0)?; // what a draft leaves behind is not looked at later
            }
        }
        assert_eq!(guesses(&mut parts, 4)?, expected);
        let mut late = Ring::new(drafter)?;
        late.read(&states[8 * 48..], 8)?; // all that can be seen
        assert_eq!(guesses(&mut late, 4)?, expected);
        Ok(())
    }

    #[test]
    fn units_that_were_skipped_are_missed() -> Result<()> {
        let mut ring = Ring::new(drafter()?)?;
        ring.read(&numbers(12, 2 * 48), 0)?;
        for (count, first) in [(1, 3), (4, 3), (1, 1), (39, 2)] {
            assert!(ring.read(&numbers(12, count * 48), first).is_err(), "{count} from {first}");
        }
        assert!(ring.read(&[0.0; 47], 2).is_err());
        ring.read(&numbers(12, 48), 2)
    }
}
