//! Exact integer matrix kernels and the 16-bit grid. Pure arithmetic on slices.

pub mod grid;
pub mod matmul;
