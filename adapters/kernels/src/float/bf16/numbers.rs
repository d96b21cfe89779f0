//! Numbers in bf16: how others become such, and which are factors.

use std::mem::MaybeUninit;

use half::bf16;
use rayon::prelude::*;

use super::super::{CHUNK, written};
use crate::vectors::vectorised;

/// What a factor is at least, or it is zero: 2^-56. Factors are multiples of 2^-63, their products and all sums of them
/// multiples of 2^-126. So none of those but zero is below the least normal number, which units for bf16 take for zero.
pub(super) const LEAST: f32 = 1.387_778_8e-17;
/// The same in bf16.
pub(super) const LEAST_BITS: u16 = (LEAST.to_bits() >> 16) as u16;

/// A factor in f32.
#[inline(always)]
pub(super) fn factor(x: bf16) -> f32 {
    let bits = x.to_bits();
    if bits & 0x7fff < LEAST_BITS { 0.0 } else { of_bits(bits) }
}

/// The nearest factor in f32: zero for what is less than [`LEAST`].
#[inline(always)]
pub(super) fn rounded(x: f32) -> f32 {
    let magnitude = x.to_bits() & 0x7fff_ffff;
    if magnitude < LEAST.to_bits() { 0.0 } else { of_bits(nearest(x)) }
}

/// All numbers as factors of products are.
pub fn rounded_all(values: &[f32]) -> Vec<bf16> {
    converted(values, |x| bf16::from_bits((rounded(x).to_bits() >> 16) as u16))
}

/// The nearest numbers in bf16.
pub fn narrowed_all(values: &[f32]) -> Vec<bf16> {
    converted(values, |x| bf16::from_bits(nearest(x)))
}

/// The same numbers in f32.
pub fn widened_all(values: &[bf16]) -> Vec<f32> {
    converted(values, |x| of_bits(x.to_bits()))
}

/// The nearest number in bf16, of two equally near ones the even one.
#[inline(always)]
fn nearest(x: f32) -> u16 {
    let bits = x.to_bits();
    let up = bits.wrapping_add(0x7fff).wrapping_add(bits >> 16 & 1);
    let is_nan = bits & 0x7fff_ffff > 0x7f80_0000;
    ((if is_nan { bits | 0x0040_0000 } else { up }) >> 16) as u16
}

/// The number in bf16 that has these bits, in f32.
#[inline(always)]
fn of_bits(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// All numbers in another format.
#[inline(always)]
fn converted<T: Copy + Sync, U: Copy + Send>(values: &[T], number: impl Fn(T) -> U + Sync) -> Vec<U> {
    let write = |all: &mut [MaybeUninit<U>]| {
        all.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(all, values)| {
            vectorised(
                #[inline(always)]
                || {
                    all.iter_mut().zip(values).for_each(|(to, &x)| {
                        to.write(number(x));
                    });
                },
            );
        });
    };
    // SAFETY: as many are written as there are values.
    unsafe { written(values.len(), write) }
}
