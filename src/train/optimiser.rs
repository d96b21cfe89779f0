//! AdamW as PyTorch computes it, in f32 on the host: adapters are small, and a host loop gives the
//! same bytes on every device and thread count.

use std::path::Path;

use candle_core::{Tensor, Var};
use ftk_recipes::Optim;

use super::best::Best;
use super::checkpoint::{Checkpoint, Slot};
use super::error::{Identity, TrainError};

/// Parameters with their moments.
pub(super) struct AdamW {
    variables: Vec<Var>,
    slots: Vec<Slot>,
    optim: Optim,
    /// Updates done.
    updates: u32,
}

impl AdamW {
    /// Takes over parameters in the order given.
    pub(super) fn new(parameters: &[(String, Tensor)], optim: &Optim) -> Result<Self, TrainError> {
        let mut variables = Vec::new();
        let mut slots = Vec::new();
        for (name, tensor) in parameters {
            variables.push(Var::from_tensor(tensor)?);
            let value = tensor.flatten_all()?.to_vec1::<f32>()?;
            let zeros = vec![0.0; value.len()];
            slots.push(Slot { name: name.clone(), value, first: zeros.clone(), second: zeros });
        }
        Ok(Self { variables, slots, optim: optim.clone(), updates: 0 })
    }

    /// Clips, updates, and gives the gradient's norm before clipping.
    pub(super) fn step(&mut self, gradients: &[Vec<f32>], lr: f64) -> Result<f64, TrainError> {
        let squares = |g: &Vec<f32>| g.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
        let norm = gradients.iter().map(squares).sum::<f64>().sqrt();
        if !norm.is_finite() {
            return Ok(norm);
        }
        let limit = self.optim.max_grad_norm;
        let clip = if limit > 0.0 { (limit / (norm + 1e-6)).min(1.0) as f32 } else { 1.0 };

        self.updates += 1;
        let [beta1, beta2] = self.optim.betas;
        let rate = (lr / (1.0 - libm::pow(beta1, f64::from(self.updates)))) as f32;
        let root = (1.0 - libm::pow(beta2, f64::from(self.updates))).sqrt() as f32;
        let (beta1, beta2, eps) = (beta1 as f32, beta2 as f32, self.optim.eps as f32);
        for ((slot, gradient), variable) in self.slots.iter_mut().zip(gradients).zip(&self.variables) {
            // A norm's weight is a vector; pulling it to zero would not regularise but rescale.
            let decays = variable.dims().len() > 1;
            let decay = if decays { 1.0 - (lr * self.optim.weight_decay) as f32 } else { 1.0 };
            let moments = slot.first.iter_mut().zip(slot.second.iter_mut());
            for ((p, (m, v)), &g) in slot.value.iter_mut().zip(moments).zip(gradient) {
                let g = g * clip;
                *p *= decay;
                *m += (g - *m) * (1.0 - beta1);
                *v = beta2 * *v + (1.0 - beta2) * g * g;
                *p -= rate * *m / (v.sqrt() / root + eps);
            }
            variable.set(&Tensor::from_slice(&slot.value, variable.shape(), variable.device())?)?;
        }
        Ok(norm)
    }

    /// Every parameter as it stands, in the order given.
    pub(super) fn values(&self) -> Vec<Vec<f32>> {
        self.slots.iter().map(|slot| slot.value.clone()).collect()
    }

    /// Puts values into the session's parameters; the optimiser's own stay.
    pub(super) fn show(&self, values: &[Vec<f32>]) -> Result<(), TrainError> {
        for (value, variable) in values.iter().zip(&self.variables) {
            variable.set(&Tensor::from_slice(value, variable.shape(), variable.device())?)?;
        }
        Ok(())
    }

    /// Parameters and moments, in the order given.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Everything needed to go on; `(u64, Option<u64>)` are the lengths of metrics and transcript.
    pub(super) fn checkpoint(
        &self,
        step: usize,
        identity: &Identity,
        (metrics_bytes, transcript_bytes): (u64, Option<u64>),
        best: Option<&Best>,
    ) -> Checkpoint {
        let (identity, slots, best) = (identity.clone(), self.slots.clone(), best.cloned());
        Checkpoint { step, identity, metrics_bytes, transcript_bytes, slots, best }
    }

    /// Whether a checkpoint is of the same parameters.
    pub(super) fn fits(&self, checkpoint: &Checkpoint) -> bool {
        let same = |(ours, theirs): (&Slot, &Slot)| ours.name == theirs.name && ours.value.len() == theirs.value.len();
        checkpoint.slots.len() == self.slots.len() && self.slots.iter().zip(&checkpoint.slots).all(same)
    }

    /// Takes up a checkpoint of the same parameters, and gives the best evaluation it knows.
    pub(super) fn restore(&mut self, checkpoint: Checkpoint, path: &Path) -> Result<Option<Best>, TrainError> {
        if !self.fits(&checkpoint) {
            return Err(TrainError::Different(path.to_owned()));
        }
        self.updates = u32::try_from(checkpoint.step).map_err(|_| TrainError::Different(path.to_owned()))?;
        self.slots = checkpoint.slots;
        self.show(&self.values())?;
        Ok(checkpoint.best)
    }
}
