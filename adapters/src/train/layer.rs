//! A linear layer of a pass: its weight, the adapter it carries, and what of it gets gradients.

use candle_core::{DType, Result, Tensor};

use super::adapter::Lora;
use super::dropout::Dropout;
use super::tape::Gradients;
use super::{host, linear};
use crate::weights::Weight;

/// What a layer needs on both ways. The weight stays as it is held, and is widened on each.
#[derive(Clone)]
pub(super) struct Layer {
    pub(super) site: String,
    /// Name of the weight, which may serve another site too.
    pub(super) name: String,
    pub(super) weight: Weight,
    /// Number format of the product with the weight.
    pub(super) format: DType,
    pub(super) lora: Option<Lora>,
    pub(super) dropout: Option<Dropout>,
    /// Whether the factors get gradients.
    pub(super) trained: bool,
    /// Whether the weight does.
    pub(super) base: bool,
    /// Whether the input does.
    pub(super) input: bool,
}

impl Layer {
    /// Whether there is anything to do on the way back.
    pub(super) fn needed(&self) -> bool {
        self.input || self.trained || self.base
    }

    fn open(&self) -> Result<Tensor> {
        self.weight.in_format(self.format)
    }

    /// Rows of the weight.
    pub(super) fn d_out(&self) -> Result<usize> {
        self.open()?.dim(0)
    }

    /// The same with its weight widened once for all uses.
    pub(super) fn widened(&self) -> Result<Self> {
        Ok(Self { weight: self.open()?.into(), ..self.clone() })
    }

    /// The same for some of its input's rows.
    pub(super) fn of_rows(&self, first: usize, count: usize) -> Self {
        let part =
            |Dropout { rate, keys }: &Dropout| Dropout { rate: *rate, keys: keys[first..first + count].to_vec() };
        Self { dropout: self.dropout.as_ref().map(part), ..self.clone() }
    }

    fn dropped(&self, x: &Tensor) -> Result<Tensor> {
        self.dropout.as_ref().map_or_else(|| Ok(x.clone()), |dropout| dropout.apply(&self.site, x))
    }

    /// The result, and what entered the second factor.
    pub(super) fn forward(&self, x: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let weight = self.open()?;
        match &self.lora {
            None => Ok((linear::linear(x, &weight)?, None)),
            Some(lora) => {
                let (y, low) = linear::lora_linear(x, &self.dropped(x)?, &weight, lora)?;
                Ok((y, Some(low)))
            }
        }
    }

    /// The gradient of `x`, if it is wanted; those of what is trained go to `gradients`.
    pub(super) fn backward(
        &self,
        x: &Tensor,
        low: Option<&Tensor>,
        g: &Tensor,
        gradients: &mut Gradients,
    ) -> Result<Option<Tensor>> {
        if self.base {
            gradients.add_trained(self.name.clone(), host::product(1.0, &g.t()?, x)?)?;
        }
        let mut dx = if self.input { Some(linear::backward(&self.open()?, g)?) } else { None };
        if let (Some(lora), Some(low)) = (&self.lora, low) {
            let [through, da, db] = linear::backward_lora(&self.dropped(x)?, low, lora, g)?;
            if let Some(sum) = dx {
                dx = Some(host::sum(&sum, &self.dropped(&through)?)?);
            }
            if self.trained {
                gradients.add_trained(format!("{}.lora_A", self.site), da)?;
                gradients.add_trained(format!("{}.lora_B", self.site), db)?;
            }
        }
        Ok(dx)
    }
}
