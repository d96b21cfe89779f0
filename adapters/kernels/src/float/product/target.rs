//! Where chains end.

use super::super::fused::Instruction;
use super::layout::prefetch;
use super::matrix::Onto;

/// Where the entries of the result stand.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) values: *mut f32,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
    pub(super) onto: Onto,
    pub(super) scale: f32,
}

// SAFETY: tasks write to entries of their own rows and columns only, and no two tasks share an entry.
unsafe impl Sync for Target {}

impl Target {
    /// Of a slice of terms that begins with the term `first`: what is before it in the product was put before it.
    pub(super) fn of_slice(self, first: usize) -> Self {
        Self { onto: if first == 0 { self.onto } else { Onto::Present }, ..self }
    }

    /// Prefetches the first entries of some rows if they are to be added to.
    #[inline(always)]
    pub(super) fn fetch(self, (row, column): (usize, usize), count: usize) {
        if self.onto == Onto::Present {
            (row..row + count).for_each(|row| prefetch(self.values.wrapping_add(row * self.row_stride + column), 1));
        }
    }

    /// Ends chains of a row that begin at an entry: `r = scale c`, or `r = fma(scale, c, r)`.
    ///
    /// # Safety
    /// The entries must lie in the result, and nobody else may be using them.
    #[inline(always)]
    pub(super) unsafe fn put<I: Instruction>(self, with: I, (row, column): (usize, usize), sums: &[f32]) {
        for (lane, &sum) in sums.iter().enumerate() {
            // SAFETY: as the caller promises; it has been written if it is added to.
            unsafe {
                let entry = self.values.add(row * self.row_stride + (column + lane) * self.column_stride);
                entry.write(match self.onto {
                    Onto::Nothing => self.scale * sum,
                    Onto::Present => with.fma(self.scale, sum, entry.read()),
                });
            }
        }
    }

    /// As [`Self::put`], of two registers of entries that lie together.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub(super) unsafe fn put_lanes<I: Instruction>(self, with: I, (row, column): (usize, usize), sums: [I::Lanes; 2]) {
        debug_assert_eq!(self.column_stride, 1, "entries lie together");
        let scale = with.splat(self.scale);
        for (part, sums) in sums.into_iter().enumerate() {
            let mut values = [0.0; 16];
            let values = &mut values[..I::WIDTH];
            // SAFETY: as the caller promises; it has been written if it is added to.
            unsafe {
                let entries = self.values.add(row * self.row_stride + column + part * I::WIDTH);
                let lanes = match self.onto {
                    Onto::Nothing => with.product(scale, sums),
                    Onto::Present => {
                        with.add_product(scale, sums, with.load(std::slice::from_raw_parts(entries, I::WIDTH)))
                    }
                };
                with.store(values, lanes);
                entries.copy_from_nonoverlapping(values.as_ptr(), I::WIDTH);
            }
        }
    }
}
