//! AdamW as PyTorch computes it, in f32 on the host: adapters are small, and a host loop gives the
//! same bytes on every device and thread count.

use std::path::Path;

use candle_core::{Device, Shape, Tensor, Var};
use ftk_adapters::train::operation::Operation;
use ftk_adapters::train::trace;
use ftk_kernels::float::adamw::{self, Update};
use ftk_recipes::Optim;

use super::best::BestKept;
use super::checkpoint::{Checkpoint, Slot};
use super::error::{RunIdentity, TrainError};
use super::outer::{OuterState, ParameterValues};

/// Parameters with their moments.
pub(super) struct AdamW {
    variables: Vec<Var>,
    slots: Vec<Slot>,
    optim: Optim,
    /// Updates done.
    updates: u32,
}

impl Slot {
    /// Values and moments as tensors of the parameter's shape.
    fn parts(&self, shape: &Shape) -> candle_core::Result<[Tensor; 3]> {
        let tensor = |values: &[f32]| Tensor::from_slice(values, shape, &Device::Cpu);
        Ok([tensor(&self.value)?, tensor(&self.first)?, tensor(&self.second)?])
    }
}

/// Numbers of all parameters as tensors of their shapes.
fn shown(numbers: &[Vec<f32>], shapes: &[&Shape]) -> candle_core::Result<Vec<Tensor>> {
    numbers.iter().zip(shapes).map(|(numbers, &shape)| Tensor::from_slice(numbers, shape, &Device::Cpu)).collect()
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
        let shapes: Vec<&Shape> = self.variables.iter().map(|variable| variable.shape()).collect();
        let mut norm = adamw::norm(gradients.iter().map(Vec::as_slice));
        if trace::on() {
            let gradients = shown(gradients, &shapes)?;
            let [of_all] = trace::seen([Tensor::new(norm, &Device::Cpu)?], || Ok((Operation::Norm {}, gradients)))?;
            norm = of_all.to_scalar()?;
        }
        if !norm.is_finite() {
            return Ok(norm);
        }
        self.updates += 1;
        let Optim { betas, eps, weight_decay, max_grad_norm, .. } = self.optim;
        for ((slot, gradient), variable) in self.slots.iter_mut().zip(gradients).zip(&self.variables) {
            // A norm's weight is a vector; pulling it to zero would not regularise but rescale.
            let decays = variable.dims().len() > 1;
            let update = Update {
                rate: lr,
                updates: self.updates,
                betas,
                eps,
                weight_decay: if decays { weight_decay } else { 0.0 },
                max_norm: max_grad_norm,
            };
            let shape = variable.shape();
            let before = trace::on().then(|| slot.parts(shape)).transpose()?;
            let Slot { value, first, second, .. } = slot;
            update.apply([value, first, second], gradient, norm);
            if let Some(before) = before {
                let beside = [Tensor::from_slice(gradient, shape, &Device::Cpu)?, Tensor::new(norm, &Device::Cpu)?];
                let describe = || Ok((Operation::update(&update), before.into_iter().chain(beside).collect()));
                let after = trace::seen(slot.parts(shape)?, describe)?;
                let [value, first, second] = after.map(|part| part.flatten_all()?.to_vec1::<f32>());
                (slot.value, slot.first, slot.second) = (value?, first?, second?);
            }
            variable.set(&Tensor::from_slice(&slot.value, variable.shape(), variable.device())?)?;
        }
        Ok(norm)
    }

    /// Every parameter as it stands, in the order given.
    pub(super) fn values(&self) -> Vec<Vec<f32>> {
        self.slots.iter().map(|slot| slot.value.clone()).collect()
    }

    /// Goes on from other values, with the moments it has.
    pub(super) fn put(&mut self, values: ParameterValues) -> Result<(), TrainError> {
        self.show(&values)?;
        self.slots.iter_mut().zip(values).for_each(|(slot, value)| slot.value = value);
        Ok(())
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
        identity: &RunIdentity,
        (metrics_bytes, transcript_bytes): (u64, Option<u64>),
        best: Option<&BestKept>,
        outer: Option<&OuterState>,
    ) -> Checkpoint {
        let (identity, slots, best, outer) = (identity.clone(), self.slots.clone(), best.cloned(), outer.cloned());
        Checkpoint { step, identity, metrics_bytes, transcript_bytes, slots, best, outer }
    }

    /// Whether a checkpoint is of the same parameters.
    pub(super) fn fits(&self, checkpoint: &Checkpoint) -> bool {
        let same = |(ours, theirs): (&Slot, &Slot)| ours.name == theirs.name && ours.value.len() == theirs.value.len();
        checkpoint.slots.len() == self.slots.len() && self.slots.iter().zip(&checkpoint.slots).all(same)
    }

    /// Takes up a checkpoint of the same parameters, and gives the best evaluation it knows.
    pub(super) fn restore(&mut self, checkpoint: Checkpoint, path: &Path) -> Result<Option<BestKept>, TrainError> {
        if !self.fits(&checkpoint) {
            return Err(TrainError::Different(path.to_owned()));
        }
        self.updates = u32::try_from(checkpoint.step).map_err(|_| TrainError::Different(path.to_owned()))?;
        self.slots = checkpoint.slots;
        self.show(&self.values())?;
        Ok(checkpoint.best)
    }
}
