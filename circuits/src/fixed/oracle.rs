//! Every operation a second time, from its formula, in integers without bounds: what the fast forms must equal, and
//! where they must refuse. Each value is one fraction with the denominator `2^COMMON`, rounded where the formula says.

use num_bigint::BigInt;
use proptest::prelude::*;

use super::attention::{HeadCounts, attention, exp};
use super::elementary::Dyadic;
use super::gate::{geglu, gelu, gelu_exact, silu, swiglu};
use super::linear::{Delta, FixedFactors, Matrix, linear, linear_rope};
use super::norm::{Norm, layer_norm, norm_rope, rms_norm};
use super::rope::{FixedRope, Rotations, rotate};
use super::{FixedError, WORD_BITS, add};

/// No shift of any operation is larger.
const COMMON: u32 = 256;

fn big(value: impl Into<BigInt>) -> BigInt {
    value.into()
}

/// `floor(value / 2^shift + 1/2)`; shifting a [`BigInt`] rounds down.
fn round(value: BigInt, shift: u32) -> BigInt {
    let half = if shift == 0 { big(0) } else { big(1) << (shift - 1) };
    (value + half) >> shift
}

/// The results as activations, or nothing if one reaches `2^31`.
fn words(values: impl IntoIterator<Item = BigInt>) -> Option<Vec<i64>> {
    let limit = big(1) << WORD_BITS;
    let word = |value: BigInt| if value < limit && value > -limit.clone() { i64::try_from(value).ok() } else { None };
    values.into_iter().map(word).collect()
}

/// `B (A x)`.
fn low_rank(factors: &FixedFactors, x: &[i32]) -> Vec<BigInt> {
    let dot = |w: &[i16], x: &[BigInt]| w.iter().zip(x).map(|(&w, x)| big(w) * x).sum::<BigInt>();
    let x: Vec<BigInt> = x.iter().copied().map(big).collect();
    let hidden: Vec<BigInt> = factors.a().chunks(factors.d_in()).map(|a| dot(a, &x)).collect();
    factors.b().chunks(factors.rank()).map(|b| dot(b, &hidden)).collect()
}

/// `W x + c + delta` of one row, over `2^COMMON`.
fn sums(matrix: &Matrix, x: &[i32], delta: Option<(&[i128], u32)>) -> Vec<BigInt> {
    let sum = |o: usize| {
        let weights = &matrix.weights()[o * matrix.d_in()..][..matrix.d_in()];
        let product: BigInt = weights.iter().zip(x).map(|(&w, &x)| big(w) * x).sum();
        let bias = matrix.bias().map_or(big(0), |bias| big(bias[o]) << (COMMON - 16));
        let delta = delta.map_or(big(0), |(values, shift)| big(values[o]) << (COMMON - shift));
        (product << (COMMON - u32::from(matrix.shifts()[o]))) + bias + delta
    };
    (0..matrix.d_out()).map(sum).collect()
}

/// Features `i` and `i + half` of each head turned, at `2^-30` more.
fn rotated(values: &[BigInt], rotations: &Rotations, row: usize) -> Vec<BigInt> {
    let half = rotations.dim / 2;
    let mut turned = values.to_vec();
    for head in (0..values.len()).step_by(rotations.dim) {
        for i in 0..half {
            let (cos, sin) = (rotations.cos[row * half + i], rotations.sin[row * half + i]);
            let (a, c) = (&values[head + i], &values[head + i + half]);
            turned[head + i] = a * cos - c * sin;
            turned[head + i + half] = c * cos + a * sin;
        }
    }
    turned
}

fn table(positions: usize) -> Rotations {
    let rope = FixedRope { dim: 4, theta: Dyadic { mantissa: 10_000, exponent: 0 }, scaling: None };
    Rotations::new("s", &rope, positions).unwrap()
}

/// Integers of any size up to `bits` bits, extremes among them.
fn sized(bits: u32, count: usize) -> impl Strategy<Value = Vec<i64>> {
    let limit = (1i64 << (bits - 1)) - 1;
    let one = (any::<i64>(), 0..bits, 0..8u8).prop_map(move |(value, down, special)| match special {
        0 => limit,
        1 => -limit,
        _ => (value >> (64 - bits) >> down).clamp(-limit, limit),
    });
    prop::collection::vec(one, count)
}

fn narrow<T: TryFrom<i64>>(values: Vec<i64>) -> Vec<T> {
    values.into_iter().map(|value| T::try_from(value).ok().expect("sized to fit")).collect()
}

/// Whether an operation gave what the formula does, or refused an overflow where the formula's result is too large.
fn agree(got: &Result<Vec<i64>, FixedError>, exact: &Option<Vec<i64>>) -> Result<(), TestCaseError> {
    match (got, exact) {
        (Ok(got), Some(exact)) => prop_assert_eq!(got, exact),
        (Err(FixedError::Overflow { bits: WORD_BITS, .. }), None) => {}
        other => return Err(TestCaseError::fail(format!("{other:?}"))),
    }
    Ok(())
}

proptest! {
    #[test]
    fn linear_sites(
        w in sized(16, 12),
        shifts in prop::collection::vec(0u8..=30, 4),
        x in sized(32, 6),
        (a, b) in (sized(16, 6), sized(16, 8)),
        adapter_shifts in [0u8..=30, 0u8..=30],
        bias in prop::option::of(sized(48, 4)),
        adapted in any::<bool>(),
    ) {
        let x: Vec<i32> = narrow(x);
        let mut matrix = Matrix::new("s", 3, narrow(w), shifts).unwrap();
        if let Some(bias) = bias {
            matrix = matrix.with_bias("s", bias).unwrap();
        }
        let factors = FixedFactors::new("s", 2, [3, 4], narrow(a), narrow(b), adapter_shifts).unwrap();
        let deltas = factors.delta("s", &x).unwrap();
        let exact: Vec<BigInt> = x.chunks(3).flat_map(|x| low_rank(&factors, x)).collect();
        prop_assert_eq!(deltas.iter().copied().map(big).collect::<Vec<_>>(), exact);

        let delta = Delta { values: &deltas, rank: 2, shift: factors.shift() };
        let delta = adapted.then_some(delta);
        let rows: Vec<Vec<BigInt>> = x.chunks(3).enumerate().map(|(row, x)| {
            sums(&matrix, x, adapted.then_some((&deltas[row * 4..][..4], factors.shift())))
        }).collect();
        let plain = words(rows.iter().flatten().map(|sum| round(sum.clone(), COMMON)));
        agree(&linear("s", &matrix, &x, delta), &plain)?;
        let rotations = table(2);
        let turned = rows.iter().enumerate().flat_map(|(row, sums)| rotated(sums, &rotations, row));
        let turned = words(turned.map(|sum| round(sum, COMMON + 30)));
        agree(&linear_rope("s", &matrix, &x, delta, &rotations), &turned)?;
    }

    #[test]
    fn norms(
        x in sized(41, 8),
        w in sized(32, 4),
        bias in sized(48, 4),
        shift in 0u32..=30,
        eps in 1i64..i64::MAX,
        small in 0u32..63,
    ) {
        let eps = (eps >> small).max(1);
        let norm = Norm::new("s", narrow(w.clone()), shift).unwrap();
        let root = |x: &[i64]| {
            let sum: BigInt = x.iter().map(|&x| big(x) * x).sum::<BigInt>() + big(4) * eps;
            let power: BigInt = (big(4) << 112u32) / sum;
            power.sqrt()
        };
        let products = |x: &[i64]| -> Vec<BigInt> {
            let root = root(x);
            x.iter().zip(&w).map(|(&x, &w)| big(x) * &root * w).collect()
        };
        let exact = words(x.chunks(4).flat_map(products).map(|product| round(product, 40 + shift)));
        agree(&rms_norm("s", &norm, eps, &x), &exact)?;

        // Two rows of one head.
        let rotations = table(2);
        let turned = x.chunks(4).enumerate().flat_map(|(row, x)| rotated(&products(x), &rotations, row));
        let exact = words(turned.map(|product| round(product, 70 + shift)));
        agree(&norm_rope("s", &norm, eps, &x, 1, &rotations), &exact)?;

        let centred = |x: &[i64]| -> Vec<BigInt> {
            let sum: BigInt = x.iter().copied().map(big).sum();
            let squares: BigInt = x.iter().map(|&x| big(x) * x).sum();
            let radicand: BigInt = big(4) * squares - &sum * &sum + big(16) * eps;
            let root: BigInt = ((big(1) << 126u32) / radicand).sqrt();
            let entry = |((&x, &w), &b): ((&i64, &i64), &i64)| {
                (big(4) * x - &sum) * &root * w + (big(b) << (31 + shift))
            };
            x.iter().zip(&w).zip(&bias).map(entry).collect()
        };
        let exact = words(x.chunks(4).flat_map(centred).map(|value| round(value, 47 + shift)));
        let norm = norm.with_bias("s", bias.clone()).unwrap();
        agree(&layer_norm("s", &norm, eps, &x), &exact)?;
    }

    #[test]
    fn rotations_of_heads(x in sized(32, 16)) {
        // Two rows of two heads.
        let (x, rotations): (Vec<i32>, _) = (narrow(x), table(2));
        let turned = x.chunks(8).enumerate().flat_map(|(row, x)| {
            rotated(&x.iter().copied().map(big).collect::<Vec<_>>(), &rotations, row)
        });
        agree(&rotate("s", 8, &x, &rotations), &words(turned.map(|sum| round(sum, 30))))?;
        prop_assert_eq!(rotate("s", 6, &x[..12], &rotations), Err(FixedError::shape("head width", "s")));
        prop_assert_eq!(rotate("s", 4, &x, &rotations), Err(FixedError::shape("rotation table", "s")));
    }

    #[test]
    fn attention_of_grouped_heads(q in sized(32, 24), k in sized(32, 12), v in sized(32, 12), down in 0u32..24) {
        // Two query heads on one of keys, three features, four rows. Large scores leave one row visible; smaller ones mix.
        let [q, k, v] = [(q, down), (k, down), (v, 0)].map(|(values, down)| {
            narrow::<i32>(values.into_iter().map(|value| value >> down).collect())
        });
        let heads = HeadCounts { query: 2, key_value: 1, dim: 3 };
        let third: BigInt = (big(1) << 62u32) / 3u32;
        let scale: BigInt = (third.sqrt() + 1u32) / 2u32;
        let mut exact = Vec::new();
        for row in 0..4 {
            for head in 0..2 {
                let query = &q[(row * 2 + head) * 3..][..3];
                let scores: Vec<BigInt> = k.chunks(3).take(row + 1)
                    .map(|key| query.iter().zip(key).map(|(&q, &k)| big(q) * k).sum()).collect();
                let largest = scores.iter().max().unwrap();
                let weights: Vec<i32> = scores.iter().map(|score| {
                    exp(i128::try_from(round((largest - score) * &scale, 46)).unwrap())
                }).collect();
                let inverse = (big(1) << 62u32) / weights.iter().copied().map(big).sum::<BigInt>();
                for d in 0..3 {
                    let sum: BigInt = weights.iter().zip(v.chunks(3)).map(|(&w, v)| big(w) * v[d]).sum();
                    exact.push(round(sum * &inverse, 62));
                }
            }
        }
        agree(&attention("s", heads, &q, &k, &v), &words(exact))?;
    }

    #[test]
    fn gates_and_sums(g in sized(32, 8), u in sized(32, 8), x in sized(41, 8), y in sized(41, 8)) {
        let [g, u] = [g, u].map(narrow::<i32>);
        let gated = g.iter().zip(&u).map(|(&g, &u)| round(big(silu(g.into())) * u, 33));
        agree(&swiglu("s", &g, &u), &words(gated))?;
        let gated = g.iter().zip(&u).map(|(&g, &u)| round(big(gelu_exact(g.into())) * u, 32));
        agree(&geglu("s", &g, &u), &words(gated))?;
        let rounded: Vec<BigInt> = g.iter().map(|&g| round(big(gelu_exact(g.into())), 16)).collect();
        prop_assert_eq!(gelu(&g).into_iter().map(big).collect::<Vec<_>>(), rounded);
        // Never larger than its input, and between the two ends of its interval.
        for (&x, y) in g.iter().zip(gelu(&g)) {
            prop_assert!(y <= i64::from(x).max(0) && y >= -(1 << 14), "gelu({x}) = {y}");
        }
        let limit = 1i64 << 40;
        let sums: Vec<i64> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
        match add("s", &x, &y) {
            Ok(got) => prop_assert_eq!(got, sums),
            Err(error) => {
                let entry = sums.iter().position(|sum| sum.abs() >= limit);
                prop_assert_eq!(Some(error), entry.map(|entry| FixedError::overflow("sum", "s", entry, 40)));
            }
        }
    }
}
