//! Every way to compute a product against the chains that define it, bit for bit.

use proptest::prelude::*;

use super::super::tests::{digest, values};
use super::*;

/// A factor as it may lie in memory.
#[derive(Clone, Copy, Debug)]
struct Lie {
    transposed: bool,
    /// Columns beside it in the rows of the matrix it is part of.
    beside: usize,
}

fn lies() -> impl Strategy<Value = Lie> {
    (any::<bool>(), 0usize..3).prop_map(|(transposed, beside)| Lie { transposed, beside })
}

fn factor(values: &mut Vec<f32>, (rows, columns): (usize, usize), lie: Lie, seed: u64) -> MatrixView<'_> {
    let (height, width) = if lie.transposed { (columns, rows) } else { (rows, columns) };
    *values = super::super::tests::values(height * (width + lie.beside), seed);
    let part = MatrixView::new(values, width + lie.beside).columns(lie.beside, width);
    if lie.transposed { part.t() } else { part }
}

/// The definition, entry by entry.
fn defined(result: &mut [f32], row_stride: usize, onto: Onto, scale: f32, (a, b): (MatrixView<'_>, MatrixView<'_>)) {
    for row in 0..a.rows {
        for column in 0..b.columns {
            let entry = &mut result[row * row_stride + column];
            for first in (0..a.columns).step_by(512) {
                let terms = first..a.columns.min(first + 512);
                let sum = terms.fold(0.0, |sum, term| libm::fmaf(a.at(row, term), b.at(term, column), sum));
                let replaced = first == 0 && onto == Onto::Nothing;
                *entry = if replaced { scale * sum } else { libm::fmaf(scale, sum, *entry) };
            }
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// All ways that may compute this product give what is defined.
fn check((m, k, n): (usize, usize, usize), lies: [Lie; 2], onto: Onto, scale: f32, seed: u64) {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let factors = (factor(&mut left, (m, k), lies[0], seed), factor(&mut right, (k, n), lies[1], !seed));
    let row_stride = n + seed as usize % 3;
    let before = values(m * row_stride, seed ^ 5);
    let mut expected = before.clone();
    defined(&mut expected, row_stride, onto, scale, factors);
    for threads in [Threads::One, Threads::All] {
        let mut result = before.clone();
        product((&mut result, row_stride), onto, scale, factors, threads);
        assert_eq!(bits(&result), bits(&expected), "{m} x {k} x {n}, {lies:?}");
        for fused in [true, false] {
            if fused && !is_fused() {
                continue;
            }
            let mut result = before.clone();
            for first in (0..k).step_by(CUT) {
                let terms = CUT.min(k - first);
                let factors = (factors.0.columns(first, terms), factors.1.rows(first, terms));
                let onto = if first == 0 { onto } else { Onto::Present };
                assert!((m - 1) * row_stride + n <= result.len());
                // SAFETY: the result lies in its vector.
                unsafe { chain::run(fused, (result.as_mut_ptr(), row_stride), onto, scale, factors, threads) };
            }
            assert_eq!(bits(&result), bits(&expected), "{m} x {k} x {n}, {lies:?}, fused: {fused}");
        }
    }
    for fused in [true, false] {
        if fused && !is_fused() {
            continue;
        }
        let mut result = before.clone();
        let panels = Panels::with(fused, factors.1);
        panel_product((&mut result, row_stride), onto, scale, factors.0, (&panels, n));
        assert_eq!(bits(&result), bits(&expected), "{m} x {k} x {n}, {lies:?}, by panels, fused: {fused}");
        for threads in [Threads::One, Threads::All] {
            let mut result = before.clone();
            assert!((m - 1) * row_stride + n <= result.len());
            // SAFETY: the result lies in its vector.
            unsafe { panels::product(fused, (result.as_mut_ptr(), row_stride), onto, scale, factors, threads) };
            assert_eq!(bits(&result), bits(&expected), "{m} x {k} x {n}, {lies:?}, by strips, fused: {fused}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn small_products_are_their_chains(
        shape in (1usize..24, 1usize..1200, 1usize..24), lies in [lies(), lies()], present: bool, scale in -2i32..3,
        seed: u64,
    ) {
        let onto = if present { Onto::Present } else { Onto::Nothing };
        check(shape, lies, onto, scale as f32 * 0.7, seed);
    }

    #[test]
    fn larger_products_are_their_chains(
        shape in (1usize..150, 1usize..80, 1usize..150), lies in [lies(), lies()], present: bool, seed: u64,
    ) {
        check(shape, lies, if present { Onto::Present } else { Onto::Nothing }, 0.3, seed);
    }
}

/// Lengths around each cut, and shapes on both sides of what is left to `gemm`.
#[test]
fn products_at_the_limits_are_their_chains() {
    let lie = |transposed| Lie { transposed, beside: 0 };
    for k in [1, 2, 3, 511, 512, 513, 514, 515, 1024, 1025, 1026, 1027] {
        for (m, n) in
            [(1, 40), (1, 77), (40, 1), (301, 1), (2, 40), (16, 16), (16, 17), (8, 70), (9, 70), (70, 8), (70, 9)]
        {
            for (left, right) in [(false, false), (false, true), (true, false), (true, true)] {
                check((m, k, n), [lie(left), lie(right)], Onto::Nothing, 1.0, k as u64);
            }
        }
    }
}

/// More rows and terms than are laid out at a time, and more columns than pass by them together.
#[test]
fn products_of_many_rows_and_columns_are_their_chains() {
    let lie = |transposed| Lie { transposed, beside: 1 };
    check((1030, 2100, 2), [lie(false), lie(false)], Onto::Present, 0.3, 1);
    check((50, 20, 1100), [lie(true), lie(true)], Onto::Nothing, 0.3, 2);
    // Several parts of the rows, each with several blocks of columns.
    check((520, 30, 70), [lie(false), lie(true)], Onto::Nothing, 0.3, 3);
}

/// The first rows and columns of a factor that was laid out whole.
#[test]
fn panels_serve_products_with_a_part_of_them() {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let lie = Lie { transposed: false, beside: 1 };
    let (a, b) = (factor(&mut left, (21, 700), lie, 1), factor(&mut right, (700, 90), lie, 2));
    let panels = Panels::new(b);
    for (k, n) in [(1, 1), (64, 90), (511, 32), (513, 33), (700, 89), (0, 5)] {
        for onto in [Onto::Nothing, Onto::Present] {
            let mut results = [(); 2].map(|()| values(21 * 95, 3));
            let (a, b) = (a.columns(0, k), b.rows(0, k).columns(0, n));
            defined(&mut results[0], 95, onto, 0.3, (a, b));
            if (k, onto) == (0, Onto::Nothing) {
                results[0].chunks_mut(95).for_each(|row| row[..n].fill(0.0));
            }
            panel_product((&mut results[1], 95), onto, 0.3, a, (&panels, n));
            assert_eq!(bits(&results[0]), bits(&results[1]), "{k} rows, {n} columns, {onto:?}");
        }
    }
}

#[test]
fn a_result_of_nothing_is_zero() {
    let mut result = [1.0f32; 12];
    let (a, b) = (MatrixView::new(&[], 3).t().t().rows(0, 0).t(), MatrixView::new(&[], 4));
    assert_eq!((a.rows, a.columns, b.rows, b.columns), (3, 0, 0, 4));
    product((&mut result, 4), Onto::Present, 2.0, (a, b), Threads::One);
    assert_eq!(result, [1.0; 12]);
    product((&mut result, 4), Onto::Nothing, 2.0, (a, b), Threads::One);
    assert_eq!(result, [0.0; 12]);
}

/// A change here is another arithmetic and wants another name: `ARITHMETIC.md`.
#[test]
fn pinned_digest() {
    let shapes = [(1, 1, 1), (5, 64, 5), (16, 600, 16), (64, 64, 64), (1, 1537, 33), (40, 1030, 8), (33, 514, 70)];
    let mut results = Vec::new();
    for (seed, (m, k, n)) in (1u64..).zip(shapes) {
        for (left, right) in [(false, false), (false, true), (true, false), (true, true)] {
            for onto in [Onto::Nothing, Onto::Present] {
                let [left, right] = [left, right].map(|transposed| Lie { transposed, beside: 0 });
                let (mut of_a, mut of_b) = (Vec::new(), Vec::new());
                let factors = (factor(&mut of_a, (m, k), left, seed), factor(&mut of_b, (k, n), right, !seed));
                let mut result = values(m * n, 3);
                product((&mut result, n), onto, 0.3, factors, Threads::All);
                results.push(result);
            }
        }
    }
    assert_eq!(digest(&results), "651b5667f9b8adaa");
}
