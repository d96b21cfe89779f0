//! How factors are put for the registers: columns side by side in panels, rows side by side in strips.

use std::mem::MaybeUninit;

use super::matrix::{LINE, MatrixView};

/// Rows that are on their way from memory while one is laid out.
const AHEAD: usize = 12;

/// Puts the columns of a matrix into panels, which lie one after another.
pub(in super::super) fn lay_panels(values: &mut [f32], matrix: MatrixView<'_>, lanes: usize) {
    let panel = matrix.rows * lanes;
    if matrix.column_stride != 1 {
        for (index, panel) in values.chunks_exact_mut(panel.max(1)).enumerate() {
            let first = index * lanes;
            lay_columns(panel, matrix.columns(first, lanes.min(matrix.columns - first)), lanes);
        }
        return;
    }
    for row in 0..matrix.rows {
        let from = &matrix.values[row * matrix.row_stride..][..matrix.columns];
        if row + AHEAD < matrix.rows {
            prefetch(matrix.values.as_ptr().wrapping_add((row + AHEAD) * matrix.row_stride), matrix.columns);
        }
        for (index, from) in from.chunks(lanes).enumerate() {
            // Line by line, which is some registers, and not a call that copies memory.
            let (lines, rest) = from.as_chunks::<LINE>();
            let (to, to_rest) = values[index * panel + row * lanes..][..from.len()].as_chunks_mut::<LINE>();
            to.iter_mut().zip(lines).for_each(|(to, line)| *to = *line);
            to_rest.copy_from_slice(rest);
        }
    }
}

/// Prefetches so many numbers into the second cache, wherever that is: rows lie far apart, which processors do not foresee.
#[inline(always)]
pub(in super::super) fn prefetch<T>(first: *const T, count: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..count).step_by(LINE * size_of::<f32>() / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: an address is named, not read.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(first.wrapping_add(at).cast()) };
    }
    // Where there is no such instruction, nothing is named.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (first, count);
}

/// Writes all of a strip: of each term as many numbers as a group has rows, zeros where the matrix has fewer.
pub(in super::super) fn lay_strip(strip: &mut [MaybeUninit<f32>], group: usize, rows: MatrixView<'_>) {
    #[cfg(target_arch = "x86_64")]
    let done = if rows.column_stride == 1 && (6..=8).contains(&group) && is_x86_feature_detected!("avx") {
        // SAFETY: AVX was detected.
        unsafe { lay_rows(strip, group, rows) }
    } else {
        0
    };
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    for (term, to) in strip.chunks_exact_mut(group).enumerate().skip(done) {
        for (row, to) in to.iter_mut().enumerate() {
            to.write(if row < rows.rows { rows.at(row, term) } else { 0.0 });
        }
    }
}

/// Puts columns next to each other, and zeros where there are fewer than lanes.
#[inline(always)]
pub(super) fn pack(packed: &mut Vec<f32>, columns: MatrixView<'_>, lanes: usize) {
    packed.resize(columns.rows * lanes, 0.0);
    if columns.columns < lanes {
        packed.fill(0.0);
    }
    lay_columns(packed, columns, lanes);
}

/// Puts columns next to each other where there are `lanes` entries for each row.
#[inline(always)]
fn lay_columns(packed: &mut [f32], columns: MatrixView<'_>, lanes: usize) {
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    #[cfg(target_arch = "x86_64")]
    let turns = columns.row_stride == 1 && is_x86_feature_detected!("avx");
    #[cfg(target_arch = "x86_64")]
    let done = if turns { columns.columns / 8 * 8 } else { 0 };
    #[cfg(target_arch = "x86_64")]
    if turns {
        for first in (0..done).step_by(8) {
            let column = |lane| &columns.values[(first + lane) * columns.column_stride..][..columns.rows];
            // SAFETY: AVX was detected.
            unsafe { transpose(&mut packed[first..], lanes, std::array::from_fn(column)) };
        }
    }
    for (term, to) in packed.chunks_exact_mut(lanes).enumerate() {
        (done..columns.columns).for_each(|lane| to[lane] = columns.at(term, lane));
    }
}

/// Eight registers of eight numbers, the first of each in the first, and so on.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx")]
fn turned(mut rows: [std::arch::x86_64::__m256; 8]) -> [std::arch::x86_64::__m256; 8] {
    use std::arch::x86_64::*;

    let mut turned = rows;
    for i in 0..4 {
        turned[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        turned[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    for i in [0, 4] {
        rows[i] = _mm256_shuffle_ps::<0x44>(turned[i], turned[i + 2]);
        rows[i + 1] = _mm256_shuffle_ps::<0xee>(turned[i], turned[i + 2]);
        rows[i + 2] = _mm256_shuffle_ps::<0x44>(turned[i + 1], turned[i + 3]);
        rows[i + 3] = _mm256_shuffle_ps::<0xee>(turned[i + 1], turned[i + 3]);
    }
    for i in 0..4 {
        turned[i] = _mm256_permute2f128_ps::<0x20>(rows[i], rows[i + 4]);
        turned[i + 4] = _mm256_permute2f128_ps::<0x31>(rows[i], rows[i + 4]);
    }
    turned
}

/// Eight columns, each of which lies together, into rows of `lanes` entries.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn transpose(to: &mut [f32], lanes: usize, columns: [&[f32]; 8]) {
    use std::arch::x86_64::*;

    let terms = columns[0].len();
    assert!(columns.iter().all(|column| column.len() == terms), "columns are equally long");
    assert!(terms == 0 || (terms - 1) * lanes + 8 <= to.len(), "rows have eight lanes");
    let whole = terms / 8 * 8;
    for first in (0..whole).step_by(8) {
        let mut rows = [_mm256_setzero_ps(); 8];
        for (row, column) in rows.iter_mut().zip(columns) {
            // SAFETY: eight entries from `first` on lie in a column.
            *row = unsafe { _mm256_loadu_ps(column.as_ptr().add(first)) };
        }
        for (term, values) in turned(rows).into_iter().enumerate() {
            // SAFETY: eight lanes of every term lie in `to`.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr().add((first + term) * lanes), values) };
        }
    }
    for term in whole..terms {
        for lane in 0..8 {
            to[term * lanes + lane] = columns[lane][term];
        }
    }
}

/// At most `group` rows, each of which lies together, term by term, `group` numbers a term, six to eight. Gives how many
/// terms it has written, from the first on.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
fn lay_rows(to: &mut [MaybeUninit<f32>], group: usize, rows: MatrixView<'_>) -> usize {
    use std::arch::x86_64::*;

    let terms = rows.columns;
    assert!(
        (6..=8).contains(&group) && rows.rows <= group && terms * group <= to.len() && rows.fits(),
        "a strip has room for its rows"
    );
    // A term is written with eight numbers, of which the last ones belong to the next term: there is to be one.
    let whole = terms.saturating_sub(1) / 8 * 8;
    for first in (0..whole).step_by(8) {
        let mut of = [_mm256_setzero_ps(); 8];
        for (row, of) in of.iter_mut().enumerate().take(rows.rows) {
            // SAFETY: eight entries from `first` on lie in a row.
            *of = unsafe { _mm256_loadu_ps(rows.values.as_ptr().add(row * rows.row_stride + first)) };
        }
        for (term, values) in turned(of).into_iter().enumerate() {
            // SAFETY: another term follows, and both have twelve numbers at least: all eight lie in the strip.
            unsafe { _mm256_storeu_ps(to.as_mut_ptr().add((first + term) * group).cast(), values) };
        }
    }
    whole
}
