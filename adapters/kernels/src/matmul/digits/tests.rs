use proptest::prelude::*;

use super::plane::BITS_OF_TWO;
use super::*;
use crate::matmul::{self, MAX_INPUTS, portable};

/// Every kernel this processor runs.
fn kernels() -> Vec<DigitKernel> {
    [vnni::kernel(), avx2::kernel()].into_iter().flatten().collect()
}

fn agree(weights: &[i16], inputs: &[i32], d_in: usize) {
    let expected = matmul::multiply(portable, weights, inputs, d_in);
    for (which, kernel) in kernels().into_iter().enumerate() {
        assert_eq!(multiply(kernel, weights, inputs, d_in), expected, "kernel {which}");
    }
}

/// Weights, among them the extreme ones.
fn weight() -> impl Strategy<Value = i16> {
    prop_oneof![3 => any::<i16>(), 1 => Just(i16::MIN), 1 => Just(i16::MAX)]
}

/// Inputs of about `bits` bits, among them those at the edges of digits.
fn input(bits: u32) -> impl Strategy<Value = i32> {
    let edge = (0..bits, any::<bool>(), -1i64..=1).prop_map(|(power, below, by)| {
        let edge = if below { -(1i64 << power) } else { 1 << power };
        (edge + by).clamp(i32::MIN.into(), i32::MAX.into()) as i32
    });
    prop_oneof![2 => any::<i32>().prop_map(move |x| x >> (32 - bits)), 1 => edge]
}

proptest! {
    #[test]
    fn kernels_give_the_portable_sums(
        (d_in, weights, inputs) in (1usize..150, 0usize..11, 0usize..8, 4u32..=32).prop_flat_map(|(d_in, d_out, rows, bits)| {
            let weights = prop::collection::vec(weight(), d_out * d_in);
            (Just(d_in), weights, prop::collection::vec(input(bits), rows * d_in))
        }),
    ) {
        agree(&weights, &inputs, d_in);
    }

    #[test]
    fn digits_say_what_the_inputs_are(bits in 1u32..=32, seed in prop::collection::vec(any::<i32>(), 1..80)) {
        let row: Vec<i32> = seed.iter().map(|x| x >> (32 - bits)).chain([(i32::MAX >> (32 - bits)), i32::MIN >> (32 - bits)]).collect();
        let digits = DigitPlanes::new(&row, row.len());
        let half = 1i64 << (digits.bits - 1);
        for (at, &x) in row.iter().enumerate() {
            let digit = |j: usize| i64::from(digits.planes[j * digits.stride + at]);
            prop_assert!((0..digits.count).all(|j| (1 - half..=half).contains(&digit(j))));
            let value: i64 = (0..digits.count).map(|j| digit(j) << (j as u32 * digits.bits)).sum();
            prop_assert_eq!(value, i64::from(x));
        }
    }
}

/// Sums as long as they may be of equal products, where every lane is as full as it gets.
#[test]
fn full_lanes_are_exact() {
    let mut inputs = vec![0, 1, -1, i32::MAX, i32::MIN, -i32::MAX];
    for bits in BITS_OF_TWO {
        let half = 1i32 << (bits - 1);
        let most = (1 << (2 * bits - 1)) - (1 << bits);
        // Both digits at either end.
        let (upper, lower) = (half * (1 << bits) - (1 << bits) + half, -((half - 1) * (1 << bits)) - (half - 1));
        let place = 1 << bits;
        inputs.extend([half, -half, 1 - half, half + 1, most, -most, most + 1, -most - 1]);
        inputs.extend([upper, lower, upper - place, lower + place]);
    }
    for w in [i16::MIN, i16::MAX, -i16::MAX] {
        let weights = vec![w; MAX_INPUTS];
        for rows in inputs.chunks(ROWS) {
            let all: Vec<i32> = rows.iter().flat_map(|&x| std::iter::repeat_n(x, MAX_INPUTS)).collect();
            let expected: Vec<i64> = rows.iter().map(|&x| i64::from(w) * i64::from(x) * MAX_INPUTS as i64).collect();
            for kernel in kernels() {
                assert_eq!(multiply(kernel, &weights, &all, MAX_INPUTS), expected, "{w} {rows:?}");
            }
        }
    }
}

#[test]
fn shapes_around_blocks_and_registers_agree() {
    let mut state = 7u64;
    let mut next = |bits: u32| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state as i64 >> (64 - bits)) as i32
    };
    for (d_in, d_out, rows, bits) in
        [(31, 5, 4, 20), (32, 4, 3, 24), (33, 3, 7, 25), (1025, 9, 2, 22), (576, 130, 5, 21), (2049, 1, 1, 32)]
    {
        let weights: Vec<i16> = (0..d_out * d_in).map(|_| next(16) as i16).collect();
        let inputs: Vec<i32> = (0..rows * d_in).map(|_| next(bits)).collect();
        agree(&weights, &inputs, d_in);
    }
}
