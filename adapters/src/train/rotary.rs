//! Rotary position embedding: the angles of a model, and their application.

use candle_core::{Device, Result, Tensor};

use crate::graft::graft;
use crate::ops::Rope;

/// Cosines and sines `(positions, dim / 2)` from position 0 on.
#[derive(Clone, Debug)]
pub struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Angles {
    /// The angles of the first `positions` positions.
    pub fn new(rope: &Rope, positions: usize, device: &Device) -> Result<Self> {
        let wave = frequencies(rope);
        let angles: Vec<f32> = (0..positions).flat_map(|p| wave.iter().map(move |w| (p as f64 * w) as f32)).collect();
        let angles = Tensor::from_vec(angles, (positions, rope.dim / 2), device)?;
        Ok(Self { cos: angles.cos()?, sin: angles.sin()? })
    }

    /// Number of positions covered.
    pub fn positions(&self) -> usize {
        self.cos.dims()[0]
    }

    /// Rotates `x` `(batch, seq, heads * dim)` whose first row stands at `position`.
    pub fn rotate(&self, x: &Tensor, position: usize) -> Result<Tensor> {
        let (batch, seq, width) = x.dims3()?;
        let (cos, sin) = (self.cos.narrow(0, position, seq)?, self.sin.narrow(0, position, seq)?);
        let dim = 2 * cos.dim(1)?;
        let heads = (batch, seq, width / dim, dim);
        let value = candle_nn::rotary_emb::rope_thd(&x.detach().reshape(heads)?, &cos, &sin)?;
        graft(value.reshape((batch, seq, width))?, [x], move |_, g| {
            // A rotation's transpose is the rotation back.
            let g = candle_nn::rotary_emb::rope_thd(&g.contiguous()?.reshape(heads)?, &cos, &sin.neg()?)?;
            Ok([Some(g.reshape((batch, seq, width))?)])
        })
    }
}

/// Radians per position of each feature pair, `dim / 2` of them, rounded to f32 as the reference
/// implementation holds them.
fn frequencies(rope: &Rope) -> Vec<f64> {
    let pairs = rope.dim / 2;
    let plain = (0..pairs).map(|i| 1.0 / rope.theta.powf((2 * i) as f64 / rope.dim as f64));
    let scaled = plain.map(|frequency| {
        let Some(scaling) = &rope.scaling else { return frequency };
        let context = scaling.original_context as f64;
        let turns = context * frequency / std::f64::consts::TAU;
        if turns < scaling.low_freq_factor {
            frequency / scaling.factor
        } else if turns > scaling.high_freq_factor {
            frequency
        } else {
            let smooth = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
            (1.0 - smooth) * frequency / scaling.factor + smooth * frequency
        }
    });
    scaled.map(|frequency| f64::from(frequency as f32)).collect()
}
