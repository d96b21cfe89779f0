//! A row's figures are a matter of what it sees alone. Compared bit for bit.

#[cfg(feature = "bf16")]
use super::super::bf16::{Bf16Matrix, Bf16Side, product as bf16_product, rounded_all};
use super::super::product::{Threads, product};
use super::super::tests::values;
use super::*;

const FORMATS: &[FactorFormat] = &[
    FactorFormat::F32,
    #[cfg(feature = "bf16")]
    FactorFormat::Bf16,
];

const SHAPE: AttentionShape = AttentionShape { query: 4, key_value: 2, dim: 16 };
const WIDTH: [usize; 2] = [4 * 16, 2 * 16];

struct Sequence {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
}

impl Sequence {
    fn new(rows: usize) -> Self {
        Self { q: values(rows * WIDTH[0], 1), k: values(rows * WIDTH[1], 2), v: values(rows * WIDTH[1], 3) }
    }

    /// Attention of some of its rows, over the first so many and themselves.
    fn rows(&self, format: FactorFormat, rows: Range<usize>) -> Vec<u32> {
        let q = &self.q[rows.start * WIDTH[0]..rows.end * WIDTH[0]];
        let [k, v] = [&self.k, &self.v].map(|x| &x[..rows.end * WIDTH[1]]);
        let span = AttentionSpan { rows: 0..rows.len(), own: rows.clone(), before: 0..rows.start };
        bits(&attention(Operands { q, k, v }, SHAPE, format, &[span]))
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn rows_of_a_prefix_are_those_of_the_whole() {
    let sequence = Sequence::new(600);
    for &format in FORMATS {
        let whole = sequence.rows(format, 0..600);
        for length in (1..140).chain([255, 256, 257, 510, 511, 512, 513, 514, 515, 576, 577, 599]) {
            let rows = sequence.rows(format, 0..length);
            assert!(rows == whole[..length * WIDTH[0]], "the first {length} rows, {format:?}");
        }
    }
}

#[test]
fn decoding_from_a_cache_is_prefill() {
    let sequence = Sequence::new(600);
    for &format in FORMATS {
        let whole = sequence.rows(format, 0..600);
        for row in (0..80).chain(500..530).chain([599]) {
            let decoded = sequence.rows(format, row..row + 1);
            assert!(decoded == whole[row * WIDTH[0]..][..WIDTH[0]], "row {row}, {format:?}");
        }
        // Several rows at a time.
        assert!(sequence.rows(format, 37..530) == whole[37 * WIDTH[0]..530 * WIDTH[0]], "{format:?}");
    }
}

/// Two continuations of a beginning, only one of which lies next to it, against the sequence as it is.
#[test]
fn it_does_not_matter_where_the_rows_seen_lie() {
    let (sequence, other) = (Sequence::new(90), Sequence::new(40));
    let laid = |of: fn(&Sequence) -> &Vec<f32>, width: usize| {
        // The beginning, 30 foreign rows, the continuation.
        [&of(&sequence)[..50 * width], &of(&other)[..30 * width], &of(&sequence)[50 * width..]].concat()
    };
    let (q, k, v) = (laid(|it| &it.q, WIDTH[0]), laid(|it| &it.k, WIDTH[1]), laid(|it| &it.v, WIDTH[1]));
    let spans = [(0..50, 0..0), (50..80, 0..50), (80..120, 0..50)];
    let spans = spans.map(|(rows, before)| AttentionSpan { rows: rows.clone(), own: rows, before });
    for &format in FORMATS {
        let whole = sequence.rows(format, 0..90);
        let all = bits(&attention(Operands { q: &q, k: &k, v: &v }, SHAPE, format, &spans));
        assert!(all[..50 * WIDTH[0]] == whole[..50 * WIDTH[0]], "{format:?}");
        assert!(all[80 * WIDTH[0]..] == whole[50 * WIDTH[0]..], "{format:?}");
    }
}

fn one(
    format: FactorFormat,
    result: &mut [f32],
    width: usize,
    onto: Onto,
    scale: f32,
    (a, b): (MatrixView<'_>, MatrixView<'_>),
) {
    match format {
        FactorFormat::F32 => product((result, width), onto, scale, (a, b), Threads::One),
        #[cfg(feature = "bf16")]
        FactorFormat::Bf16 => {
            let dense = |x: MatrixView<'_>| -> Vec<f32> {
                (0..x.rows).flat_map(|row| (0..x.columns).map(move |column| x.at(row, column))).collect()
            };
            let weight = rounded_all(&dense(b));
            let sums = bf16_product(&dense(a), Bf16Matrix::new(&weight, width), Bf16Side::Outputs);
            for (result, sum) in result.iter_mut().zip(sums) {
                *result = if onto == Onto::Nothing { scale * sum } else { scale.mul_add(sum, *result) };
            }
        }
    }
}

/// What every head is defined to be, by products as they come: the result, and gradients of queries, keys and values.
fn defined(
    operands: Operands<'_>,
    shape: AttentionShape,
    format: FactorFormat,
    span: &AttentionSpan,
    gradient: &[f32],
) -> [Vec<f32>; 4] {
    let AttentionShape { query, key_value, dim } = shape;
    let (q_width, kv_width, scale) = (query * dim, key_value * dim, 1.0 / (dim as f32).sqrt());
    let seen_rows = || span.before.clone().chain(span.own.clone());
    let mut results = [operands.q, operands.q, operands.k, operands.k].map(|like| vec![0.0f32; like.len()]);
    for head in 0..query {
        let column = head / (query / key_value) * dim;
        let of = |x: &[f32], width: usize, row: usize, column: usize| x[row * width + column..][..dim].to_vec();
        let rows =
            |x: &[f32]| -> Vec<f32> { span.rows.clone().flat_map(|row| of(x, q_width, row, head * dim)).collect() };
        let keys = |x: &[f32]| -> Vec<f32> { seen_rows().flat_map(|row| of(x, kv_width, row, column)).collect() };
        let (q, g, k, v) = (rows(operands.q), rows(gradient), keys(operands.k), keys(operands.v));
        let [q, g, k, v] = [&q, &g, &k, &v].map(|x| MatrixView::new(x, dim));
        let before = span.before.len();
        let [mut y, mut dq] = [(); 2].map(|()| vec![0.0; span.rows.len() * dim]);
        let [mut dk, mut dv] = [(); 2].map(|()| vec![0.0; seen_rows().count() * dim]);
        for first in (0..span.rows.len()).step_by(BLOCK) {
            let count = BLOCK.min(span.rows.len() - first);
            let seen = before + first + count;
            let (q, g, k, v) = (q.rows(first, count), g.rows(first, count), k.rows(0, seen), v.rows(0, seen));
            let [mut p, mut ds] = [(); 2].map(|()| vec![0.0; count * seen]);
            one(format, &mut p, seen, Onto::Nothing, scale, (q, k.t()));
            one(format, &mut ds, seen, Onto::Nothing, 1.0, (g, v.t()));
            for (row, (p, ds)) in p.chunks_mut(seen).zip(ds.chunks_mut(seen)).enumerate() {
                let (p, hidden) = p.split_at_mut(before + first + row + 1);
                let most = largest(p);
                p.iter_mut().for_each(|x| *x = exp(*x - most));
                let inverse = 1.0 / reduce([p], |[x]| x);
                p.iter_mut().for_each(|x| *x *= inverse);
                hidden.fill(0.0);
                let whole = [&*p, &*hidden].concat();
                let along = reduce([&whole, &*ds], |[p, ds]| p * ds);
                whole.iter().zip(ds).for_each(|(p, ds)| *ds = p * (*ds - along));
            }
            let [p, ds] = [&p, &ds].map(|x| MatrixView::new(x, seen));
            one(format, &mut y[first * dim..], dim, Onto::Nothing, 1.0, (p, v));
            one(format, &mut dq[first * dim..], dim, Onto::Nothing, scale, (ds, k));
            one(format, &mut dv, dim, Onto::Present, 1.0, (p.t(), g));
            one(format, &mut dk, dim, Onto::Present, scale, (ds.t(), q));
        }
        let [result, all_dq, all_dk, all_dv] = &mut results;
        for (into, from) in [(result, y), (all_dq, dq)] {
            super::place(into, &from, (&span.rows, q_width), head * dim, dim);
        }
        for (into, from) in [(all_dk, dk), (all_dv, dv)] {
            let (of_before, own) = from.split_at(before * dim);
            super::place(into, of_before, (&span.before, kv_width), column, dim);
            super::place(into, own, (&span.own, kv_width), column, dim);
        }
    }
    results
}

/// Rows on both sides of those from which on factors are laid out, a last block of few rows, and more positions, or
/// features, than one chain has terms; one row of heads of which some are treated at once, or each by itself.
#[test]
fn attention_and_its_gradients_are_what_they_are_defined_to_be() {
    let wide = AttentionShape { query: 1, key_value: 1, dim: 600 };
    let cases = [(1, 0), (1, 40), (3, 0), (15, 40), (16, 40), (70, 0), (133, 9), (80, 520)];
    let cases = cases.map(|(rows, before)| (SHAPE, rows, before));
    let shared = [10, 11, 70].map(|query| (AttentionShape { query, key_value: 1, dim: 16 }, 1, 40));
    for (shape, rows, before) in cases.into_iter().chain(shared).chain([(wide, 20, 3)]) {
        let all = before + rows;
        let [q_width, kv_width] = [shape.query, shape.key_value].map(|heads| heads * shape.dim);
        let (q, k, v) = (values(rows * q_width, 1), values(all * kv_width, 2), values(all * kv_width, 3));
        let operands = Operands { q: &q, k: &k, v: &v };
        let gradient = values(rows * q_width, 4);
        let span = AttentionSpan { rows: 0..rows, own: before..all, before: 0..before };
        let spans = [span];
        for &format in FORMATS {
            let case = format!("{shape:?}, {rows} rows after {before}, {format:?}");
            let [y, gradients @ ..] = defined(operands, shape, format, &spans[0], &gradient);
            assert!(bits(&y) == bits(&attention(operands, shape, format, &spans)), "{case}");
            let found = attention_backward(operands, shape, format, &spans, &gradient);
            for (index, (expected, found)) in gradients.iter().zip(&found).enumerate() {
                assert!(bits(expected) == bits(found), "{case}, gradient {index}");
            }
        }
    }
}

/// Shares of the least number below zero are rounded to -0.
#[test]
fn heads_side_by_side_have_no_negative_zeros() {
    let shape = AttentionShape { query: 1, key_value: 1, dim: 1 };
    let least = -f32::from_bits(1);
    let operands = Operands { q: &[0.0; 2], k: &[0.0; 2], v: &[least; 2] };
    let span = AttentionSpan { rows: 0..2, own: 0..2, before: 0..0 };
    let y = attention(operands, shape, FactorFormat::F32, &[span]);
    assert_eq!(bits(&y), bits(&[least, 0.0]));
}
