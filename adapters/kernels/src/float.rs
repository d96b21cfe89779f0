//! Floating-point kernels of a training step on the CPU: forward and backward passes
//! on slices, f32, row-major, over all threads. Every sum runs in an order that does not depend on the
//! number of threads.
//!
//! Loops are compiled for each generation of vector instructions and chosen at run time.

pub mod adamw;
pub mod attention;
#[cfg(feature = "bf16")]
pub mod bf16;
mod elementary;
mod environment;
mod fused;
pub mod gelu;
pub mod neighbours;
pub mod norm;
pub mod product;
pub mod relu;
pub mod rotary;
pub mod softmax;
pub mod sparse;
pub mod swiglu;
#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::vectors::vectorised;

pub use self::environment::{Environment, check};

/// Name of the numbers that these kernels compute, which `ARITHMETIC.md` defines. Whoever changes a bit of them changes
/// the name.
pub const ARITHMETIC: &str = "ftk-f32-1";

/// Entries a thread takes at a time: enough to outweigh handing them over.
const CHUNK: usize = 1 << 14;

/// Rows of `width` entries that make one chunk.
fn rows_a_chunk(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// So many numbers, which `write` writes: clearing them first would take as long as many a kernel does.
///
/// # Safety
/// It must write all of them.
unsafe fn written<T>(count: usize, write: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut values = Vec::with_capacity(count);
    write(&mut values.spare_capacity_mut()[..count]);
    // SAFETY: there is room, and the caller promises that all are written.
    unsafe { values.set_len(count) };
    values
}

/// `x += y`, entry by entry.
///
/// # Panics
/// If the lengths differ.
pub fn add_to(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "a sum needs operands of one length");
    x.par_chunks_mut(CHUNK).zip(y.par_chunks(CHUNK)).for_each(|(x, y)| {
        vectorised(
            #[inline(always)]
            || x.iter_mut().zip(y).for_each(|(x, y)| *x += y),
        );
    });
}

/// `x + row`, for every row of `x`.
///
/// # Panics
/// If `x` is not whole rows.
pub fn sum_rows(x: &[f32], row: &[f32]) -> Vec<f32> {
    let width = row.len();
    assert!(width > 0 && x.len().is_multiple_of(width), "a sum with a row needs whole rows");
    let mut sum = vec![0.0; x.len()];
    let chunk = width * rows_a_chunk(width);
    sum.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).for_each(|(sum, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (sum, x) in sum.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                    sum.iter_mut().zip(x.iter().zip(row)).for_each(|(sum, (x, y))| *sum = x + y);
                }
            },
        );
    });
    sum
}

/// `x + y`, entry by entry.
///
/// # Panics
/// If the lengths differ.
pub fn sum(x: &[f32], y: &[f32]) -> Vec<f32> {
    assert_eq!(x.len(), y.len(), "a sum needs operands of one length");
    let write = |sum: &mut [MaybeUninit<f32>]| {
        sum.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK).zip(y.par_chunks(CHUNK))).for_each(|(sum, (x, y))| {
            vectorised(
                #[inline(always)]
                || {
                    for (sum, (x, y)) in sum.iter_mut().zip(x.iter().zip(y)) {
                        sum.write(x + y);
                    }
                },
            );
        });
    };
    // SAFETY: as many chunks, of as many entries, as the operands have.
    unsafe { written(x.len(), write) }
}
