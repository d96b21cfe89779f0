//! A linear layer of a pass: its weight, the adapter it carries, and what of it gets gradients.

use candle_core::{DType, Device, Result, Tensor};

use super::adapter::LoraFactors;
use super::dropout::Dropout;
use super::operation::Operation;
use super::tape::{Gradients, sum};
use super::{host, linear, trace};
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
    pub(super) lora: Option<LoraFactors>,
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
        let Some(dropout) = &self.dropout else { return Ok(x.clone()) };
        let [dropped] = trace::seen([dropout.apply(&self.site, x)?], || {
            let keys: Vec<i64> = dropout.keys.iter().map(|&key| key as i64).collect();
            let keys = Tensor::from_vec(keys, dropout.keys.len(), &Device::Cpu)?;
            Ok((Operation::Drop { site: self.site.clone(), rate: dropout.rate.into() }, vec![x.clone(), keys]))
        })?;
        Ok(dropped)
    }

    /// The result, and what entered the second factor.
    pub(super) fn forward(&self, x: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let weight = self.open()?;
        match &self.lora {
            None => {
                let [y] = trace::seen([linear::linear(x, &weight)?], || {
                    Ok((Operation::Linear {}, vec![x.clone(), weight.clone()]))
                })?;
                Ok((y, None))
            }
            Some(lora) => {
                let dropped = self.dropped(x)?;
                let (y, low) = linear::lora_linear(x, &dropped, &weight, lora)?;
                let [y, low] = trace::seen([y, low], || {
                    let factors = [lora.a.clone(), lora.b.clone()];
                    let inputs = [x.clone(), dropped, weight].into_iter().chain(factors).collect();
                    Ok((Operation::LoraLinear { scale: lora.scale.into() }, inputs))
                })?;
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
            let [learnt] = trace::seen([host::product(1.0, &g.t()?, x)?], || {
                Ok((Operation::WeightBack {}, vec![x.clone(), g.clone()]))
            })?;
            gradients.add_trained(self.name.clone(), learnt)?;
        }
        let weight = if self.input { Some(self.open()?) } else { None };
        // Nobody wants to see what each of them gives.
        if let (Some(weight), Some(lora), Some(low), None, false) =
            (&weight, &self.lora, low, &self.dropout, trace::on())
            && let Some([dx, da, db]) = linear::backward_all(x, low, weight, lora, g)?
        {
            self.learn(da, db, gradients)?;
            return Ok(Some(dx));
        }
        let mut dx = None;
        if let Some(weight) = weight {
            let [through] = trace::seen([linear::backward(&weight, g)?], || {
                Ok((Operation::LinearBack {}, vec![weight, g.clone()]))
            })?;
            dx = Some(through);
        }
        if let (Some(lora), Some(low)) = (&self.lora, low) {
            let dropped = self.dropped(x)?;
            let [through, da, db] = trace::seen(linear::backward_lora(&dropped, low, lora, g)?, || {
                let inputs = [&dropped, low, &lora.a, &lora.b, g].map(Tensor::clone);
                Ok((Operation::LoraBack { scale: lora.scale.into() }, inputs.to_vec()))
            })?;
            if let Some(own) = dx {
                dx = Some(sum(&own, &self.dropped(&through)?)?);
            }
            self.learn(da, db, gradients)?;
        }
        Ok(dx)
    }

    /// Gives the factors their gradients, if they are trained.
    fn learn(&self, da: Tensor, db: Tensor, gradients: &mut Gradients) -> Result<()> {
        if self.trained {
            gradients.add_trained(format!("{}.lora_A", self.site), da)?;
            gradients.add_trained(format!("{}.lora_B", self.site), db)?;
        }
        Ok(())
    }
}
