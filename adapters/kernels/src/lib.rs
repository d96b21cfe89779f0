//! Matrix kernels, exact integer and floating-point, and the 16-bit grid. Pure arithmetic on slices.

pub mod float;
pub mod grid;
pub mod matmul;
mod vectors;
