//! Causal grouped-query attention over sequences that lie one after another. Scores and
//! probabilities exist for a block of rows at a time and are computed again for the gradient.

use rayon::prelude::*;

use super::elementary::{exp, largest, reduce};
use super::product::{Matrix, Onto, Threads, product};

/// Rows of queries treated at once.
const BLOCK: usize = 64;

/// Query and key heads, and the features of one; `query` is a multiple of `key_value`.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Query heads.
    pub query: usize,
    /// Key and value heads.
    pub key_value: usize,
    /// Features of one head.
    pub dim: usize,
}

/// One sequence: its rows of queries, which are the last of its positions, and its positions.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// First row in the queries.
    pub row: usize,
    /// Rows of queries.
    pub rows: usize,
    /// First row in the keys and values.
    pub position: usize,
    /// Rows of keys and values.
    pub positions: usize,
}

/// Queries `(rows, query * dim)`, keys and values `(positions, key_value * dim)`.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    /// Queries.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
}

/// One head of queries of one sequence.
struct Head<'a> {
    q: Matrix<'a>,
    k: Matrix<'a>,
    v: Matrix<'a>,
    span: Span,
    scale: f32,
}

impl<'a> Head<'a> {
    fn new(operands: Operands<'a>, shape: Shape, span: Span, head: usize) -> Self {
        let Shape { query, key_value, dim } = shape;
        let group = head / (query / key_value);
        let keys = |x| Matrix::new(x, key_value * dim).rows(span.position, span.positions).columns(group * dim, dim);
        let q = Matrix::new(operands.q, query * dim).rows(span.row, span.rows).columns(head * dim, dim);
        Self { q, k: keys(operands.k), v: keys(operands.v), span, scale: 1.0 / (dim as f32).sqrt() }
    }

    /// Blocks of rows: first row, rows, positions that the block sees.
    fn blocks(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let Span { rows, positions, .. } = self.span;
        (0..rows).step_by(BLOCK).map(move |first| {
            let count = BLOCK.min(rows - first);
            (first, count, positions - rows + first + count)
        })
    }

    /// Probabilities of a block of rows into `p` `(count, seen)`.
    fn probabilities(&self, p: &mut [f32], (first, count, seen): (usize, usize, usize)) {
        let scores = (self.q.rows(first, count), self.k.rows(0, seen).t());
        product((p, seen), Onto::Nothing, self.scale, scores, Threads::One);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for (r, row) in p.chunks_exact_mut(seen).enumerate() {
                    // Row r of the block sees all but the positions of the rows after it.
                    let (row, hidden) = row.split_at_mut(seen - (count - 1 - r));
                    let largest = largest(row);
                    row.iter_mut().for_each(|x| *x = exp(*x - largest));
                    let inverse = 1.0 / reduce([row], |[x]| x);
                    row.iter_mut().for_each(|x| *x *= inverse);
                    hidden.fill(0.0);
                }
            },
        );
    }
}

/// The result, shaped as the queries.
///
/// # Panics
/// If the shapes do not agree.
pub fn attention(operands: Operands<'_>, shape: Shape, spans: &[Span]) -> Vec<f32> {
    let Shape { query, dim, .. } = shape;
    let mut result = vec![0.0; operands.q.len()];
    let tasks: Vec<_> = spans.iter().flat_map(|&span| (0..query).map(move |head| (span, head))).collect();
    let outputs: Vec<Vec<f32>> = tasks
        .par_iter()
        .map(|&(span, head)| {
            let view = Head::new(operands, shape, span, head);
            let mut y = vec![0.0; span.rows * dim];
            let mut p = vec![0.0; BLOCK.min(span.rows) * span.positions];
            for block @ (first, count, seen) in view.blocks() {
                let p = &mut p[..count * seen];
                view.probabilities(p, block);
                let factors = (Matrix::new(p, seen), view.v.rows(0, seen));
                product((&mut y[first * dim..], dim), Onto::Nothing, 1.0, factors, Threads::One);
            }
            y
        })
        .collect();
    for ((span, head), y) in tasks.into_iter().zip(outputs) {
        place(&mut result, y.as_slice(), (span.row, query * dim), head * dim, dim);
    }
    result
}

/// Gradients of [`attention`] with respect to queries, keys and values, given that of its result.
///
/// # Panics
/// If the shapes do not agree.
pub fn attention_backward(operands: Operands<'_>, shape: Shape, spans: &[Span], gradient: &[f32]) -> [Vec<f32>; 3] {
    let Shape { query, key_value, dim } = shape;
    let group = query / key_value;
    let (mut dq, mut dk, mut dv) =
        (vec![0.0; operands.q.len()], vec![0.0; operands.k.len()], vec![0.0; operands.v.len()]);
    let tasks: Vec<_> = spans.iter().flat_map(|&span| (0..query).map(move |head| (span, head))).collect();
    let outputs: Vec<[Vec<f32>; 3]> = tasks
        .par_iter()
        .map(|&(span, head)| {
            let view = Head::new(operands, shape, span, head);
            let g = Matrix::new(gradient, query * dim).rows(span.row, span.rows).columns(head * dim, dim);
            let mut dq = vec![0.0; span.rows * dim];
            let (mut dk, mut dv) = (vec![0.0; span.positions * dim], vec![0.0; span.positions * dim]);
            let mut scratch = [(); 2].map(|()| vec![0.0; BLOCK.min(span.rows) * span.positions]);
            for block @ (first, count, seen) in view.blocks() {
                let [p, ds] = scratch.each_mut().map(|it| &mut it[..count * seen]);
                view.probabilities(p, block);
                let g = g.rows(first, count);
                product((&mut dv, dim), Onto::Present, 1.0, (Matrix::new(p, seen).t(), g), Threads::One);
                product((ds, seen), Onto::Nothing, 1.0, (g, view.v.rows(0, seen).t()), Threads::One);
                pulp::Arch::new().dispatch(
                    #[inline(always)]
                    || {
                        for (p, ds) in p.chunks_exact(seen).zip(ds.chunks_exact_mut(seen)) {
                            let along = reduce([p, ds], |[p, ds]| p * ds);
                            for (p, ds) in p.iter().zip(ds) {
                                *ds = p * (*ds - along);
                            }
                        }
                    },
                );
                let ds = Matrix::new(ds, seen);
                let dq = (&mut dq[first * dim..], dim);
                product(dq, Onto::Nothing, view.scale, (ds, view.k.rows(0, seen)), Threads::One);
                product((&mut dk, dim), Onto::Present, view.scale, (ds.t(), view.q.rows(first, count)), Threads::One);
            }
            [dq, dk, dv]
        })
        .collect();
    for ((span, head), [q, k, v]) in tasks.into_iter().zip(outputs) {
        place(&mut dq, &q, (span.row, query * dim), head * dim, dim);
        // The query heads of a group share a key head, and are added in their order.
        place(&mut dk, &k, (span.position, key_value * dim), head / group * dim, dim);
        place(&mut dv, &v, (span.position, key_value * dim), head / group * dim, dim);
    }
    [dq, dk, dv]
}

/// Adds rows of `dim` entries to a range of columns of a wider matrix.
fn place(into: &mut [f32], rows: &[f32], (first, width): (usize, usize), column: usize, dim: usize) {
    for (into, row) in into[first * width..].chunks_exact_mut(width).zip(rows.chunks_exact(dim)) {
        into[column..column + dim].iter_mut().zip(row).for_each(|(into, x)| *into += x);
    }
}
