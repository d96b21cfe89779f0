//! A row's figures are a matter of what it sees alone. Compared bit for bit.

use super::super::tests::values;
use super::*;

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
    fn rows(&self, rows: Range<usize>) -> Vec<u32> {
        let q = &self.q[rows.start * WIDTH[0]..rows.end * WIDTH[0]];
        let [k, v] = [&self.k, &self.v].map(|x| &x[..rows.end * WIDTH[1]]);
        let span = AttentionSpan { rows: 0..rows.len(), own: rows.clone(), before: 0..rows.start };
        bits(&attention(Operands { q, k, v }, SHAPE, &[span]))
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn rows_of_a_prefix_are_those_of_the_whole() {
    let sequence = Sequence::new(600);
    let whole = sequence.rows(0..600);
    for length in (1..140).chain([255, 256, 257, 510, 511, 512, 513, 514, 515, 576, 577, 599]) {
        assert!(sequence.rows(0..length) == whole[..length * WIDTH[0]], "the first {length} rows");
    }
}

#[test]
fn decoding_from_a_cache_is_prefill() {
    let sequence = Sequence::new(600);
    let whole = sequence.rows(0..600);
    for row in (0..80).chain(500..530).chain([599]) {
        assert!(sequence.rows(row..row + 1) == whole[row * WIDTH[0]..][..WIDTH[0]], "row {row}");
    }
    // Several rows at a time.
    assert!(sequence.rows(37..530) == whole[37 * WIDTH[0]..530 * WIDTH[0]]);
}

/// Two continuations of a beginning, only one of which lies next to it, against the sequence as it is.
#[test]
fn it_does_not_matter_where_the_rows_seen_lie() {
    let (sequence, other) = (Sequence::new(90), Sequence::new(40));
    let whole = sequence.rows(0..90);
    let laid = |of: fn(&Sequence) -> &Vec<f32>, width: usize| {
        // The beginning, 30 foreign rows, the continuation.
        [&of(&sequence)[..50 * width], &of(&other)[..30 * width], &of(&sequence)[50 * width..]].concat()
    };
    let (q, k, v) = (laid(|it| &it.q, WIDTH[0]), laid(|it| &it.k, WIDTH[1]), laid(|it| &it.v, WIDTH[1]));
    let spans = [(0..50, 0..0), (50..80, 0..50), (80..120, 0..50)];
    let spans = spans.map(|(rows, before)| AttentionSpan { rows: rows.clone(), own: rows, before });
    let all = bits(&attention(Operands { q: &q, k: &k, v: &v }, SHAPE, &spans));
    assert!(all[..50 * WIDTH[0]] == whole[..50 * WIDTH[0]]);
    assert!(all[80 * WIDTH[0]..] == whole[50 * WIDTH[0]..]);
}
