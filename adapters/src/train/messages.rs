//! Messages between nodes and features that are mostly zero, shown to whoever looks on.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};
use ftk_kernels::float::relu::Drop;
use ftk_kernels::float::sparse::CsrMatrix;
use ftk_networks::ops::graph::{Features, Propagation, Sparse};

use super::adapter::LoraFactors;
use super::graph::Attention;
use super::operation::{Bits, Operation};
use super::tape::sum;
use super::{graph, host, trace};

/// Which way values go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From senders to receivers.
    Forward,
    /// Gradients, from receivers to senders.
    Back,
}

/// `P x`, or `P^T x` on the way back.
pub(super) fn propagate(over: &Propagation, x: &Tensor, way: Way) -> Result<Tensor> {
    let sparse = match way {
        Way::Forward => over.floats(),
        Way::Back => over.back(),
    };
    times(sparse, sparse.values(), x)
}

/// The product of a sparse matrix, with these values in the place of its own, and a dense one.
fn times<T: Copy>(sparse: &Sparse<T>, values: &[f32], x: &Tensor) -> Result<Tensor> {
    let senders = x.dim(0)?;
    if senders != sparse.width() {
        candle_core::bail!("messages from {} nodes cannot be taken from {senders}", sparse.width());
    }
    let product = graph::times(CsrMatrix::new(sparse.starts(), sparse.columns(), values, senders), x)?;
    let [product] = trace::seen([product], || {
        let [starts, columns] = entries(sparse)?;
        let values = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
        Ok((Operation::Messages {}, vec![x.clone(), starts, columns, values]))
    })?;
    Ok(product)
}

/// Where the rows of a sparse matrix begin, and the column of each entry.
fn entries<T: Copy>(sparse: &Sparse<T>) -> Result<[Tensor; 2]> {
    let starts: Vec<i64> = sparse.starts().iter().map(|&start| start as i64).collect();
    let starts = Tensor::from_vec(starts, sparse.starts().len(), &Device::Cpu)?;
    Ok([starts, Tensor::from_slice(sparse.columns(), sparse.columns().len(), &Device::Cpu)?])
}

impl Attention {
    fn described(&self) -> (usize, Option<(Bits, u64)>, [Tensor; 3]) {
        let Self { x, source, target, heads, drop } = self;
        let drop = drop.map(|(share, key)| (share.into(), key));
        (*heads, drop, [x, source, target].map(Tensor::clone))
    }

    /// What every node receives, and the shares it is made of.
    pub(super) fn attend(&self, over: &Propagation) -> Result<[Tensor; 2]> {
        let edges = over.coefficients();
        trace::seen(self.forward(edges)?, || {
            let (heads, drop, operands) = self.described();
            let inputs = operands.into_iter().chain(entries(edges)?).collect();
            Ok((Operation::AttendNeighbours { heads, drop }, inputs))
        })
    }

    /// Gradients of `x` and of the two vectors.
    pub(super) fn attend_back(&self, over: &Propagation, shares: &Tensor, g: &Tensor) -> Result<[Tensor; 3]> {
        let edges = over.coefficients();
        trace::seen(self.backward(edges, over.places(), shares, g)?, || {
            let (heads, drop, operands) = self.described();
            let beside = [shares.clone(), g.clone()];
            let inputs = operands.into_iter().chain(beside).chain(entries(edges)?).collect();
            Ok((Operation::AttendNeighboursBack { heads, drop }, inputs))
        })
    }
}

/// Entries dropped, a share of them; `key` decides which.
pub(super) fn thinned(x: &Tensor, share: f64, key: u64) -> Result<Tensor> {
    let [thin] = trace::seen([graph::dropped(x, Drop::new(share, key))?], || {
        Ok((Operation::Thin { share: share.into(), key }, vec![x.clone()]))
    })?;
    Ok(thin)
}

/// Rows and columns exchanged.
fn transposed(x: &Tensor) -> Result<Tensor> {
    let [turned] = trace::seen([x.t()?.contiguous()?], || Ok((Operation::Transpose {}, vec![x.clone()])))?;
    Ok(turned)
}

/// `scale x y`, either of them with rows and columns exchanged.
pub(super) fn product(scale: f64, x: &Tensor, y: &Tensor, turned: [bool; 2]) -> Result<Tensor> {
    let turn = |x: &Tensor, turned: bool| if turned { x.t() } else { Ok(x.clone()) };
    let [product] = trace::seen([host::product(scale, &turn(x, turned[0])?, &turn(y, turned[1])?)?], || {
        Ok((Operation::Product { scale: scale.into(), turned }, vec![x.clone(), y.clone()]))
    })?;
    Ok(product)
}

/// What is taken as it is said to be.
pub(super) fn stated(value: Tensor) -> Result<Tensor> {
    let [value] = trace::seen([value.clone()], || Ok((Operation::Stated {}, vec![value])))?;
    Ok(value)
}

/// A gradient, if there is one, with a value pulled towards zero added to it.
///
/// # Errors
/// The device's.
pub fn pulled(value: &Tensor, weight: f64, gradient: Option<&Tensor>) -> Result<Tensor> {
    let [pulled] = trace::seen([graph::pulled(value, weight, gradient)?], || {
        let inputs = std::iter::once(value).chain(gradient).cloned().collect();
        Ok((Operation::Pull { weight: weight.into() }, inputs))
    })?;
    Ok(pulled)
}

/// Sparse features as one pass sees them: with entries dropped, if any are.
pub(super) struct Kept {
    features: Arc<Features>,
    /// The values that are left; `None` where all are.
    values: Option<Vec<f32>>,
}

impl Kept {
    /// # Panics
    /// If the features are held densely.
    pub(super) fn new(features: &Arc<Features>, drop: Option<Drop>) -> Self {
        let entries = features.held_sparsely().expect("the caller has looked");
        Self { features: features.clone(), values: drop.map(|drop| drop.apply(entries.values())) }
    }

    fn entries(&self) -> &Sparse<f32> {
        self.features.held_sparsely().expect("looked at when this was made")
    }

    fn values(&self) -> &[f32] {
        self.values.as_deref().unwrap_or(self.entries().values())
    }

    /// `x W^T + scale (x A^T) B^T`, and `x A^T`.
    pub(super) fn forward(&self, weight: &Tensor, lora: Option<&LoraFactors>) -> Result<(Tensor, Option<Tensor>)> {
        let (d_out, d_in) = weight.dims2()?;
        if d_in != self.features.width() {
            candle_core::bail!("{} features cannot enter a weight ({d_out}, {d_in})", self.features.width());
        }
        let y = times(self.entries(), self.values(), &transposed(weight)?)?;
        let Some(lora) = lora else { return Ok((y, None)) };
        let low = times(self.entries(), self.values(), &transposed(&lora.a)?)?;
        let added = product(lora.scale, &low, &lora.b, [false, true])?;
        Ok((sum(&y, &added)?, Some(low)))
    }

    /// Gradient of a weight `(d_out, width)`, given that of the product.
    pub(super) fn backward(&self, g: &Tensor) -> Result<Tensor> {
        let places = self.features.places().expect("held sparsely");
        let values: Vec<f32> = places.values().iter().map(|&entry| self.values()[entry as usize]).collect();
        transposed(&times(places, &values, g)?)
    }
}
