//! Products in bf16 by fused multiply-adds of f32. Lanes of registers are entries of the result; a panel of them goes past
//! some rows, whose terms lie side by side.

use rayon::prelude::*;

use super::super::fused::{self, FusedKernel, Instruction};
use super::super::product::{MatrixView, Onto};
use super::matrix::{Bf16Matrix, Bf16Side, CHAIN, GROUP, rounded};

/// Rows of a task: enough that the panels, which lie in memory, are not waited for.
const TASK: usize = 48;
/// Entries of the widest panel.
const MOST_LANES: usize = 32;

/// Where a term stands: in its group those at even places come first.
fn place(term: usize) -> usize {
    term - term % GROUP + term % 2 * CHAIN + term % GROUP / 2
}

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
        let lanes = lanes(fused);
        let panel = terms.next_multiple_of(GROUP) * lanes;
        let mut values = vec![0.0f32; entries.div_ceil(lanes) * panel];
        values.par_chunks_exact_mut(panel.max(1)).enumerate().for_each(|(index, panel)| {
            let first = index * lanes;
            for term in 0..terms {
                let to = &mut panel[place(term) * lanes..][..lanes.min(entries - first)];
                to.iter_mut().enumerate().for_each(|(lane, to)| *to = weight.at(side, term, first + lane));
            }
        });
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

/// Entries of a panel.
fn lanes(fused: bool) -> usize {
    struct OfTwoRegisters;

    impl FusedKernel for OfTwoRegisters {
        type Output = usize;

        #[inline(always)]
        fn run<I: Instruction>(self, _: I) -> usize {
            2 * I::WIDTH
        }
    }

    fused::run(fused, OfTwoRegisters)
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
        // Of each term the rows of a strip.
        let mut strips = vec![[0.0f32; R]; a.rows.div_ceil(R) * wanted];
        for (index, strip) in strips.chunks_exact_mut(wanted).enumerate() {
            for term in 0..a.columns {
                let to = &mut strip[place(term)][..R.min(a.rows - index * R)];
                to.iter_mut().enumerate().for_each(|(row, to)| *to = rounded(a.at(index * R + row, term)));
            }
        }
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
        let even = chain::<R, I>(with, &strip[..CHAIN], &panel[..CHAIN * lanes]);
        let odd = chain::<R, I>(with, &strip[CHAIN..], &panel[CHAIN * lanes..]);
        for (row, sums) in sums.iter_mut().enumerate() {
            for (half, total) in sums.iter_mut().enumerate() {
                *total = sum(*total, sum(even[row][half], odd[row][half]));
            }
        }
    }
    sums
}

/// Chains of `R` rows along a panel, from zero.
#[inline(always)]
fn chain<const R: usize, I: Instruction>(with: I, strip: &[[f32; R]], panel: &[f32]) -> [[I::Lanes; 2]; R] {
    let mut chains = [[with.splat(0.0); 2]; R];
    for (x, panel) in strip.iter().zip(panel.chunks_exact(2 * I::WIDTH)) {
        let right = [with.load(&panel[..I::WIDTH]), with.load(&panel[I::WIDTH..])];
        for (chain, &x) in chains.iter_mut().zip(x) {
            let x = with.splat(x);
            *chain = [with.add_product(x, right[0], chain[0]), with.add_product(x, right[1], chain[1])];
        }
    }
    chains
}
