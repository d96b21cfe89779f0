//! The name of the numbers that a run computes in. Two runs of one recipe on the same rows and base are the same bytes
//! where they compute in the same arithmetic and its name begins with `ftk-`; of the others it says where to look for
//! the difference. What the numbers of `ftk-f32-1` are is written down in `adapters/kernels/ARITHMETIC.md`.

use candle_core::{DType, Device};
use ftk_kernels::float::ARITHMETIC;

/// The arithmetic of training on a device, with products with the base's weights in a number format.
pub fn name(device: &Device, format: DType) -> String {
    let place = match device {
        Device::Cpu if cfg!(feature = "accelerate") => "accelerate",
        Device::Cpu if format == DType::F32 => return ARITHMETIC.to_owned(),
        Device::Cpu => "cpu",
        Device::Cuda(_) => "cuda",
        Device::Metal(_) => "metal",
    };
    format!("{place}-{}", format.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_same_everywhere_has_our_name() {
        let ours = if cfg!(feature = "accelerate") { "accelerate-f32" } else { "ftk-f32-1" };
        assert_eq!(name(&Device::Cpu, DType::F32), ours);
        assert!(name(&Device::Cpu, DType::BF16).ends_with("-bf16"));
    }
}
