//! The differentiable interpretation: candle tensors with gradients to the adapter's factors, or
//! to the base's own weights where those are variables. What stays frozen gets neither a gradient
//! nor a buffer for one. Optimisers and losses are not here.

mod attention;
mod linear;
mod log_prob;
mod norm;
mod rotary;
mod swiglu;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use candle_core::{D, Device, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

pub use self::log_prob::{from_host, log_prob};
use self::rotary::Angles;
use crate::Error;
use crate::lora::{Adapter, Factors};
use crate::ops::{Bias, Heads, Ops, Rope, Tokens};
use crate::weights::Weights;

/// The factors of one site as tensors: `a` `(rank, d_in)`, `b` `(d_out, rank)`.
#[derive(Clone, Debug)]
pub struct Lora {
    /// Projects down.
    pub a: Tensor,
    /// Projects up.
    pub b: Tensor,
    /// Factor of the product.
    pub scale: f64,
}

/// An adapter as tensors, by site.
#[derive(Clone, Debug, Default)]
pub struct LoraTensors(BTreeMap<String, Lora>);

impl LoraTensors {
    /// A frozen adapter: applied, not trained.
    ///
    /// # Errors
    /// Those of the device.
    pub fn frozen(adapter: &Adapter, device: &Device) -> Result<Self, Error> {
        Self::build(adapter, |values, shape| Ok(Tensor::from_slice(values, shape, device)?))
    }

    /// A trained adapter: every factor is a variable.
    ///
    /// # Errors
    /// Those of the device.
    pub fn trained(adapter: &Adapter, device: &Device) -> Result<Self, Error> {
        Self::build(adapter, |values, shape| {
            Ok(Var::from_tensor(&Tensor::from_slice(values, shape, device)?)?.into_inner())
        })
    }

    fn build(
        adapter: &Adapter,
        tensor: impl Fn(&[f32], (usize, usize)) -> Result<Tensor, Error>,
    ) -> Result<Self, Error> {
        let build = |f: &Factors| -> Result<Lora, Error> {
            let (a, b) = (tensor(&f.a, (f.rank, f.d_in))?, tensor(&f.b, (f.d_out, f.rank))?);
            Ok(Lora { a, b, scale: f64::from(f.scale) })
        };
        adapter.sites.iter().map(|(site, f)| Ok((site.clone(), build(f)?))).collect::<Result<_, _>>().map(Self)
    }

    /// The numbers as they stand.
    ///
    /// # Errors
    /// Those of the device.
    pub fn to_adapter(&self) -> Result<Adapter, Error> {
        let read = |lora: &Lora| -> Result<Factors, Error> {
            let ((rank, d_in), d_out) = (lora.a.dims2()?, lora.b.dim(0)?);
            let values = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
            let (a, b) = (values(&lora.a)?, values(&lora.b)?);
            Ok(Factors { rank, d_in, d_out, a, b, scale: lora.scale as f32 })
        };
        let sites = self.0.iter().map(|(site, lora)| Ok((site.clone(), read(lora)?)));
        Ok(Adapter { sites: sites.collect::<Result<_, Error>>()? })
    }

    /// The same numbers without gradients.
    pub fn detached(&self) -> Self {
        let detach = |lora: &Lora| Lora { a: lora.a.detach(), b: lora.b.detach(), scale: lora.scale };
        Self(self.0.iter().map(|(site, lora)| (site.clone(), detach(lora))).collect())
    }

    /// Every factor with its name (`<site>.lora_A`, `<site>.lora_B`), in name order.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let named = |(site, lora)| {
            let (site, Lora { a, b, .. }): (&String, &Lora) = (site, lora);
            [(format!("{site}.lora_A"), a), (format!("{site}.lora_B"), b)]
        };
        self.0.iter().flat_map(named)
    }
}

/// Factors as PEFT initialises them: `A` uniform in `±1 / sqrt(d_in)`, `B` zero, so that the
/// adapted network starts as the base. Each site has a stream of its own, keyed by seed and name.
pub fn initial_factors(site: &str, rank: usize, (d_out, d_in): (usize, usize), scale: f32, seed: u64) -> Factors {
    let mut unit = units("ftk lora_A initial values", site, seed);
    let bound = 1.0 / (d_in as f64).sqrt();
    let a = (0..rank * d_in).map(|_| ((2.0 * unit() - 1.0) * bound) as f32).collect();
    Factors { rank, d_in, d_out, a, b: vec![0.0; d_out * rank], scale }
}

/// Normally distributed values for a weight that starts at random (Box and Muller), keyed like
/// [`initial_factors`].
pub fn normal_values(name: &str, count: usize, std: f64, seed: u64) -> Vec<f32> {
    let mut unit = units("ftk normal initial values", name, seed);
    let mut draw = || {
        // 1 - u lies in (0, 1].
        let (radius, angle) = ((-2.0 * (1.0 - unit()).ln()).sqrt(), std::f64::consts::TAU * unit());
        (std * radius * angle.cos()) as f32
    };
    (0..count).map(|_| draw()).collect()
}

/// Numbers in [0, 1) from a stream keyed by purpose, name and seed.
fn units(purpose: &str, name: &str, seed: u64) -> impl FnMut() -> f64 {
    let key = blake3::Hasher::new_derive_key(purpose).update(&seed.to_le_bytes()).update(name.as_bytes()).finalize();
    let mut rng = ChaCha8Rng::from_seed(*key.as_bytes());
    // 24 bits: as many as an f32 has.
    move || f64::from(rng.next_u32() >> 8) / f64::from(1u32 << 24)
}

/// Keys and values of the positions seen so far, by layer: what generation keeps between tokens.
#[derive(Debug, Default)]
pub struct Cache {
    layers: BTreeMap<String, (Tensor, Tensor)>,
    positions: usize,
}

impl Cache {
    /// Positions seen so far.
    pub fn positions(&self) -> usize {
        self.positions
    }
}

/// A network's weights and adapter, interpreted on candle tensors `(batch, seq, features)` in f32.
#[derive(Debug)]
pub struct Train<'a> {
    weights: &'a Weights,
    adapter: Option<&'a LoraTensors>,
    cache: Option<&'a mut Cache>,
    angles: Option<(Rope, Angles)>,
    /// Position of the first row of this pass.
    first: usize,
}

impl<'a> Train<'a> {
    /// The network with these weights, and this adapter if any.
    pub fn new(weights: &'a Weights, adapter: Option<&'a LoraTensors>) -> Self {
        Self { weights, adapter, cache: None, angles: None, first: 0 }
    }

    /// A pass over tokens that follow those in `cache`, which afterwards holds them too.
    pub fn continuing(weights: &'a Weights, adapter: Option<&'a LoraTensors>, cache: &'a mut Cache) -> Self {
        let first = cache.positions;
        Self { weights, adapter, cache: Some(cache), angles: None, first }
    }

    fn product(&self, site: &str, weight: &str, x: &Tensor) -> Result<Tensor, Error> {
        let weight = self.weights.get(&format!("{weight}.weight"))?;
        match self.adapter.and_then(|adapter| adapter.0.get(site)) {
            Some(lora) => Ok(linear::lora_linear(x, weight, lora)?),
            None => Ok(linear::linear(x, weight)?),
        }
    }

    /// The heads of `x` rotated by their positions.
    fn rotate(&mut self, y: &Tensor, rope: &Rope) -> Result<Tensor, Error> {
        let positions = self.first + y.dim(1)?;
        let known = self.angles.as_ref().is_some_and(|(of, angles)| of == rope && angles.positions() >= positions);
        if !known {
            self.angles = Some((rope.clone(), Angles::new(rope, positions, y.device())?));
        }
        let (_, angles) = self.angles.as_ref().expect("made above");
        Ok(angles.rotate(y, self.first)?)
    }
}

impl Ops for Train<'_> {
    type Value = Tensor;
    type Error = Error;

    fn embed(&mut self, site: &str, tokens: &Tokens) -> Result<Tensor, Error> {
        let table = self.weights.get(&format!("{site}.weight"))?;
        let ids = Tensor::from_slice(tokens.ids(), tokens.ids().len(), table.device())?;
        if let Some(cache) = &mut self.cache {
            cache.positions += tokens.seq();
        }
        Ok(table.index_select(&ids, 0)?.reshape((tokens.batch(), tokens.seq(), ()))?)
    }

    fn add_positions(&mut self, site: &str, x: &Tensor) -> Result<Tensor, Error> {
        let table = self.weights.get(&format!("{site}.weight"))?;
        let (rows, positions) = (table.dim(0)?, self.first + x.dim(1)?);
        if positions > rows {
            return Err(Error::Positions { site: site.to_owned(), rows, positions });
        }
        Ok(x.broadcast_add(&table.narrow(0, self.first, x.dim(1)?)?)?)
    }

    fn linear(&mut self, site: &str, bias: Bias, x: &Tensor) -> Result<Tensor, Error> {
        let y = self.product(site, site, x)?;
        match bias {
            Bias::Absent => Ok(y),
            Bias::Present => Ok(y.broadcast_add(self.weights.get(&format!("{site}.bias"))?)?),
        }
    }

    fn linear_rope(&mut self, site: &str, bias: Bias, x: &Tensor, rope: &Rope) -> Result<Tensor, Error> {
        let y = self.linear(site, bias, x)?;
        self.rotate(&y, rope)
    }

    fn norm_rope(&mut self, site: &str, x: &Tensor, eps: f64, rope: &Rope) -> Result<Tensor, Error> {
        let (batch, seq, width) = x.dims3()?;
        let heads = x.reshape((batch, seq * (width / rope.dim), rope.dim))?;
        let normal = self.rms_norm(site, &heads, eps)?.reshape((batch, seq, width))?;
        self.rotate(&normal, rope)
    }

    fn layer_norm(&mut self, site: &str, x: &Tensor, eps: f64) -> Result<Tensor, Error> {
        let weight = self.weights.get(&format!("{site}.weight"))?;
        let bias = self.weights.get(&format!("{site}.bias"))?;
        let x = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
        Ok(x.broadcast_div(&deviation)?.broadcast_mul(weight)?.broadcast_add(bias)?)
    }

    fn part(&mut self, x: &Tensor, index: usize, count: usize) -> Result<Tensor, Error> {
        let width = x.dim(D::Minus1)? / count;
        Ok(x.narrow(D::Minus1, index * width, width)?)
    }

    fn gelu(&mut self, x: &Tensor) -> Result<Tensor, Error> {
        Ok(x.gelu()?)
    }

    fn rms_norm(&mut self, site: &str, x: &Tensor, eps: f64) -> Result<Tensor, Error> {
        Ok(norm::rms_norm(x, self.weights.get(&format!("{site}.weight"))?, eps)?)
    }

    fn attention(&mut self, site: &str, q: &Tensor, k: &Tensor, v: &Tensor, heads: Heads) -> Result<Tensor, Error> {
        let Some(cache) = &mut self.cache else { return Ok(attention::attention(q, k, v, heads)?) };
        let (k, v) = match cache.layers.get(site) {
            Some((keys, values)) => (Tensor::cat(&[keys, k], 1)?, Tensor::cat(&[values, v], 1)?),
            None => (k.clone(), v.clone()),
        };
        cache.layers.insert(site.to_owned(), (k.clone(), v.clone()));
        Ok(attention::attention(q, &k, &v, heads)?)
    }

    fn swiglu(&mut self, gate: &Tensor, up: &Tensor) -> Result<Tensor, Error> {
        Ok(swiglu::swiglu(gate, up)?)
    }

    fn add(&mut self, x: &Tensor, y: &Tensor) -> Result<Tensor, Error> {
        Ok((x + y)?)
    }

    fn select(&mut self, x: &Tensor, rows: &[usize]) -> Result<Tensor, Error> {
        let (batch, seq, features) = x.dims3()?;
        let flat = x.reshape((batch * seq, features))?;
        let chosen = if rows.iter().copied().eq(0..batch * seq) {
            flat
        } else {
            let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
            flat.index_select(&Tensor::from_slice(&rows, rows.len(), x.device())?, 0)?
        };
        Ok(chosen.unsqueeze(0)?)
    }

    fn head(&mut self, site: &str, weight: &str, x: &Tensor) -> Result<Tensor, Error> {
        self.product(site, weight, x)
    }
}
