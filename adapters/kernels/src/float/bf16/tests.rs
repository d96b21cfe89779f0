use proptest::prelude::*;

use super::super::tests::{digest, values};
use super::*;

fn weights(count: usize, seed: u64) -> Vec<bf16> {
    values(count, seed).into_iter().map(bf16::from_f32).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// All ways that may compute this product give what is defined.
fn check(x: &[f32], values: &[bf16], d_in: usize, side: Bf16Side) {
    let weight = Bf16Matrix::new(values, d_in);
    let expected = bits(&portable::product(x, weight, side));
    assert_eq!(bits(&product(x, weight, side)), expected, "{side:?}, {} to {d_in}", values.len() / d_in);
    assert_eq!(bits(&widened(x, weight, side)), expected, "widened, {side:?}, {} to {d_in}", values.len() / d_in);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_way_to_compute_gives_what_is_defined(
        rows in 1usize..40, d_in in 1usize..90, d_out in 1usize..90, seed: u64,
    ) {
        let w = weights(d_in * d_out, seed);
        check(&values(rows * d_in, !seed), &w, d_in, Bf16Side::Inputs);
        check(&values(rows * d_out, !seed), &w, d_in, Bf16Side::Outputs);
    }

    /// Factors whose products are around the least normal number, and below it.
    #[test]
    fn numbers_next_to_zero_are_taken_for_zero(d_in in 1usize..9, seed: u64, low in -149i32..-100) {
        let small = |x: f32| (f64::from(x) * 2f64.powi(low)) as f32;
        let x = values(5 * d_in, seed).into_iter().enumerate();
        let x: Vec<f32> = x.map(|(at, x)| if at % 3 == 0 { small(x) } else { x }).collect();
        let w: Vec<bf16> = values(7 * d_in, !seed).into_iter().map(|w| bf16::from_f32(small(w))).collect();
        check(&x, &w, d_in, Bf16Side::Inputs);
        let large: Vec<bf16> = values(7 * d_in, seed).into_iter().map(|w| bf16::from_f32(w * 64.0)).collect();
        check(&x, &large, d_in, Bf16Side::Inputs);
    }
}

/// Sizes around those of registers, chains and tasks.
#[test]
fn sizes_at_the_limits() {
    for (rows, d_in, d_out) in [
        (1, 511, 31),
        (2, 512, 32),
        (12, 513, 33),
        (13, 1024, 48),
        (24, 1027, 15),
        (1540, 34, 33),
        (770, 66, 65),
        (3, 2, 600),
        (300, 64, 1),
    ] {
        let w = weights(d_in * d_out, 3);
        check(&values(rows * d_in, 4), &w, d_in, Bf16Side::Inputs);
        check(&values(rows * d_out, 5), &w, d_in, Bf16Side::Outputs);
    }
}

#[test]
fn weights_without_rows_give_results_without_entries() {
    let none = Bf16Matrix::new(&[], 4);
    assert!(product(&[1.0; 8], none, Bf16Side::Inputs).is_empty());
    assert!(product(&[], none, Bf16Side::Inputs).is_empty() && product(&[], none, Bf16Side::Outputs).is_empty());
}

#[test]
#[should_panic(expected = "whole rows")]
fn rows_that_are_not_whole_are_refused_where_there_are_no_weights() {
    product(&[1.0; 7], Bf16Matrix::new(&[], 4), Bf16Side::Inputs);
}

#[test]
#[should_panic(expected = "whole rows")]
fn rows_of_no_terms_are_refused_unless_there_are_none() {
    product(&[1.0], Bf16Matrix::new(&[], 4), Bf16Side::Outputs);
}

/// What is zero is decided by the result as it were without a least exponent.
#[test]
fn the_least_normal_number_is_met_from_below() {
    let power = |by: i32, times: f64| (times * 2f64.powi(by)) as f32;
    let large = power(-63, 1.0);
    // 2^-126 less something that rounds away, less something that is a tie of subnormal numbers, and less more.
    for (a, b) in [(-150, -1.0), (-151, -1.0), (-151, -1.5), (-151, -1.25), (-150, -1.5), (-152, -1.5), (-149, -1.0)] {
        let x = [power(a + 60, b), large];
        let w = [bf16::from_f32(power(-60, 1.0)), bf16::from_f32(large)];
        check(&x, &w, 2, Bf16Side::Inputs);
        check(&x.map(|x| -x), &w, 2, Bf16Side::Inputs);
    }
}

#[test]
fn rounding_is_to_the_nearest_and_of_two_to_the_even_one() {
    for (x, expected) in [
        (1.0, 0x3f80),
        (f32::from_bits(0x3f80_8000), 0x3f80),
        (f32::from_bits(0x3f81_8000), 0x3f82),
        (f32::from_bits(0x3f80_8001), 0x3f81),
        (f32::MAX, 0x7f80),
        (f32::NEG_INFINITY, 0xff80),
        (-f32::MIN_POSITIVE, 0x8080),
        (f32::from_bits(0x807f_ffff), 0x8000),
    ] {
        assert_eq!(rounded(x), expected, "{x:e}");
    }
    assert!(bf16::from_bits(rounded(f32::NAN)).is_nan());
}

#[test]
fn products_do_not_depend_on_the_number_of_threads() {
    let (x, w) = (values(200 * 130, 1), weights(130 * 220, 2));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| bits(&product(&x, Bf16Matrix::new(&w, 130), Bf16Side::Inputs)))
    };
    assert_eq!(with(1), with(3));
    assert_eq!(with(1), with(7));
}

/// A change here is another arithmetic and wants another name: `ARITHMETIC.md`.
#[test]
fn pinned_digest() {
    let shapes = [(1, 1, 1), (5, 64, 5), (16, 600, 16), (1, 1537, 33), (40, 1030, 8), (33, 514, 70)];
    let results = (1u64..).zip(shapes).flat_map(|(seed, (rows, d_in, d_out))| {
        let w = weights(d_in * d_out, seed);
        let weight = Bf16Matrix::new(&w, d_in);
        let forward = product(&values(rows * d_in, !seed), weight, Bf16Side::Inputs);
        [forward, product(&values(rows * d_out, !seed), weight, Bf16Side::Outputs)]
    });
    assert_eq!(digest(&results.collect::<Vec<_>>()), "db42c8c11939d180");
}
