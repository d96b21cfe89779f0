//! Sums of fused multiply-adds of our own, for products that `gemm` would add up in another order: small and thin
//! ones, and large ones where the processor has no fused multiply-add. Lanes are entries of the result, never terms
//! of one sum, so that an entry is the same however wide the registers are.

use std::borrow::Cow;

use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use super::super::fused::Fused;
use super::super::fused::{self, FusedKernel, Instruction, is_fused};
use super::layout::{pack, prefetch};
#[cfg(target_arch = "x86_64")]
use super::matrix::LINE;
use super::matrix::{CUT, MatrixView, Onto, Threads};

/// Terms for which columns are put together at a time: 32 KiB at most, a first cache.
const SLAB: usize = 128;
/// Rows and columns of one task: enough of both that putting the factors together does not count.
const TASK: [usize; 2] = [64, 256];
/// Multiplications that outweigh handing them to another thread.
const WORTH_A_THREAD: usize = 1 << 18;

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

/// [`super::product_at`] over at most [`CUT`] terms.
///
/// # Panics
/// If there are more.
///
/// # Safety
/// As there.
pub(super) unsafe fn product(
    result: (*mut f32, usize),
    onto: Onto,
    scale: f32,
    factors: (MatrixView<'_>, MatrixView<'_>),
    threads: Threads,
) {
    // SAFETY: as the caller promises.
    unsafe { run(is_fused(), result, onto, scale, factors, threads) }
}

/// Rows that are on their way from memory while one is multiplied by.
const AHEAD: usize = 16;

/// Columns of one task of a product of one row.
const ROW_TASK: usize = 64;
/// Multiplications of a product of one row, which waits for memory, that outweigh handing them to another thread.
const ROW_WORTH_A_THREAD: usize = 1 << 16;

/// [`super::product_at`] of one row with columns of which each lies together, a token times weights, over any number of
/// terms: weights are read once, as they lie. Says whether this processor has a kernel for it, and it is such a product.
///
/// # Safety
/// As there.
pub(super) unsafe fn row_product(
    result: *mut f32,
    onto: Onto,
    scale: f32,
    (a, b): (MatrixView<'_>, MatrixView<'_>),
    threads: Threads,
) -> bool {
    #[cfg(target_arch = "x86_64")]
    if let Some(with) = pulp::x86::V3::try_new() {
        let target = Target { values: result, row_stride: 0, column_stride: 1, onto, scale };
        let task = |column: usize| {
            let b = b.columns(column, ROW_TASK.min(b.columns - column));
            ProductBlock { target, at: (0, column), a, b }
        };
        if !task(0).is_row() {
            return false;
        }
        let tasks = (0..b.columns).step_by(ROW_TASK);
        // SAFETY: the processor has these instructions.
        let one = |column: usize| unsafe { task(column).row(Fused(with)) };
        match threads {
            Threads::All if a.columns * b.columns > ROW_WORTH_A_THREAD => {
                tasks.collect::<Vec<_>>().into_par_iter().for_each(one);
            }
            _ => tasks.for_each(one),
        }
        return true;
    }
    // Where there is none, nothing is read.
    let _ = (result, onto, scale, a, b, threads);
    false
}

/// As [`product`], with or without the processor's own fused multiply-add.
///
/// # Safety
/// As there.
pub(super) unsafe fn run(
    fused: bool,
    (result, row_stride): (*mut f32, usize),
    onto: Onto,
    scale: f32,
    (a, b): (MatrixView<'_>, MatrixView<'_>),
    threads: Threads,
) {
    assert!(a.columns <= CUT && a.columns == b.rows, "a chain has at most so many terms");
    let (m, n) = (a.rows, b.columns);
    let target = Target { values: result, row_stride, column_stride: 1, onto, scale };
    // Lanes lie along the dimension that is contiguous in memory, or else along the longer one.
    let turn = match (a.row_stride == 1, b.column_stride == 1) {
        (true, false) => true,
        (false, true) => false,
        _ => m > n,
    };
    let (target, a, b) = if turn {
        (Target { row_stride: 1, column_stride: row_stride, ..target }, b.t(), a.t())
    } else {
        (target, a, b)
    };
    let one = |(row, column): (usize, usize)| {
        let a = a.rows(row, TASK[0].min(a.rows - row));
        let b = b.columns(column, TASK[1].min(b.columns - column));
        let task = ProductBlock { target, at: (row, column), a, b };
        #[cfg(target_arch = "x86_64")]
        if let Some(with) = pulp::x86::V3::try_new().filter(|_| fused && task.is_row()) {
            // SAFETY: the processor has these instructions.
            unsafe { task.row(Fused(with)) };
            return;
        }
        fused::run(fused, task);
    };
    let tasks = (0..a.rows).step_by(TASK[0]);
    let tasks = tasks.flat_map(|row| (0..b.columns).step_by(TASK[1]).map(move |column| (row, column)));
    match threads {
        Threads::All if a.rows * b.columns * a.columns > WORTH_A_THREAD => {
            tasks.collect::<Vec<_>>().into_par_iter().for_each(one);
        }
        _ => tasks.for_each(one),
    }
}

/// Some rows times some columns, which begin at `at` in the result. Whoever makes one sees to it that they lie in the
/// result and that it is the only one that has them.
struct ProductBlock<'a> {
    target: Target,
    at: (usize, usize),
    a: MatrixView<'a>,
    b: MatrixView<'a>,
}

impl FusedKernel for ProductBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Instruction>(self, with: I) {
        let Self { target, at, a, b } = self;
        let (terms, lanes) = (a.columns, 2 * I::WIDTH);
        let groups = groups(a.rows, I::ROWS);
        // Rows of a group lie together, term by term.
        let mut left = Vec::with_capacity(a.rows * terms);
        for &(row, count) in &groups {
            let rows = a.rows(row, count);
            (0..terms).for_each(|term| left.extend((0..count).map(|row| rows.at(row, term))));
        }
        let mut sums = vec![0.0; a.rows * lanes];
        let mut packed = Vec::new();
        for column in (0..b.columns).step_by(lanes) {
            let width = lanes.min(b.columns - column);
            sums.fill(0.0);
            for first in (0..terms).step_by(SLAB) {
                let count = SLAB.min(terms - first);
                let slab = b.columns(column, width).rows(first, count);
                let right = if slab.column_stride == 1 && width == lanes {
                    (slab.values, slab.row_stride)
                } else {
                    pack(&mut packed, slab, lanes);
                    (packed.as_slice(), lanes)
                };
                for &(row, rows) in &groups {
                    let left = &left[row * terms + first * rows..][..count * rows];
                    let sums = &mut sums[row * lanes..][..rows * lanes];
                    match rows {
                        8 => tile::<8, I>(with, sums, left, right),
                        6 => tile::<6, I>(with, sums, left, right),
                        4 => tile::<4, I>(with, sums, left, right),
                        2 => tile::<2, I>(with, sums, left, right),
                        _ => tile::<1, I>(with, sums, left, right),
                    }
                }
            }
            for (row, sums) in sums.chunks_exact(lanes).enumerate() {
                // SAFETY: these entries lie in the result and belong to this task alone.
                unsafe { target.put(with, (at.0 + row, at.1 + column), &sums[..width]) };
            }
        }
    }
}

/// Groups of eight columns whose chains run side by side for a single row.
#[cfg(target_arch = "x86_64")]
const ABREAST: usize = 4;

#[cfg(target_arch = "x86_64")]
impl ProductBlock<'_> {
    /// Whether it is one row, and columns of which each lies together: a token times weights.
    fn is_row(&self) -> bool {
        self.a.rows == 1 && self.b.row_stride == 1 && self.b.column_stride != 1
    }

    /// [`ProductBlock::run`] of such a row, of any number of terms: every entry of a column is used once, so that putting
    /// columns next to each other in memory would take longer than the sums. They are turned in registers, and read from
    /// end to end.
    #[target_feature(enable = "avx2,fma")]
    fn row(self, with: Fused<pulp::x86::V3>) {
        use std::arch::x86_64::*;

        let Self { target, at, a, b } = self;
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
                    std::array::from_fn(
                        |lane| if lane < 8 * groups { column(lane).as_ptr() } else { std::ptr::null() },
                    );
                let (columns, _) = columns.as_chunks::<8>();
                let mut chains = [_mm256_setzero_ps(); ABREAST];
                let whole = terms / 8 * 8;
                // Where columns begin whole pages apart, few lines of them fit the first cache: each is used up at once.
                for line in (0..whole).step_by(LINE) {
                    // The processor does not foresee so many columns, but lines as they lie: those of the next ones.
                    for lane in 0..8 * ABREAST {
                        let at = ahead.wrapping_add((cut + line) * 8 * ABREAST + lane * LINE);
                        _mm_prefetch::<_MM_HINT_T1>(at.cast());
                    }
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
                let target = Target { onto: if cut == 0 { target.onto } else { Onto::Present }, ..target };
                // SAFETY: these entries lie in the result and belong to this task alone.
                unsafe { target.put(with, (at.0, at.1 + first), &sums[..width]) };
            }
        }
    }
}

/// Adds eight terms to the chains of eight columns, one after another.
///
/// # Safety
/// Eight entries from `term` on lie in each column.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn eight_terms(
    mut chain: std::arch::x86_64::__m256,
    left: &[f32],
    columns: &[*const f32; 8],
    term: usize,
) -> std::arch::x86_64::__m256 {
    use std::arch::x86_64::*;

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

/// Rows in groups of `most`, and what is left of them in powers of two: first row, how many.
fn groups(rows: usize, most: usize) -> Vec<(usize, usize)> {
    let mut groups = Vec::with_capacity(rows / most + 3);
    let mut row = 0;
    while row < rows {
        let count = if rows - row >= most { most } else { 1 << (rows - row).ilog2() };
        groups.push((row, count));
        row += count;
    }
    groups
}

/// Adds one term to the chains of `R` rows: an entry of each, times two registers. Every entry is put into its register as
/// it is read; of an array of them compilers make vectors, and take these apart.
///
/// # Safety
/// `R` entries lie at `left`, so many entries apart.
#[inline(always)]
pub(super) unsafe fn add_term<const R: usize, I: Instruction>(
    with: I,
    chains: &mut [[I::Lanes; 2]; R],
    (left, apart): (*const f32, usize),
    right: &[f32],
) {
    let (first, second) = right.split_at(I::WIDTH);
    let right = [with.load(first), with.load(second)];
    for (row, chains) in chains.iter_mut().enumerate() {
        // SAFETY: as the caller promises.
        let a = with.splat(unsafe { *left.add(row * apart) });
        *chains = [with.add_product(a, right[0], chains[0]), with.add_product(a, right[1], chains[1])];
    }
}

/// Adds terms to the chains of `R` rows, which are given term by term as the columns are.
#[inline(always)]
fn tile<const R: usize, I: Instruction>(with: I, sums: &mut [f32], left: &[f32], (right, stride): (&[f32], usize)) {
    let width = I::WIDTH;
    let mut chains: [[I::Lanes; 2]; R] =
        std::array::from_fn(|row| std::array::from_fn(|part| with.load(&sums[(2 * row + part) * width..][..width])));
    let (left, _) = left.as_chunks::<R>();
    for (term, left) in left.iter().enumerate() {
        if stride > 2 * width {
            prefetch(right.as_ptr().wrapping_add((term + AHEAD) * stride), 2 * width);
        }
        // SAFETY: the array has an entry for each row.
        unsafe { add_term(with, &mut chains, (left.as_ptr(), 1), &right[term * stride..][..2 * width]) };
    }
    for (row, chains) in chains.into_iter().enumerate() {
        for (part, chains) in chains.into_iter().enumerate() {
            with.store(&mut sums[(2 * row + part) * width..][..width], chains);
        }
    }
}
