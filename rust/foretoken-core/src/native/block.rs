//! A block drafter: all places of a draft in one pass over what a target's layers said of the text.
//!
//! The slow twin, and what trains, is `foretoken.drafter.block_model`.

use crate::error::{Error, Result};
use crate::native::config::{Config, padded};
use crate::native::matrix::{Dtype, Matrix};
use crate::native::model::{Block, BlockWeights, Rows, check, spread};
use crate::native::pointwise::norm;

/// The shape of a block drafter; `layers` of the config are draft layers, its context is what positions may be.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // each is documented once, where users read it: `foretoken.drafter.block_model.BlockConfig`
pub struct BlockShape {
    pub config: Config,
    pub taps: usize,
    pub block: usize,
    pub reach: usize,
    pub rank: usize,
    pub order: usize,
}

impl BlockShape {
    fn check(&self) -> Result<()> {
        self.config.check()?;
        let sizes = [
            ("taps", self.taps),
            ("block", self.block),
            ("reach", self.reach),
            ("rank", self.rank),
            ("order", self.order),
        ];
        for (name, size) in sizes {
            if !(1..=1 << 16).contains(&size) {
                return Err(Error::Range { name, value: size as f64, expected: "a size in 1..=65536" });
            }
        }
        Ok(())
    }
}

/// The weights of a block drafter, as its module names them, each (outputs, inputs).
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the names say it
pub struct DrafterWeights<'a> {
    pub mix: &'a [f32],
    pub mix_norm: &'a [f32],
    pub layers: Vec<BlockWeights<'a>>,
    pub masks: &'a [f32],
    pub norm: &'a [f32],
    /// One matrix for each distance, (rank, hidden).
    pub past: Vec<&'a [f32]>,
    pub state: &'a [f32],
    pub state_bias: &'a [f32],
    pub correction: &'a [f32],
    /// Of the state, of the correction's inside, and the bias.
    pub confidence: &'a [f32],
    /// The target's embeddings, each with a mean square of 1.
    pub embedding: &'a [f32],
    /// What makes logits of states.
    pub unembedding: &'a [f32],
}

/// One draft layer: what the block goes through, and the keys and values of the context.
#[derive(Debug)]
pub(crate) struct Layer {
    pub block: Block,
    /// For each key-value head: its key, its value.
    pub context: Matrix,
}

/// A block drafter that can be drafted with by many sessions.
#[derive(Debug)]
pub struct Drafter {
    pub(crate) shape: BlockShape,
    pub(crate) mix: Matrix,
    pub(crate) mix_norm: Vec<f32>,
    pub(crate) layers: Vec<Layer>,
    /// What a block starts from, (block, hidden as it is packed); the first place is the newest unit's.
    pub(crate) start: Vec<f32>,
    /// Queries, keys and values of the first layer, not turned: of all places but the first they never change.
    pub(crate) start_qkv: Vec<f32>,
    pub(crate) norm: Vec<f32>,
    pub(crate) past: Matrix,
    pub(crate) state: Matrix,
    pub(crate) state_bias: Vec<f32>,
    pub(crate) correction: Matrix,
    pub(crate) sure_state: Vec<f32>,
    pub(crate) sure_bent: Vec<f32>,
    pub(crate) sure_bias: f32,
    pub(crate) embedding: Matrix,
    pub(crate) head: Matrix,
}

impl Drafter {
    /// Packs weights as `dtype`.
    ///
    /// # Errors
    /// A shape that is none, or a weight of another size.
    pub fn new(shape: BlockShape, weights: &DrafterWeights, dtype: Dtype) -> Result<Self> {
        shape.check()?;
        let BlockShape { config, taps, block, rank, order, .. } = shape;
        let Config { vocab_size, hidden_size, intermediate_size, heads, kv_heads, head_dim, layers, .. } = config;
        let (attention, keys) = (heads * head_dim, kv_heads * head_dim);
        check("layers", weights.layers.len(), layers)?;
        check("past", weights.past.len(), order)?;
        check("mix.weight", weights.mix.len(), taps * hidden_size * hidden_size)?;
        check("mix_norm.weight", weights.mix_norm.len(), hidden_size)?;
        for layer in &weights.layers {
            check("q_proj.weight", layer.query.len(), attention * hidden_size)?;
            check("k_proj.weight", layer.key.len(), keys * hidden_size)?;
            check("v_proj.weight", layer.value.len(), keys * hidden_size)?;
            check("o_proj.weight", layer.out.len(), attention * hidden_size)?;
            check("gate_proj.weight", layer.gate.len(), intermediate_size * hidden_size)?;
            check("up_proj.weight", layer.up.len(), intermediate_size * hidden_size)?;
            check("down_proj.weight", layer.down.len(), intermediate_size * hidden_size)?;
            check("attention_norm.weight", layer.attention_norm.len(), hidden_size)?;
            check("mlp_norm.weight", layer.mlp_norm.len(), hidden_size)?;
        }
        check("embed_masks", weights.masks.len(), (block - 1) * hidden_size)?;
        check("norm.weight", weights.norm.len(), hidden_size)?;
        weights.past.iter().try_for_each(|past| check("past.weight", past.len(), rank * hidden_size))?;
        check("state.weight", weights.state.len(), rank * hidden_size)?;
        check("state.bias", weights.state_bias.len(), rank)?;
        check("correction.weight", weights.correction.len(), rank * hidden_size)?;
        check("confidence", weights.confidence.len(), hidden_size + rank + 1)?;
        check("embedding", weights.embedding.len(), vocab_size * hidden_size)?;
        check("unembedding", weights.unembedding.len(), vocab_size * hidden_size)?;

        let hidden = padded(hidden_size);
        let pack = |weight, inputs| Rows::new(padded(inputs)).all(weight, inputs).pack(dtype);
        let mut past = Rows::new(hidden);
        for part in &weights.past {
            past = past.all(part, hidden_size);
        }
        let mut start = vec![0.0; hidden];
        for mask in weights.masks.chunks_exact(hidden_size) {
            start.extend(spread(mask));
        }
        let layers: Vec<_> = weights.layers.iter().map(|layer| Layer::new(&config, layer, dtype)).collect();
        let first = layers.first().ok_or(Error::Empty { name: "layers" })?;
        let mut normed = vec![0.0; start.len()];
        for (x, out) in start.chunks_exact(hidden).zip(normed.chunks_exact_mut(hidden)) {
            norm(x, &first.block.attention_norm, hidden_size, config.eps, out);
        }
        let mut start_qkv = vec![0.0; block * first.block.qkv.shape().0];
        first.block.qkv.product(0..first.block.qkv.panels(), &normed, &mut start_qkv);
        let (sure_state, rest) = weights.confidence.split_at(hidden_size);
        let mut mix = Rows::new(taps * hidden);
        mix = mix.grouped(weights.mix, hidden_size, hidden);
        Ok(Self {
            shape,
            mix: mix.pack(dtype),
            mix_norm: spread(weights.mix_norm),
            start,
            start_qkv,
            layers,
            norm: spread(weights.norm),
            past: past.pack(dtype),
            state: pack(weights.state, hidden_size),
            state_bias: spread(weights.state_bias),
            correction: pack(weights.correction, rank),
            sure_state: spread(sure_state),
            sure_bent: spread(&rest[..rank]),
            sure_bias: rest[rank],
            embedding: pack(weights.embedding, hidden_size),
            head: pack(weights.unembedding, hidden_size),
        })
    }

    /// Its shape.
    pub fn shape(&self) -> &BlockShape {
        &self.shape
    }
}

impl Layer {
    fn new(config: &Config, weights: &BlockWeights, dtype: Dtype) -> Self {
        let head = config.head_dim * config.hidden_size;
        let mut context = Rows::new(padded(config.hidden_size));
        for kv in 0..config.kv_heads {
            for part in [&weights.key[kv * head..][..head], &weights.value[kv * head..][..head]] {
                context = context.all(part, config.hidden_size);
            }
        }
        Self { block: Block::new(config, weights, dtype), context: context.pack(dtype) }
    }
}
