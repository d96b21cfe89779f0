//! By `vpmaddwd` of AVX2, which multiplies 16 pairs of 16-bit integers and adds up two products each.

use std::arch::x86_64::*;

use super::plane::{DigitKernel, DigitPlanes, OUTPUTS, ROWS, TileSums};

/// Entries of a register.
const ENTRIES: usize = 16;

/// The kernel, where this processor has the instructions.
pub(super) fn kernel() -> Option<DigitKernel> {
    // SAFETY: the instructions were detected.
    is_x86_feature_detected!("avx2").then_some(|weights, inputs| unsafe { sums(weights, inputs) })
}

#[target_feature(enable = "avx2")]
fn sums([a, b, c, d]: [&[i16]; OUTPUTS], inputs: &DigitPlanes) -> TileSums {
    // As many sums as the registers hold.
    if inputs.count == 2 {
        let ([a, b], [c, d]) = (tile::<2, 2>([a, b], inputs), tile::<2, 2>([c, d], inputs));
        return [a, b, c, d];
    }
    let one = |row| {
        let [sums] = tile::<1, 3>([row], inputs);
        sums
    };
    [one(a), one(b), one(c), one(d)]
}

#[target_feature(enable = "avx2")]
fn tile<const O: usize, const COUNT: usize>(weights: [&[i16]; O], inputs: &DigitPlanes) -> [[i64; ROWS]; O] {
    let len = weights[0].len();
    assert!(weights.iter().all(|row| row.len() == len) && inputs.holds(len) && inputs.count == COUNT, "one length");
    let (steps, whole, planes) = (len.div_ceil(ENTRIES), len / ENTRIES * ENTRIES, inputs.planes.as_ptr());
    // What is left of the rows after whole registers, and zeros.
    let mut rest = [[0i16; ENTRIES]; O];
    rest.iter_mut().zip(weights).for_each(|(rest, row)| rest[..len - whole].copy_from_slice(&row[whole..]));
    let mut totals = [[_mm256_setzero_si256(); ROWS]; O];
    for first in (0..steps).step_by(inputs.steps()) {
        let mut lanes = [[[_mm256_setzero_si256(); COUNT]; ROWS]; O];
        for at in (first..steps.min(first + inputs.steps())).map(|step| step * ENTRIES) {
            let mut w = [_mm256_setzero_si256(); O];
            for (w, (row, rest)) in w.iter_mut().zip(weights.iter().zip(&rest)) {
                let from = if at < whole { row[at..].as_ptr() } else { rest.as_ptr() };
                // SAFETY: 16 entries lie there.
                *w = unsafe { _mm256_loadu_si256(from.cast()) };
            }
            for row in 0..ROWS {
                for digit in 0..COUNT {
                    // SAFETY: planes are padded to whole registers, of which this is one.
                    let x =
                        unsafe { _mm256_loadu_si256(planes.add((row * COUNT + digit) * inputs.stride + at).cast()) };
                    for o in 0..O {
                        lanes[o][row][digit] = _mm256_add_epi32(lanes[o][row][digit], _mm256_madd_epi16(x, w[o]));
                    }
                }
            }
        }
        for o in 0..O {
            for row in 0..ROWS {
                for digit in 0..COUNT {
                    let sums = lanes[o][row][digit];
                    let low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(sums));
                    let high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256::<1>(sums));
                    let place = _mm_cvtsi64_si128(digit as i64 * i64::from(inputs.bits));
                    let wide = _mm256_sll_epi64(_mm256_add_epi64(low, high), place);
                    totals[o][row] = _mm256_add_epi64(totals[o][row], wide);
                }
            }
        }
    }
    let mut found = [[0; ROWS]; O];
    for (found, totals) in found.as_flattened_mut().iter_mut().zip(totals.as_flattened()) {
        let mut parts = [0i64; ENTRIES / 4];
        // SAFETY: 4 integers of 64 bits, written unaligned.
        unsafe { _mm256_storeu_si256(parts.as_mut_ptr().cast(), *totals) };
        *found = parts.into_iter().fold(0, i64::wrapping_add);
    }
    found
}
