//! How factors become words of two terms, side by side.

use std::arch::x86_64::*;

use half::bf16;

use super::super::super::product::{MatrixView, prefetch};
use super::super::matrix::{Bf16Matrix, GROUP};
use super::super::numbers::{LEAST, LEAST_BITS};
use super::kernel::{Bf16Kernel, LANES, WIDTH, WORDS};

/// A mask of so many lanes, at most sixteen.
pub(super) fn first_bits(count: usize) -> __mmask16 {
    (1u32 << count).wrapping_sub(1) as u16
}

/// A mask of so many lanes, at most thirty-two.
fn first_halves(count: usize) -> __mmask32 {
    1u32.checked_shl(count as u32).unwrap_or(0).wrapping_sub(1)
}

/// Two registers of factors, rounded, one after the other.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn rounded(halves: [__m512; 2]) -> __m512i {
    let kept = halves.map(|x| {
        // What is no number is kept, too.
        let large = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_abs_ps(x), _mm512_set1_ps(LEAST));
        _mm512_maskz_mov_ps(large, x)
    });
    // SAFETY: both types are 512 bits.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(kept[1], kept[0])) }
}

/// At most sixteen numbers.
#[inline]
#[target_feature(enable = "avx512f")]
fn numbers(x: &[f32]) -> __m512 {
    // SAFETY: as many numbers as the mask has bits lie in the slice.
    unsafe { _mm512_maskz_loadu_ps(first_bits(x.len().min(LANES)), x.as_ptr()) }
}

/// At most thirty-two numbers in bf16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn halves(x: &[bf16]) -> __m512i {
    match x.first_chunk::<GROUP>() {
        // SAFETY: as many numbers as a register has.
        Some(all) => unsafe { _mm512_loadu_epi16(all.as_ptr().cast()) },
        // SAFETY: as many numbers as the mask has bits lie in the slice.
        None => unsafe { _mm512_maskz_loadu_epi16(first_halves(x.len()), x.as_ptr().cast()) },
    }
}

/// Numbers in bf16 as they are multiplied: without the small ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn kept(x: __m512i) -> __m512i {
    let magnitude = _mm512_and_si512(x, _mm512_set1_epi16(0x7fff));
    let large = _mm512_cmpge_epu16_mask(magnitude, _mm512_set1_epi16(LEAST_BITS.cast_signed()));
    _mm512_maskz_mov_epi16(large, x)
}

/// Words of a number of one register and one of another, of either the sixteen numbers of its lower or its upper half.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleaved(even: __m512i, odd: __m512i, half: usize) -> __m512i {
    let wide = |x: __m512i| {
        let x = if half == 0 { _mm512_castsi512_si256(x) } else { _mm512_extracti64x4_epi64::<1>(x) };
        _mm512_cvtepu16_epi32(x)
    };
    _mm512_or_si512(wide(even), _mm512_slli_epi32::<16>(wide(odd)))
}

/// Which term of a group stands at a place.
fn term_at<K: Bf16Kernel>(place: usize) -> usize {
    K::ORDER.map_or(place, |order| order[place].into())
}

/// The words of a group, in the kernel's order of its terms.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn ordered<K: Bf16Kernel>(words: __m512i) -> __m512i {
    match const { K::ORDER } {
        // SAFETY: both types are 32 numbers of 16 bits.
        Some(order) => _mm512_permutexvar_epi16(unsafe { std::mem::transmute::<[u16; GROUP], __m512i>(*order) }, words),
        None => words,
    }
}

/// The words of a group of terms, from `first` on, of at most sixteen rows: a register has a row's words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn by_rows<K: Bf16Kernel>(rows: MatrixView<'_>, first: usize) -> [__m512i; LANES] {
    if rows.column_stride != 1 {
        return turned(by_words::<K>(rows, first));
    }
    let mut words = [_mm512_setzero_si512(); LANES];
    for (row, words) in words.iter_mut().enumerate().take(rows.rows) {
        let x = &rows.values[row * rows.row_stride..][..rows.columns][first..];
        // Of the rows after these, if there are any.
        prefetch(x.as_ptr().wrapping_add(LANES * rows.row_stride), GROUP);
        *words = ordered::<K>(rounded([numbers(x), numbers(&x[x.len().min(LANES)..])]));
    }
    words
}

/// As [`by_rows`]: a register has a word of every row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
pub(super) fn by_words<K: Bf16Kernel>(rows: MatrixView<'_>, first: usize) -> [__m512i; WORDS] {
    const { assert!(WORDS == LANES) };
    if rows.column_stride == 1 {
        return turned(by_rows::<K>(rows, first));
    }
    assert!(rows.row_stride == 1 && rows.fits(), "rows or columns lie together");
    let column = |term: usize| {
        let there = term < rows.columns;
        numbers(if there { &rows.values[term * rows.column_stride..][..rows.rows] } else { &[] })
    };
    let mut words = [_mm512_setzero_si512(); WORDS];
    for (word, words) in words.iter_mut().enumerate() {
        let both = rounded([0, 1].map(|half| column(first + term_at::<K>(2 * word + half))));
        *words = interleaved(both, _mm512_shuffle_i64x2::<0x0e>(both, both), 0);
    }
    words
}

/// Sixteen registers of sixteen numbers, the first of each in the first, and so on.
#[target_feature(enable = "avx512f")]
fn turned(mut rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut turned = rows;
    // Pairs, then fours, within each quarter of a register.
    for i in 0..LANES / 2 {
        turned[2 * i] = _mm512_unpacklo_epi32(rows[2 * i], rows[2 * i + 1]);
        turned[2 * i + 1] = _mm512_unpackhi_epi32(rows[2 * i], rows[2 * i + 1]);
    }
    for i in (0..LANES).step_by(4) {
        rows[i] = _mm512_unpacklo_epi64(turned[i], turned[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(turned[i], turned[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(turned[i + 1], turned[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(turned[i + 1], turned[i + 3]);
    }
    // Register 4 a + c has column 4 q + c of rows 4 a to 4 a + 3 in its quarter q.
    for c in 0..4 {
        let even = [
            _mm512_shuffle_i32x4::<0x88>(rows[c], rows[4 + c]),
            _mm512_shuffle_i32x4::<0x88>(rows[8 + c], rows[12 + c]),
        ];
        let odd = [
            _mm512_shuffle_i32x4::<0xdd>(rows[c], rows[4 + c]),
            _mm512_shuffle_i32x4::<0xdd>(rows[8 + c], rows[12 + c]),
        ];
        turned[c] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        turned[8 + c] = _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]);
        turned[4 + c] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        turned[12 + c] = _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]);
    }
    turned
}

/// The words of a group of terms of sixteen entries, which are rows of weights: a register has a word of every entry.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn column_words<K: Bf16Kernel>(rows: &[&[bf16]; LANES], group: usize) -> [__m512i; WORDS] {
    turned(rows.map(|row| ordered::<K>(kept(halves(row.get(group * GROUP..).unwrap_or_default())))))
}

/// As [`column_words`], of at most sixteen entries from `entry` on, where rows of weights are terms.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pair_words<K: Bf16Kernel>(
    weight: Bf16Matrix<'_>,
    (entry, width): (usize, usize),
    group: usize,
) -> [__m512i; WORDS] {
    let row = |term: usize| match weight.row(term) {
        [] => _mm512_setzero_si512(),
        row => kept(halves(&row[entry..][..width])),
    };
    std::array::from_fn(|word| {
        let [even, odd] = [0, 1].map(|half| row(group * GROUP + term_at::<K>(2 * word + half)));
        interleaved(even, odd, 0)
    })
}

/// A panel of weights whose rows are entries, from a term on.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn put_columns<K: Bf16Kernel>(
    to: &mut [[u32; WIDTH]],
    weight: Bf16Matrix<'_>,
    (entry, width): (usize, usize),
    first: usize,
) {
    let mut rows: [&[bf16]; WIDTH] = [&[]; WIDTH];
    rows.iter_mut().take(width).zip(entry..).for_each(|(row, entry)| *row = &weight.row(entry)[first..]);
    for (group, to) in to.as_chunks_mut::<WORDS>().0.iter_mut().enumerate() {
        for (half, rows) in rows.as_chunks::<LANES>().0.iter().enumerate() {
            for (to, words) in to.iter_mut().zip(column_words::<K>(rows, group)) {
                // SAFETY: sixteen numbers from either half on lie in the array.
                unsafe { _mm512_storeu_si512(to[half * LANES..][..LANES].as_mut_ptr().cast(), words) };
            }
        }
    }
}

/// A panel of weights whose rows are terms, from a term on.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn put_pairs<K: Bf16Kernel>(
    to: &mut [[u32; WIDTH]],
    weight: Bf16Matrix<'_>,
    (entry, width): (usize, usize),
    first: usize,
) {
    let row = |term: usize| match weight.row(term) {
        [] => _mm512_setzero_si512(),
        row => kept(halves(&row[entry..][..width])),
    };
    for (word, to) in to.iter_mut().enumerate() {
        let first = first + word / WORDS * GROUP;
        let [even, odd] = [0, 1].map(|half| row(first + term_at::<K>(word % WORDS * 2 + half)));
        for (half, to) in to.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            // SAFETY: sixteen numbers.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), interleaved(even, odd, half)) };
        }
    }
}
