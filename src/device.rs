//! Where floating-point tensors are computed. Exact arithmetic has no choice: it is the CPU's.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use ftk_adapters::hint::Hint;

/// A device as one types it: `cpu`, `cuda`, `cuda:1`, `metal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceName {
    /// The processor, with ftk's own kernels. The only one whose results are the same bytes on every machine of a kind.
    #[default]
    Cpu,
    /// A GPU of NVIDIA, by its number.
    Cuda(usize),
    /// The GPU of a Mac.
    Metal,
}

/// A device that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The program was built without it.
    #[error("this build of ftk cannot compute on: {0}")]
    NotBuilt(DeviceName),
    /// The machine has no driver for it.
    #[error("cannot compute on {0}: no driver of NVIDIA was found")]
    NoDriver(DeviceName),
    /// The machine does not have it, or not in working order.
    #[error("cannot compute on {place}: {error}")]
    Absent {
        /// What was asked for.
        place: DeviceName,
        /// What the driver says.
        error: candle_core::Error,
    },
}

impl Hint for DeviceError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotBuilt(DeviceName::Metal) => "build ftk on a Mac with --features metal, or leave --device out",
            Self::NotBuilt(_) => {
                "build ftk with --features cuda (scripts/cuda-build has what it needs), or leave --device out"
            }
            Self::NoDriver(_) => "install NVIDIA's driver, whose library is libcuda.so.1, or leave --device out",
            Self::Absent { .. } => "check the number and the driver, or leave --device out",
        };
        Some(hint.to_owned())
    }
}

/// What the driver's functions give where no driver was found, by what `scripts/cuda-build` has linked in its place.
const STUB_LIBRARY: &str = "CUDA_ERROR_STUB_LIBRARY";

impl DeviceName {
    /// The device.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn open(self) -> Result<Device, DeviceError> {
        let absent = |error: candle_core::Error| match error.to_string().contains(STUB_LIBRARY) {
            true => DeviceError::NoDriver(self),
            false => DeviceError::Absent { place: self, error },
        };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) if cfg!(feature = "cuda") => Device::new_cuda(number).map_err(absent),
            Self::Metal if cfg!(feature = "metal") => Device::new_metal(0).map_err(absent),
            Self::Cuda(_) | Self::Metal => Err(DeviceError::NotBuilt(self)),
        }
    }
}

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = match text {
            "cpu" => Some(Self::Cpu),
            "cuda" => Some(Self::Cuda(0)),
            "metal" => Some(Self::Metal),
            _ => text.strip_prefix("cuda:").and_then(|number| number.parse().ok()).map(Self::Cuda),
        };
        known.ok_or_else(|| "must be cpu, cuda, cuda:N or metal".to_owned())
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => f.write_str("metal"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_they_are_written() {
        for place in [DeviceName::Cpu, DeviceName::Cuda(0), DeviceName::Cuda(3), DeviceName::Metal] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        assert_eq!("cuda".parse(), Ok(DeviceName::Cuda(0)));
        for text in ["", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:x", "auto"] {
            assert!(text.parse::<DeviceName>().is_err(), "{text}");
        }
        assert!(DeviceName::Cpu.open().unwrap().is_cpu());
    }
}
