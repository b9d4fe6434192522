//! One pass through the model, by one thread or several.

use std::ops::Range;
use std::sync::Arc;

use crate::native::cache::Head;
use crate::native::crew::Crew;
use crate::native::matrix::{LANES, Matrix};
use crate::native::model::{Block, Model};
use crate::native::pointwise::{add, gate, norm, rotate};
use crate::native::team::{Worker, share};

/// A unit that is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unit {
    pub token: u32,
    pub row: usize,
    pub position: usize,
    /// Which node of its row's tree it is, if it is one.
    pub node: Option<usize>,
}

/// Weights times units below which a second thread costs more than it brings.
const WORTH: usize = 4 << 20;

/// Panels that a thread takes together, as many as a product does at once.
const TOGETHER: usize = 4;

/// Whether a forward over so many units is worth more than one thread.
pub(crate) fn worth(model: &Model, units: usize) -> bool {
    let weights: usize = model.matrices().map(|matrix| matrix.shape().0 * matrix.shape().1).sum();
    weights * units >= WORTH
}

/// Reads units, each behind those it may look at, and gives the logits (places, vocabulary) that follow some of them;
/// and beside them the residual stream behind the blocks `taps`, (taps, units, hidden as it is packed).
///
/// `heads` come in order, and so they are left; `helpers` have answered.
pub(crate) fn forward(
    model: &Arc<Model>,
    heads: &mut Vec<Head>,
    units: Vec<Unit>,
    places: Vec<usize>,
    taps: &[usize],
    helpers: Option<&Crew<Task>>,
) -> (Vec<f32>, Vec<f32>) {
    let threads = 1 + helpers.map_or(0, Crew::len);
    let (count, vocabulary) = (places.len(), model.config.vocab_size);
    let read = Arc::new(Read { model: model.clone(), turns: turns(model, &units), units, places, taps: taps.to_vec() });
    let mut left = std::mem::take(heads);
    let mut tasks = Vec::new();
    for worker in Worker::team(threads) {
        let others = left.split_off(share(model.config.kv_heads, 1, threads, worker.index).len());
        let heads = std::mem::replace(&mut left, others);
        tasks.push(Task { read: read.clone(), worker, heads, logits: Vec::new(), states: Vec::new() });
    }
    let own = tasks.remove(0);
    if let Some(crew) = helpers {
        crew.give(tasks);
    }
    let mut done = vec![own.run()];
    done.extend(helpers.into_iter().flat_map(Crew::collect));
    let states = std::mem::take(&mut done[0].states); // every thread has the whole stream, the first one keeps it
    if let [alone] = &mut done[..] {
        heads.append(&mut alone.heads);
        return (std::mem::take(&mut alone.logits), states);
    }
    let mut logits = vec![0.0; count * vocabulary];
    let mut start = 0;
    for mut task in done {
        heads.append(&mut task.heads);
        let width = task.logits.len() / count;
        if width > 0 {
            for (row, own) in logits.chunks_exact_mut(vocabulary).zip(task.logits.chunks_exact(width)) {
                row[start..start + width].copy_from_slice(own);
            }
        }
        start += width;
    }
    (logits, states)
}

fn turns(model: &Model, units: &[Unit]) -> Vec<f32> {
    let width = model.config.head_dim;
    let mut turns = vec![0.0; units.len() * width];
    for (unit, turn) in units.iter().zip(turns.chunks_exact_mut(width)) {
        model.config.turn(unit.position, turn);
    }
    turns
}

/// What all threads read.
struct Read {
    model: Arc<Model>,
    units: Vec<Unit>,
    turns: Vec<f32>,
    places: Vec<usize>,
    taps: Vec<usize>,
}

/// What one thread does: some heads, and some columns of the logits.
pub(crate) struct Task {
    read: Arc<Read>,
    worker: Worker,
    heads: Vec<Head>,
    logits: Vec<f32>,
    states: Vec<f32>,
}

impl Task {
    /// Goes through the model, in step with the others.
    pub fn run(self) -> Self {
        let read = self.read.clone();
        Pass::new(&read, self).run()
    }
}

/// One thread on its way through the model; every thread keeps the whole hidden state.
struct Pass<'a> {
    read: &'a Read,
    task: Task,
    /// The residual stream (units, hidden).
    x: Vec<f32>,
    /// Its norms (units, hidden).
    unit: Vec<f32>,
    /// What was put together from all threads (units, …).
    whole: Vec<f32>,
    /// What this thread made of the phase (units, …).
    part: Vec<f32>,
    qkv: Vec<f32>,
    scores: Vec<f32>,
}

impl<'a> Pass<'a> {
    fn new(read: &'a Read, task: Task) -> Self {
        let embedding = &read.model.embedding;
        let mut x = vec![0.0; read.units.len() * embedding.shape().1];
        for (unit, x) in read.units.iter().zip(x.chunks_exact_mut(embedding.shape().1)) {
            embedding.row(unit.token as usize, x);
        }
        let empty = Vec::new;
        let (unit, whole, part, qkv, scores) = (vec![0.0; x.len()], empty(), empty(), empty(), empty());
        Self { read, task, x, unit, whole, part, qkv, scores }
    }

    fn run(mut self) -> Task {
        let model = &self.read.model;
        for (layer, block) in model.blocks.iter().enumerate() {
            self.norm(&block.attention_norm);
            self.attention(layer, block);
            self.product_onto_x(&block.out);
            self.norm(&block.mlp_norm);
            self.gates(block);
            self.product_onto_x(&block.down);
            if self.task.worker.index == 0 && self.read.taps.contains(&layer) {
                self.task.states.extend_from_slice(&self.x);
            }
        }
        self.logits();
        self.task
    }

    fn norm(&mut self, gain: &[f32]) {
        let config = &self.read.model.config;
        for (x, unit) in self.x.chunks_exact(gain.len()).zip(self.unit.chunks_exact_mut(gain.len())) {
            norm(x, gain, config.hidden_size, config.eps, unit);
        }
    }

    /// Queries, keys and values of this thread's heads, and what the queries see: `whole` (units, heads).
    fn attention(&mut self, layer: usize, block: &Block) {
        let Read { model, units, turns, .. } = self.read;
        let Worker { index, .. } = self.task.worker;
        let config = &model.config;
        let (stride, group, count) = (config.stride(), config.group(), self.task.heads.len());
        let own = (group + 2) * stride; // queries, key and value of one head
        let panels = own / LANES;
        let threads = self.task.worker.threads();
        let first = share(config.kv_heads, 1, threads, index).start;
        fill(&block.qkv, first * panels..(first + count) * panels, &self.unit, &mut self.qkv, units.len());
        let scale = 1.0 / (config.head_dim as f32).sqrt();
        self.part.resize(units.len() * count * group * stride, 0.0);
        for (index, head) in self.task.heads.iter_mut().enumerate() {
            let slots = &mut head.layers[layer];
            for (place, unit) in units.iter().enumerate() {
                let turn = &turns[place * config.head_dim..][..config.head_dim];
                let qkv = &mut self.qkv[(place * count + index) * own..][..own];
                let (queries, kv) = qkv.split_at_mut(group * stride);
                queries.chunks_exact_mut(stride).for_each(|query| rotate(&mut query[..config.head_dim], turn, scale));
                let (key, value) = kv.split_at_mut(stride);
                rotate(&mut key[..config.head_dim], turn, 1.0);
                let slot = &mut slots[unit.row];
                slot.write(unit.position, key, value);
                if let Some(node) = unit.node {
                    slot.remember(node, key, value);
                }
                let out = &mut self.part[(place * count + index) * group * stride..][..group * stride];
                slot.attend(queries, stride, unit.position + 1, &mut self.scores, out);
            }
        }
        let width = |index| share(config.kv_heads, 1, threads, index).len() * group * stride;
        self.gather(config.heads * stride, width);
    }

    /// The gated inside of the block's second half: `whole` (units, inner).
    fn gates(&mut self, block: &Block) {
        let (threads, inner) = (self.task.worker.threads(), block.gate_up.panels() / 2);
        let own = share(inner, TOGETHER / 2, threads, self.task.worker.index);
        fill(&block.gate_up, 2 * own.start..2 * own.end, &self.unit, &mut self.qkv, self.read.units.len());
        self.part.resize(self.qkv.len() / 2, 0.0);
        gate(&self.qkv, &mut self.part);
        self.gather(inner * LANES, |index| share(inner, TOGETHER / 2, threads, index).len() * LANES);
    }

    /// Puts the parts of all threads, of which `width` says how wide they are, side by side.
    fn gather(&mut self, total: usize, width: impl Fn(usize) -> usize) {
        let whole = &mut self.whole;
        whole.resize(self.read.units.len() * total, 0.0);
        let mut start = 0;
        self.task.worker.exchange(&mut self.part, |index, part| {
            let width = width(index);
            if width > 0 {
                for (whole, part) in whole.chunks_exact_mut(total).zip(part.chunks_exact(width)) {
                    whole[start..start + width].copy_from_slice(part);
                }
            }
            start += width;
        });
    }

    /// Multiplies `whole` and adds the product to the residual stream.
    fn product_onto_x(&mut self, matrix: &Matrix) {
        let (threads, hidden) = (self.task.worker.threads(), matrix.shape().0);
        let own = |index| share(matrix.panels(), TOGETHER, threads, index);
        fill(matrix, own(self.task.worker.index), &self.whole, &mut self.part, self.read.units.len());
        let x = &mut self.x;
        self.task.worker.exchange(&mut self.part, |index, part| {
            let (start, width) = (own(index).start * LANES, own(index).len() * LANES);
            if width > 0 {
                for (x, part) in x.chunks_exact_mut(hidden).zip(part.chunks_exact(width)) {
                    add(&mut x[start..start + width], part);
                }
            }
        });
    }

    fn logits(&mut self) {
        let Read { model, places, .. } = self.read;
        let (config, hidden) = (&model.config, model.norm.len());
        self.unit.resize(places.len() * hidden, 0.0);
        for (&place, unit) in places.iter().zip(self.unit.chunks_exact_mut(hidden)) {
            norm(&self.x[place * hidden..][..hidden], &model.norm, config.hidden_size, config.eps, unit);
        }
        let columns = share(model.head().panels(), TOGETHER, self.task.worker.threads(), self.task.worker.index);
        let width = columns.len() * LANES;
        let kept = (columns.end * LANES).min(config.vocab_size) - (columns.start * LANES).min(config.vocab_size);
        if kept == width {
            fill(model.head(), columns, &self.unit, &mut self.task.logits, places.len());
        } else {
            fill(model.head(), columns, &self.unit, &mut self.part, places.len());
            self.task.logits = self.part.chunks_exact(width).flat_map(|row| &row[..kept]).copied().collect();
        }
    }
}

/// Writes the product of some panels into `out` (units, 16 · panels).
fn fill(matrix: &Matrix, panels: Range<usize>, x: &[f32], out: &mut Vec<f32>, units: usize) {
    out.resize(units * panels.len() * LANES, 0.0);
    matrix.product(panels, x, out);
}
