//! Causal grouped-query attention over sequences that lie one after another. Scores and
//! probabilities exist for a block of rows at a time and are computed again for the gradient.

mod factor;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use rayon::prelude::*;

pub use self::factor::{FactorFormat, HeldRows};
use self::factor::{HeadFactor, HeadMatrix};
use super::elementary::{exp, largest, reduce};
use super::product::{CHAIN, LINE, MatrixView, Onto};
use crate::vectors::vectorised;

/// Rows of queries that add a product to the gradients of keys and values.
const BLOCK: usize = 64;
/// Rows of queries treated at once: of what the last one of them sees, little is hidden from the first.
const PART: usize = 32;
/// Most heads treated at once: so few rows are multiplied by keys as they lie.
const HEADS: usize = 8;

/// Query and key heads, and the features of one; `query` is a multiple of `key_value`.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Query heads.
    pub query: usize,
    /// Key and value heads.
    pub key_value: usize,
    /// Features of one head.
    pub dim: usize,
}

/// Rows that see all rows `before` them and, each, their own predecessors.
#[derive(Clone, Debug)]
pub struct AttentionSpan {
    /// Rows of the queries: those after the rows of the span before.
    pub rows: Range<usize>,
    /// As many rows of the keys and values: their own.
    pub own: Range<usize>,
    /// Rows of the keys and values that all of them see.
    pub before: Range<usize>,
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

/// Rows of queries that are the last positions of a sequence whose keys and values lie together.
#[derive(Clone, Debug)]
pub struct CachedSpan<'a> {
    /// Rows of the queries.
    pub rows: Range<usize>,
    /// Keys of all positions.
    pub k: &'a HeldRows<'a>,
    /// Values of all positions.
    pub v: &'a HeldRows<'a>,
}

/// Rows of queries of one span over one key head: of one query head, or of several at one position.
struct QueryRows<'a> {
    q: MatrixView<'a>,
    k: HeadMatrix<'a>,
    v: HeadMatrix<'a>,
    /// Keys, transposed.
    k_turned: HeadFactor<'a>,
    rows: usize,
    before: usize,
    /// Positions of the span itself.
    own: usize,
    scale: f32,
}

/// A block of rows: the first, how many, and how many positions the last of them sees.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    count: usize,
    seen: usize,
}

impl<'a> QueryRows<'a> {
    /// Of one head.
    fn of_head(q: &'a [f32], seen: &'a VisibleSpan<'_>, shape: AttentionShape, head: usize) -> Self {
        let (AttentionShape { query, dim, .. }, rows) = (shape, &seen.span.rows);
        let q = MatrixView::new(q, query * dim).rows(rows.start, rows.len()).columns(head * dim, dim);
        Self::new(q, seen, shape, head)
    }

    /// Of so many heads that share a key head, from one on, of a span of one position.
    fn of_heads(q: &'a [f32], seen: &'a VisibleSpan<'_>, shape: AttentionShape, (head, heads): (usize, usize)) -> Self {
        let q = MatrixView::new(q, shape.dim).rows(seen.span.rows.start * shape.query + head, heads);
        Self::new(q, seen, shape, head)
    }

    fn new(q: MatrixView<'a>, seen: &'a VisibleSpan<'_>, shape: AttentionShape, head: usize) -> Self {
        let (AttentionShape { query, key_value, dim }, VisibleSpan { span, k, v }) = (shape, seen);
        let group = head / (query / key_value);
        let [k, v] = [k, v].map(|x| x.head(key_value * dim, group * dim, dim));
        let (rows, before, own) = (q.rows, span.before.len(), span.rows.len());
        let k_turned = HeadFactor::new(k.t(), rows);
        Self { q, k, v, k_turned, rows, before, own, scale: 1.0 / (dim as f32).sqrt() }
    }

    /// How many positions a row sees.
    fn seen_by(&self, row: usize) -> usize {
        self.before + self.own.min(row + 1)
    }

    /// Entries from one row of a block's scores to the next: whole lines of the caches and an odd number of them, so that
    /// those of neighbouring rows do not take each other's places.
    fn stride(&self) -> usize {
        ((self.before + self.own).div_ceil(LINE) | 1) * LINE
    }

    /// Room for the scores of a block.
    fn scratch(&self) -> Vec<f32> {
        vec![0.0; BLOCK.min(self.rows) * self.stride()]
    }

    /// The scores of a block in their room.
    fn scores<'p>(&self, p: &'p [f32], Block { count, seen, .. }: Block) -> MatrixView<'p> {
        MatrixView::new(p, self.stride()).rows(0, count).columns(0, seen)
    }

    fn blocks(&self) -> impl Iterator<Item = Block> {
        self.split(0..self.rows, BLOCK)
    }

    /// A block in parts, each of which sees up to its own last row.
    fn parts(&self, Block { first, count, .. }: Block) -> impl Iterator<Item = Block> {
        self.split(first..first + count, PART)
    }

    fn split(&self, rows: Range<usize>, most: usize) -> impl Iterator<Item = Block> {
        rows.clone().step_by(most).map(move |first| {
            let count = most.min(rows.end - first);
            Block { first, count, seen: self.seen_by(first + count - 1) }
        })
    }

    /// Probabilities of a block of rows into `p` `(count, width)`, whose rows are a stride apart, with zeros for what its
    /// rows do not see.
    fn probabilities(&self, p: &mut [f32], block: Block, width: usize) {
        let Block { first, count, seen } = block;
        let stride = self.stride();
        // A product of one chain is scaled when it is read. Of several, each is.
        let (within, scale) = if self.q.width() <= CHAIN { (1.0, self.scale) } else { (self.scale, 1.0) };
        self.k_turned.product((&mut *p, stride), Onto::Nothing, within, self.q.rows(first, count), seen);
        vectorised(
            #[inline(always)]
            || {
                for (r, row) in p.chunks_exact_mut(stride).take(count).enumerate() {
                    let (row, hidden) = row[..width].split_at_mut(self.seen_by(first + r));
                    // The largest score is that of the largest product.
                    let largest = scale * largest(row);
                    row.iter_mut().for_each(|x| *x = exp(scale * *x - largest));
                    let inverse = 1.0 / reduce([row], |[x]| x);
                    row.iter_mut().for_each(|x| *x *= inverse);
                    hidden.fill(0.0);
                }
            },
        );
    }
}

/// A span with the keys and the values that it sees.
struct VisibleSpan<'a> {
    span: &'a AttentionSpan,
    k: HeldRows<'a>,
    v: HeldRows<'a>,
}

impl<'a> VisibleSpan<'a> {
    fn new(operands: Operands<'a>, shape: AttentionShape, format: FactorFormat, span: &'a AttentionSpan) -> Self {
        let held = |x| HeldRows::new(format, together(x, shape.key_value * shape.dim, span));
        let [k, v] = [operands.k, operands.v].map(held);
        Self { span, k, v }
    }
}

/// The rows before a span and its own. They are copied where they do not lie together: a row is one sum over all that
/// it sees, wherever that lies.
fn together<'a>(x: &'a [f32], width: usize, AttentionSpan { own, before, .. }: &AttentionSpan) -> Cow<'a, [f32]> {
    let rows = |range: &Range<usize>| &x[range.start * width..range.end * width];
    if before.is_empty() {
        Cow::Borrowed(rows(own))
    } else if before.end == own.start {
        Cow::Borrowed(rows(&(before.start..own.end)))
    } else {
        Cow::Owned([rows(before), rows(own)].concat())
    }
}

/// The result, shaped as the queries.
///
/// # Panics
/// If the shapes do not agree, or the spans are not all rows of the queries in their order.
pub fn attention(
    operands: Operands<'_>,
    shape: AttentionShape,
    format: FactorFormat,
    spans: &[AttentionSpan],
) -> Vec<f32> {
    let seen: Vec<VisibleSpan<'_>> = spans.iter().map(|span| VisibleSpan::new(operands, shape, format, span)).collect();
    over(operands.q, shape, &seen)
}

/// [`attention`] of the last positions of sequences, each over keys and values of its own. An entry is the same as if
/// they lay one after another.
///
/// # Panics
/// If the shapes do not agree, or the spans are not all rows of the queries in their order.
pub fn attention_cached(q: &[f32], shape: AttentionShape, sequences: &[CachedSpan<'_>]) -> Vec<f32> {
    let span = |CachedSpan { rows, k, .. }: &CachedSpan<'_>| {
        let positions = k.entries() / (shape.key_value * shape.dim);
        let before = positions - rows.len();
        AttentionSpan { rows: rows.clone(), own: before..positions, before: 0..before }
    };
    let spans: Vec<AttentionSpan> = sequences.iter().map(span).collect();
    let sequences = spans.iter().zip(sequences);
    let seen = sequences.map(|(span, &CachedSpan { k, v, .. })| VisibleSpan { span, k: k.borrowed(), v: v.borrowed() });
    over(q, shape, &seen.collect::<Vec<_>>())
}

fn over(q: &[f32], shape: AttentionShape, seen: &[VisibleSpan<'_>]) -> Vec<f32> {
    let AttentionShape { query, key_value, dim } = shape;
    // Keys and values that one position sees are read once for several heads that share them, if there is work for all
    // threads then.
    let (group, threads) = (query / key_value, rayon::current_num_threads());
    let at_once = |&heads: &usize| group.is_multiple_of(heads) && seen.len() * query / heads >= threads;
    let heads_at_once = (1..=HEADS).rev().find(at_once).unwrap_or(1);
    let tasks = seen.iter().flat_map(|seen| {
        let heads = if seen.span.rows.len() == 1 { heads_at_once } else { 1 };
        (0..query).step_by(heads).map(move |head| (seen, head, heads))
    });
    let one = |(seen, head, heads): (&VisibleSpan<'_>, usize, usize)| {
        let view = match heads {
            1 => QueryRows::of_head(q, seen, shape, head),
            _ => QueryRows::of_heads(q, seen, shape, (head, heads)),
        };
        let v = HeadFactor::new(view.v, view.rows);
        let mut y = vec![0.0; view.rows * dim];
        let mut p = view.scratch();
        for part in view.blocks().flat_map(|block| view.parts(block)) {
            view.probabilities(&mut p, part, part.seen);
            let p = view.scores(&p, part);
            v.product((&mut y[part.first * dim..], dim), Onto::Nothing, 1.0, p, dim);
        }
        if heads == 1 { vec![y] } else { y.chunks_exact(dim).map(<[f32]>::to_vec).collect() }
    };
    let outputs: Vec<Vec<f32>> = tasks.collect::<Vec<_>>().into_par_iter().flat_map_iter(one).collect();
    side_by_side(q.len(), shape, seen, &outputs)
}

/// All rows with their heads side by side, of which each head of each span has made its own. -0 becomes 0, as in a sum.
///
/// # Panics
/// If the rows of the spans are not all rows, in their order.
fn side_by_side(entries: usize, shape: AttentionShape, seen: &[VisibleSpan<'_>], heads: &[Vec<f32>]) -> Vec<f32> {
    let AttentionShape { query, dim, .. } = shape;
    let width = query * dim;
    assert_eq!(heads.len(), seen.len() * query, "every head of every span has made its rows");
    let mut result = Vec::with_capacity(entries);
    let mut rest = &mut result.spare_capacity_mut()[..entries];
    let mut blocks = Vec::new();
    for (VisibleSpan { span, .. }, heads) in seen.iter().zip(heads.chunks(query)) {
        assert_eq!(span.rows.start * width, entries - rest.len(), "spans follow one another");
        let (rows, after) = rest.split_at_mut(span.rows.len() * width);
        blocks.extend(rows.chunks_mut(BLOCK * width).enumerate().map(|(index, rows)| (rows, index * BLOCK, heads)));
        rest = after;
    }
    assert!(rest.is_empty(), "all rows are of a span");
    blocks.into_par_iter().for_each(|(rows, first, heads)| {
        for (row, to) in (first..).zip(rows.chunks_exact_mut(width)) {
            for (to, head) in to.chunks_exact_mut(dim).zip(heads) {
                to.iter_mut().zip(&head[row * dim..][..dim]).for_each(|(to, &x)| _ = to.write(0.0 + x));
            }
        }
    });
    // SAFETY: all rows of all blocks have been written, which are all of the result.
    unsafe { result.set_len(entries) };
    result
}

/// Gradients of [`attention`] with respect to queries, keys and values, given that of its result.
///
/// # Panics
/// If the shapes do not agree, or the spans are not all rows of the queries in their order.
pub fn attention_backward(
    operands: Operands<'_>,
    shape: AttentionShape,
    format: FactorFormat,
    spans: &[AttentionSpan],
    gradient: &[f32],
) -> [Vec<f32>; 3] {
    let AttentionShape { query, key_value, dim } = shape;
    let group = query / key_value;
    let seen: Vec<VisibleSpan<'_>> = spans.iter().map(|span| VisibleSpan::new(operands, shape, format, span)).collect();
    let [q_held, g_held] = [operands.q, gradient].map(|x| HeldRows::new(format, x));
    let tasks: Vec<_> = seen.iter().flat_map(|span| (0..query).map(move |head| (span, head))).collect();
    let one = |&(seen, head): &(&VisibleSpan<'_>, usize)| {
        let view = QueryRows::of_head(operands.q, seen, shape, head);
        let g = MatrixView::new(gradient, query * dim).rows(seen.span.rows.start, view.rows).columns(head * dim, dim);
        let [q_head, g_head] =
            [&q_held, &g_held].map(|x| x.head(query * dim, head * dim, dim).rows(seen.span.rows.start, view.rows));
        let [v_turned, k] = [view.v.t(), view.k].map(|matrix| HeadFactor::new(matrix, view.rows));
        let (seen, stride) = (view.before + view.own, view.stride());
        let mut dq = vec![0.0; view.rows * dim];
        let (mut dk, mut dv) = (vec![0.0; seen * dim], vec![0.0; seen * dim]);
        let [mut p, mut ds] = [view.scratch(), view.scratch()];
        for block in view.blocks() {
            for (at, part @ Block { first, count, seen }) in (0..).step_by(PART).zip(view.parts(block)) {
                let [p, ds] = [&mut p, &mut ds].map(|room| &mut room[at * stride..]);
                view.probabilities(p, part, block.seen);
                v_turned.product((&mut *ds, stride), Onto::Nothing, 1.0, g.rows(first, count), seen);
                vectorised(
                    #[inline(always)]
                    || {
                        for (p, ds) in p.chunks_exact(stride).zip(ds.chunks_exact_mut(stride)).take(count) {
                            let (ds, hidden) = ds[..block.seen].split_at_mut(seen);
                            let p = &p[..seen];
                            let along = reduce([p, ds], |[p, ds]| p * ds);
                            for (p, ds) in p.iter().zip(ds) {
                                *ds = p * (*ds - along);
                            }
                            hidden.fill(0.0);
                        }
                    },
                );
                k.product((&mut dq[first * dim..], dim), Onto::Nothing, view.scale, view.scores(ds, part), dim);
            }
            let Block { first, count, seen } = block;
            let [g, q] = [g_head, q_head].map(|head| HeadFactor::new(head.rows(first, count), seen));
            let [p, ds] = [&p, &ds].map(|room| view.scores(room, block).t());
            g.product((&mut dv, dim), Onto::Present, 1.0, p, dim);
            q.product((&mut dk, dim), Onto::Present, view.scale, ds, dim);
        }
        (dq, [dk, dv])
    };
    let (outputs, of_keys): (Vec<_>, Vec<_>) = tasks.par_iter().map(one).unzip();
    let dq = side_by_side(operands.q.len(), shape, &seen, &outputs);
    // The query heads of a group share a key head, and are added in their order.
    let added = |which: usize| {
        let mut sum = vec![0.0; operands.k.len()];
        for ((VisibleSpan { span, .. }, head), parts) in tasks.iter().zip(&of_keys) {
            let parts: &[Vec<f32>; 2] = parts;
            let (before, own) = parts[which].split_at(span.before.len() * dim);
            for (rows, from) in [(&span.before, before), (&span.own, own)] {
                place(&mut sum, from, (rows, key_value * dim), head / group * dim, dim);
            }
        }
        sum
    };
    let (dk, dv) = rayon::join(|| added(0), || added(1));
    [dq, dk, dv]
}

/// Adds rows of `dim` entries to a range of columns of rows of a wider matrix.
fn place(into: &mut [f32], from: &[f32], (rows, width): (&Range<usize>, usize), column: usize, dim: usize) {
    for (into, from) in into[rows.start * width..].chunks_exact_mut(width).zip(from.chunks_exact(dim)) {
        into[column..column + dim].iter_mut().zip(from).for_each(|(into, x)| *into += x);
    }
}
