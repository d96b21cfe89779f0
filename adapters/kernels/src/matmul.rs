//! Exact integer matrix products: `y = W x` for every row `x`, sums never rounded and never wrapped.
//!
//! Weights are `(d_out, d_in)`, inputs `(rows, d_in)`, results `(rows, d_out)`, all row-major.
//! The kernels differ by instruction set only: integer sums do not depend on their order.

use rayon::prelude::*;

/// Most inputs one sum may have: `2^15 * 2^31 * 2^16 = 2^62` fits an `i64`.
pub const MAX_INPUTS: usize = 1 << 16;

/// Output rows one kernel call works on.
const GROUP: usize = 8;
/// Input rows one kernel call works on: one 512-bit register of 32-bit integers.
const LANES: usize = 16;

/// `sums[r][l] = sum_i weights[i][r] * inputs[i][l]`.
type Kernel = fn(&[[i32; GROUP]], &[[i32; LANES]], &mut [[i64; LANES]; GROUP]);

/// Exact products of 16-bit weights and 32-bit inputs.
///
/// # Panics
/// If the slices do not fill their shapes, or `d_in` is zero or above [`MAX_INPUTS`].
pub fn product(weights: &[i16], inputs: &[i32], d_in: usize) -> Vec<i64> {
    assert!(d_in <= MAX_INPUTS, "sums of more inputs need not fit 64 bits");
    multiply(kernel(), weights, inputs, d_in)
}

/// Exact products of 16-bit weights and inputs of up to 62 bits, as [`product`] returns them.
///
/// # Panics
/// As [`product`], and if an input's magnitude exceeds `2^62`.
pub fn product_64(weights: &[i16], inputs: &[i64], d_in: usize) -> Vec<i128> {
    const LIMB: u32 = 31;
    let upper = |&x: &i64| i32::try_from(x >> LIMB).expect("inputs have at most 62 bits");
    let high: Vec<i32> = inputs.iter().map(upper).collect();
    let low: Vec<i32> = inputs.iter().map(|&x| (x & ((1 << LIMB) - 1)) as i32).collect();
    join(&product(weights, &high, d_in), &product(weights, &low, d_in), LIMB)
}

/// Exact products of two 32-bit factors.
///
/// # Panics
/// As [`product`].
pub fn product_32(weights: &[i32], inputs: &[i32], d_in: usize) -> Vec<i128> {
    const LIMB: u32 = 16;
    assert!(d_in <= MAX_INPUTS, "sums of more inputs need not fit 64 bits");
    let peak = |values: &[i32]| values.iter().map(|value| value.unsigned_abs()).max().unwrap_or(0);
    if u128::from(peak(weights)) * u128::from(peak(inputs)) * (d_in as u128) < 1 << 63 {
        return multiply(kernel(), weights, inputs, d_in).into_iter().map(i128::from).collect();
    }
    // Signed limbs: both have at most 16 bits in magnitude, as the bound on 64-bit sums wants.
    let low: Vec<i32> = weights.iter().map(|&w| i32::from(w as i16)).collect();
    let high: Vec<i32> =
        weights.iter().zip(&low).map(|(&w, &low)| ((i64::from(w) - i64::from(low)) >> LIMB) as i32).collect();
    join(&multiply(kernel(), &high, inputs, d_in), &multiply(kernel(), &low, inputs, d_in), LIMB)
}

fn join(high: &[i64], low: &[i64], limb: u32) -> Vec<i128> {
    high.iter().zip(low).map(|(&high, &low)| (i128::from(high) << limb) + i128::from(low)).collect()
}

fn multiply<W: Copy + Into<i32> + Sync>(kernel: Kernel, weights: &[W], inputs: &[i32], d_in: usize) -> Vec<i64> {
    assert!(d_in > 0, "a sum needs inputs");
    assert!(weights.len().is_multiple_of(d_in) && inputs.len().is_multiple_of(d_in), "rows must fill their matrices");
    let (d_out, rows) = (weights.len() / d_in, inputs.len() / d_in);
    if d_out == 0 || rows == 0 {
        return Vec::new();
    }
    let tiles = rows.div_ceil(LANES);
    let mut packed = vec![[0; LANES]; tiles * d_in];
    for (row, input) in inputs.chunks_exact(d_in).enumerate() {
        let tile = &mut packed[row / LANES * d_in..][..d_in];
        for (lanes, &x) in tile.iter_mut().zip(input) {
            lanes[row % LANES] = x;
        }
    }

    // Each task owns whole output rows, so sums are first laid out as (d_out, rows).
    let mut sums = vec![0; d_out * rows];
    let groups = sums.par_chunks_mut(GROUP * rows).zip(weights.par_chunks(GROUP * d_in));
    groups.for_each_init(
        || vec![[0; GROUP]; d_in],
        |group, (sums, weights)| {
            for (r, weights) in weights.chunks_exact(d_in).enumerate() {
                for (column, &w) in group.iter_mut().zip(weights) {
                    column[r] = w.into();
                }
            }
            let mut block = [[0; LANES]; GROUP];
            for (tile, inputs) in packed.chunks_exact(d_in).enumerate() {
                kernel(group, inputs, &mut block);
                for (sums, block) in sums.chunks_exact_mut(rows).zip(&block) {
                    for (sum, &value) in sums[tile * LANES..].iter_mut().zip(block) {
                        *sum = value;
                    }
                }
            }
        },
    );
    transpose(&sums, d_out, rows)
}

/// `(height, width)` to `(width, height)`.
fn transpose(values: &[i64], height: usize, width: usize) -> Vec<i64> {
    const BLOCK: usize = 16;
    if width == 1 {
        return values.to_vec();
    }
    let mut turned = vec![0; values.len()];
    turned.par_chunks_mut(BLOCK * height).enumerate().for_each(|(block, turned)| {
        for from in 0..height {
            for (to, &value) in values[from * width..][..width][block * BLOCK..].iter().take(BLOCK).enumerate() {
                turned[to * height + from] = value;
            }
        }
    });
    turned
}

/// The fastest kernel this processor runs.
fn kernel() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return x86::avx512;
        }
        if is_x86_feature_detected!("avx2") {
            return x86::avx2;
        }
    }
    portable
}

fn portable(weights: &[[i32; GROUP]], inputs: &[[i32; LANES]], sums: &mut [[i64; LANES]; GROUP]) {
    *sums = [[0; LANES]; GROUP];
    for (weights, inputs) in weights.iter().zip(inputs) {
        for (sums, &w) in sums.iter_mut().zip(weights) {
            for (sum, &x) in sums.iter_mut().zip(inputs) {
                // Callers bound every partial sum below 2^63; without the check the loop vectorises.
                *sum = sum.wrapping_add(i64::from(w) * i64::from(x));
            }
        }
    }
}

/// Kernels on 64-bit lanes. A register of sixteen 32-bit inputs is multiplied twice: its even
/// entries as they stand, its odd entries shifted down.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{GROUP, LANES};

    /// Callers reach this only through the feature check in [`super::kernel`].
    pub(super) fn avx512(weights: &[[i32; GROUP]], inputs: &[[i32; LANES]], sums: &mut [[i64; LANES]; GROUP]) {
        // SAFETY: `kernel` hands this function out only where AVX-512F was detected.
        unsafe { avx512_sums(weights, inputs, sums) }
    }

    /// Callers reach this only through the feature check in [`super::kernel`].
    pub(super) fn avx2(weights: &[[i32; GROUP]], inputs: &[[i32; LANES]], sums: &mut [[i64; LANES]; GROUP]) {
        // SAFETY: `kernel` hands this function out only where AVX2 was detected.
        unsafe { avx2_sums(weights, inputs, sums) }
    }

    #[target_feature(enable = "avx512f")]
    fn avx512_sums(weights: &[[i32; GROUP]], inputs: &[[i32; LANES]], sums: &mut [[i64; LANES]; GROUP]) {
        let mut even = [_mm512_setzero_si512(); GROUP];
        let mut odd = even;
        for (weights, inputs) in weights.iter().zip(inputs) {
            // SAFETY: `inputs` is 16 integers of 32 bits, read unaligned.
            let x = unsafe { _mm512_loadu_si512(inputs.as_ptr().cast()) };
            let shifted = _mm512_srli_epi64::<32>(x);
            for r in 0..GROUP {
                let w = _mm512_set1_epi32(weights[r]);
                even[r] = _mm512_add_epi64(even[r], _mm512_mul_epi32(w, x));
                odd[r] = _mm512_add_epi64(odd[r], _mm512_mul_epi32(w, shifted));
            }
        }
        for r in 0..GROUP {
            let mut halves = [[0i64; LANES / 2]; 2];
            // SAFETY: each half is 8 integers of 64 bits, written unaligned.
            unsafe {
                _mm512_storeu_si512(halves[0].as_mut_ptr().cast(), even[r]);
                _mm512_storeu_si512(halves[1].as_mut_ptr().cast(), odd[r]);
            }
            for l in 0..LANES {
                sums[r][l] = halves[l % 2][l / 2];
            }
        }
    }

    #[target_feature(enable = "avx2")]
    fn avx2_sums(weights: &[[i32; GROUP]], inputs: &[[i32; LANES]], sums: &mut [[i64; LANES]; GROUP]) {
        // Sixteen registers hold four output rows times eight inputs.
        const ROWS: usize = 4;
        const WIDTH: usize = 8;
        for row in (0..GROUP).step_by(ROWS) {
            for lane in (0..LANES).step_by(WIDTH) {
                let mut even = [_mm256_setzero_si256(); ROWS];
                let mut odd = even;
                for (weights, inputs) in weights.iter().zip(inputs) {
                    // SAFETY: `lane` is 0 or 8, so 8 of the 16 integers of 32 bits remain, read unaligned.
                    let x = unsafe { _mm256_loadu_si256(inputs.as_ptr().add(lane).cast()) };
                    let shifted = _mm256_srli_epi64::<32>(x);
                    for r in 0..ROWS {
                        let w = _mm256_set1_epi32(weights[row + r]);
                        even[r] = _mm256_add_epi64(even[r], _mm256_mul_epi32(w, x));
                        odd[r] = _mm256_add_epi64(odd[r], _mm256_mul_epi32(w, shifted));
                    }
                }
                for r in 0..ROWS {
                    let mut halves = [[0i64; WIDTH / 2]; 2];
                    // SAFETY: each half is 4 integers of 64 bits, written unaligned.
                    unsafe {
                        _mm256_storeu_si256(halves[0].as_mut_ptr().cast(), even[r]);
                        _mm256_storeu_si256(halves[1].as_mut_ptr().cast(), odd[r]);
                    }
                    for l in 0..WIDTH {
                        sums[row + r][lane + l] = halves[l % 2][l / 2];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(weights: &[i64], inputs: &[i64], d_in: usize) -> Vec<i128> {
        let dot = |w: &[i64], x: &[i64]| w.iter().zip(x).map(|(&w, &x)| i128::from(w) * i128::from(x)).sum();
        inputs.chunks(d_in).flat_map(|x| weights.chunks(d_in).map(move |w| dot(w, x))).collect()
    }

    fn wide<T: Copy + Into<i64>>(values: &[T]) -> Vec<i64> {
        values.iter().map(|&value| value.into()).collect()
    }

    /// `count` integers of `bits` signed bits from a linear congruence.
    fn integers(seed: u64, count: usize, bits: u32) -> Vec<i64> {
        let mut state = seed;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state as i64) >> (64 - bits)
        };
        (0..count).map(next).collect()
    }

    proptest! {
        #[test]
        fn products_equal_the_naive_sums(d_in in 1usize..40, d_out in 0usize..20, rows in 0usize..40, seed in any::<u64>()) {
            let w16: Vec<i16> = integers(seed, d_out * d_in, 16).into_iter().map(|w| w as i16).collect();
            let w32: Vec<i32> = integers(seed, d_out * d_in, 32).into_iter().map(|w| w as i32).collect();
            let x32: Vec<i32> = integers(!seed, rows * d_in, 32).into_iter().map(|x| x as i32).collect();
            let x62 = integers(!seed, rows * d_in, 63);
            let sums: Vec<i128> = product(&w16, &x32, d_in).into_iter().map(i128::from).collect();
            prop_assert_eq!(sums, naive(&wide(&w16), &wide(&x32), d_in));
            prop_assert_eq!(product_64(&w16, &x62, d_in), naive(&wide(&w16), &x62, d_in));
            prop_assert_eq!(product_32(&w32, &x32, d_in), naive(&wide(&w32), &wide(&x32), d_in));
        }
    }

    #[test]
    fn every_kernel_gives_the_same_sums() {
        let w: Vec<i32> = integers(1, 11 * 37, 16).into_iter().map(|w| w as i32).collect();
        let x: Vec<i32> = integers(2, 35 * 37, 32).into_iter().map(|x| x as i32).collect();
        let expected = multiply(portable, &w, &x, 37);
        assert_eq!(expected.iter().copied().map(i128::from).collect::<Vec<_>>(), naive(&wide(&w), &wide(&x), 37));
        assert_eq!(multiply(kernel(), &w, &x, 37), expected);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            assert_eq!(multiply(x86::avx2, &w, &x, 37), expected);
        }
    }

    #[test]
    fn extreme_sums_are_exact() {
        let sums = product(&vec![i16::MIN; MAX_INPUTS], &vec![i32::MIN; MAX_INPUTS], MAX_INPUTS);
        assert_eq!(sums, [1 << 62]);
        assert_eq!(product_64(&[i16::MIN; 2], &[-(1 << 62); 2], 2), [1 << 78]);
        assert_eq!(product_32(&vec![i32::MIN; MAX_INPUTS], &vec![i32::MIN; MAX_INPUTS], MAX_INPUTS), [1 << 78]);
        assert_eq!(
            product_32(&vec![i32::MAX; MAX_INPUTS], &vec![i32::MIN; MAX_INPUTS], MAX_INPUTS),
            [i128::from(i32::MAX) * i128::from(i32::MIN) * MAX_INPUTS as i128]
        );
    }

    #[test]
    #[should_panic(expected = "sums of more inputs")]
    fn longer_sums_are_refused() {
        product(&vec![0; MAX_INPUTS + 1], &vec![0; MAX_INPUTS + 1], MAX_INPUTS + 1);
    }
}
