//! The shape of a model, checked.

use crate::error::{Error, Result};
use crate::native::matrix::LANES;

/// The shape of a Llama; the fields are those of Python's `LlamaConfig`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // each is documented once, where users read it: `foretoken.model.llama.LlamaConfig`
pub struct Config {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub context: usize,
    pub eps: f32,
    pub theta: f64,
}

/// The next multiple of the lanes: inside, every width is one, and what is added is zero.
pub(crate) fn padded(size: usize) -> usize {
    size.next_multiple_of(LANES)
}

impl Config {
    /// Refuses a shape that is none.
    ///
    /// # Errors
    /// A size that is 0 or absurd, heads that do not divide, an odd `head_dim`, or a number out of range.
    pub fn check(&self) -> Result<()> {
        let sizes = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.layers),
            ("num_attention_heads", self.heads),
            ("num_key_value_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("max_position_embeddings", self.context),
        ];
        for (name, size) in sizes {
            // With this bound the product of two sizes fits 64 bits.
            if !(1..1 << 31).contains(&size) {
                return Err(Error::Range { name, value: size as f64, expected: "a size in 1..2147483648" });
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let reason = "give a number of key and value heads that divides that of query heads";
            let (first, second) = ("num_attention_heads", "num_key_value_heads");
            return Err(Error::Contradiction { first, second, reason });
        }
        if !self.head_dim.is_multiple_of(2) {
            let expected = "an even width, as rotary positions turn pairs";
            return Err(Error::Range { name: "head_dim", value: self.head_dim as f64, expected });
        }
        for (name, value) in [("rms_norm_eps", f64::from(self.eps)), ("rope_theta", self.theta)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::Range { name, value, expected: "a positive number" });
            }
        }
        Ok(())
    }

    /// Query heads that share a key.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Width of a head inside.
    pub(crate) fn stride(&self) -> usize {
        padded(self.head_dim)
    }

    /// Cosines, then sines, of the angles of one position (`head_dim`), rounded where the twin rounds.
    pub(crate) fn turn(&self, position: usize, out: &mut [f32]) {
        let half = self.head_dim / 2;
        let (cosines, sines) = out.split_at_mut(half);
        for (i, (cosine, sine)) in cosines.iter_mut().zip(sines).enumerate() {
            let exponent = (2 * i) as f32 / self.head_dim as f32;
            let frequency = 1.0 / self.theta.powf(f64::from(exponent)) as f32;
            let angle = f64::from(position as f32 * frequency);
            (*cosine, *sine) = (angle.cos() as f32, angle.sin() as f32);
        }
    }
}
