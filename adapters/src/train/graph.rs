//! Messages between nodes, and features that are mostly zero. Computed on the host: a tensor elsewhere is brought
//! there and its result taken back.

use candle_core::{DType, Device, Result, Tensor};
use ftk_kernels::float::neighbours::{self, Edges, NeighbourOperands};
use ftk_kernels::float::relu::{self, Drop};
use ftk_kernels::float::sparse::{self, CsrMatrix};
use ftk_networks::ops::graph::Sparse;

use super::host;

/// By how much a multiplication in a dense product is cheaper than in a sparse one.
pub(super) const DENSE_SPEED: usize = 16;

/// `f` of the values of f32 tensors, which are brought to the host if they are elsewhere.
fn on_host<const N: usize, R>(tensors: [&Tensor; N], f: impl FnOnce([&[f32]; N]) -> R) -> Result<R> {
    let here = tensors.map(|tensor| tensor.to_device(&Device::Cpu).and_then(|tensor| tensor.to_dtype(DType::F32)));
    let here: Vec<Tensor> = here.into_iter().collect::<Result<_>>()?;
    let here: [&Tensor; N] = std::array::from_fn(|index| &here[index]);
    host::values(here, |values| Ok(f(values)))
}

/// `m x` for `x` `(senders, width)`.
pub(super) fn times(m: CsrMatrix<'_>, x: &Tensor) -> Result<Tensor> {
    let (rows, width) = (m.len(), x.dim(1)?);
    let values = on_host([x], |[x]| sparse::product(m, x, width))?;
    Tensor::from_vec(values, (rows, width), x.device())
}

/// A gradient, if there is one, with a value pulled towards zero added to it.
pub(super) fn pulled(value: &Tensor, weight: f64, gradient: Option<&Tensor>) -> Result<Tensor> {
    let term = (value * weight)?;
    gradient.map_or_else(|| Ok(term.clone()), |gradient| gradient + &term)
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
    /// Share of the senders that is dropped, and which decides.
    pub(super) drop: Option<(f64, u64)>,
}

impl Attention {
    fn check<T: Copy>(&self, edges: &Sparse<T>) -> Result<()> {
        let (nodes, width) = self.x.dims2()?;
        let square = edges.rows() == nodes && edges.width() == nodes;
        if !square || self.heads == 0 || !width.is_multiple_of(self.heads) {
            candle_core::bail!("{} heads on {width} features of {nodes} nodes do not fit the messages", self.heads);
        }
        Ok(())
    }

    fn on_host<R>(&self, f: impl FnOnce(NeighbourOperands<'_>) -> R) -> Result<R> {
        let (heads, drop) = (self.heads, self.drop.map(|(share, key)| Drop::new(share, key)));
        on_host([&self.x, &self.source, &self.target], |[x, source, target]| {
            f(NeighbourOperands { x, source, target, heads, drop })
        })
    }

    /// What every node receives over edges whose columns are the senders, and the shares `(edges, heads)` it is made of.
    pub(super) fn forward<T: Copy>(&self, over: &Sparse<T>) -> Result<[Tensor; 2]> {
        self.check(over)?;
        let edges = edges(over);
        let (values, shares) = self.on_host(|operands| {
            let shares = neighbours::shares(&operands, edges);
            (neighbours::attend(&operands, edges, &shares), shares)
        })?;
        let shares = Tensor::from_vec(shares, (over.entries(), self.heads), &Device::Cpu)?;
        Ok([Tensor::from_vec(values, self.x.shape(), self.x.device())?, shares])
    }

    /// Gradients of `x` and of the two vectors; `back` has the edges with rows and columns exchanged, by their places.
    pub(super) fn backward<T: Copy>(
        &self,
        over: &Sparse<T>,
        back: &Sparse<u32>,
        shares: &Tensor,
        g: &Tensor,
    ) -> Result<[Tensor; 3]> {
        self.check(over)?;
        let back = (edges(back), back.values());
        let [dx, source, target] = self.on_host(|operands| {
            on_host([shares, g], |[shares, g]| neighbours::backward(&operands, edges(over), back, shares, g))
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
