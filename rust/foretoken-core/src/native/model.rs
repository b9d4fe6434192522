//! The weights of a model, checked and packed.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::native::config::{Config, padded};
use crate::native::matrix::{Dtype, LANES, Matrix, are_bfloat16};

/// The weights of one block as transformers names them, each (outputs, inputs) in order.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // the names say it
pub struct BlockWeights<'a> {
    pub query: &'a [f32],
    pub key: &'a [f32],
    pub value: &'a [f32],
    pub out: &'a [f32],
    pub gate: &'a [f32],
    pub up: &'a [f32],
    pub down: &'a [f32],
    pub attention_norm: &'a [f32],
    pub mlp_norm: &'a [f32],
}

/// The weights of a model.
#[derive(Debug, Clone)]
pub struct Weights<'a> {
    /// (vocabulary, hidden).
    pub embedding: &'a [f32],
    /// Block by block.
    pub blocks: Vec<BlockWeights<'a>>,
    /// (hidden,).
    pub norm: &'a [f32],
    /// (vocabulary, hidden), or none if it is the embedding.
    pub head: Option<&'a [f32]>,
}

/// One block, packed. A head is as wide as a multiple of 16 inside, and what is added is 0.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Block {
    /// For each key-value head: its queries, its key, its value.
    pub qkv: Matrix,
    pub out: Matrix,
    /// Panels of the gate and of what it opens, in turn.
    pub gate_up: Matrix,
    pub down: Matrix,
    pub attention_norm: Vec<f32>,
    pub mlp_norm: Vec<f32>,
}

/// A model that can be read from by many sessions; copies share the weights.
#[derive(Debug, Clone)]
pub struct Model {
    pub(crate) config: Config,
    pub(crate) dtype: Dtype,
    pub(crate) embedding: Arc<Matrix>,
    pub(crate) blocks: Vec<Arc<Block>>,
    pub(crate) norm: Vec<f32>,
    pub(crate) head: Option<Arc<Matrix>>,
}

impl Model {
    /// Packs weights; `dtype` of none is bfloat16 if that loses nothing, else float32.
    ///
    /// # Errors
    /// A shape that is none, a weight of another size, NaN or infinity.
    pub fn new(config: Config, weights: &Weights, dtype: Option<Dtype>) -> Result<Self> {
        config.check()?;
        let Config { vocab_size, hidden_size, intermediate_size, heads, kv_heads, head_dim, .. } = config;
        check("blocks", weights.blocks.len(), config.layers)?;
        let (attention, keys) = (heads * head_dim, kv_heads * head_dim);
        let mut exact = true;
        let mut see = |name: &'static str, weight: &[f32], rows: usize, columns: usize| {
            check(name, weight.len(), rows * columns)?;
            exact = exact && are_bfloat16(weight);
            match weight.iter().position(|number| !number.is_finite()) {
                Some(place) => Err(Error::Weight { name, place }),
                None => Ok(()),
            }
        };
        see("model.embed_tokens.weight", weights.embedding, vocab_size, hidden_size)?;
        for block in &weights.blocks {
            see("q_proj.weight", block.query, attention, hidden_size)?;
            see("k_proj.weight", block.key, keys, hidden_size)?;
            see("v_proj.weight", block.value, keys, hidden_size)?;
            see("o_proj.weight", block.out, hidden_size, attention)?;
            see("gate_proj.weight", block.gate, intermediate_size, hidden_size)?;
            see("up_proj.weight", block.up, intermediate_size, hidden_size)?;
            see("down_proj.weight", block.down, hidden_size, intermediate_size)?;
            see("input_layernorm.weight", block.attention_norm, hidden_size, 1)?;
            see("post_attention_layernorm.weight", block.mlp_norm, hidden_size, 1)?;
        }
        see("model.norm.weight", weights.norm, hidden_size, 1)?;
        if let Some(head) = weights.head {
            see("lm_head.weight", head, vocab_size, hidden_size)?;
        }
        let dtype = dtype.unwrap_or(if exact { Dtype::BFloat16 } else { Dtype::Float32 });
        let pack = |weight| Arc::new(Rows::new(padded(hidden_size)).all(weight, hidden_size).pack(dtype));
        Ok(Self {
            config,
            dtype,
            embedding: pack(weights.embedding),
            blocks: weights.blocks.iter().map(|block| Arc::new(Block::new(&config, block, dtype))).collect(),
            norm: spread(weights.norm),
            head: weights.head.map(pack),
        })
    }

    /// Its shape.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How its weights are kept.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The memory its weights take.
    pub fn bytes(&self) -> usize {
        self.matrices().map(Matrix::bytes).sum()
    }

    /// The model of the first `layers` blocks under the same head (`LayerSkip`, 2404.16710).
    ///
    /// # Errors
    /// There are not so many, or none is asked for.
    pub fn first(&self, layers: usize) -> Result<Self> {
        if !(1..=self.blocks.len()).contains(&layers) {
            let expected = "at least 1 and at most what the model has";
            return Err(Error::Range { name: "layers", value: layers as f64, expected });
        }
        let config = Config { layers, ..self.config };
        Ok(Self { config, blocks: self.blocks[..layers].to_vec(), ..self.clone() })
    }

    /// The head's matrix.
    pub(crate) fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// The embeddings (vocabulary, hidden), unpacked.
    pub fn embedding(&self) -> Vec<f32> {
        self.unpacked(&self.embedding, None)
    }

    /// What makes logits of normed states (vocabulary, hidden): the head, the last norm's gain included.
    pub fn unembedding(&self) -> Vec<f32> {
        self.unpacked(self.head(), Some(&self.norm))
    }

    fn unpacked(&self, matrix: &Matrix, gain: Option<&[f32]>) -> Vec<f32> {
        let (hidden, mut row) = (self.config.hidden_size, vec![0.0; matrix.shape().1]);
        let mut rows = Vec::with_capacity(self.config.vocab_size * hidden);
        for id in 0..self.config.vocab_size {
            matrix.row(id, &mut row);
            if let Some(gain) = gain {
                row.iter_mut().zip(gain).for_each(|(number, gain)| *number *= gain);
            }
            rows.extend_from_slice(&row[..hidden]);
        }
        rows
    }

    /// Every matrix, in the order in which pickle keeps them.
    pub fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        let blocks = self.blocks.iter().flat_map(|block| [&block.qkv, &block.out, &block.gate_up, &block.down]);
        std::iter::once(&*self.embedding).chain(blocks).chain(self.head.as_deref())
    }

    /// Every gain of a norm, in the order in which pickle keeps them.
    pub fn gains(&self) -> impl Iterator<Item = &[f32]> {
        let blocks = self.blocks.iter().flat_map(|block| [&block.attention_norm[..], &block.mlp_norm]);
        blocks.chain([&self.norm[..]])
    }

    /// The model whose `matrices` and `gains` these are.
    ///
    /// # Errors
    /// They do not fit the shape.
    pub fn from_parts(config: Config, dtype: Dtype, matrices: Vec<Matrix>, gains: Vec<Vec<f32>>) -> Result<Self> {
        config.check()?;
        let (hidden, inner, stride) = (padded(config.hidden_size), padded(config.intermediate_size), config.stride());
        let embedding = (padded(config.vocab_size), hidden);
        let block = [
            ((config.heads + 2 * config.kv_heads) * stride, hidden),
            (hidden, config.heads * stride),
            (2 * inner, hidden),
            (hidden, inner),
        ];
        let blocks = (0..config.layers).flat_map(|_| block);
        let tied = matrices.len() == 1 + 4 * config.layers;
        let shapes: Vec<_> = std::iter::once(embedding).chain(blocks).chain((!tied).then_some(embedding)).collect();
        check("matrices", matrices.len(), shapes.len())?;
        for (matrix, shape) in matrices.iter().zip(shapes) {
            check("a matrix", matrix.shape().0, shape.0)?;
            check("a matrix", matrix.shape().1, shape.1)?;
        }
        check("gains", gains.len(), 2 * config.layers + 1)?;
        gains.iter().try_for_each(|gain| check("a gain", gain.len(), hidden))?;
        let (mut matrices, mut gains) = (matrices.into_iter(), gains.into_iter());
        let mut matrix = || matrices.next().ok_or(Error::Empty { name: "matrices" });
        let mut gain = || gains.next().ok_or(Error::Empty { name: "gains" });
        let embedding = Arc::new(matrix()?);
        let mut blocks = Vec::new();
        for _ in 0..config.layers {
            let (qkv, out, gate_up, down) = (matrix()?, matrix()?, matrix()?, matrix()?);
            let (attention_norm, mlp_norm) = (gain()?, gain()?);
            blocks.push(Arc::new(Block { qkv, out, gate_up, down, attention_norm, mlp_norm }));
        }
        let head = if tied { None } else { Some(Arc::new(matrix()?)) };
        Ok(Self { config, dtype, embedding, blocks, norm: gain()?, head })
    }
}

pub(crate) fn check(name: &'static str, given: usize, expected: usize) -> Result<()> {
    if given == expected { Ok(()) } else { Err(Error::Part { name, given, expected }) }
}

impl Block {
    pub(crate) fn new(config: &Config, weights: &BlockWeights, dtype: Dtype) -> Self {
        let Config { hidden_size, intermediate_size, kv_heads, head_dim, .. } = *config;
        let (hidden, inner, stride) = (padded(hidden_size), padded(intermediate_size), config.stride());
        let mut qkv = Rows::new(hidden);
        let head = head_dim * hidden_size;
        for kv in 0..kv_heads {
            let queries = weights.query[kv * config.group() * head..][..config.group() * head].chunks_exact(head);
            for part in queries.chain([&weights.key[kv * head..][..head], &weights.value[kv * head..][..head]]) {
                qkv = qkv.all(part, hidden_size);
            }
        }
        let mut gate_up = Rows::new(hidden);
        let panels = |weight: &'_ [f32]| weight.chunks(LANES * hidden_size).map(<[f32]>::to_vec).collect::<Vec<_>>();
        for (gate, up) in panels(weights.gate).into_iter().zip(panels(weights.up)) {
            gate_up = gate_up.all(&gate, hidden_size).all(&up, hidden_size);
        }
        Self {
            qkv: qkv.pack(dtype),
            out: Rows::new(config.heads * stride).grouped(weights.out, head_dim, stride).pack(dtype),
            gate_up: gate_up.pack(dtype),
            down: Rows::new(inner).all(weights.down, intermediate_size).pack(dtype),
            attention_norm: spread(weights.attention_norm),
            mlp_norm: spread(weights.mlp_norm),
        }
    }
}

pub(crate) fn spread(gain: &[f32]) -> Vec<f32> {
    let mut padded = gain.to_vec();
    padded.resize(gain.len().next_multiple_of(LANES), 0.0);
    padded
}

/// A matrix on its way to be packed: rows of one width.
pub(crate) struct Rows {
    numbers: Vec<f32>,
    width: usize,
}

impl Rows {
    pub(crate) fn new(width: usize) -> Self {
        Self { numbers: Vec::new(), width }
    }

    /// Adds rows of `width` numbers, with zeros behind each, and rows of zeros up to a whole panel.
    pub(crate) fn all(self, weight: &[f32], width: usize) -> Self {
        let stride = self.width;
        self.grouped(weight, width, stride)
    }

    /// Adds rows whose numbers come in groups, with zeros behind each group, and rows up to a whole panel.
    pub(crate) fn grouped(mut self, weight: &[f32], group: usize, stride: usize) -> Self {
        for numbers in weight.chunks_exact(group) {
            self.numbers.extend_from_slice(numbers);
            self.numbers.resize(self.numbers.len() + stride - group, 0.0);
        }
        let rows = self.numbers.len() / self.width;
        self.numbers.resize(padded(rows) * self.width, 0.0);
        self
    }

    pub(crate) fn pack(self, dtype: Dtype) -> Matrix {
        Matrix::pack(dtype, self.width, &self.numbers)
    }
}
