//! Kernels on registers of 32-bit integers, whose products are 64-bit lanes: a register of each is multiplied twice, its
//! even entries as they stand, its odd entries shifted down. Both go into one sum.

use std::arch::x86_64::*;

use super::block::{BLOCK, BlockKernel, BlockSums, dot};

/// The kernels that this processor runs, the fastest first.
pub(super) fn kernels() -> impl Iterator<Item = BlockKernel<i32>> {
    let kernels: [Option<BlockKernel<i32>>; 2] = [
        // SAFETY: the instructions were detected.
        is_x86_feature_detected!("avx512f").then_some(|weights, inputs| unsafe { avx512(weights, inputs) }),
        // SAFETY: as above.
        is_x86_feature_detected!("avx2").then_some(|weights, inputs| unsafe { avx2(weights, inputs) }),
    ];
    kernels.into_iter().flatten()
}

/// Adds what is left of the rows after whole registers.
fn finish(sums: &mut BlockSums, weights: [&[i32]; BLOCK], inputs: [&[i32]; BLOCK], whole: usize) {
    if whole < inputs[0].len() {
        for o in 0..BLOCK {
            for t in 0..BLOCK {
                // Bounded as the whole sum is.
                sums[o][t] = sums[o][t].wrapping_add(dot(&weights[o][whole..], &inputs[t][whole..]));
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
fn avx512(weights: [&[i32]; BLOCK], inputs: [&[i32]; BLOCK]) -> BlockSums {
    const WIDTH: usize = 16;
    let len = inputs[0].len();
    assert!(weights.iter().all(|row| row.len() == len) && inputs.iter().all(|row| row.len() == len), "one length");
    let whole = len / WIDTH * WIDTH;
    let mut lanes = [[_mm512_setzero_si512(); BLOCK]; BLOCK];
    for i in (0..whole).step_by(WIDTH) {
        // SAFETY: 16 entries from `i` on lie within rows of `len`; AVX-512F is enabled here.
        let x = inputs.map(|row| unsafe { _mm512_loadu_si512(row.as_ptr().add(i).cast()) });
        let odd_x = x.map(|x| _mm512_srli_epi64::<32>(x));
        for o in 0..BLOCK {
            // SAFETY: as above.
            let w = unsafe { _mm512_loadu_si512(weights[o].as_ptr().add(i).cast()) };
            let odd_w = _mm512_srli_epi64::<32>(w);
            for t in 0..BLOCK {
                lanes[o][t] = _mm512_add_epi64(lanes[o][t], _mm512_mul_epi32(w, x[t]));
                lanes[o][t] = _mm512_add_epi64(lanes[o][t], _mm512_mul_epi32(odd_w, odd_x[t]));
            }
        }
    }
    let mut sums = lanes.map(|row| row.map(|lanes| _mm512_reduce_add_epi64(lanes)));
    finish(&mut sums, weights, inputs, whole);
    sums
}

#[target_feature(enable = "avx2")]
fn avx2(weights: [&[i32]; BLOCK], inputs: [&[i32]; BLOCK]) -> BlockSums {
    const WIDTH: usize = 8;
    // Sixteen registers hold two rows of each.
    const PART: usize = 2;
    let len = inputs[0].len();
    assert!(weights.iter().all(|row| row.len() == len) && inputs.iter().all(|row| row.len() == len), "one length");
    let whole = len / WIDTH * WIDTH;
    let mut sums = [[0; BLOCK]; BLOCK];
    for first_o in (0..BLOCK).step_by(PART) {
        for first_t in (0..BLOCK).step_by(PART) {
            let mut lanes = [[_mm256_setzero_si256(); PART]; PART];
            for i in (0..whole).step_by(WIDTH) {
                let x: [__m256i; PART] = std::array::from_fn(|t| {
                    // SAFETY: 8 entries from `i` on lie within rows of `len`.
                    unsafe { _mm256_loadu_si256(inputs[first_t + t].as_ptr().add(i).cast()) }
                });
                let odd_x = x.map(|x| _mm256_srli_epi64::<32>(x));
                for o in 0..PART {
                    // SAFETY: as above; AVX2 is enabled here.
                    let w = unsafe { _mm256_loadu_si256(weights[first_o + o].as_ptr().add(i).cast()) };
                    let odd_w = _mm256_srli_epi64::<32>(w);
                    for t in 0..PART {
                        lanes[o][t] = _mm256_add_epi64(lanes[o][t], _mm256_mul_epi32(w, x[t]));
                        lanes[o][t] = _mm256_add_epi64(lanes[o][t], _mm256_mul_epi32(odd_w, odd_x[t]));
                    }
                }
            }
            for o in 0..PART {
                for t in 0..PART {
                    let mut parts = [0i64; WIDTH / 2];
                    // SAFETY: 4 integers of 64 bits, written unaligned.
                    unsafe { _mm256_storeu_si256(parts.as_mut_ptr().cast(), lanes[o][t]) };
                    // Bounded as the whole sum is, in any order.
                    sums[first_o + o][first_t + t] = parts.into_iter().fold(0, i64::wrapping_add);
                }
            }
        }
    }
    finish(&mut sums, weights, inputs, whole);
    sums
}
