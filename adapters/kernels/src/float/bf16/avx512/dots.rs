//! By `vdpbf16ps`, which adds two terms to each of sixteen sums: `c = fma(a1, b1, c)`, then `c = fma(a0, b0, c)`. Words
//! are put together anew from two terms of one chain, so that eight instructions compute a chain.

use std::arch::x86_64::*;

use super::super::super::product::MatrixView;
use super::super::matrix::GROUP;
use super::kernel::{Bf16Block, Bf16Kernel, LANES, WIDTH, WORDS};
use super::words::{by_words, first_bits};

/// Terms of a chain.
const CHAIN: usize = GROUP / 2;
/// Words of a chain.
pub(super) const OF_A_CHAIN: usize = CHAIN / 2;
/// Rows of which both chains and the sums stay in registers.
const AT_ONCE: usize = 4;

/// A processor that has the instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dots(());

impl Dots {
    pub(crate) fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bf16");
        has.then_some(Self(()))
    }
}

impl Bf16Kernel for Dots {
    const ROWS: usize = LANES;
    const SLICE: usize = 16;
    const PANELS: usize = 8;
    const WORTH_A_THREAD: usize = 1 << 19;
    /// The even chain, then the odd one. Of two terms in a word that which is added first stands above.
    const ORDER: Option<&[u16; GROUP]> = Some(&{
        let mut order = [0; GROUP];
        let mut at = 0;
        while at < OF_A_CHAIN {
            let term = 4 * at as u16;
            (order[2 * at], order[2 * at + 1]) = (term + 2, term);
            (order[CHAIN + 2 * at], order[CHAIN + 2 * at + 1]) = (term + 3, term + 1);
            at += 1;
        }
        order
    });

    fn put_strip(self, to: &mut [u32], rows: MatrixView<'_>) {
        // SAFETY: `detect` has found the instructions.
        unsafe { put_strip(to, rows) }
    }

    fn during<R>(self, work: impl FnOnce() -> R) -> R {
        work()
    }

    unsafe fn sums(self, left: &[u32], right: &[[u32; WIDTH]], block: Bf16Block) {
        // SAFETY: as the caller promises; `detect` has found the instructions.
        unsafe {
            for first in (0..block.rows).step_by(AT_ONCE) {
                let rows = AT_ONCE.min(block.rows - first);
                let left = &left[first..];
                let block = Bf16Block { at: block.at.wrapping_add(first * block.stride), rows, ..block };
                match rows {
                    1 => sums::<1>(left, right, block),
                    2 => sums::<2>(left, right, block),
                    _ => sums::<AT_ONCE>(left, right, block),
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn put_strip(to: &mut [u32], rows: MatrixView<'_>) {
    const { assert!(Dots::ROWS == LANES) };
    let (lines, _) = to.as_chunks_mut::<LANES>();
    for (group, lines) in lines.chunks_exact_mut(WORDS).enumerate() {
        for (line, words) in lines.iter_mut().zip(by_words::<Dots>(rows, group * GROUP)) {
            // SAFETY: sixteen numbers.
            unsafe { _mm512_storeu_si512(line.as_mut_ptr().cast(), words) };
        }
    }
}

/// Sums of `R` rows, of which the block's are put where they belong. `left` begins with the first of them.
///
/// # Safety
/// The block lies there.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
unsafe fn sums<const R: usize>(left: &[u32], right: &[[u32; WIDTH]], block: Bf16Block) {
    let of = |row: usize, half: usize| {
        let mask = first_bits(block.width.saturating_sub(half * LANES).min(LANES));
        (mask, block.at.wrapping_add(row * block.stride + half * LANES))
    };
    let mut sums = [[_mm512_setzero_ps(); 2]; R];
    if block.add {
        for (row, sums) in sums.iter_mut().enumerate().take(block.rows) {
            for (half, sum) in sums.iter_mut().enumerate() {
                let (mask, from) = of(row, half);
                // SAFETY: as many entries as the mask has bits lie there.
                *sum = unsafe { _mm512_maskz_loadu_ps(mask, from) };
            }
        }
    }
    for (left, right) in left.chunks(WORDS * Dots::ROWS).zip(right.chunks_exact(WORDS)) {
        let (mut even, mut odd) = ([[_mm512_setzero_ps(); 2]; R], [[_mm512_setzero_ps(); 2]; R]);
        for word in 0..OF_A_CHAIN {
            for (chains, word) in [(&mut even, word), (&mut odd, OF_A_CHAIN + word)] {
                link(chains, &left[word * Dots::ROWS..][..R], &right[word]);
            }
        }
        for (sums, (even, odd)) in sums.iter_mut().zip(even.into_iter().zip(odd)) {
            for (sum, (even, odd)) in sums.iter_mut().zip(even.into_iter().zip(odd)) {
                *sum = _mm512_add_ps(*sum, _mm512_add_ps(even, odd));
            }
        }
    }
    for (row, sums) in sums.into_iter().enumerate().take(block.rows) {
        for (half, sum) in sums.into_iter().enumerate() {
            let (mask, to) = of(row, half);
            // SAFETY: as many entries as the mask has bits lie there.
            unsafe { _mm512_mask_storeu_ps(to, mask, sum) };
        }
    }
}

/// Adds two terms of each row, a word of them, to chains of all entries.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn link<const R: usize>(chains: &mut [[__m512; 2]; R], left: &[u32], right: &[u32; WIDTH]) {
    // SAFETY: 16 words each lie in the array of 32; both types are 512 bits.
    let right: [__m512bh; 2] = unsafe {
        [0, LANES]
            .map(|from| std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(right[from..].as_ptr().cast())))
    };
    for (chains, &word) in chains.iter_mut().zip(left) {
        // SAFETY: both types are 512 bits.
        let word = unsafe { std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(word.cast_signed())) };
        *chains = [_mm512_dpbf16_ps(chains[0], word, right[0]), _mm512_dpbf16_ps(chains[1], word, right[1])];
    }
}
