//! Products in bf16 by `vdpbf16ps`. Lanes are entries of the result: a register of sums belongs to one row of the left
//! factor and sixteen entries of its result, and one instruction adds two terms to each.

use std::arch::x86_64::*;
use std::cell::RefCell;

use half::bf16;
use rayon::prelude::*;

use super::matrix::{Bf16Matrix, Bf16Side, CUT};

/// Rows of sums that are held at once, two registers each.
const ROWS: usize = 12;
/// Entries of a register, and of the two of a row.
const LANES: usize = 16;
const WIDTH: usize = 2 * LANES;
/// Pairs of terms of a chain.
const PAIRS: usize = CUT / 2;
/// Multiplications that outweigh handing them to another thread.
const WORTH_A_THREAD: usize = 1 << 19;
/// Rows for which entries are put together anew: enough that doing it does not count.
const TASK: usize = 128 * ROWS;

/// A processor that has the instruction.
#[derive(Clone, Copy)]
pub(super) struct Avx512Bf16(());

thread_local! {
    /// What a thread has put together of the weights, and of the left factor of a product that it asked for.
    static ENTRIES: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    static LEFT: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

/// The result of all tasks.
#[derive(Clone, Copy)]
struct Bf16Target(*mut f32);

// SAFETY: tasks write to rows and columns of their own only.
unsafe impl Send for Bf16Target {}
// SAFETY: as above.
unsafe impl Sync for Bf16Target {}

impl Avx512Bf16 {
    pub(super) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bf16");
        has.then_some(Self(()))
    }

    /// As [`super::product`].
    pub(super) fn product(self, x: &[f32], weight: Bf16Matrix<'_>, side: Bf16Side) -> Vec<f32> {
        let (terms, entries) = weight.sides(side);
        let (rows, pairs) = (x.len() / terms, terms.div_ceil(2));
        let mut result = Vec::with_capacity(rows * entries);
        // Kept between calls, and taken out while it is used: another product may run on this thread meanwhile.
        let mut left = LEFT.take();
        let needed = rows.next_multiple_of(ROWS) * pairs;
        if left.len() < needed {
            left.resize(needed, 0);
        }
        let worth = rows * terms * entries > WORTH_A_THREAD;
        let put = |(to, x): (&mut [u32], &[f32])| {
            // SAFETY: `detect` has found the instructions.
            unsafe { put_rows(to, x, terms) }
        };
        if worth {
            left.par_chunks_mut(ROWS * pairs).zip(x.par_chunks(ROWS * terms)).for_each(put);
        } else {
            left.chunks_mut(ROWS * pairs).zip(x.chunks(ROWS * terms)).for_each(put);
        }
        let target = Bf16Target(result.as_mut_ptr());
        let tasks = (0..rows).step_by(TASK).flat_map(|row| (0..entries).step_by(WIDTH).map(move |entry| (row, entry)));
        let one = |(row, entry): (usize, usize)| {
            let rows = row..rows.min(row + TASK);
            let task =
                Bf16Task { left: &left, rows, pairs, weight, side, entry, width: WIDTH.min(entries - entry), target };
            // SAFETY: `detect` has found the instructions. Rows and entries lie in the result, and are this task's.
            unsafe { task.run(entries) }
        };
        if worth {
            tasks.collect::<Vec<_>>().into_par_iter().for_each(one);
        } else {
            tasks.for_each(one);
        }
        LEFT.set(left);
        // SAFETY: there is room, and the tasks have written all rows and entries.
        unsafe { result.set_len(rows * entries) };
        result
    }
}

/// Rounds at most [`ROWS`] rows, and puts pairs of terms of all of them together, pair by pair.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn put_rows(to: &mut [u32], x: &[f32], terms: usize) {
    const { assert!(ROWS <= LANES) };
    for (block, to) in to.chunks_mut(LANES * ROWS).enumerate() {
        let first = block * 2 * LANES;
        let mut pairs = [_mm512_setzero_si512(); LANES];
        for (pairs, x) in pairs.iter_mut().zip(x.chunks_exact(terms)) {
            let x = &x[first..];
            let mut halves = [_mm512_setzero_ps(); 2];
            for (half, from) in halves.iter_mut().zip([0, LANES]) {
                let count = x.len().saturating_sub(from).min(LANES);
                // SAFETY: as many numbers as the mask has bits lie in the slice.
                *half = unsafe { _mm512_maskz_loadu_ps(first_bits(count), x.as_ptr().wrapping_add(from)) };
            }
            let both = _mm512_cvtne2ps_pbh(halves[1], halves[0]);
            // SAFETY: both types are 512 bits.
            *pairs = unsafe { std::mem::transmute::<__m512bh, __m512i>(both) };
        }
        for (to, pair) in to.chunks_exact_mut(ROWS).zip(turned(pairs)) {
            // SAFETY: there are so many numbers.
            unsafe { _mm512_mask_storeu_epi32(to.as_mut_ptr().cast(), first_bits(ROWS), pair) };
        }
    }
}

/// A mask of so many lanes, at most sixteen.
fn first_bits(count: usize) -> __mmask16 {
    (1u32 << count).wrapping_sub(1) as u16
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

/// Some rows times one group of entries.
struct Bf16Task<'a> {
    left: &'a [u32],
    rows: std::ops::Range<usize>,
    pairs: usize,
    weight: Bf16Matrix<'a>,
    side: Bf16Side,
    entry: usize,
    width: usize,
    target: Bf16Target,
}

impl Bf16Task<'_> {
    /// # Safety
    /// The result must have `entries` a row, the task's among them, and nobody else may use those.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn run(self, entries: usize) {
        let Self { left, rows, pairs, weight, side, entry, width, target } = self;
        let mut right = ENTRIES.take();
        right.resize(PAIRS * WIDTH, 0);
        for first in (0..pairs).step_by(PAIRS) {
            let count = PAIRS.min(pairs - first);
            match side {
                Bf16Side::Inputs => put_columns(&mut right, weight, (entry, width), (first, count)),
                Bf16Side::Outputs => put_pairs(&mut right, weight, (entry, width), (first, count)),
            }
            for row in rows.clone().step_by(ROWS) {
                let left = &left[row * pairs + first * ROWS..][..count * ROWS];
                let right = &right[..count * WIDTH];
                let held = ROWS.min(rows.end - row);
                let at = target.0.wrapping_add(row * entries + entry);
                let to = (at, entries, width, first > 0);
                // SAFETY: as the caller promises.
                unsafe {
                    match held {
                        1 => sums::<1>(left, right, to, held),
                        2 => sums::<2>(left, right, to, held),
                        3..=4 => sums::<4>(left, right, to, held),
                        5..=8 => sums::<8>(left, right, to, held),
                        _ => sums::<ROWS>(left, right, to, held),
                    }
                }
            }
        }
        ENTRIES.set(right);
    }
}

/// Pairs of terms that lie in rows of the weights, one row an entry.
#[target_feature(enable = "avx512f,avx512bw")]
fn put_columns(to: &mut [u32], weight: Bf16Matrix<'_>, (entry, width): (usize, usize), (first, count): (usize, usize)) {
    let d_in = weight.d_in;
    let terms = 2 * first..d_in.min(2 * (first + count));
    let row = |lane: usize| -> &[bf16] {
        if lane < width { &weight.values[(entry + lane) * d_in..][..d_in][terms.clone()] } else { &[] }
    };
    for (block, to) in to[..count * WIDTH].chunks_mut(LANES * WIDTH).enumerate() {
        for half in [0, LANES] {
            let mut pairs = [_mm512_setzero_si512(); LANES];
            for (lane, pairs) in pairs.iter_mut().enumerate() {
                let row = row(half + lane);
                let row = &row[(block * WIDTH).min(row.len())..];
                let mask = 1u32.checked_shl(row.len().min(WIDTH) as u32).unwrap_or(0).wrapping_sub(1);
                // SAFETY: as many numbers as the mask has bits lie in the slice.
                *pairs = unsafe { _mm512_maskz_loadu_epi16(mask, row.as_ptr().cast()) };
            }
            for (to, pair) in to.chunks_exact_mut(WIDTH).zip(turned(pairs)) {
                // SAFETY: sixteen numbers from either half on lie in the chunk.
                unsafe { _mm512_storeu_si512(to[half..][..LANES].as_mut_ptr().cast(), pair) };
            }
        }
    }
}

/// Pairs of terms that lie in two rows of the weights, one below the other.
#[target_feature(enable = "avx512f,avx512bw")]
fn put_pairs(to: &mut [u32], weight: Bf16Matrix<'_>, (entry, width): (usize, usize), (first, count): (usize, usize)) {
    let mask = 1u32.checked_shl(width as u32).unwrap_or(0).wrapping_sub(1);
    let row = |term: usize| {
        let row = weight.values.get(term * weight.d_in..(term + 1) * weight.d_in);
        // SAFETY: `width` entries lie in a row from there on; of a row that is not there none is read.
        row.map_or(_mm512_setzero_si512(), |row| unsafe {
            _mm512_maskz_loadu_epi16(mask, row[entry..entry + width].as_ptr().cast())
        })
    };
    for (pair, to) in to.chunks_exact_mut(WIDTH).take(count).enumerate() {
        let term = 2 * (first + pair);
        let (even, odd) = (row(term), row(term + 1));
        for (half, to) in to.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let wide = |x: __m512i| {
                let x = if half == 0 { _mm512_castsi512_si256(x) } else { _mm512_extracti64x4_epi64::<1>(x) };
                _mm512_cvtepu16_epi32(x)
            };
            let pairs = _mm512_or_si512(wide(even), _mm512_slli_epi32::<16>(wide(odd)));
            // SAFETY: sixteen numbers.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), pairs) };
        }
    }
}

/// Chains of `R` rows, of which `held` are there, from zero; put in the place of, or added to, what stands at `to`:
/// its address, entries from row to row, entries wanted, and whether to add.
///
/// # Safety
/// `held` rows of so many entries lie at the address.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn sums<const R: usize>(
    left: &[u32],
    right: &[u32],
    (to, stride, width, add): (*mut f32, usize, usize, bool),
    held: usize,
) {
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    for (left, right) in left.as_chunks::<ROWS>().0.iter().zip(right.as_chunks::<WIDTH>().0) {
        // SAFETY: 16 pairs each lie in the array of 32; both types are 512 bits.
        let right: [__m512bh; 2] = unsafe {
            [0, LANES]
                .map(|from| std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(right[from..].as_ptr().cast())))
        };
        for (sums, &pair) in sums.iter_mut().zip(left) {
            // SAFETY: both types are 512 bits.
            let pair = unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair.cast_signed())) };
            *sums = [_mm512_dpbf16_ps(sums[0], pair, right[0]), _mm512_dpbf16_ps(sums[1], pair, right[1])];
        }
    }
    for (row, sums) in sums.iter().take(held).enumerate() {
        for (half, &sum) in sums.iter().enumerate() {
            let count = width.saturating_sub(half * LANES).min(LANES);
            let mask = first_bits(count);
            let to = to.wrapping_add(row * stride + half * LANES);
            // SAFETY: as many entries as the mask has bits lie there.
            unsafe {
                let sum = if add { _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), sum) } else { sum };
                _mm512_mask_storeu_ps(to, mask, sum);
            }
        }
    }
}
