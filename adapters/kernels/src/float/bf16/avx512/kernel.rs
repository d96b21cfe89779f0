//! What is put together for registers and tiles, and what multiplies it.

use super::super::super::product::{MatrixView, Onto};
use super::super::matrix::GROUP;

/// Words of a register, and entries of a panel, which are computed side by side.
pub(super) const LANES: usize = 16;
pub(super) const WIDTH: usize = 2 * LANES;
/// Words of a group.
pub(super) const WORDS: usize = GROUP / 2;

/// What multiplies rows and weights that are put together, on a processor that has what that takes.
pub(crate) trait Bf16Kernel: Copy + Sync {
    /// Rows of a strip: those that are put together, and computed at once.
    const ROWS: usize;
    /// Groups of which the weights of a panel, or the rows of a strip, stay in the first cache.
    const SLICE: usize;
    /// Most panels that stay in the second cache while all rows pass by them.
    const PANELS: usize;
    /// Multiplications that outweigh handing them to another thread.
    const WORTH_A_THREAD: usize;
    /// Which terms of a group stand at its places, from the lower half of the first word on, if not each at its own.
    const ORDER: Option<&[u16; GROUP]>;

    /// Rounds at most [`Self::ROWS`] rows, and puts words of all of them together. `to` has room for whole groups and rows.
    fn put_strip(self, to: &mut [u32], rows: MatrixView<'_>);
    /// Does some work in which [`Self::sums`] are wanted.
    fn during<R>(self, work: impl FnOnce() -> R) -> R;
    /// Sums of a strip and a panel, put where they belong.
    ///
    /// # Safety
    /// The block lies there and is nobody else's; the caller is called by [`Self::during`].
    unsafe fn sums(self, left: &[u32], right: &[[u32; WIDTH]], block: Bf16Block);
}

/// A block of the result, `rows` times `width` from `at` on, with rows `stride` entries apart: what stands there is written
/// over, or added to.
#[derive(Clone, Copy)]
pub(crate) struct Bf16Block {
    pub(super) at: *mut f32,
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) add: bool,
}

/// Puts sums where they belong, `width` in each row: `r = scale c`, or `r = fma(scale, c, r)`.
pub(super) fn finish<'a>(
    (result, stride): (&mut [f32], usize),
    onto: Onto,
    scale: f32,
    sums: impl Iterator<Item = &'a [f32]>,
    width: usize,
) {
    #[target_feature(enable = "avx512f")]
    fn put(row: &mut [f32], onto: Onto, scale: f32, sums: &[f32]) {
        let entries = row.iter_mut().zip(sums);
        match onto {
            Onto::Nothing => entries.for_each(|(r, sum)| *r = scale * sum),
            Onto::Present => entries.for_each(|(r, &sum)| *r = scale.mul_add(sum, *r)),
        }
    }
    for (row, sums) in result.chunks_mut(stride).zip(sums) {
        // SAFETY: there is a kernel, which has found the instructions.
        unsafe { put(&mut row[..width], onto, scale, sums) }
    }
}
