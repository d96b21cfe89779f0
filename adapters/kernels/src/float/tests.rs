//! The elementary functions against f64, and the bits of all kernels, which are the same on every processor; whether
//! they compute what they ought to is compared with candle's operations where they are used.

use super::attention::{AttentionShape, AttentionSpan, FactorFormat, Operands, attention, attention_backward};
use super::elementary::{exp, largest, reduce};
use super::rotary::Turn;
use super::{gelu, neighbours, norm, relu, rotary, softmax, sparse, swiglu};

/// Values of many magnitudes, so that another order of sums gives other bits.
pub(super) fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        // Knuth's MMIX generator.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32
    };
    let value = |bits: u32| ((bits as f32) / 2f32.powi(30) - 1.0) * 2f32.powi((bits % 7) as i32 - 3);
    (0..count).map(|_| value(next())).collect()
}

/// FNV-1a of all bits: this crate knows no library of hashes.
pub(super) fn digest(results: &[Vec<f32>]) -> String {
    let bytes = results.iter().flatten().flat_map(|value| value.to_le_bytes());
    let digest =
        bytes.fold(0xcbf2_9ce4_8422_2325u64, |digest, byte| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{digest:016x}")
}

/// A change here is another arithmetic and wants another name: `ARITHMETIC.md`.
#[test]
fn pinned_digests_of_all_kernels() {
    let mut found = Vec::new();
    let (x, g, w, b) = (values(37 * 48, 1), values(37 * 48, 2), values(48, 3), values(48, 4));
    let norms = [
        norm::rms_norm(&x, &w, 1e-5),
        norm::rms_norm_backward(&x, &w, 1e-5, &g),
        norm::layer_norm(&x, [&w, &b], 1e-5),
        norm::layer_norm_backward(&x, &w, 1e-5, &g),
        norm::rms_norm_backward_weight(&x, 48, 1e-5, &g),
        norm::layer_norm_backward_weight(&x, 48, 1e-5, &g),
    ];
    found.push(("norms", digest(&norms)));

    let [d_gate, d_up] = swiglu::swiglu_backward(&x, &g, &x);
    let gates = [swiglu::swiglu(&x, &g), d_gate, d_up, gelu::gelu(&x), gelu::gelu_backward(&x, &g), relu::relu(&x)];
    found.push(("gates", digest(&gates)));

    let labels: Vec<u32> = (0..37).map(|row| row * 5 % 48).collect();
    let mut logits = x.clone();
    let sums = softmax::log_sums(&x, &labels);
    softmax::log_prob_backward(&mut logits, &labels, &sums, &g[..37]);
    found.push(("log-probabilities", digest(&[softmax::log_prob(&x, &labels, &sums), logits])));

    let positions: Vec<u32> = (0..37).map(|row| row * 3 % 11).collect();
    let angles = [values(11 * 6, 5), values(11 * 6, 6)];
    let turn = |turn| rotary::rotate(&x, 48, [&angles[0], &angles[1]], 12, &positions, turn);
    found.push(("rotary embedding", digest(&[turn(Turn::Forward), turn(Turn::Back)])));

    let (starts, columns) = ([0, 2, 2, 5], [3, 0, 1, 1, 2]);
    let rows = sparse::CsrMatrix::new(&starts, &columns, &g[..5], 4);
    found.push(("sparse product", digest(&[sparse::product(rows, &x[..4 * 48], 48)])));

    let (starts, senders) = ([0, 2, 2, 5], [2, 0, 1, 1, 2]);
    let edges = neighbours::Edges { starts: &starts, senders: &senders };
    let (back, back_senders, places) = ([0, 1, 3, 5], [0, 2, 2, 0, 2], [1, 2, 3, 0, 4]);
    let back = neighbours::Edges { starts: &back, senders: &back_senders };
    let operands = neighbours::NeighbourOperands { x: &x[..3 * 48], source: &w, target: &b, heads: 4, drop: None };
    let shares = neighbours::shares(&operands, edges);
    let attended = neighbours::attend(&operands, edges, &shares);
    let [dx, source, target] = neighbours::backward(&operands, edges, (back, &places), &shares, &g[..3 * 48]);
    found.push(("attention of nodes", digest(&[shares, attended, dx, source, target])));

    let shape = AttentionShape { query: 6, key_value: 2, dim: 10 };
    let spans = [(0..70, 0..70, 0..0), (70..73, 76..79, 70..76), (73..78, 81..86, 79..81), (78..79, 86..87, 79..81)];
    let spans = spans.map(|(rows, own, before)| AttentionSpan { rows, own, before });
    let (q, k, v, g) = (values(79 * 60, 7), values(87 * 20, 8), values(87 * 20, 9), values(79 * 60, 10));
    let operands = Operands { q: &q, k: &k, v: &v };
    let [dq, dk, dv] = attention_backward(operands, shape, FactorFormat::F32, &spans, &g);
    found.push(("attention", digest(&[attention(operands, shape, FactorFormat::F32, &spans), dq, dk, dv])));
    let expected = [
        ("norms", "c16a65826e735832"),
        ("gates", "879e72d06610f551"),
        ("log-probabilities", "584b3e490d539eb0"),
        ("rotary embedding", "1a1cc0f99e6ed725"),
        ("sparse product", "5d7401809d5bc397"),
        ("attention of nodes", "f307f02d5247cb83"),
        ("attention", "571697798f08fd4b"),
    ];
    assert_eq!(found, expected.map(|(name, digest)| (name, digest.to_owned())));
}

#[test]
fn the_exponential_is_right_to_a_few_units_in_the_last_place() {
    for step in -8700..8800 {
        let x = step as f32 / 100.0 + 0.003;
        let error = f64::from(exp(x)) / f64::from(x).exp() - 1.0;
        assert!(error.abs() < 3e-7, "exp({x}) is off by {error:e}");
    }
    assert_eq!(exp(0.0), 1.0);
    assert!(exp(f32::NEG_INFINITY) < 1e-37);
}

#[test]
fn reductions_take_every_entry_once() {
    for length in [1, 15, 16, 17, 100] {
        let x: Vec<f32> = (0..length).map(|i| i as f32).collect();
        assert_eq!(reduce([&x, &x], |[x, y]| x + y), (length * (length - 1)) as f32);
        assert_eq!(largest(&x), (length - 1) as f32);
    }
}
