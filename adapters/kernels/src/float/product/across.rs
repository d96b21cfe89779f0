//! Sums over the rows of a matrix, each times few numbers of its row, as what an adapter's factors learn: eight rows at a
//! time are read as they lie, and the chains of a column are lanes of one register.

use std::arch::x86_64::*;

use pulp::x86::V3;
use rayon::prelude::*;

use super::super::fused::Fused;
use super::layout::prefetch;
use super::matrix::{CUT, LINE, MatrixView, Onto, Threads};
use super::target::Target;
use super::thin::{LANES, WORTH_A_THREAD, in_lanes};

/// Fewest numbers of a row for which a register of them is worth it.
const FEWEST: usize = 3;
/// Rows, terms of the sums, that are added one after another while chains are in registers.
const ROWS: usize = 8;
/// Columns whose chains run side by side.
const ABREAST: usize = 4;
/// Fewest columns of a task: of a row some lines are read.
const TASK: usize = 64;

/// [`super::product_at`], if this processor has a kernel for it and it is such a product; says whether it was.
///
/// # Safety
/// As there.
pub(super) unsafe fn product(
    (result, row_stride): (*mut f32, usize),
    onto: Onto,
    scale: f32,
    (a, b): (MatrixView<'_>, MatrixView<'_>),
    threads: Threads,
) -> bool {
    let few = FEWEST..=LANES;
    let target = Target { values: result, row_stride, column_stride: 1, onto, scale };
    // The columns of `x`, which are rows of `a` or columns of `b`, are rows of the target.
    let (target, x, beside) = if few.contains(&b.columns) && a.row_stride == 1 {
        (target, a.t(), b)
    } else if few.contains(&a.rows) && b.column_stride == 1 {
        (Target { row_stride: 1, column_stride: row_stride, ..target }, b, a.t())
    } else {
        return false;
    };
    let Some(with) = V3::try_new().filter(|_| x.columns >= LINE && x.rows >= ROWS) else { return false };
    let right = in_lanes(beside);
    let one = |(first, count): (usize, usize)| {
        // SAFETY: the processor has these instructions; the rest is as the caller promises, and columns are this task's.
        unsafe { columns(with, (target, first), x.columns(first, count), &right, beside.columns) };
    };
    if threads == Threads::All && x.rows * x.columns * LANES > WORTH_A_THREAD {
        let task = x.columns.div_ceil(2 * rayon::current_num_threads()).next_multiple_of(LINE).max(TASK);
        let tasks: Vec<_> = (0..x.columns).step_by(task).map(|first| (first, task.min(x.columns - first))).collect();
        tasks.into_par_iter().for_each(one);
    } else {
        one((0, x.columns));
    }
    true
}

/// Sums of some columns, put into rows of the target from a row on.
///
/// # Safety
/// They lie there, `width` entries each, and are nobody else's.
#[target_feature(enable = "avx2,fma")]
unsafe fn columns(with: V3, (target, at): (Target, usize), x: MatrixView<'_>, right: &[[f32; LANES]], width: usize) {
    assert!(x.column_stride == 1 && right.len() == x.rows && x.fits(), "rows lie together");
    let mut chains = vec![[0.0f32; LANES]; x.columns];
    for (slice, right) in right.chunks(CUT).enumerate() {
        chains.fill([0.0; LANES]);
        let row = |row: usize| &x.values[(slice * CUT + row) * x.row_stride..][..x.columns];
        let (groups, rest) = right.as_chunks::<ROWS>();
        for (group, right) in groups.iter().enumerate() {
            let first = group * ROWS;
            add(&mut chains, std::array::from_fn::<_, ROWS, _>(|index| row(first + index)), right, x.row_stride);
        }
        for (index, right) in rest.iter().enumerate() {
            add(&mut chains, [row(groups.len() * ROWS + index)], &[*right], x.row_stride);
        }
        let target = target.of_slice(slice);
        for (index, chain) in chains.iter().enumerate() {
            // SAFETY: as the caller promises.
            unsafe { target.put(Fused(with), (at + index, 0), &chain[..width]) };
        }
    }
}

/// Adds terms to the chains of all columns: a number of each row times those beside it.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add<const R: usize>(chains: &mut [[f32; LANES]], rows: [&[f32]; R], right: &[[f32; LANES]; R], row_stride: usize) {
    // SAFETY: there are eight numbers.
    let right = right.each_ref().map(|right| unsafe { _mm256_loadu_ps(right.as_ptr()) });
    let rows = rows.map(|row| &row[..chains.len()]);
    let whole = chains.len() / ABREAST * ABREAST;
    for first in (0..whole).step_by(ABREAST) {
        if first % LINE == 0 {
            // The rows after these: processors do not foresee so many.
            rows.iter().for_each(|row| prefetch(row[first..].as_ptr().wrapping_add(R * row_stride), 1));
        }
        let chains = &mut chains[first..first + ABREAST];
        // SAFETY: a chain has eight numbers.
        let mut sums: [__m256; ABREAST] =
            std::array::from_fn(|column| unsafe { _mm256_loadu_ps(chains[column].as_ptr()) });
        for (row, right) in rows.iter().zip(right) {
            for (column, sum) in sums.iter_mut().enumerate() {
                // SAFETY: a row has a number for each column.
                *sum = _mm256_fmadd_ps(unsafe { _mm256_broadcast_ss(row.get_unchecked(first + column)) }, right, *sum);
            }
        }
        for (chain, sum) in chains.iter_mut().zip(sums) {
            // SAFETY: a chain has eight numbers.
            unsafe { _mm256_storeu_ps(chain.as_mut_ptr(), sum) };
        }
    }
    for (column, chain) in chains.iter_mut().enumerate().skip(whole) {
        // SAFETY: a chain has eight numbers.
        let mut sum = unsafe { _mm256_loadu_ps(chain.as_ptr()) };
        for (row, right) in rows.iter().zip(right) {
            sum = _mm256_fmadd_ps(_mm256_set1_ps(row[column]), right, sum);
        }
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(chain.as_mut_ptr(), sum) };
    }
}
