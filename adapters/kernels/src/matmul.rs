//! Exact integer matrix products: `y = W x` for every row `x`, sums never rounded and never wrapped.
//!
//! Weights are `(d_out, d_in)`, inputs `(rows, d_in)`, results `(rows, d_out)`, all row-major.
//! The kernels differ by instruction set only: integer sums do not depend on their order.

use rayon::prelude::*;

/// Most inputs one sum may have: `2^15 * 2^31 * 2^16 = 2^62` fits an `i64`.
pub const MAX_INPUTS: usize = 1 << 16;

/// Rows of weights, and rows of inputs, that one kernel call works on: so many sums fit the registers.
const BLOCK: usize = 4;

/// Sums of [`BLOCK`] rows of weights, each with [`BLOCK`] rows of inputs.
type BlockSums = [[i64; BLOCK]; BLOCK];

/// `sums[o][t] = sum_i weights[o][i] * inputs[t][i]`; all rows are of one length.
type Kernel<W> = fn([&[W]; BLOCK], [&[i32]; BLOCK]) -> BlockSums;

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

fn multiply<W: WeightEntry>(kernel: Kernel<W>, weights: &[W], inputs: &[i32], d_in: usize) -> Vec<i64> {
    assert!(d_in > 0, "a sum needs inputs");
    assert!(weights.len().is_multiple_of(d_in) && inputs.len().is_multiple_of(d_in), "rows must fill their matrices");
    let (d_out, rows) = (weights.len() / d_in, inputs.len() / d_in);
    if d_out == 0 || rows == 0 {
        return Vec::new();
    }
    // Each task owns whole output rows, so sums are first laid out as (d_out, rows).
    let mut sums = vec![0; d_out * rows];
    sums.par_chunks_mut(BLOCK * rows).zip(weights.par_chunks(BLOCK * d_in)).for_each(|(sums, weights)| {
        let weights = block(weights, d_in);
        for (tile, inputs) in inputs.chunks(BLOCK * d_in).enumerate() {
            let found = kernel(weights, block(inputs, d_in));
            for (sums, found) in sums.chunks_exact_mut(rows).zip(&found) {
                for (sum, &value) in sums[tile * BLOCK..].iter_mut().zip(found) {
                    *sum = value;
                }
            }
        }
    });
    transpose(&sums, d_out, rows)
}

/// At most [`BLOCK`] rows, the last of them again where there are fewer.
fn block<T>(rows: &[T], width: usize) -> [&[T]; BLOCK] {
    let last = rows.len() / width - 1;
    std::array::from_fn(|row| &rows[row.min(last) * width..][..width])
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
fn kernel<W: WeightEntry>() -> Kernel<W> {
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

fn portable<W: WeightEntry>(weights: [&[W]; BLOCK], inputs: [&[i32]; BLOCK]) -> BlockSums {
    std::array::from_fn(|o| std::array::from_fn(|t| dot(weights[o], inputs[t])))
}

/// Callers bound every partial sum below 2^63; without the check the loop vectorises.
fn dot<W: WeightEntry>(weights: &[W], inputs: &[i32]) -> i64 {
    weights.iter().zip(inputs).fold(0, |sum: i64, (&w, &x)| sum.wrapping_add(i64::from(w.into()) * i64::from(x)))
}

/// An entry of a matrix of weights, of 16 or 32 bits.
#[cfg(not(target_arch = "x86_64"))]
trait WeightEntry: Copy + Into<i32> + Sync {}
#[cfg(not(target_arch = "x86_64"))]
impl<W: Copy + Into<i32> + Sync> WeightEntry for W {}
#[cfg(target_arch = "x86_64")]
use x86::WeightEntry;

/// Kernels on registers of 32-bit integers, whose products are 64-bit lanes: a register of each is multiplied
/// twice, its even entries as they stand, its odd entries shifted down. Both go into one sum.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, BlockSums, dot};

    /// An entry of a matrix of weights, of 16 or 32 bits.
    pub(super) trait WeightEntry: Copy + Into<i32> + Sync {
        /// Sixteen of them, as 32-bit integers.
        ///
        /// # Safety
        /// There must be as many from `from` on, and AVX-512F.
        unsafe fn sixteen(from: *const Self) -> __m512i;

        /// Eight of them, as 32-bit integers.
        ///
        /// # Safety
        /// There must be as many from `from` on, and AVX2.
        unsafe fn eight(from: *const Self) -> __m256i;
    }

    impl WeightEntry for i16 {
        #[inline(always)]
        unsafe fn sixteen(from: *const Self) -> __m512i {
            // SAFETY: as the caller promises; read unaligned.
            unsafe { _mm512_cvtepi16_epi32(_mm256_loadu_si256(from.cast())) }
        }

        #[inline(always)]
        unsafe fn eight(from: *const Self) -> __m256i {
            // SAFETY: as the caller promises; read unaligned.
            unsafe { _mm256_cvtepi16_epi32(_mm_loadu_si128(from.cast())) }
        }
    }

    impl WeightEntry for i32 {
        #[inline(always)]
        unsafe fn sixteen(from: *const Self) -> __m512i {
            // SAFETY: as the caller promises; read unaligned.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }

        #[inline(always)]
        unsafe fn eight(from: *const Self) -> __m256i {
            // SAFETY: as the caller promises; read unaligned.
            unsafe { _mm256_loadu_si256(from.cast()) }
        }
    }

    /// Callers reach this only through the feature check in [`super::kernel`].
    pub(super) fn avx512<W: WeightEntry>(weights: [&[W]; BLOCK], inputs: [&[i32]; BLOCK]) -> BlockSums {
        // SAFETY: `kernel` hands this function out only where AVX-512F was detected.
        unsafe { avx512_sums(weights, inputs) }
    }

    /// Callers reach this only through the feature check in [`super::kernel`].
    pub(super) fn avx2<W: WeightEntry>(weights: [&[W]; BLOCK], inputs: [&[i32]; BLOCK]) -> BlockSums {
        // SAFETY: `kernel` hands this function out only where AVX2 was detected.
        unsafe { avx2_sums(weights, inputs) }
    }

    /// Adds what is left of the rows after whole registers.
    fn finish<W: WeightEntry>(sums: &mut BlockSums, weights: [&[W]; BLOCK], inputs: [&[i32]; BLOCK], whole: usize) {
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
    fn avx512_sums<W: WeightEntry>(weights: [&[W]; BLOCK], inputs: [&[i32]; BLOCK]) -> BlockSums {
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
                let w = unsafe { W::sixteen(weights[o].as_ptr().add(i)) };
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
    fn avx2_sums<W: WeightEntry>(weights: [&[W]; BLOCK], inputs: [&[i32]; BLOCK]) -> BlockSums {
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
                        let w = unsafe { W::eight(weights[first_o + o].as_ptr().add(i)) };
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

    /// Every kernel this processor runs, on rows of these lengths: short, ragged, whole registers.
    fn every_kernel<W: WeightEntry>(narrow: fn(i64) -> W) {
        for (d_in, d_out, rows) in [(37, 11, 35), (64, 4, 4), (5, 3, 1), (129, 1, 6), (16, 9, 2)] {
            let w: Vec<W> = integers(1, d_out * d_in, 16).into_iter().map(narrow).collect();
            let x: Vec<i32> = integers(2, rows * d_in, 32).into_iter().map(|x| x as i32).collect();
            let expected = multiply(portable, &w, &x, d_in);
            let wide_w: Vec<i64> = w.iter().map(|&w| i64::from(w.into())).collect();
            assert_eq!(expected.iter().copied().map(i128::from).collect::<Vec<_>>(), naive(&wide_w, &wide(&x), d_in));
            assert_eq!(multiply(kernel(), &w, &x, d_in), expected);
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("avx2") {
                assert_eq!(multiply(x86::avx2, &w, &x, d_in), expected);
            }
        }
    }

    #[test]
    fn every_kernel_gives_the_same_sums() {
        every_kernel(|w| w as i16);
        every_kernel(|w| w as i32);
    }

    #[test]
    fn every_kernel_is_exact_at_the_limits() {
        let (w, x) = (vec![i16::MIN; 2 * MAX_INPUTS], vec![i32::MIN; 3 * MAX_INPUTS]);
        let expected = vec![1i64 << 62; 6];
        assert_eq!(multiply(portable, &w, &x, MAX_INPUTS), expected);
        assert_eq!(multiply(kernel(), &w, &x, MAX_INPUTS), expected);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            assert_eq!(multiply(x86::avx2, &w, &x, MAX_INPUTS), expected);
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
