//! By `vpdpwssd` of AVX512-VNNI, which multiplies 32 pairs of 16-bit integers and adds two products to each of 16 sums.

use std::arch::x86_64::*;

use super::plane::{DigitKernel, DigitPlanes, OUTPUTS, ROWS, TileSums, WIDTH};

/// The kernel, where this processor has the instructions.
pub(super) fn kernel() -> Option<DigitKernel> {
    let has = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni");
    // SAFETY: the instructions were detected.
    has.then_some(|weights, inputs| unsafe { sums(weights, inputs) })
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sums([a, b, c, d]: [&[i16]; OUTPUTS], inputs: &DigitPlanes) -> TileSums {
    // As many sums as the registers hold.
    if inputs.count == 2 {
        return tile::<OUTPUTS, 2>([a, b, c, d], inputs);
    }
    let ([a, b], [c, d]) = (tile::<2, 3>([a, b], inputs), tile::<2, 3>([c, d], inputs));
    [a, b, c, d]
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn tile<const O: usize, const COUNT: usize>(weights: [&[i16]; O], inputs: &DigitPlanes) -> [[i64; ROWS]; O] {
    let len = weights[0].len();
    assert!(weights.iter().all(|row| row.len() == len) && inputs.holds(len) && inputs.count == COUNT, "one length");
    let (steps, planes) = (len.div_ceil(WIDTH), inputs.planes.as_ptr());
    let mut totals = [[_mm512_setzero_si512(); ROWS]; O];
    for first in (0..steps).step_by(inputs.steps()) {
        let mut lanes = [[[_mm512_setzero_si512(); COUNT]; ROWS]; O];
        for at in (first..steps.min(first + inputs.steps())).map(|step| step * WIDTH) {
            let left = len - at;
            let mask = if left < WIDTH { (1u32 << left) - 1 } else { u32::MAX };
            let mut w = [_mm512_setzero_si512(); O];
            for (w, row) in w.iter_mut().zip(weights) {
                // SAFETY: as many entries as the mask has bits are left of the rows.
                *w = unsafe { _mm512_maskz_loadu_epi16(mask, row.as_ptr().add(at)) };
            }
            for row in 0..ROWS {
                for digit in 0..COUNT {
                    // SAFETY: planes are padded to whole registers, of which this is one.
                    let x =
                        unsafe { _mm512_loadu_si512(planes.add((row * COUNT + digit) * inputs.stride + at).cast()) };
                    for o in 0..O {
                        lanes[o][row][digit] = _mm512_dpwssd_epi32(lanes[o][row][digit], x, w[o]);
                    }
                }
            }
        }
        for o in 0..O {
            for row in 0..ROWS {
                for digit in 0..COUNT {
                    let sums = lanes[o][row][digit];
                    let low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(sums));
                    let high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64::<1>(sums));
                    let place = _mm_cvtsi64_si128(digit as i64 * i64::from(inputs.bits));
                    let wide = _mm512_sll_epi64(_mm512_add_epi64(low, high), place);
                    totals[o][row] = _mm512_add_epi64(totals[o][row], wide);
                }
            }
        }
    }
    let mut found = [[0; ROWS]; O];
    for (found, totals) in found.as_flattened_mut().iter_mut().zip(totals.as_flattened()) {
        *found = _mm512_reduce_add_epi64(*totals);
    }
    found
}
