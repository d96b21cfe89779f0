//! What has to be undone to get gradients: a list of steps, each with a backward pass written by hand.
//!
//! Not candle's own graph: that one differentiates frozen operands too, keeps every gradient to the
//! end, and its fused operations have no backward pass. Here a step says which operands get a gradient,
//! and gives up what it kept as soon as it has been undone.

use std::collections::{BTreeMap, HashMap, HashSet};

use candle_core::{Result, Tensor, TensorId};

use super::operation::Operation;
use super::{host, trace};

/// From the gradient of a step's result to those of its operands.
type Backward = Box<dyn FnOnce(Tensor, &mut Gradients) -> Result<()> + Send>;

/// The steps of a forward pass that something trained goes through.
#[derive(Default)]
pub(super) struct Tape {
    steps: Vec<(TensorId, Backward)>,
    tracked: HashSet<TensorId>,
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tape({} steps)", self.steps.len())
    }
}

impl Tape {
    /// Whether a gradient is wanted for `x`.
    pub(super) fn tracks(&self, x: &Tensor) -> bool {
        self.tracked.contains(&x.id())
    }

    /// Asks for the gradient of `x`, which no step has made.
    pub(super) fn watch(&mut self, x: &Tensor) {
        self.tracked.insert(x.id());
    }

    /// Adds the step that made `value`.
    pub(super) fn push(
        &mut self,
        value: &Tensor,
        backward: impl FnOnce(Tensor, &mut Gradients) -> Result<()> + Send + 'static,
    ) {
        self.tracked.insert(value.id());
        self.steps.push((value.id(), Box::new(backward)));
    }

    /// Undoes all steps, given the gradient of one value.
    pub(super) fn backward(self, of: &Tensor, gradient: Tensor) -> Result<Gradients> {
        let mut gradients = Gradients { wanted: self.tracked, ..Gradients::default() };
        gradients.add(of.id(), gradient)?;
        for (id, backward) in self.steps.into_iter().rev() {
            // A value that nothing came of has no gradient.
            if let Some(gradient) = gradients.flowing.remove(&id) {
                backward(gradient, &mut gradients)?;
            }
        }
        Ok(gradients)
    }
}

/// `x + y`.
pub(super) fn sum(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let [sum] = trace::seen([host::sum(x, y)?], || Ok((Operation::Sum {}, vec![x.clone(), y.clone()])))?;
    Ok(sum)
}

/// Gradients on their way, and those of what is trained.
#[derive(Debug, Default)]
pub struct Gradients {
    wanted: HashSet<TensorId>,
    flowing: HashMap<TensorId, Tensor>,
    trained: BTreeMap<String, Tensor>,
}

impl Gradients {
    /// Adds to the gradient of an operand, if it is wanted.
    pub(super) fn add(&mut self, to: TensorId, gradient: Tensor) -> Result<()> {
        if self.wanted.contains(&to) {
            let sum = match self.flowing.remove(&to) {
                Some(present) => sum(&present, &gradient)?,
                None => gradient,
            };
            self.flowing.insert(to, sum);
        }
        Ok(())
    }

    /// Adds to the gradient of something trained.
    pub(super) fn add_trained(&mut self, name: String, gradient: Tensor) -> Result<()> {
        let sum = match self.trained.remove(&name) {
            Some(present) => sum(&present, &gradient)?,
            None => gradient,
        };
        self.trained.insert(name, sum);
        Ok(())
    }

    /// Adds what another pass found for what is trained.
    ///
    /// # Errors
    /// The device's.
    pub fn add_all(&mut self, others: Self) -> Result<()> {
        others.trained.into_iter().try_for_each(|(name, gradient)| self.add_trained(name, gradient))
    }

    /// Takes the gradient of a watched value.
    pub fn take(&mut self, of: &Tensor) -> Option<Tensor> {
        self.flowing.remove(&of.id())
    }

    /// What is trained with its gradient, in name order: `<site>.lora_A` and `<site>.lora_B` of an
    /// adapter, the weights' names of a base. What nothing depends on is missing.
    pub fn into_trained(self) -> BTreeMap<String, Tensor> {
        self.trained
    }
}
