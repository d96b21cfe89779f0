//! Rotary position embedding: the angles of a model, and their application.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use ftk_kernels::float::rotary::{self, Turn};
use ftk_networks::ops::Rope;

use super::host;

/// Where tokens stand in their sequences: on the host, and on the device, so that no pass has to fetch it back.
#[derive(Clone, Debug)]
pub(super) struct TokenPlaces {
    pub(super) at: Arc<[u32]>,
    /// The same, `(tokens)`.
    pub(super) tensor: Tensor,
}

impl TokenPlaces {
    pub(super) fn new(at: Vec<u32>, device: &Device) -> Result<Self> {
        Ok(Self { tensor: Tensor::new(at.as_slice(), device)?, at: at.into() })
    }
}

/// Cosines and sines `(positions, dim / 2)` from position 0 on.
#[derive(Clone, Debug)]
pub struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Angles {
    /// The angles of the first `positions` positions.
    pub fn new(rope: &Rope, positions: usize, device: &Device) -> Result<Self> {
        Self::at(rope, &(0..positions as u32).collect::<Vec<_>>(), device)
    }

    /// The angles of some positions, in the place of the first ones.
    pub(super) fn at(rope: &Rope, positions: &[u32], device: &Device) -> Result<Self> {
        let wave = frequencies(rope);
        let of_one = |&position: &u32| wave.iter().map(move |wave| (f64::from(position) * wave) as f32);
        let (angles, positions): (Vec<f32>, _) = (positions.iter().flat_map(of_one).collect(), positions.len());
        let of = |function: fn(f32) -> f32| {
            let values = angles.iter().map(|&angle| function(angle)).collect::<Vec<_>>();
            Tensor::from_vec(values, (positions, rope.dim / 2), device)
        };
        Ok(Self { cos: of(libm::cosf)?, sin: of(libm::sinf)? })
    }

    /// Number of positions covered.
    pub fn positions(&self) -> usize {
        self.cos.dims()[0]
    }

    /// Turns the heads of `x` `(tokens, heads * dim)`, each token standing at its position.
    pub(super) fn rotate(&self, x: &Tensor, places: &TokenPlaces, turn: Turn) -> Result<Tensor> {
        let (width, dim) = (x.dim(1)?, 2 * self.cos.dim(1)?);
        let on_host = |[x, cos, sin]: [&[f32]; 3]| Ok(rotary::rotate(x, width, [cos, sin], dim, &places.at, turn));
        match host::read([x, &self.cos, &self.sin], on_host)? {
            Some(values) => Tensor::from_vec(values, x.shape(), x.device()),
            None => self.on_device(x, &places.tensor, turn),
        }
    }

    fn on_device(&self, x: &Tensor, positions: &Tensor, turn: Turn) -> Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        let (cos, sin) = (self.cos.index_select(positions, 0)?, self.sin.index_select(positions, 0)?);
        let sin = if turn == Turn::Forward { sin } else { sin.neg()? };
        let dim = 2 * cos.dim(1)?;
        let heads = x.contiguous()?.reshape((1, tokens, width / dim, dim))?;
        candle_nn::rotary_emb::rope_thd(&heads, &cos, &sin)?.reshape((tokens, width))
    }
}

/// Radians per position of each feature pair, `dim / 2` of them, rounded to f32 as the reference
/// implementation holds them.
fn frequencies(rope: &Rope) -> Vec<f64> {
    let pairs = rope.dim / 2;
    let plain = (0..pairs).map(|i| 1.0 / libm::pow(rope.theta, (2 * i) as f64 / rope.dim as f64));
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

#[cfg(test)]
mod tests {
    use super::super::tests::{close, random};
    use super::*;

    #[test]
    fn kernels_and_tensor_operations_agree() {
        let angles = Angles::new(&Rope { dim: 6, theta: 100.0, scaling: None }, 9, &Device::Cpu).unwrap();
        let x = random(1, &[4, 12]);
        let places = TokenPlaces::new(vec![3, 0, 8, 1], &Device::Cpu).unwrap();
        for turn in [Turn::Forward, Turn::Back] {
            let ours = angles.rotate(&x, &places, turn).unwrap();
            close(&ours, &angles.on_device(&x, &places.tensor, turn).unwrap());
        }
    }
}
