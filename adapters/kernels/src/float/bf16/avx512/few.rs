//! Few rows, those of a token or of some sequences: a weight is used for so few sums that putting words of it into memory
//! would take longer. They are put together in registers, for sixteen entries at a time.

use std::arch::x86_64::*;

use half::bf16;
use rayon::prelude::*;

use super::super::super::product::{MatrixView, Onto};
use super::super::matrix::{Bf16Matrix, Bf16Side, GROUP};
use super::dots::{Dots, OF_A_CHAIN};
use super::kernel::{LANES, WORDS, finish};
use super::words::{by_rows, column_words, first_bits, pair_words};

/// Most rows.
pub(crate) const FEW: usize = 8;
/// Weights that outweigh handing them to another thread.
const WORTH_A_THREAD: usize = 1 << 18;
/// Entries of a task.
const TASK: usize = 4 * LANES;

/// As [`super::super::product`], if there are few rows.
pub(crate) fn product(dots: Dots, x: &[f32], weight: Bf16Matrix<'_>, side: Bf16Side) -> Option<Vec<f32>> {
    let (terms, entries) = weight.sides(side);
    let x = MatrixView::new(x, terms);
    let rows = x.rows;
    let left = FewRows::new(dots, x)?;
    // Entries of a task lie together, row by row.
    let mut blocks = vec![0.0; rows * entries];
    let one = |(index, block): (usize, &mut [f32])| {
        let (first, width) = (index * TASK, block.len() / rows);
        let part = weight.part(side, 0..terms, first..first + width);
        left.product((block, width), part, side);
    };
    if terms * entries > WORTH_A_THREAD {
        blocks.par_chunks_mut(rows * TASK).enumerate().for_each(one);
    } else {
        blocks.chunks_mut(rows * TASK).enumerate().for_each(one);
    }
    if rows == 1 {
        return Some(blocks);
    }
    let mut result = vec![0.0; rows * entries];
    for (index, block) in blocks.chunks(rows * TASK).enumerate() {
        let width = block.len() / rows;
        for (row, from) in block.chunks_exact(width).enumerate() {
            result[row * entries + index * TASK..][..width].copy_from_slice(from);
        }
    }
    Some(result)
}

/// Some rows as words of the kernel, group by group, filled up with rows of zeros to a power of two.
struct FewRows {
    words: Vec<[u32; WORDS]>,
    rows: usize,
    /// Rows with those of zeros.
    room: usize,
}

impl FewRows {
    /// `None` if there are more rows than few, or none.
    fn new(_: Dots, x: MatrixView<'_>) -> Option<Self> {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
        fn put(words: &mut [[u32; WORDS]], room: usize, x: MatrixView<'_>) {
            for (group, words) in words.chunks_exact_mut(room).enumerate() {
                for (to, words) in words.iter_mut().zip(by_rows::<Dots>(x, group * GROUP)) {
                    // SAFETY: sixteen numbers.
                    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), words) };
                }
            }
        }
        let (rows, room) = (x.rows, x.rows.next_power_of_two());
        if !(1..=FEW).contains(&rows) {
            return None;
        }
        let mut words = vec![[0; WORDS]; x.columns.div_ceil(GROUP) * room];
        // SAFETY: there is a `Dots`, which has found the instructions.
        unsafe { put(&mut words, room, x) };
        Some(Self { words, rows, room })
    }

    /// Their product with all entries of the weights, on the caller's thread, into rows that are so many entries apart.
    fn product(&self, result: (&mut [f32], usize), weight: Bf16Matrix<'_>, side: Bf16Side) {
        let Self { words, rows, room } = self;
        // SAFETY: there was a `Dots`, which has found the instructions.
        unsafe {
            match room {
                1 => few::<1>(words, *rows, weight, side, result),
                2 => few::<2>(words, *rows, weight, side, result),
                4 => few::<4>(words, *rows, weight, side, result),
                _ => few::<FEW>(words, *rows, weight, side, result),
            }
        }
    }
}

/// `scale` times the product of some rows with all of the weights, or that added to what stands in `result`, whose rows are so
/// many entries apart, on the caller's thread.
pub(crate) fn product_onto(
    dots: Dots,
    (result, stride): (&mut [f32], usize),
    onto: Onto,
    scale: f32,
    a: MatrixView<'_>,
    (weight, side): (Bf16Matrix<'_>, Bf16Side),
) {
    let (_, entries) = weight.sides(side);
    for first in (0..a.rows).step_by(FEW) {
        let left = FewRows::new(dots, a.rows(first, FEW.min(a.rows - first))).expect("few rows");
        let result = &mut result[first * stride..];
        if onto == Onto::Nothing && scale == 1.0 {
            left.product((result, stride), weight, side);
            continue;
        }
        let mut sums = vec![0.0; left.rows * entries];
        left.product((&mut sums, entries), weight, side);
        finish((result, stride), onto, scale, sums.chunks_exact(entries), entries);
    }
}

/// Of `R` rows those that there are.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn few<const R: usize>(
    left: &[[u32; WORDS]],
    rows: usize,
    weight: Bf16Matrix<'_>,
    side: Bf16Side,
    (result, stride): (&mut [f32], usize),
) {
    let (_, entries) = weight.sides(side);
    let (left, _) = left.as_chunks::<R>();
    for entry in (0..entries).step_by(LANES) {
        let width = LANES.min(entries - entry);
        let mut sums = [_mm512_setzero_ps(); R];
        match side {
            Bf16Side::Inputs => {
                let columns: [&[bf16]; LANES] =
                    std::array::from_fn(|lane| if lane < width { weight.row(entry + lane) } else { &[] });
                for (group, left) in left.iter().enumerate() {
                    weight.fetch((entry + LANES, LANES), group * GROUP);
                    add(&mut sums, left, column_words::<Dots>(&columns, group));
                }
            }
            Bf16Side::Outputs => {
                for (group, left) in left.iter().enumerate() {
                    add(&mut sums, left, pair_words::<Dots>(weight, (entry, width), group));
                }
            }
        }
        for (row, sum) in sums.into_iter().enumerate().take(rows) {
            let to = &mut result[row * stride + entry..][..width];
            // SAFETY: as many entries as the mask has bits lie in the slice.
            unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), first_bits(width), sum) };
        }
    }
}

/// Adds a group of terms to the sums of all rows.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn add<const R: usize>(sums: &mut [__m512; R], left: &[[u32; WORDS]; R], right: [__m512i; WORDS]) {
    for (sum, left) in sums.iter_mut().zip(left) {
        let chain = |first: usize| {
            (first..first + OF_A_CHAIN).fold(_mm512_setzero_ps(), |chain, word| {
                // SAFETY: both types are 512 bits.
                let [left, right] = [_mm512_set1_epi32(left[word].cast_signed()), right[word]]
                    .map(|words| unsafe { std::mem::transmute::<__m512i, __m512bh>(words) });
                _mm512_dpbf16_ps(chain, left, right)
            })
        };
        let (even, odd) = (chain(0), chain(OF_A_CHAIN));
        *sum = _mm512_add_ps(*sum, _mm512_add_ps(even, odd));
    }
}
