//! The name of the numbers that a run computes in. Two runs of one recipe on the same rows and base are the same bytes
//! where they compute in the same arithmetic and its name begins with `ftk-`; of the others it says where to look for
//! the difference. What the numbers of `ftk-f32-1` and `ftk-bf16-2` are is written down in `adapters/kernels/ARITHMETIC.md`.

use candle_core::{DType, Device};
use ftk_kernels::float::{ARITHMETIC, bf16};

/// The arithmetic of training on a device, with products with the base's weights in a number format, and those in f32
/// rounded to TF32 where a device has it.
pub fn name(device: &Device, format: DType, tf32: bool) -> String {
    let place = match device {
        Device::Cpu if cfg!(feature = "accelerate") => "accelerate",
        Device::Cpu if format == DType::BF16 => return bf16::ARITHMETIC.to_owned(),
        Device::Cpu => return ARITHMETIC.to_owned(),
        Device::Cuda(_) if tf32 => "cuda-tf32",
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
        let ours = if cfg!(feature = "accelerate") {
            ["accelerate-f32", "accelerate-bf16"]
        } else {
            ["ftk-f32-1", "ftk-bf16-2"]
        };
        assert_eq!([DType::F32, DType::BF16].map(|format| name(&Device::Cpu, format, false)), ours);
    }
}
