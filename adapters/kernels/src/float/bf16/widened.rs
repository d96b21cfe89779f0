//! Products in bf16 by fused multiply-adds of f32. Lanes of registers are entries of the result; a panel of them goes past
//! some rows, whose terms lie side by side.

use std::mem::MaybeUninit;

use rayon::prelude::*;

use super::super::fused::{self, FusedKernel, Instruction};
use super::super::product::{MatrixView, Onto, lay_panels, lay_strip, tile};
use super::matrix::{Bf16Matrix, Bf16Side, GROUP, wide};
use super::numbers::rounded;
use crate::vectors::vectorised;

/// Rows of a task: enough that the panels, which lie in memory, are not waited for.
const TASK: usize = 48;
/// Entries of the widest panel.
const MOST_LANES: usize = 32;

/// As [`super::product`], with or without the processor's own fused multiply-add.
pub(super) fn product(fused: bool, x: &[f32], weight: Bf16Matrix<'_>, side: Bf16Side) -> Vec<f32> {
    let (terms, entries) = weight.sides(side);
    let panels = WidePanels::new(fused, weight, side);
    let mut result = vec![0.0; x.len() / terms * entries];
    result.par_chunks_mut(TASK * entries).zip(x.par_chunks(TASK * terms)).for_each(|(result, x)| {
        panels.product((result, entries), Onto::Nothing, 1.0, MatrixView::new(x, terms), entries);
    });
    result
}

/// Weights in panels of two registers' entries. Of a panel the terms lie together, and zeros where there are none.
pub(super) struct WidePanels {
    values: Vec<f32>,
    terms: usize,
    fused: bool,
}

impl WidePanels {
    pub(super) fn new(fused: bool, weight: Bf16Matrix<'_>, side: Bf16Side) -> Self {
        let (terms, entries) = weight.sides(side);
        let [_, lanes] = tile(fused);
        let panel = terms.next_multiple_of(GROUP) * lanes;
        let mut values = vec![0.0f32; entries.div_ceil(lanes) * panel];
        if !values.is_empty() {
            let all = wide(weight);
            let (_, d_in) = weight.sides(Bf16Side::Outputs);
            let right = MatrixView::new(&all, d_in);
            let right = if side == Bf16Side::Inputs { right.t() } else { right };
            values.par_chunks_exact_mut(panel).enumerate().for_each(|(index, panel)| {
                let first = index * lanes;
                lay_panels(&mut panel[..terms * lanes], right.columns(first, lanes.min(entries - first)), lanes);
            });
        }
        Self { values, terms, fused }
    }

    /// As [`super::Bf16Panels::product`].
    pub(super) fn product(
        &self,
        (result, stride): (&mut [f32], usize),
        onto: Onto,
        scale: f32,
        a: MatrixView<'_>,
        columns: usize,
    ) {
        fused::run(self.fused, WideRows { result, stride, onto, scale, a, panels: self, columns });
    }
}

/// Some rows times all panels.
struct WideRows<'a> {
    result: &'a mut [f32],
    stride: usize,
    onto: Onto,
    scale: f32,
    a: MatrixView<'a>,
    panels: &'a WidePanels,
    columns: usize,
}

impl FusedKernel for WideRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<I: Instruction>(self, with: I) {
        match I::ROWS {
            8 => self.strips::<8, I>(with),
            6 => self.strips::<6, I>(with),
            _ => self.strips::<4, I>(with),
        }
    }
}

impl WideRows<'_> {
    #[inline(always)]
    fn strips<const R: usize, I: Instruction>(self, with: I) {
        let Self { result, stride, onto, scale, a, panels, columns } = self;
        let lanes = 2 * I::WIDTH;
        let all = result.len().min(a.rows * stride);
        let result = &mut result[..all];
        let (whole, wanted) = (panels.terms.next_multiple_of(GROUP), a.columns.next_multiple_of(GROUP));
        let left = dense(a);
        let rows = MatrixView::new(&left, if a.column_stride == 1 { a.columns } else { a.rows });
        let rows = if a.column_stride == 1 { rows } else { rows.t() };
        // Of each term the rows of a strip, and zeros for terms that there are not.
        let entries = a.rows.div_ceil(R) * wanted * R;
        let mut strips = Vec::with_capacity(entries);
        let room = &mut strips.spare_capacity_mut()[..entries];
        room.fill(MaybeUninit::new(0.0));
        for (index, strip) in room.chunks_exact_mut(wanted * R).enumerate() {
            let first = index * R;
            lay_strip(&mut strip[..a.columns * R], R, rows.rows(first, R.min(a.rows - first)));
        }
        // SAFETY: all were written.
        unsafe { strips.set_len(entries) };
        let (strips, _) = strips.as_chunks::<R>();
        for (panel, first) in panels.values.chunks_exact(whole * lanes).zip((0..columns).step_by(lanes)) {
            let width = lanes.min(columns - first);
            for (strip, rows) in strips.chunks_exact(wanted).zip(result.chunks_mut(R * stride)) {
                let sums = sums::<R, I>(with, strip, panel);
                for (row, sums) in rows.chunks_mut(stride).zip(sums) {
                    let mut values = [0.0; MOST_LANES];
                    let (one, other) = values[..lanes].split_at_mut(I::WIDTH);
                    with.store(one, sums[0]);
                    with.store(other, sums[1]);
                    for (to, &sum) in row[first..][..width].iter_mut().zip(&values) {
                        *to = if onto == Onto::Nothing { scale * sum } else { with.fma(scale, sum, *to) };
                    }
                }
            }
        }
    }
}

/// Sums of `R` rows along a panel: to what there is of them each group adds the sum of its two chains.
#[inline(always)]
fn sums<const R: usize, I: Instruction>(with: I, strip: &[[f32; R]], panel: &[f32]) -> [[I::Lanes; 2]; R] {
    let lanes = 2 * I::WIDTH;
    let sum = |a, b| with.add_product(a, with.splat(1.0), b);
    let mut sums = [[with.splat(0.0); 2]; R];
    for (strip, panel) in strip.chunks_exact(GROUP).zip(panel.chunks_exact(GROUP * lanes)) {
        let [even, odd] = [0, 1].map(|from| chain::<R, I>(with, strip, panel, from));
        for (row, sums) in sums.iter_mut().enumerate() {
            for (half, total) in sums.iter_mut().enumerate() {
                *total = sum(*total, sum(even[row][half], odd[row][half]));
            }
        }
    }
    sums
}

/// Chains of `R` rows along a panel, from zero: every second term from one of the first two on.
#[inline(always)]
fn chain<const R: usize, I: Instruction>(
    with: I,
    strip: &[[f32; R]],
    panel: &[f32],
    from: usize,
) -> [[I::Lanes; 2]; R] {
    let mut chains = [[with.splat(0.0); 2]; R];
    let terms = strip.iter().zip(panel.chunks_exact(2 * I::WIDTH)).skip(from).step_by(2);
    for (x, panel) in terms {
        let right = [with.load(&panel[..I::WIDTH]), with.load(&panel[I::WIDTH..])];
        for (chain, &x) in chains.iter_mut().zip(x) {
            let x = with.splat(x);
            *chain = [with.add_product(x, right[0], chain[0]), with.add_product(x, right[1], chain[1])];
        }
    }
    chains
}

/// A matrix rounded, its rows one after another, or its columns where those lie together.
fn dense(matrix: MatrixView<'_>) -> Vec<f32> {
    let rows = if matrix.column_stride == 1 { matrix } else { matrix.t() };
    assert!(rows.column_stride == 1, "rows or columns lie together");
    let mut all = vec![0.0f32; rows.rows * rows.columns];
    vectorised(
        #[inline(always)]
        || {
            for (row, to) in all.chunks_exact_mut(rows.columns).enumerate() {
                let from = &rows.values[row * rows.row_stride..][..rows.columns];
                to.iter_mut().zip(from).for_each(|(to, &x)| *to = rounded(x));
            }
        },
    );
    all
}
