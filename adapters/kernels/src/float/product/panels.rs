//! Products with a factor that is laid out for the registers first: its columns in panels as wide as two registers. A
//! block of panels stays in the second cache while all rows pass by it.
//!
//! Of a large product the rows of the other factor are laid out in strips, too, once for all blocks. Attention lays out
//! keys and values once for all its blocks of rows, and these rows are read as they lie.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::super::fused::{self, FusedKernel, Instruction, is_fused};
use super::chain::add_term;
use super::layout::{lay_panels, lay_strip};
use super::matrix::{CUT, MatrixView, Onto, Threads};
use super::target::Target;

/// Terms in one turn of the innermost loop, which is unrolled.
const TERMS: usize = 4;
/// Panels of a block: with [`CUT`] terms a quarter of a second cache, or half of one.
const BLOCK: usize = 4;
/// Rows that are laid out at a time, and numbers of them.
const MOST_ROWS: usize = 1024;
const LAID: usize = 1 << 21;
/// Rows for which a block of panels is worth laying out, where there are so many.
const FEWEST_ROWS: usize = 128;
/// Tasks for each thread, so that none waits long for the last one.
const TASKS: usize = 8;

/// A matrix in panels. Of a panel the rows lie together; where there are fewer columns, zeros stand beside them.
pub struct Panels {
    values: Vec<f32>,
    rows: usize,
    columns: usize,
    lanes: usize,
    fused: bool,
}

impl Panels {
    /// Of a matrix.
    pub fn new(matrix: MatrixView<'_>) -> Self {
        Self::with(is_fused(), matrix)
    }

    /// As [`Self::new`], for products with or without the processor's own fused multiply-add.
    pub(super) fn with(fused: bool, matrix: MatrixView<'_>) -> Self {
        let lanes = tile(fused)[1];
        let mut values = vec![0.0; matrix.rows * matrix.columns.next_multiple_of(lanes)];
        lay_panels(&mut values, matrix, lanes);
        Self { values, rows: matrix.rows, columns: matrix.columns, lanes, fused }
    }
}

/// Rows of a group and columns of a panel.
pub(in super::super) fn tile(fused: bool) -> [usize; 2] {
    struct Tile;

    impl FusedKernel for Tile {
        type Output = [usize; 2];

        #[inline(always)]
        fn run<I: Instruction>(self, _: I) -> [usize; 2] {
            [I::ROWS, 2 * I::WIDTH]
        }
    }

    fused::run(fused, Tile)
}

/// [`super::product`] of `a`, on the caller's thread, with the first rows of `b`, as many as `a` has columns, and the first
/// `columns` columns of these.
///
/// # Panics
/// If there are fewer, or the result does not lie in its slice.
pub fn panel_product(
    (result, row_stride): (&mut [f32], usize),
    onto: Onto,
    scale: f32,
    a: MatrixView<'_>,
    (b, columns): (&Panels, usize),
) {
    let (m, k) = (a.rows, a.columns);
    assert!(k <= b.rows && columns <= b.columns, "the right factor must have these rows and columns");
    assert!(a.fits(), "the left factor must lie in its slice");
    if m == 0 || columns == 0 {
        return;
    }
    assert!(
        columns <= row_stride && (m - 1) * row_stride + columns <= result.len(),
        "the result must lie in its slice"
    );
    if k == 0 {
        if onto == Onto::Nothing {
            result.chunks_mut(row_stride).take(m).for_each(|row| row[..columns].fill(0.0));
        }
        return;
    }
    let target = Target { values: result.as_mut_ptr(), row_stride, column_stride: 1, onto, scale };
    for first in (0..k).step_by(CUT) {
        let terms = CUT.min(k - first);
        let target = target.of_slice(first);
        let left = LeftFactor::AsItLies(a.columns(first, terms));
        for from in (0..columns).step_by(BLOCK * b.lanes) {
            let columns = (columns - from).min(BLOCK * b.lanes);
            let panels = &b.values[from * b.rows..];
            let block = PanelBlock { target, at: (0, from), left, panels, rows_of_panel: b.rows, first, columns };
            // SAFETY: the result lies in its slice, which is borrowed mutably.
            unsafe { block.put(b.fused) };
        }
    }
}

/// [`super::product_at`] by panels of the right factor and strips of the left one.
///
/// # Safety
/// As there.
pub(super) unsafe fn product(
    fused: bool,
    (result, row_stride): (*mut f32, usize),
    onto: Onto,
    scale: f32,
    (a, b): (MatrixView<'_>, MatrixView<'_>),
    threads: Threads,
) {
    let (m, k) = (a.rows, a.columns);
    assert!(k == b.rows && a.fits() && b.fits(), "the factors must lie in their slices and fit");
    if b.columns == 0 {
        return;
    }
    let most = (LAID / m.clamp(1, MOST_ROWS) / CUT).max(1) * CUT;
    for row in (0..m).step_by(MOST_ROWS) {
        let a = a.rows(row, MOST_ROWS.min(m - row));
        for first in (0..k).step_by(most) {
            let terms = most.min(k - first);
            let target = Target { values: result, row_stride, column_stride: 1, onto, scale }.of_slice(first);
            // SAFETY: as the caller promises.
            unsafe { by_strips(fused, (target, row), (a.columns(first, terms), b.rows(first, terms)), threads) };
        }
    }
}

/// A product of rows that are laid out at once, put into the target from a row on.
///
/// # Safety
/// It lies there, and nobody else has these rows.
unsafe fn by_strips(
    fused: bool,
    (target, from): (Target, usize),
    (a, b): (MatrixView<'_>, MatrixView<'_>),
    threads: Threads,
) {
    let (k, n) = (a.columns, b.columns);
    let [group, lanes] = tile(fused);
    let strips = Strips::new(a, group, threads);
    let wanted = match threads {
        Threads::One => 1,
        Threads::All => TASKS * rayon::current_num_threads(),
    };
    // Smaller blocks rather than fewer rows: what is laid out for a task is used by all of its rows.
    let mut block = BLOCK * lanes;
    while block > lanes && n.div_ceil(block) < wanted {
        block /= 2;
    }
    let parts = wanted.div_ceil(n.div_ceil(block)).min(a.rows / FEWEST_ROWS).max(1);
    let rows = a.rows.div_ceil(parts).next_multiple_of(group);
    let one = |panels: &mut Vec<f32>, (row, column): (usize, usize)| {
        let columns = block.min(n - column);
        let b = b.columns(column, columns);
        for first in (0..k).step_by(CUT) {
            let terms = CUT.min(k - first);
            // What stands beside a narrow last panel is multiplied, and these sums are not put anywhere.
            panels.resize(terms * columns.next_multiple_of(lanes), 0.0);
            lay_panels(panels, b.rows(first, terms), lanes);
            let left = LeftFactor::Strips { strips: &strips, first, terms, row, rows: rows.min(a.rows - row) };
            let (target, at) = (target.of_slice(first), (from + row, column));
            let block = PanelBlock { target, at, left, panels, rows_of_panel: terms, first: 0, columns };
            // SAFETY: as the caller promises; no two tasks have an entry in common.
            unsafe { block.put(fused) };
        }
    };
    let tasks = (0..n).step_by(block).flat_map(|column| (0..a.rows).step_by(rows).map(move |row| (row, column)));
    match threads {
        Threads::One => {
            let mut panels = Vec::new();
            tasks.for_each(|task| one(&mut panels, task));
        }
        Threads::All => tasks.collect::<Vec<_>>().into_par_iter().for_each_init(Vec::new, one),
    }
}

/// Rows in groups, slice after slice. Of a group the terms lie one after another, and zeros where there are fewer rows.
struct Strips {
    values: Vec<f32>,
    /// Rows, with those of zeros.
    rows: usize,
    group: usize,
}

impl Strips {
    fn new(matrix: MatrixView<'_>, group: usize, threads: Threads) -> Self {
        let rows = matrix.rows.next_multiple_of(group);
        let mut values = Vec::with_capacity(rows * matrix.columns);
        let room = &mut values.spare_capacity_mut()[..rows * matrix.columns];
        for (index, slice) in room.chunks_mut(rows * CUT).enumerate() {
            let terms = slice.len() / rows;
            let slice_of = matrix.columns(index * CUT, terms);
            let one = |(index, strip): (usize, &mut [MaybeUninit<f32>])| {
                let first = index * group;
                lay_strip(strip, group, slice_of.rows(first, group.min(matrix.rows - first)));
            };
            match threads {
                Threads::One => slice.chunks_exact_mut(terms * group).enumerate().for_each(one),
                Threads::All => slice.par_chunks_exact_mut(terms * group).enumerate().for_each(one),
            }
        }
        // SAFETY: every strip of every slice was written.
        unsafe { values.set_len(rows * matrix.columns) };
        Self { values, rows, group }
    }
}

/// The left factor of a block: one slice of terms.
#[derive(Clone, Copy)]
enum LeftFactor<'a> {
    AsItLies(MatrixView<'a>),
    /// `rows` rows from `row` on, the first of a group, and `terms` terms from `first` on, the first of a slice.
    Strips {
        strips: &'a Strips,
        first: usize,
        terms: usize,
        row: usize,
        rows: usize,
    },
}

/// Some rows times some panels. Whoever makes one sees to it that rows and columns lie in the factors and in the result,
/// in which they begin at `at`, and that nobody else has these entries.
struct PanelBlock<'a> {
    target: Target,
    at: (usize, usize),
    left: LeftFactor<'a>,
    panels: &'a [f32],
    rows_of_panel: usize,
    /// The row of the panels that is the first term.
    first: usize,
    columns: usize,
}

impl FusedKernel for PanelBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Instruction>(self, with: I) {
        match I::ROWS {
            8 => self.groups::<8, I>(with),
            6 => self.groups::<6, I>(with),
            _ => self.groups::<4, I>(with),
        }
    }
}

impl PanelBlock<'_> {
    /// Puts the product into the result.
    ///
    /// # Safety
    /// As of the whole.
    unsafe fn put(self, fused: bool) {
        fused::run(fused, self);
    }

    #[inline(always)]
    fn groups<const R: usize, I: Instruction>(self, with: I) {
        match self.left {
            LeftFactor::Strips { strips, first, terms, row, rows } => {
                assert_eq!(strips.group, R, "strips are as high as a tile");
                let slice = &strips.values[first * strips.rows..][..terms * strips.rows];
                let strips = slice[row * terms..].chunks_exact(R * terms);
                for (at, strip) in (0..rows).step_by(R).zip(strips) {
                    // SAFETY: a strip has a number for each row and term; the result is as whoever made this says.
                    unsafe { self.group::<R, I>(with, (at, R.min(rows - at)), terms, strip.as_ptr(), (1, R)) };
                }
            }
            LeftFactor::AsItLies(a) => {
                let terms = a.columns;
                let mut strip = Vec::new();
                for row in (0..a.rows).step_by(R) {
                    let rows = a.rows(row, R.min(a.rows - row));
                    let (at, values) = ((row, rows.rows), rows.values.as_ptr());
                    // SAFETY: so many rows lie in the factor, or in the strip; the result is as whoever made this says.
                    // Each call is compiled for the stride that is 1.
                    unsafe {
                        match (a.row_stride, a.column_stride) {
                            (row_stride, 1) if rows.rows == R => {
                                self.group::<R, I>(with, at, terms, values, (row_stride, 1))
                            }
                            (1, column_stride) if rows.rows == R => {
                                self.group::<R, I>(with, at, terms, values, (1, column_stride));
                            }
                            _ => {
                                strip.reserve(R * terms);
                                lay_strip(&mut strip.spare_capacity_mut()[..R * terms], R, rows);
                                self.group::<R, I>(with, at, terms, strip.as_ptr(), (1, R));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Chains of `R` rows along every panel. Those of the first `count` rows are put into the result.
    ///
    /// # Safety
    /// `R` rows of `terms` entries lie at `left`, so many entries apart, and those of the result in it.
    #[inline(always)]
    unsafe fn group<const R: usize, I: Instruction>(
        &self,
        with: I,
        (row, count): (usize, usize),
        terms: usize,
        left: *const f32,
        strides: (usize, usize),
    ) {
        let lanes = 2 * I::WIDTH;
        let panels = self.panels.chunks_exact(self.rows_of_panel * lanes).zip((0..self.columns).step_by(lanes));
        for (panel, column) in panels {
            let right = &panel[self.first * lanes..][..terms * lanes];
            let width = lanes.min(self.columns - column);
            let at = (self.at.0 + row, self.at.1 + column);
            self.target.fetch(at, count);
            // SAFETY: as the caller promises.
            unsafe {
                let chains = chains::<R, I>(with, left, strides, right);
                for (row, chains) in chains.iter().enumerate().take(count) {
                    let at = (at.0 + row, at.1);
                    if width == lanes {
                        self.target.put_lanes(with, at, *chains);
                    } else {
                        let mut sums = [0.0; 32];
                        with.store(&mut sums[..I::WIDTH], chains[0]);
                        with.store(&mut sums[I::WIDTH..lanes], chains[1]);
                        self.target.put(with, at, &sums[..width]);
                    }
                }
            }
        }
    }
}

/// Chains of `R` rows along a panel.
///
/// # Safety
/// `R` rows of as many entries as `right` has rows lie at `left`, so many entries apart.
#[inline(always)]
unsafe fn chains<const R: usize, I: Instruction>(
    with: I,
    left: *const f32,
    (row_stride, column_stride): (usize, usize),
    right: &[f32],
) -> [[I::Lanes; 2]; R] {
    let lanes = 2 * I::WIDTH;
    let mut chains = [[with.splat(0.0); 2]; R];
    let mut left = left;
    let mut turns = right.chunks_exact(TERMS * lanes);
    for turn in &mut turns {
        for (term, right) in turn.chunks_exact(lanes).enumerate() {
            // SAFETY: as the caller promises.
            unsafe { add_term(with, &mut chains, (left.wrapping_add(term * column_stride), row_stride), right) };
        }
        left = left.wrapping_add(TERMS * column_stride);
    }
    for (term, right) in turns.remainder().chunks_exact(lanes).enumerate() {
        // SAFETY: as the caller promises.
        unsafe { add_term(with, &mut chains, (left.wrapping_add(term * column_stride), row_stride), right) };
    }
    chains
}
