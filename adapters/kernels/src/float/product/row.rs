//! One row times columns of which each lies together, a token times weights: every entry of a column is used once, so
//! that putting columns next to each other in memory would take longer than the sums. They are turned in registers, and
//! read from end to end.

use std::arch::x86_64::*;
use std::borrow::Cow;

use pulp::x86::V3;
use rayon::prelude::*;

use super::super::fused::Fused;
use super::layout::prefetch;
use super::matrix::{CUT, LINE, MatrixView, Onto, Threads};
use super::target::Target;

/// Columns of a task.
const TASK: usize = 64;
/// Multiplications of such a product, which waits for memory, that outweigh handing them to another thread.
const WORTH_A_THREAD: usize = 1 << 16;
/// Groups of eight columns whose chains run side by side.
const ABREAST: usize = 4;

/// [`super::product_at`], over any number of terms, if this processor has a kernel for it and it is such a product; says
/// whether it was.
///
/// # Safety
/// As there.
pub(super) unsafe fn product(
    result: *mut f32,
    onto: Onto,
    scale: f32,
    (a, b): (MatrixView<'_>, MatrixView<'_>),
    threads: Threads,
) -> bool {
    let Some(with) = kernel(a, b) else { return false };
    let target = Target { values: result, row_stride: 0, column_stride: 1, onto, scale };
    let one = |column: usize| {
        let b = b.columns(column, TASK.min(b.columns - column));
        // SAFETY: the processor has these instructions; the rest is as the caller promises, and columns are this task's.
        unsafe { row(with, (target, (0, column)), a, b) };
    };
    let tasks = (0..b.columns).step_by(TASK);
    match threads {
        Threads::All if a.columns * b.columns > WORTH_A_THREAD => {
            tasks.collect::<Vec<_>>().into_par_iter().for_each(one);
        }
        _ => tasks.for_each(one),
    }
    true
}

/// The same, of a block that begins at an entry of the result, on this thread.
///
/// # Safety
/// It lies in the result, and nobody else may be using it.
pub(super) unsafe fn block(at: (Target, (usize, usize)), a: MatrixView<'_>, b: MatrixView<'_>) -> bool {
    let Some(with) = kernel(a, b) else { return false };
    // SAFETY: the processor has these instructions; the rest is as the caller promises.
    unsafe { row(with, at, a, b) };
    true
}

/// What computes it, if the processor has that and it is such a product.
fn kernel(a: MatrixView<'_>, b: MatrixView<'_>) -> Option<V3> {
    V3::try_new().filter(|_| a.rows == 1 && b.row_stride == 1 && b.column_stride != 1)
}

/// Some columns, put into the target from an entry on.
///
/// # Safety
/// They lie there, and are nobody else's.
#[target_feature(enable = "avx2,fma")]
unsafe fn row(with: V3, (target, at): (Target, (usize, usize)), a: MatrixView<'_>, b: MatrixView<'_>) {
    let left: Cow<'_, [f32]> = match a.column_stride {
        1 => Cow::Borrowed(&a.values[..a.columns]),
        _ => Cow::Owned((0..a.columns).map(|term| a.at(0, term)).collect()),
    };
    for first in (0..b.columns).step_by(8 * ABREAST) {
        let width = (8 * ABREAST).min(b.columns - first);
        let groups = width / 8;
        let ahead = b.values.as_ptr().wrapping_add((first + width) * b.column_stride);
        for cut in (0..a.columns).step_by(CUT) {
            let terms = CUT.min(a.columns - cut);
            let left = &left[cut..cut + terms];
            let column = |lane: usize| &b.values[(first + lane) * b.column_stride + cut..][..terms];
            let columns: [*const f32; 8 * ABREAST] =
                std::array::from_fn(|lane| if lane < 8 * groups { column(lane).as_ptr() } else { std::ptr::null() });
            let (columns, _) = columns.as_chunks::<8>();
            let mut chains = [_mm256_setzero_ps(); ABREAST];
            let whole = terms / 8 * 8;
            // Where columns begin whole pages apart, few lines of them fit the first cache: each is used up at once.
            for line in (0..whole).step_by(LINE) {
                // The processor does not foresee so many columns, but lines as they lie: those of the next ones.
                prefetch(ahead.wrapping_add((cut + line) * 8 * ABREAST), 8 * ABREAST * LINE);
                for (chain, columns) in chains.iter_mut().zip(&columns[..groups]) {
                    for term in (line..whole.min(line + LINE)).step_by(8) {
                        // SAFETY: eight entries from `term` on lie in each column.
                        *chain = unsafe { eight_terms(*chain, &left[term..term + 8], columns, term) };
                    }
                }
            }
            let mut sums = [0.0f32; 8 * ABREAST];
            for (chain, sums) in chains.into_iter().zip(sums.chunks_exact_mut(8)) {
                // SAFETY: there are eight.
                unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), chain) };
            }
            for (lane, sum) in sums[..width].iter_mut().enumerate() {
                let from = if lane < 8 * groups { whole } else { 0 };
                for (&a, &b) in left[from..].iter().zip(&column(lane)[from..]) {
                    *sum = a.mul_add(b, *sum);
                }
            }
            let target = target.of_slice(cut);
            // SAFETY: these entries lie in the result and belong to this task alone.
            unsafe { target.put(Fused(with), (at.0, at.1 + first), &sums[..width]) };
        }
    }
}

/// Adds eight terms to the chains of eight columns, one after another.
///
/// # Safety
/// Eight entries from `term` on lie in each column.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn eight_terms(mut chain: __m256, left: &[f32], columns: &[*const f32; 8], term: usize) -> __m256 {
    for (half, left) in left.chunks_exact(4).enumerate() {
        // Four terms of two columns a register, so that turning them stays in its halves.
        let mut pairs = [_mm256_setzero_ps(); 4];
        for (lane, pair) in pairs.iter_mut().enumerate() {
            let at = |column: usize| columns[column].wrapping_add(term + 4 * half);
            // SAFETY: as the caller promises.
            *pair = unsafe {
                _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(_mm_loadu_ps(at(lane))), _mm_loadu_ps(at(lane + 4)))
            };
        }
        let [a, b, c, d] = pairs;
        let low = [_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d)];
        let high = [_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d)];
        let turned = [
            _mm256_shuffle_ps::<0x44>(low[0], low[1]),
            _mm256_shuffle_ps::<0xee>(low[0], low[1]),
            _mm256_shuffle_ps::<0x44>(high[0], high[1]),
            _mm256_shuffle_ps::<0xee>(high[0], high[1]),
        ];
        for (turned, &a) in turned.into_iter().zip(left) {
            chain = _mm256_fmadd_ps(_mm256_set1_ps(a), turned, chain);
        }
    }
    chain
}
