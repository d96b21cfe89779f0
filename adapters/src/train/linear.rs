//! `y = x W^T + scale (x' A^T) B^T`, where `x'` is `x`, or `x` with some entries dropped.

use candle_core::{DType, Result, Tensor};
use ftk_kernels::float::bf16::Bf16Side;
use ftk_kernels::float::product::{CHAIN, MatrixView, Onto, Threads, new_product, product};

use super::adapter::LoraFactors;
use super::host;

/// `x W^T` for `x` `(rows, d_in)` and `weight` `(d_out, d_in)`: `(rows, d_out)`.
pub(super) fn linear(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    match host::by_weight(x, weight, Bf16Side::Inputs)? {
        Some(values) => Tensor::from_vec(values, (x.dim(0)?, weight.dim(0)?), x.device()),
        None => in_its_format(x, &weight.t()?),
    }
}

/// Gradient of [`linear`] with respect to `x`.
pub(super) fn backward(weight: &Tensor, g: &Tensor) -> Result<Tensor> {
    match host::by_weight(g, weight, Bf16Side::Outputs)? {
        Some(values) => Tensor::from_vec(values, (g.dim(0)?, weight.dim(1)?), g.device()),
        None => in_its_format(g, weight),
    }
}

/// `x w` in the number format of `w`, with a result in f32.
fn in_its_format(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    x.to_dtype(w.dtype())?.matmul(w)?.to_dtype(DType::F32)
}

/// [`linear`], and the adapter's product added to it; also `x' A^T` `(rows, rank)`.
pub(super) fn lora_linear(
    x: &Tensor,
    dropped: &Tensor,
    weight: &Tensor,
    lora: &LoraFactors,
) -> Result<(Tensor, Tensor)> {
    let (rows, (d_out, d_in), rank) = (x.dim(0)?, weight.dims2()?, lora.a.dim(0)?);
    let on_host = match host::by_weight(x, weight, Bf16Side::Inputs)? {
        Some(mut y) => host::read([dropped, &lora.a, &lora.b], |[dropped, a, b]| {
            let low = new_product(1.0, MatrixView::new(dropped, d_in), MatrixView::new(a, d_in).t());
            let factors = (MatrixView::new(&low, rank), MatrixView::new(b, rank).t());
            product((&mut y, d_out), Onto::Present, lora.scale as f32, factors, Threads::All);
            Ok((y, low))
        })?,
        None => None,
    };
    match on_host {
        Some((y, low)) => {
            Ok((Tensor::from_vec(y, (rows, d_out), x.device())?, Tensor::from_vec(low, (rows, rank), x.device())?))
        }
        None => {
            let low = dropped.matmul(&lora.a.t()?)?;
            let y = (in_its_format(x, &weight.t()?)? + (low.matmul(&lora.b.t()?)? * lora.scale)?)?;
            Ok((y, low))
        }
    }
}

/// Gradients of the adapter's product with respect to `x'`, `A` and `B`, given `x'`, `x' A^T` and the
/// gradient of the result.
pub(super) fn backward_lora(dropped: &Tensor, low: &Tensor, lora: &LoraFactors, g: &Tensor) -> Result<[Tensor; 3]> {
    let d_in = dropped.dim(1)?;
    let on_host = |[x, low, a, b, g]: [&[f32]; 5]| {
        let FactorGradients { through_b, da, db } = FactorGradients::new([x, low, b, g], lora, d_in)?;
        let (through_b, a) = (MatrixView::new(&through_b, lora.a.dim(0)?), MatrixView::new(a, d_in));
        Ok([new_product(1.0, through_b, a), da, db])
    };
    match host::read([dropped, low, &lora.a, &lora.b, g], on_host)? {
        Some(values) => tensors(values, dropped, lora),
        None => {
            let through_b = (g.matmul(&lora.b)? * lora.scale)?;
            let dx = through_b.matmul(&lora.a)?;
            Ok([dx, through_b.t()?.matmul(dropped)?, (g.t()?.matmul(low)? * lora.scale)?])
        }
    }
}

/// Gradients of [`lora_linear`] with respect to `x`, of which nothing was dropped, `A` and `B`: the bits of [`backward`] and
/// [`backward_lora`] added up, without a value for each. `None` where one is not in host memory, or the rank is that of
/// several chains, which would be added one after another.
pub(super) fn backward_all(
    x: &Tensor,
    low: &Tensor,
    weight: &Tensor,
    lora: &LoraFactors,
    g: &Tensor,
) -> Result<Option<[Tensor; 3]>> {
    let (rank, d_in) = lora.a.dims2()?;
    if rank > CHAIN {
        return Ok(None);
    }
    let Some(mut dx) = host::by_weight(g, weight, Bf16Side::Outputs)? else { return Ok(None) };
    let on_host = |[x, low, a, b, g]: [&[f32]; 5]| {
        let FactorGradients { through_b, da, db } = FactorGradients::new([x, low, b, g], lora, d_in)?;
        let factors = (MatrixView::new(&through_b, rank), MatrixView::new(a, d_in));
        product((&mut dx, d_in), Onto::Present, 1.0, factors, Threads::All);
        Ok([dx, da, db])
    };
    let values = host::read([x, low, &lora.a, &lora.b, g], on_host)?;
    values.map(|values| tensors(values, x, lora)).transpose()
}

/// What the factors learn on the host, and what goes on through `A`.
struct FactorGradients {
    /// `scale g B`
    through_b: Vec<f32>,
    da: Vec<f32>,
    db: Vec<f32>,
}

impl FactorGradients {
    fn new([x, low, b, g]: [&[f32]; 4], lora: &LoraFactors, d_in: usize) -> Result<Self> {
        let ((d_out, rank), scale) = (lora.b.dims2()?, lora.scale as f32);
        let (x, g) = (MatrixView::new(x, d_in), MatrixView::new(g, d_out));
        let through_b = new_product(scale, g, MatrixView::new(b, rank));
        let da = new_product(1.0, MatrixView::new(&through_b, rank).t(), x);
        let db = new_product(scale, g.t(), MatrixView::new(low, rank));
        Ok(Self { through_b, da, db })
    }
}

/// Gradients of an input and of the factors.
fn tensors([dx, da, db]: [Vec<f32>; 3], x: &Tensor, lora: &LoraFactors) -> Result<[Tensor; 3]> {
    let tensor = |values, like: &Tensor| Tensor::from_vec(values, like.shape(), x.device());
    Ok([tensor(dx, x)?, tensor(da, &lora.a)?, tensor(db, &lora.b)?])
}

#[cfg(test)]
mod tests {
    use super::super::tests::random;
    use super::*;

    #[test]
    fn what_goes_back_at_once_has_the_bits_of_its_parts_and_their_sum() {
        let bits = |x: &Tensor| -> Vec<u32> {
            x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        };
        for (rows, d_in, d_out, rank) in [(70, 33, 41, 5), (3, 600, 530, 8), (1, 40, 20, 1)] {
            let [x, weight, a, b] = [(1, rows, d_in), (2, d_out, d_in), (3, rank, d_in), (4, d_out, rank)]
                .map(|(seed, rows, columns)| random(seed, &[rows, columns]));
            let (g, low) = (random(5, &[rows, d_out]), random(6, &[rows, rank]));
            let lora = LoraFactors { a, b, scale: 0.7 };
            for format in [DType::F32, DType::BF16] {
                let weight = weight.to_dtype(format).unwrap();
                let [through, da, db] = backward_lora(&x, &low, &lora, &g).unwrap();
                let dx = host::sum(&backward(&weight, &g).unwrap(), &through).unwrap();
                let ours = backward_all(&x, &low, &weight, &lora, &g).unwrap().unwrap();
                for (ours, parts) in ours.iter().zip([dx, da, db]) {
                    assert_eq!(ours.shape(), parts.shape());
                    assert_eq!(bits(ours), bits(&parts), "{rows} x {d_in} to {d_out}, rank {rank}, {format:?}");
                }
            }
        }
        let wide = LoraFactors { a: random(1, &[CHAIN + 1, 2]), b: random(2, &[3, CHAIN + 1]), scale: 1.0 };
        let low = random(4, &[5, CHAIN + 1]);
        let all = backward_all(&random(3, &[5, 2]), &low, &random(5, &[3, 2]), &wide, &random(6, &[5, 3]));
        assert!(all.unwrap().is_none(), "several chains");
    }
}
