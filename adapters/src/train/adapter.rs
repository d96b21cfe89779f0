//! An adapter as tensors on a device, frozen or trained.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};

use crate::Error;
use crate::lora::{Adapter, Factors};

/// The factors of one site as tensors: `a` `(rank, d_in)`, `b` `(d_out, rank)`.
#[derive(Clone, Debug)]
pub struct LoraFactors {
    /// Projects down.
    pub a: Tensor,
    /// Projects up.
    pub b: Tensor,
    /// Factor of the product.
    pub scale: f64,
}

/// An adapter as tensors, by site.
#[derive(Clone, Debug, Default)]
pub struct LoraTensors(BTreeMap<String, LoraFactors>);

impl LoraTensors {
    /// A frozen adapter: applied, not trained.
    ///
    /// # Errors
    /// Those of the device.
    pub fn frozen(adapter: &Adapter, device: &Device) -> Result<Self, Error> {
        Self::build(adapter, |values, shape| Ok(Tensor::from_slice(values, shape, device)?))
    }

    /// A trained adapter: every factor is a variable.
    ///
    /// # Errors
    /// Those of the device.
    pub fn trained(adapter: &Adapter, device: &Device) -> Result<Self, Error> {
        Self::build(adapter, |values, shape| {
            Ok(Var::from_tensor(&Tensor::from_slice(values, shape, device)?)?.into_inner())
        })
    }

    fn build(
        adapter: &Adapter,
        tensor: impl Fn(&[f32], (usize, usize)) -> Result<Tensor, Error>,
    ) -> Result<Self, Error> {
        let build = |f: &Factors| -> Result<LoraFactors, Error> {
            let (a, b) = (tensor(&f.a, (f.rank, f.d_in))?, tensor(&f.b, (f.d_out, f.rank))?);
            Ok(LoraFactors { a, b, scale: f64::from(f.scale) })
        };
        adapter.sites.iter().map(|(site, f)| Ok((site.clone(), build(f)?))).collect::<Result<_, _>>().map(Self)
    }

    /// The numbers as they stand.
    ///
    /// # Errors
    /// Those of the device.
    pub fn to_adapter(&self) -> Result<Adapter, Error> {
        let read = |lora: &LoraFactors| -> Result<Factors, Error> {
            let ((rank, d_in), d_out) = (lora.a.dims2()?, lora.b.dim(0)?);
            let values = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
            let (a, b) = (values(&lora.a)?, values(&lora.b)?);
            Ok(Factors { rank, d_in, d_out, a, b, scale: lora.scale as f32 })
        };
        let sites = self.0.iter().map(|(site, lora)| Ok((site.clone(), read(lora)?)));
        Ok(Adapter { sites: sites.collect::<Result<_, Error>>()? })
    }

    /// The factors of one site, if it carries any.
    pub(super) fn get(&self, site: &str) -> Option<&LoraFactors> {
        self.0.get(site)
    }

    /// Every factor with its name (`<site>.lora_A`, `<site>.lora_B`), in name order.
    pub fn tensors(&self) -> impl Iterator<Item = (String, &Tensor)> {
        let named = |(site, lora)| {
            let (site, LoraFactors { a, b, .. }): (&String, &LoraFactors) = (site, lora);
            [(format!("{site}.lora_A"), a), (format!("{site}.lora_B"), b)]
        };
        self.0.iter().flat_map(named)
    }
}
