//! Sums of fused multiply-adds of our own, for products that `gemm` would add up in another order: small and thin
//! ones, and large ones where the processor has no fused multiply-add. Lanes are entries of the result, never terms
//! of one sum, so that an entry is the same however wide the registers are.

use rayon::prelude::*;

use super::super::fused::{self, FusedKernel, Instruction, is_fused};
use super::layout::{pack, prefetch};
use super::matrix::{CUT, MatrixView, Onto, Threads};
#[cfg(target_arch = "x86_64")]
use super::row;
use super::target::Target;

/// Terms for which columns are put together at a time: 32 KiB at most, a first cache.
const SLAB: usize = 128;
/// Rows and columns of one task: enough of both that putting the factors together does not count.
const TASK: [usize; 2] = [64, 256];
/// Multiplications that outweigh handing them to another thread.
const WORTH_A_THREAD: usize = 1 << 18;

/// [`super::product_at`] over at most [`CUT`] terms.
///
/// # Panics
/// If there are more.
///
/// # Safety
/// As there.
pub(super) unsafe fn product(
    result: (*mut f32, usize),
    onto: Onto,
    scale: f32,
    factors: (MatrixView<'_>, MatrixView<'_>),
    threads: Threads,
) {
    // SAFETY: as the caller promises.
    unsafe { run(is_fused(), result, onto, scale, factors, threads) }
}

/// Rows that are on their way from memory while one is multiplied by.
const AHEAD: usize = 16;

/// As [`product`], with or without the processor's own fused multiply-add.
///
/// # Safety
/// As there.
pub(super) unsafe fn run(
    fused: bool,
    (result, row_stride): (*mut f32, usize),
    onto: Onto,
    scale: f32,
    (a, b): (MatrixView<'_>, MatrixView<'_>),
    threads: Threads,
) {
    assert!(a.columns <= CUT && a.columns == b.rows, "a chain has at most so many terms");
    let (m, n) = (a.rows, b.columns);
    let target = Target { values: result, row_stride, column_stride: 1, onto, scale };
    // Lanes lie along the dimension that is contiguous in memory, or else along the longer one.
    let turn = match (a.row_stride == 1, b.column_stride == 1) {
        (true, false) => true,
        (false, true) => false,
        _ => m > n,
    };
    let (target, a, b) = if turn {
        (Target { row_stride: 1, column_stride: row_stride, ..target }, b.t(), a.t())
    } else {
        (target, a, b)
    };
    let one = |(row, column): (usize, usize)| {
        let a = a.rows(row, TASK[0].min(a.rows - row));
        let b = b.columns(column, TASK[1].min(b.columns - column));
        // SAFETY: the block lies in the result, and no other task has it.
        #[cfg(target_arch = "x86_64")]
        if fused && unsafe { row::block((target, (row, column)), a, b) } {
            return;
        }
        fused::run(fused, ProductBlock { target, at: (row, column), a, b });
    };
    let tasks = (0..a.rows).step_by(TASK[0]);
    let tasks = tasks.flat_map(|row| (0..b.columns).step_by(TASK[1]).map(move |column| (row, column)));
    match threads {
        Threads::All if a.rows * b.columns * a.columns > WORTH_A_THREAD => {
            tasks.collect::<Vec<_>>().into_par_iter().for_each(one);
        }
        _ => tasks.for_each(one),
    }
}

/// Some rows times some columns, which begin at `at` in the result. Whoever makes one sees to it that they lie in the
/// result and that it is the only one that has them.
struct ProductBlock<'a> {
    target: Target,
    at: (usize, usize),
    a: MatrixView<'a>,
    b: MatrixView<'a>,
}

impl FusedKernel for ProductBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Instruction>(self, with: I) {
        let Self { target, at, a, b } = self;
        let (terms, lanes) = (a.columns, 2 * I::WIDTH);
        let groups = groups(a.rows, I::ROWS);
        // Rows of a group lie together, term by term.
        let mut left = Vec::with_capacity(a.rows * terms);
        for &(row, count) in &groups {
            let rows = a.rows(row, count);
            (0..terms).for_each(|term| left.extend((0..count).map(|row| rows.at(row, term))));
        }
        let mut sums = vec![0.0; a.rows * lanes];
        let mut packed = Vec::new();
        for column in (0..b.columns).step_by(lanes) {
            let width = lanes.min(b.columns - column);
            sums.fill(0.0);
            for first in (0..terms).step_by(SLAB) {
                let count = SLAB.min(terms - first);
                let slab = b.columns(column, width).rows(first, count);
                let right = if slab.column_stride == 1 && width == lanes {
                    (slab.values, slab.row_stride)
                } else {
                    pack(&mut packed, slab, lanes);
                    (packed.as_slice(), lanes)
                };
                for &(row, rows) in &groups {
                    let left = &left[row * terms + first * rows..][..count * rows];
                    let sums = &mut sums[row * lanes..][..rows * lanes];
                    match rows {
                        8 => tile::<8, I>(with, sums, left, right),
                        6 => tile::<6, I>(with, sums, left, right),
                        4 => tile::<4, I>(with, sums, left, right),
                        2 => tile::<2, I>(with, sums, left, right),
                        _ => tile::<1, I>(with, sums, left, right),
                    }
                }
            }
            for (row, sums) in sums.chunks_exact(lanes).enumerate() {
                // SAFETY: these entries lie in the result and belong to this task alone.
                unsafe { target.put(with, (at.0 + row, at.1 + column), &sums[..width]) };
            }
        }
    }
}

/// Rows in groups of `most`, and what is left of them in powers of two: first row, how many.
fn groups(rows: usize, most: usize) -> Vec<(usize, usize)> {
    let mut groups = Vec::with_capacity(rows / most + 3);
    let mut row = 0;
    while row < rows {
        let count = if rows - row >= most { most } else { 1 << (rows - row).ilog2() };
        groups.push((row, count));
        row += count;
    }
    groups
}

/// Adds one term to the chains of `R` rows: an entry of each, times two registers. Every entry is put into its register as
/// it is read; of an array of them compilers make vectors, and take these apart.
///
/// # Safety
/// `R` entries lie at `left`, so many entries apart.
#[inline(always)]
pub(super) unsafe fn add_term<const R: usize, I: Instruction>(
    with: I,
    chains: &mut [[I::Lanes; 2]; R],
    (left, apart): (*const f32, usize),
    right: &[f32],
) {
    let (first, second) = right.split_at(I::WIDTH);
    let right = [with.load(first), with.load(second)];
    for (row, chains) in chains.iter_mut().enumerate() {
        // SAFETY: as the caller promises.
        let a = with.splat(unsafe { *left.add(row * apart) });
        *chains = [with.add_product(a, right[0], chains[0]), with.add_product(a, right[1], chains[1])];
    }
}

/// Adds terms to the chains of `R` rows, which are given term by term as the columns are.
#[inline(always)]
fn tile<const R: usize, I: Instruction>(with: I, sums: &mut [f32], left: &[f32], (right, stride): (&[f32], usize)) {
    let width = I::WIDTH;
    let mut chains: [[I::Lanes; 2]; R] =
        std::array::from_fn(|row| std::array::from_fn(|part| with.load(&sums[(2 * row + part) * width..][..width])));
    let (left, _) = left.as_chunks::<R>();
    for (term, left) in left.iter().enumerate() {
        if stride > 2 * width {
            prefetch(right.as_ptr().wrapping_add((term + AHEAD) * stride), 2 * width);
        }
        // SAFETY: the array has an entry for each row.
        unsafe { add_term(with, &mut chains, (left.as_ptr(), 1), &right[term * stride..][..2 * width]) };
    }
    for (row, chains) in chains.into_iter().enumerate() {
        for (part, chains) in chains.into_iter().enumerate() {
            with.store(&mut sums[(2 * row + part) * width..][..width], chains);
        }
    }
}
