//! Log-probabilities of given tokens, and losses computed from them.

use candle_core::{D, Result, Tensor};

use crate::graft::graft;

/// `log softmax(logits)` at `labels`: `(rows)` from logits `(rows, vocab)` and u32 labels `(rows)`.
/// Neither probabilities nor log-probabilities of other tokens are kept.
pub fn log_prob(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    let (scores, at) = (logits.detach(), labels.unsqueeze(1)?);
    let largest = scores.max_keepdim(D::Minus1)?;
    let total = scores.broadcast_sub(&largest)?.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let value = ((scores.gather(&at, 1)? - largest)? - total)?.squeeze(1)?;
    graft(value, [logits], move |_, g| {
        let g = g.unsqueeze(1)?;
        let p = candle_nn::ops::softmax_last_dim(&scores)?;
        Ok([Some(p.broadcast_mul(&g.neg()?)?.scatter_add(&at, &g, 1)?)])
    })
}

/// A scalar computed on the host from `x`, with its gradient with respect to `x`: losses are small
/// sums over few numbers, exact in f64 and the same on every device.
pub fn from_host(x: &Tensor, value: f64, gradient: Vec<f32>) -> Result<Tensor> {
    let gradient = Tensor::from_vec(gradient, x.shape(), x.device())?;
    let value = Tensor::new(value as f32, x.device())?;
    graft(value, [x], move |_, g| Ok([Some(gradient.broadcast_mul(g)?)]))
}
