//! Rows times few columns, as an adapter's are: rows are read as they lie, eight at a time, and the entries of a row are
//! lanes of one register.

use std::arch::x86_64::*;

use pulp::x86::V3;
use rayon::prelude::*;

use super::super::fused::Fused;
use super::layout::prefetch;
use super::matrix::{CUT, LINE, MatrixView, Onto, Threads};
use super::target::Target;

/// Most columns: lanes of a register.
pub(super) const LANES: usize = 8;
/// Rows of a group, whose chains run side by side, and of a task.
const ROWS: usize = 8;
const TASK: usize = 64;
/// Multiplications that outweigh handing them to another thread.
pub(super) const WORTH_A_THREAD: usize = 1 << 18;

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
    let Some(with) = V3::try_new().filter(|_| b.columns <= LANES && a.column_stride == 1 && a.rows >= ROWS) else {
        return false;
    };
    let right = in_lanes(b);
    let target = Target { values: result, row_stride, column_stride: 1, onto, scale };
    let one = |row: usize| {
        let a = a.rows(row, TASK.min(a.rows - row));
        // SAFETY: the processor has these instructions; the rest is as the caller promises, and rows are this task's.
        unsafe { rows(with, (target, row), a, &right, b.columns) };
    };
    let tasks = (0..a.rows).step_by(TASK);
    match threads {
        Threads::All if a.rows * a.columns * LANES > WORTH_A_THREAD => {
            tasks.collect::<Vec<_>>().into_par_iter().for_each(one);
        }
        _ => tasks.for_each(one),
    }
    true
}

/// Rows of at most eight numbers, each in a register of its own, filled up with zeros.
pub(super) fn in_lanes(matrix: MatrixView<'_>) -> Vec<[f32; LANES]> {
    let mut rows = vec![[0.0f32; LANES]; matrix.rows];
    for (row, lanes) in rows.iter_mut().enumerate() {
        lanes.iter_mut().take(matrix.columns).enumerate().for_each(|(lane, to)| *to = matrix.at(row, lane));
    }
    rows
}

/// Some rows, put into the target from a row on.
///
/// # Safety
/// They lie there, `width` entries each, and are nobody else's.
#[target_feature(enable = "avx2,fma")]
unsafe fn rows(with: V3, (target, first): (Target, usize), a: MatrixView<'_>, right: &[[f32; LANES]], width: usize) {
    for row in (0..a.rows).step_by(ROWS) {
        let count = ROWS.min(a.rows - row);
        // Where there are fewer rows, the last is there several times.
        let of = |index: usize| &a.values[(row + index.min(count - 1)) * a.row_stride..][..a.columns];
        let left: [&[f32]; ROWS] = std::array::from_fn(of);
        for (slice, right) in right.chunks(CUT).enumerate() {
            let mut chains = [_mm256_setzero_ps(); ROWS];
            for (term, right) in (slice * CUT..).zip(right) {
                if term % LINE == 0 {
                    // The rows after these: processors do not foresee so many.
                    let ahead = |row: &&[f32]| row.as_ptr().wrapping_add(ROWS * a.row_stride + term);
                    left.iter().map(ahead).for_each(|at| prefetch(at, 1));
                }
                // SAFETY: there are eight numbers.
                let right = unsafe { _mm256_loadu_ps(right.as_ptr()) };
                for (chain, left) in chains.iter_mut().zip(&left) {
                    // SAFETY: a row has an entry for each term.
                    let entry = unsafe { _mm256_broadcast_ss(left.get_unchecked(term)) };
                    *chain = _mm256_fmadd_ps(entry, right, *chain);
                }
            }
            let target = target.of_slice(slice);
            for (index, chain) in chains.into_iter().enumerate().take(count) {
                let mut sums = [0.0f32; LANES];
                // SAFETY: there are eight numbers; the rest is as the caller promises.
                unsafe {
                    _mm256_storeu_ps(sums.as_mut_ptr(), chain);
                    target.put(Fused(with), (first + row + index, 0), &sums[..width]);
                }
            }
        }
    }
}
