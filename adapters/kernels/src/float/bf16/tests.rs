use proptest::prelude::*;

use super::super::tests::{digest, values};
use half::bf16;

use super::numbers::rounded;
use super::*;

fn weights(count: usize, seed: u64) -> Vec<bf16> {
    values(count, seed).into_iter().map(bf16::from_f32).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// All that may compute this product give what is defined, of rows that lie together and of columns that do.
fn check(x: &[f32], values: &[bf16], d_in: usize, side: Bf16Side) {
    let weight = Bf16Matrix::new(values, d_in);
    let (terms, entries) = weight.sides(side);
    let expected = bits(&portable::product(x, weight, side));
    assert_eq!(bits(&product(x, weight, side)), expected, "{side:?}, {entries} to {terms}");
    let rows = x.len() / terms;
    let turned: Vec<f32> = (0..x.len()).map(|at| x[at % rows * terms + at / rows]).collect();
    for unit in all() {
        assert_eq!(bits(&unit.product(x, weight, side)), expected, "{unit:?}, {side:?}, {entries} to {terms}");
        for (a, about) in [MatrixView::new(x, terms), MatrixView::new(&turned, rows).t()].into_iter().zip([1, rows]) {
            let panels = unit.panels(weight, side, about);
            let mut result = vec![0.0; rows * entries];
            panels.product((&mut result, entries), Onto::Nothing, 1.0, a, entries);
            assert_eq!(bits(&result), expected, "{unit:?}, {side:?}, {entries} to {terms}, {a:?}");
        }
    }
}

/// What this processor has, tiles even if it has none, and what others do without.
fn all() -> impl Iterator<Item = Bf16Unit> {
    #[cfg(target_arch = "x86_64")]
    let emulated = Dots::detect().and_then(Tiles::emulated).map(Bf16Unit::Tiles);
    #[cfg(not(target_arch = "x86_64"))]
    let emulated = None;
    Bf16Unit::all().into_iter().chain(emulated).chain([Bf16Unit::F32 { fused: false }])
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

    /// Factors around the least that are not zero.
    #[test]
    fn numbers_next_to_zero_are_taken_for_zero(d_in in 1usize..9, seed: u64, low in -149i32..-40) {
        let small = |x: f32| (f64::from(x) * 2f64.powi(low)) as f32;
        let x = values(5 * d_in, seed).into_iter().enumerate();
        let x: Vec<f32> = x.map(|(at, x)| if at % 3 == 0 { small(x) } else { x }).collect();
        let w: Vec<bf16> = values(7 * d_in, !seed).into_iter().map(|w| bf16::from_f32(small(w))).collect();
        check(&x, &w, d_in, Bf16Side::Inputs);
        let large: Vec<bf16> = values(7 * d_in, seed).into_iter().map(|w| bf16::from_f32(w * 64.0)).collect();
        check(&x, &large, d_in, Bf16Side::Inputs);
    }

    /// Some terms and entries of weights that are laid out, added and scaled, of a range of columns of a wider matrix.
    #[test]
    fn parts_of_weights_are_multiplied_as_if_they_were_all(
        rows in 1usize..40, d_in in 2usize..90, d_out in 3usize..90, seed: u64, scale in -2f32..2.0,
    ) {
        let w = weights(d_out * (d_in + 7), seed);
        let weight = Bf16Matrix::new(&w, d_in + 7).columns(3, d_in).rows(1, d_out - 1);
        let own: Vec<bf16> = w.chunks(d_in + 7).skip(1).flat_map(|row| &row[3..3 + d_in]).copied().collect();
        for side in [Bf16Side::Inputs, Bf16Side::Outputs] {
            let (terms, entries) = weight.sides(side);
            let (terms, columns) = (terms.div_ceil(2), entries.div_ceil(2));
            let x = values(rows * terms, !seed);
            let own = Bf16Matrix::new(&own, d_in);
            let cut = if side == Bf16Side::Inputs { own.columns(0, terms) } else { own.rows(0, terms) };
            let alone = portable::product(&x, cut, side);
            let present = values(rows * (columns + 2), seed);
            for unit in all() {
                let mut result = present.clone();
                let (into, a) = ((&mut *result, columns + 2), MatrixView::new(&x, terms));
                unit.panels(weight, side, rows).product(into, Onto::Present, scale, a, columns);
                for (at, (&result, &present)) in result.iter().zip(&present).enumerate() {
                    let (row, column) = (at / (columns + 2), at % (columns + 2));
                    let added = if column < columns { alone[row * entries + column] } else { 0.0 };
                    prop_assert_eq!(result, scale.mul_add(added, present));
                }
            }
        }
    }
}

/// Products beyond the largest number in sums that are not: multiplied and added in one step.
#[test]
fn products_are_not_rounded_before_they_are_added() {
    let power = |by: i32| 2f32.powi(by);
    for first in 0..2 {
        let (mut x, mut w) = ([0.0f32; 6], [0.0f32; 6]);
        (x[first], w[first], x[first + 4], w[first + 4]) = (-power(63), power(64), power(64), power(64));
        let w = w.map(bf16::from_f32);
        assert_eq!(product(&x, Bf16Matrix::new(&w, 6), Bf16Side::Inputs), [power(127)]);
        check(&x.repeat(20), &w, 6, Bf16Side::Inputs);
    }
}

proptest! {
    /// As the field's own conversions, which are no factors: small numbers stay.
    #[test]
    fn numbers_become_the_nearest_and_the_same(of: Vec<u32>) {
        let wide: Vec<f32> = of.iter().map(|&bits| f32::from_bits(bits)).collect();
        let narrow: Vec<bf16> = wide.iter().map(|&x| bf16::from_f32(x)).collect();
        let all = |values: &[bf16]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(all(&narrowed_all(&wide)), all(&narrow));
        prop_assert_eq!(bits(&widened_all(&narrow)), bits(&narrow.iter().map(|x| x.to_f32()).collect::<Vec<_>>()));
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
        (1, 700, 401),
        (5, 700, 401),
    ] {
        let w = weights(d_in * d_out, 3);
        check(&values(rows * d_in, 4), &w, d_in, Bf16Side::Inputs);
        check(&values(rows * d_out, 5), &w, d_in, Bf16Side::Outputs);
    }
}

#[test]
fn of_no_rows_there_are_no_results() {
    let w = weights(40 * 50, 1);
    for (unit, side) in all().flat_map(|unit| [(unit, Bf16Side::Inputs), (unit, Bf16Side::Outputs)]) {
        assert!(unit.product(&[], Bf16Matrix::new(&w, 40), side).is_empty(), "{unit:?}");
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

#[test]
fn rounding_is_to_the_nearest_and_of_two_to_the_even_one() {
    for (x, expected) in [
        (1.0, 0x3f80),
        (f32::from_bits(0x3f80_8000), 0x3f80),
        (f32::from_bits(0x3f81_8000), 0x3f82),
        (f32::from_bits(0x3f80_8001), 0x3f81),
        (f32::MAX, 0x7f80),
        (f32::NEG_INFINITY, 0xff80),
        (-0.0, 0),
        (2f32.powi(-56), 0x2380),
        (-2f32.powi(-56), 0xa380),
        (f32::from_bits(2f32.powi(-56).to_bits() - 1), 0),
        (f32::MIN_POSITIVE, 0),
    ] {
        assert_eq!(rounded_all(&[x]), [bf16::from_bits(expected)], "{x:e}");
    }
    assert!(rounded(f32::NAN).is_nan());
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
    assert_eq!(digest(&results.collect::<Vec<_>>()), "448e04b31271bf54");
}
