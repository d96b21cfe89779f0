//! Log-probabilities of given tokens.

use candle_core::{CpuStorage, D, InplaceOp1, Layout, Result, Tensor};
use ftk_kernels::float::softmax;

use super::host;

/// The logarithm of the sum of exponentials of each row, which both ways need; `None` where they are not in host memory.
pub(super) fn log_sums(logits: &Tensor, labels: &[u32]) -> Result<Option<Vec<f32>>> {
    host::read([logits], |[logits]| Ok(softmax::log_sums(logits, labels)))
}

/// `log softmax(logits)` at `labels`: one value a row of logits `(rows, vocab)`, given [`log_sums`] of them.
pub(super) fn log_prob(logits: &Tensor, labels: &[u32], sums: Option<&[f32]>) -> Result<Tensor> {
    let on_host = sums.map(|sums| host::read([logits], |[logits]| Ok(softmax::log_prob(logits, labels, sums))));
    match on_host.transpose()?.flatten() {
        Some(values) => Tensor::from_vec(values, labels.len(), logits.device()),
        None => on_device(logits, labels),
    }
}

/// Whether no logit of a row is larger than the label's.
pub(super) fn hits(logits: &Tensor, labels: &[u32]) -> Result<Vec<bool>> {
    match host::read([logits], |[logits]| Ok(softmax::hits(logits, labels)))? {
        Some(hits) => Ok(hits),
        None => hits_on_device(logits, labels),
    }
}

fn hits_on_device(logits: &Tensor, labels: &[u32]) -> Result<Vec<bool>> {
    let at = Tensor::from_slice(labels, (labels.len(), 1), logits.device())?;
    let hits = logits.gather(&at, 1)?.ge(&logits.max_keepdim(D::Minus1)?)?;
    Ok(hits.squeeze(1)?.to_vec1::<u8>()?.into_iter().map(|hit| hit != 0).collect())
}

fn on_device(logits: &Tensor, labels: &[u32]) -> Result<Tensor> {
    let at = Tensor::from_slice(labels, (labels.len(), 1), logits.device())?;
    let largest = logits.max_keepdim(D::Minus1)?;
    let total = logits.broadcast_sub(&largest)?.exp()?.sum_keepdim(D::Minus1)?.log()?;
    ((logits.gather(&at, 1)? - largest)? - total)?.squeeze(1)
}

/// Gradient of [`log_prob`] with respect to the logits, given [`log_sums`] of them and that of its result. With these it
/// takes the place of `logits`, which nobody else may use.
pub(super) fn backward(logits: Tensor, labels: &[u32], sums: Option<&[f32]>, g: &[f32]) -> Result<Tensor> {
    match sums {
        Some(sums) if logits.is_contiguous() => {
            logits.inplace_op1(&LogProbBackward { labels, sums, g })?;
            Ok(logits)
        }
        _ => backward_on_device(&logits, labels, g),
    }
}

fn backward_on_device(logits: &Tensor, labels: &[u32], g: &[f32]) -> Result<Tensor> {
    let at = Tensor::from_slice(labels, (labels.len(), 1), logits.device())?;
    let g = Tensor::from_slice(g, (labels.len(), 1), logits.device())?;
    let p = candle_nn::ops::softmax_last_dim(logits)?;
    p.broadcast_mul(&g.neg()?)?.scatter_add(&at, &g, 1)
}

/// [`softmax::log_prob_backward`] on a tensor's own values.
struct LogProbBackward<'a> {
    labels: &'a [u32],
    sums: &'a [f32],
    g: &'a [f32],
}

impl InplaceOp1 for LogProbBackward<'_> {
    fn name(&self) -> &'static str {
        "log-prob-backward"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(values) = storage else { candle_core::bail!("logits must be f32") };
        let first = layout.start_offset();
        let values = &mut values[first..][..layout.shape().elem_count()];
        softmax::log_prob_backward(values, self.labels, self.sums, self.g);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::tests::{close, random};
    use super::*;

    #[test]
    fn kernels_and_tensor_operations_agree() {
        let (labels, g) = ([4u32, 0, 30, 2], [0.5f32, -1.0, 0.0, 2.0]);
        let logits = (random(1, &[4, 37]) * 20.0).unwrap();
        let sums = log_sums(&logits, &labels).unwrap();
        assert!(sums.is_some());
        let ours = log_prob(&logits, &labels, sums.as_deref()).unwrap();
        close(&ours, &on_device(&logits, &labels).unwrap());
        // The label of the second row is made the largest, together with another.
        let mut rows = logits.to_vec2::<f32>().unwrap();
        (rows[1][0], rows[1][36]) = (100.0, 100.0);
        let logits = Tensor::new(rows, &Device::Cpu).unwrap();
        assert_eq!(hits(&logits, &labels).unwrap(), [false, true, false, false]);
        assert_eq!(hits_on_device(&logits, &labels).unwrap(), [false, true, false, false]);
        let theirs = backward_on_device(&logits, &labels, &g).unwrap();
        let sums = log_sums(&logits, &labels).unwrap();
        close(&backward(logits, &labels, sums.as_deref(), &g).unwrap(), &theirs);
    }
}
