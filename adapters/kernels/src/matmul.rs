//! Exact integer matrix products: `y = W x` for every row `x`, sums never rounded and never wrapped.
//!
//! Weights are `(d_out, d_in)`, inputs `(rows, d_in)`, results `(rows, d_out)`, all row-major.
//! The kernels differ by instruction set only: integer sums do not depend on their order.

mod block;
#[cfg(target_arch = "x86_64")]
mod digits;
#[cfg(target_arch = "x86_64")]
mod wide;

use rayon::prelude::*;

use self::block::{BLOCK, BlockKernel, BlockSums, WeightEntry, block, dot, transpose};

/// Most inputs one sum may have: `2^15 * 2^31 * 2^16 = 2^62` fits an `i64`.
pub const MAX_INPUTS: usize = 1 << 16;

/// Exact products of 16-bit weights and 32-bit inputs.
///
/// # Panics
/// If the slices do not fill their shapes, or `d_in` is zero or above [`MAX_INPUTS`].
pub fn product(weights: &[i16], inputs: &[i32], d_in: usize) -> Vec<i64> {
    assert!(d_in <= MAX_INPUTS, "sums of more inputs need not fit 64 bits");
    #[cfg(target_arch = "x86_64")]
    if let Some(sums) = digits::product(weights, inputs, d_in) {
        return sums;
    }
    multiply(portable, weights, inputs, d_in)
}

/// Exact products of 16-bit weights and inputs from `-2^62` to `2^62 - 1`, laid out as those of [`product`].
///
/// # Panics
/// As [`product`], and if an input is out of that range.
pub fn product_64(weights: &[i16], inputs: &[i64], d_in: usize) -> Vec<i128> {
    const LIMB: u32 = 31;
    let upper = |&x: &i64| i32::try_from(x >> LIMB).expect("inputs are from -2^62 to 2^62 - 1");
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

fn multiply<W: WeightEntry>(kernel: BlockKernel<W>, weights: &[W], inputs: &[i32], d_in: usize) -> Vec<i64> {
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

/// The fastest kernel for weights of 32 bits that this processor runs.
fn kernel() -> BlockKernel<i32> {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = wide::kernels().next() {
        return kernel;
    }
    portable
}

fn portable<W: WeightEntry>(weights: [&[W]; BLOCK], inputs: [&[i32]; BLOCK]) -> BlockSums {
    std::array::from_fn(|o| std::array::from_fn(|t| dot(weights[o], inputs[t])))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(weights: &[i64], inputs: &[i64], d_in: usize) -> Vec<i128> {
        let dot = |w: &[i64], x: &[i64]| w.iter().zip(x).map(|(&w, &x)| i128::from(w) * i128::from(x)).sum();
        inputs.chunks(d_in).flat_map(|x| weights.chunks(d_in).map(move |w| dot(w, x))).collect()
    }

    fn widened<T: Copy + Into<i64>>(values: &[T]) -> Vec<i64> {
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
            prop_assert_eq!(sums, naive(&widened(&w16), &widened(&x32), d_in));
            prop_assert_eq!(product_64(&w16, &x62, d_in), naive(&widened(&w16), &x62, d_in));
            prop_assert_eq!(product_32(&w32, &x32, d_in), naive(&widened(&w32), &widened(&x32), d_in));
        }
    }

    /// Every kernel for weights of 32 bits this processor runs.
    fn kernels() -> Vec<BlockKernel<i32>> {
        let mut kernels: Vec<BlockKernel<i32>> = vec![portable];
        #[cfg(target_arch = "x86_64")]
        kernels.extend(wide::kernels());
        kernels
    }

    /// On rows of these lengths: short, ragged, whole registers.
    #[test]
    fn every_kernel_gives_the_same_sums() {
        for (d_in, d_out, rows) in [(37, 11, 35), (64, 4, 4), (5, 3, 1), (129, 1, 6), (16, 9, 2)] {
            let w: Vec<i32> = integers(1, d_out * d_in, 16).into_iter().map(|w| w as i32).collect();
            let x: Vec<i32> = integers(2, rows * d_in, 32).into_iter().map(|x| x as i32).collect();
            let expected = naive(&widened(&w), &widened(&x), d_in);
            for kernel in kernels() {
                let sums: Vec<i128> = multiply(kernel, &w, &x, d_in).into_iter().map(i128::from).collect();
                assert_eq!(sums, expected);
            }
        }
    }

    #[test]
    fn every_kernel_is_exact_at_the_limits() {
        let (w, x) = (vec![i16::MIN.into(); 2 * MAX_INPUTS], vec![i32::MIN; 3 * MAX_INPUTS]);
        for kernel in kernels() {
            assert_eq!(multiply(kernel, &w, &x, MAX_INPUTS), [1i64 << 62; 6]);
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
