//! Merging: the adapter's product added to the weight it stands beside, in f32.

use candle_core::{Device, Tensor};

use crate::Error;
use crate::lora::Factors;
use crate::train::product;

/// `W + scale * B A` `(d_out, d_in)` and the change alone, both f32.
///
/// # Errors
/// Factors whose shapes do not fit the weight; those of the device.
pub fn merge(weight: &Tensor, factors: &Factors) -> Result<(Tensor, Tensor), Error> {
    let Factors { rank, d_in, d_out, a, b, scale } = factors;
    let a = Tensor::from_slice(a, (*rank, *d_in), &Device::Cpu)?;
    let b = Tensor::from_slice(b, (*d_out, *rank), &Device::Cpu)?;
    let change = product(f64::from(*scale), &b, &a)?;
    Ok(((weight.detach() + &change)?, change))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_added_once_and_scaled() {
        let weight = Tensor::new(&[[1.0f32, 0.0, 2.0], [0.0, 1.0, 0.0]], &Device::Cpu).unwrap();
        let factors = Factors {
            rank: 2,
            d_in: 3,
            d_out: 2,
            a: vec![1., 2., 3., 0., 1., 0.],
            b: vec![1., 0., 2., -1.],
            scale: 0.5,
        };
        let (merged, change) = merge(&weight, &factors).unwrap();
        assert_eq!(change.to_vec2::<f32>().unwrap(), [[0.5, 1.0, 1.5], [1.0, 1.5, 3.0]]);
        assert_eq!(merged.to_vec2::<f32>().unwrap(), [[1.5, 1.0, 3.5], [1.0, 2.5, 3.0]]);
        assert!(merge(&weight.t().unwrap(), &factors).is_err());
    }
}
