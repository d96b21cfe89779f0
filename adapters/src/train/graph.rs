//! Messages between nodes, and features that are mostly zero. Computed on the host: a tensor elsewhere is brought
//! there and its result taken back.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor};
use ftk_kernels::float::neighbours::{self, Edges, NeighbourOperands};
use ftk_kernels::float::relu::{self, Drop};
use ftk_kernels::float::sparse::{self, CsrMatrix};
use ftk_networks::ops::graph::{Features, Propagation, Sparse};

use super::adapter::LoraFactors;
use super::host;

/// By how much a multiplication in a dense product is cheaper than in a sparse one.
pub(super) const DENSE_SPEED: usize = 16;

/// Which way values go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// From senders to receivers.
    Forward,
    /// Gradients, from receivers to senders.
    Back,
}

/// `f` of the values of f32 tensors, which are brought to the host if they are elsewhere.
fn on_host<const N: usize, R>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let here = tensors.map(|tensor| tensor.to_device(&Device::Cpu).and_then(|tensor| tensor.to_dtype(DType::F32)));
    let here: Vec<Tensor> = here.into_iter().collect::<Result<_>>()?;
    let here: [&Tensor; N] = std::array::from_fn(|index| &here[index]);
    let result = host::read(here, |values| Ok(f(values)))?;
    result.ok_or_else(|| candle_core::Error::Msg("values in host memory are expected".to_owned()))
}

fn rows(sparse: &Sparse<f32>) -> CsrMatrix<'_> {
    CsrMatrix::new(sparse.starts(), sparse.columns(), sparse.values(), sparse.width())
}

/// `P x`, or `P^T x` on the way back.
pub(super) fn propagate(over: &Propagation, x: &Tensor, way: Way) -> Result<Tensor> {
    let sparse = match way {
        Way::Forward => over.floats(),
        Way::Back => over.back(),
    };
    times(sparse, x)
}

fn times(sparse: &Sparse<f32>, x: &Tensor) -> Result<Tensor> {
    let (senders, width) = x.dims2()?;
    if senders != sparse.width() {
        candle_core::bail!("messages from {} nodes cannot be taken from {senders}", sparse.width());
    }
    let values = on_host([x], |[x]| sparse::product(rows(sparse), x, width))?;
    Tensor::from_vec(values, (sparse.rows(), width), x.device())
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

    /// The product with a matrix that is given transposed, `(width, d_out)`.
    fn times(&self, transposed: &Tensor) -> Result<Tensor> {
        let entries = self.entries();
        let values = self.values.as_deref().unwrap_or(entries.values());
        let width = transposed.dim(1)?;
        let rows = CsrMatrix::new(entries.starts(), entries.columns(), values, entries.width());
        let values = on_host([transposed], |[x]| sparse::product(rows, x, width))?;
        Tensor::from_vec(values, (entries.rows(), width), transposed.device())
    }

    /// `x W^T + scale (x A^T) B^T`, and `x A^T`.
    pub(super) fn forward(&self, weight: &Tensor, lora: Option<&LoraFactors>) -> Result<(Tensor, Option<Tensor>)> {
        let (d_out, d_in) = weight.dims2()?;
        if d_in != self.features.width() {
            candle_core::bail!("{} features cannot enter a weight ({d_out}, {d_in})", self.features.width());
        }
        let y = self.times(&weight.t()?.contiguous()?)?;
        let Some(lora) = lora else { return Ok((y, None)) };
        let low = self.times(&lora.a.t()?.contiguous()?)?;
        let added = host::product(lora.scale, &low, &lora.b.t()?)?;
        Ok((host::sum(&y, &added)?, Some(low)))
    }

    /// Gradient of a weight `(d_out, width)`, given that of the product.
    pub(super) fn backward(&self, g: &Tensor) -> Result<Tensor> {
        let places = self.features.places().expect("held sparsely");
        let values = self.values.as_deref().unwrap_or(self.entries().values());
        let values = places.values().iter().map(|&entry| values[entry as usize]).collect();
        times(&places.with_values(values), g)?.t()?.contiguous()
    }
}

/// `max(x, 0)`.
pub(super) fn relu(x: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(on_host([x], |[x]| relu::relu(x))?, x.shape(), x.device())
}

/// Gradient of [`relu`], given its result.
pub(super) fn relu_backward(y: &Tensor, g: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(on_host([y, g], |[y, g]| relu::relu_backward(y, g))?, y.shape(), y.device())
}

/// `x` with entries dropped.
pub(super) fn dropped(x: &Tensor, drop: Drop) -> Result<Tensor> {
    Tensor::from_vec(on_host([x], |[x]| drop.apply(x))?, x.shape(), x.device())
}

/// Attention over neighbours.
pub(super) struct Attention {
    pub(super) x: Tensor,
    pub(super) source: Tensor,
    pub(super) target: Tensor,
    pub(super) heads: usize,
    pub(super) drop: Option<Drop>,
}

impl Attention {
    fn check(&self, over: &Propagation) -> Result<()> {
        let (nodes, width) = self.x.dims2()?;
        let square = over.rows() == nodes && over.senders() == nodes;
        if !square || self.heads == 0 || !width.is_multiple_of(self.heads) {
            candle_core::bail!("{} heads on {width} features of {nodes} nodes do not fit the messages", self.heads);
        }
        Ok(())
    }

    fn on_host<R>(&self, f: impl FnOnce(NeighbourOperands<'_>) -> R) -> Result<R> {
        let (heads, drop) = (self.heads, self.drop);
        on_host([&self.x, &self.source, &self.target], |[x, source, target]| {
            f(NeighbourOperands { x, source, target, heads, drop })
        })
    }

    /// What every node receives, and the shares it is made of.
    pub(super) fn forward(&self, over: &Propagation) -> Result<(Tensor, Vec<f32>)> {
        self.check(over)?;
        let edges = edges(over.coefficients());
        let (values, shares) = self.on_host(|operands| {
            let shares = neighbours::shares(&operands, edges);
            (neighbours::attend(&operands, edges, &shares), shares)
        })?;
        Ok((Tensor::from_vec(values, self.x.shape(), self.x.device())?, shares))
    }

    /// Gradients of `x` and of the two vectors.
    pub(super) fn backward(&self, over: &Propagation, shares: &[f32], g: &Tensor) -> Result<[Tensor; 3]> {
        let (there, back) = (edges(over.coefficients()), over.places());
        let [dx, source, target] = self.on_host(|operands| {
            on_host([g], |[g]| neighbours::backward(&operands, there, (edges(back), back.values()), shares, g))
        })??;
        let vector = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), self.x.device());
        Ok([
            Tensor::from_vec(dx, self.x.shape(), self.x.device())?,
            vector(source, &self.source)?,
            vector(target, &self.target)?,
        ])
    }
}

fn edges<T: Copy>(sparse: &Sparse<T>) -> Edges<'_> {
    Edges { starts: sparse.starts(), senders: sparse.columns() }
}
