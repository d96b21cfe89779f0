//! Cells of the circuits that a prover chooses freely must not change what is accepted.

use ff::{Field, PrimeField};
use pasta_curves::Fp;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng, TryRng};

use super::support::{Case, *};
use crate::check::never;
use crate::columns::commit_columns;
use crate::conduct::{Conduct, HONEST, Label};
use crate::delta::fold::fold;
use crate::delta::rows::rows_digest;
use crate::delta::{fold_challenges, prove_columns};
use crate::field::{powers, signed};
use crate::folding::circuit::{FoldCircuit, FoldShape};
use crate::folding::{Column, Folding, Spread, Strip, Witness};
use crate::hash::Digest;
use crate::layout::{fold_rows, useful_rows};
use crate::link::halo2;
use crate::link::{self, Equation, LinkSubject};
use crate::{CheckFailed, ProveError};

const K: u32 = 6;
const FORGER: Conduct<'static> = Conduct { check: false, ..HONEST };

fn random() -> ChaCha20Rng {
    crate::entropy::fresh_generator().unwrap()
}

/// An equation that does not hold: two lanes of two strips, two of u and v, and one product of each lane.
fn false_equation() -> (Folding, Vec<Vec<Fp>>) {
    let mut generator = ChaCha20Rng::seed_from_u64(4);
    let mut column = |rows: usize| -> Vec<Fp> { (0..rows).map(|_| Fp::random(&mut generator)).collect() };
    let rows = useful_rows(K);
    let lanes = column(2);
    let coefficients = vec![column(rows), column(rows), column(2), column(2)];
    let products = vec![column(2), column(2)];
    let columns = [rows, rows, rows, rows, 2, 2, 2, 2].map(&mut column).to_vec();
    let start = column(1)[0];
    let bound = Digest([5; 32]);
    let strip = |(strip, coefficients)| Strip { first: 2 * strip, weights: lanes.clone(), coefficients };
    let strips = coefficients.into_iter().enumerate().map(strip).collect();
    (Folding { k: K, strips, products, start, spread: Spread::default(), bound, early: None }, columns)
}

/// Every cell of the circuit, one at a time, is changed so that the false equation seems to hold. The accumulator's
/// cells are refused by the circuit. The others are free there, on purpose: they are what the link ties to the
/// commitments, and the link refuses them.
#[test]
fn no_cell_makes_a_false_equation_true() {
    let (folding, columns) = false_equation();
    let shape = folding.shape();
    assert_eq!(shape, FoldShape { k: K, pairs: 2, crosses: 1 });
    let values: Vec<Column<'_>> = columns.iter().map(|column| Column::Full(column)).collect();
    let committed = commit_columns(key(K), &columns, &mut random());
    let points: Vec<_> = committed.iter().map(|column| column.point).collect();
    let witness = Witness { columns: &values, committed: &committed };
    let forger = Conduct { check: false, ..HONEST };
    let folded = folding.prepare(key(K), witness, forger, &mut random());

    // What the circuit says of columns, and what the link says if it accepts them.
    let judge = |change: &dyn Fn(&mut crate::folding::Folded), assign: &(dyn Fn(Label, usize, Fp) -> Fp + Sync)| {
        let mut folded = folded.clone();
        change(&mut folded);
        let mut bytes = Vec::new();
        let conduct = Conduct { assign, ..FORGER };
        let equations = folding.finish(key(K), witness, folded, conduct, &mut random(), &mut bytes).unwrap();
        let subject = LinkSubject { kind: 0, anchor: BASE, adapter: BASE };
        let link = link::prove(key(K), &subject, &bytes, equations, &mut random(), false).unwrap();
        let mut reader = crate::bytes::Reader::new(&bytes);
        let (sum, equations) = folding.verify(key(K), &points, &mut reader).unwrap();
        let linked = link::verify(key(K), &subject, &bytes, equations, &link).unwrap();
        (sum.eval(), linked.sum.eval())
    };
    assert_eq!(judge(&|_| {}, HONEST.assign), (false, true));

    let residue = |folded: &crate::folding::Folded| {
        *folded.instance.accumulate(&shape, &folded.linked, HONEST.assign).last().unwrap()
    };
    let missing = residue(&folded);
    for (column, rows) in [(0, fold_rows(K)), (1, 2), (2, 2), (3, 2), (4, 2), (5, 6)] {
        // One row in three of the folded column, all of the others.
        for row in (0..rows).step_by(if column == 0 { 3 } else { 1 }) {
            let compensate = |folded: &mut crate::folding::Folded| {
                let mut probe = folded.clone();
                probe.linked[column][row] += Fp::ONE;
                let slope = residue(&probe) - missing;
                if let Some(inverse) = Option::<Fp>::from(slope.invert()) {
                    folded.linked[column][row] -= missing * inverse;
                    assert_eq!(residue(folded), Fp::ZERO);
                } else {
                    folded.linked[column][row] += Fp::ONE;
                }
            };
            let (circuit, linked) = judge(&compensate, HONEST.assign);
            let weighed = column != 0 || row < useful_rows(K);
            assert_eq!((circuit, linked), (weighed, false), "column {column}, row {row}");
        }
    }
    for target in 0..=fold_rows(K) {
        let assign = |label, row, value| {
            if (label, row) == (Label::Accumulator, target) { value - missing } else { value }
        };
        assert_eq!(judge(&|_| {}, &assign), (false, true), "accumulator {target}");
    }
}

/// The equation that holds is accepted, so what is refused above is refused for its one change.
#[test]
fn a_true_equation_is_accepted_and_its_neighbour_is_not() {
    let (mut folding, mut columns) = false_equation();
    // One entry of the first lane brings the equation to zero, then `start` the products.
    let equation = |columns: &[Vec<Fp>]| -> Fp {
        let strips = columns.chunks_exact(2).zip(&folding.strips);
        strips
            .map(|(lanes, strip)| {
                let lane = |(column, weight): (&Vec<Fp>, &Fp)| -> Fp {
                    *weight * column.iter().zip(&strip.coefficients).map(|(value, f)| *value * f).sum::<Fp>()
                };
                lanes.iter().zip(&strip.weights).map(lane).sum::<Fp>()
            })
            .sum()
    };
    let missing = equation(&columns);
    let slope = folding.strips[0].weights[0] * folding.strips[0].coefficients[9];
    columns[0][9] -= missing * slope.invert().unwrap();
    assert_eq!(equation(&columns), Fp::ZERO);
    folding.start = -(0..2)
        .flat_map(|lane| (0..2).map(move |row| (lane, row)))
        .map(|(lane, row)| folding.products[lane][row] * columns[4 + lane][row] * columns[6 + lane][row])
        .sum::<Fp>();
    let accepted = |folding: &Folding, columns: &[Vec<Fp>]| {
        let values: Vec<Column<'_>> = columns.iter().map(|column| Column::Full(column)).collect();
        let committed = commit_columns(key(K), columns, &mut random());
        let points: Vec<_> = committed.iter().map(|column| column.point).collect();
        let witness = Witness { columns: &values, committed: &committed };
        let mut bytes = Vec::new();
        let conduct = Conduct { check: false, ..HONEST };
        let equations = folding.prove(key(K), witness, conduct, &mut random(), &mut bytes).unwrap();
        let (sum, _) = folding.verify(key(K), &points, &mut crate::bytes::Reader::new(&bytes)).unwrap();
        (sum.eval(), Equation::holds(key(K), Fp::from(77), equations))
    };
    assert_eq!(accepted(&folding, &columns), (true, true));
    let other = Folding { start: folding.start + Fp::ONE, ..folding.clone() };
    assert_eq!(accepted(&other, &columns), (false, true));
}

/// The whole protocol, with deltas that are wrong: no factor of a product makes up for it, though its product then comes
/// right, and no cross term does.
#[test]
fn no_factor_of_a_product_makes_a_wrong_delta_right() {
    let mut case = Case::small();
    let right = case.sites.clone();
    case.sites[0].deltas[3] += 1;
    let shapes = case.commitment.shapes();
    let rows = rows_digest(shapes, &case.sites, &never).unwrap();
    let challenges = fold_challenges(&case.statement.digest(), &rows);
    let [folded, honest] = [&case.sites, &right].map(|sites| fold(shapes, sites, challenges, &never).unwrap());
    let missing = folded[0].result - honest[0].result;
    let (factors, lanes, d_in) = (&case.factors[0], case.commitment.layout.lanes, shapes[0].d_in as usize);
    assert_eq!(lanes, 2);
    let taus = powers(challenges[1], shapes[0].d_out as usize);
    for lane in 0..lanes {
        let a = factors.a[lane * d_in..][..d_in].iter();
        let u: Fp = a.zip(&folded[0].inputs).map(|(a, x)| signed((*a).into()) * x).sum();
        let b = factors.b.iter().skip(lane).step_by(lanes);
        let v: Fp = b.zip(&taus).map(|(b, tau)| signed((*b).into()) * tau).sum();
        for (column, other) in [(lane, v), (lanes + lane, u)] {
            let by = missing * other.invert().unwrap();
            let assign = |label, row, value| if (label, row) == (Label::Pair(column), 0) { value + by } else { value };
            let forged = case.conduct(&case.columns(), Conduct { assign: &assign, ..FORGER });
            assert_eq!(case.verify(&forged), Err(CheckFailed::DeltaProof), "{column}");
            // It does come right: what the prover's own check finds is not the product.
            let Case { key, statement, commitment, opening, sites, .. } = &case;
            let conduct = Conduct { assign: &assign, ..HONEST };
            let stopped = prove_columns(key, statement, commitment, opening, &case.columns(), sites, conduct);
            assert!(matches!(stopped, Err(ProveError::Opening)), "{column}: {stopped:?}");
        }
    }
    for row in 0..2 * (case.commitment.layout.strips + 2) - 2 {
        let assign = |label, at, value| if (label, at) == (Label::Cross(0), row) { value + missing } else { value };
        let forged = case.conduct(&case.columns(), Conduct { assign: &assign, ..FORGER });
        assert_eq!(case.verify(&forged), Err(CheckFailed::DeltaProof), "cross term {row}");
    }
}

/// Gives out chosen values for as long as there are any: what halo2 takes for random a prover can choose.
#[derive(Clone)]
struct Chosen {
    words: std::collections::VecDeque<u64>,
    then: ChaCha20Rng,
}

impl Chosen {
    /// Draws these values first, then random ones.
    fn new(values: &[Fp]) -> Self {
        let words = values.iter().flat_map(|value| {
            let repr = value.to_repr();
            let words: [u64; 4] =
                std::array::from_fn(|i| u64::from_le_bytes(*repr[8 * i..].first_chunk().expect("32 bytes")));
            words.into_iter().chain([0; 4])
        });
        Self { words: words.collect(), then: ChaCha20Rng::seed_from_u64(8) }
    }
}

impl TryRng for Chosen {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.words.pop_front().map_or_else(|| self.then.next_u32(), |word| word as u32))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.words.pop_front().unwrap_or_else(|| self.then.next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.then.fill_bytes(bytes);
        Ok(())
    }
}

/// Values put where halo2 blinds change nothing: a false equation stays refused, and they are those the link knows.
#[test]
fn values_in_the_blinding_rows_are_no_witness() {
    let (folding, columns) = false_equation();
    let shape = folding.shape();
    let values: Vec<Column<'_>> = columns.iter().map(|column| Column::Full(column)).collect();
    let committed = commit_columns(key(K), &columns, &mut random());
    let witness = Witness { columns: &values, committed: &committed };
    let folded = folding.prepare(key(K), witness, Conduct { check: false, ..HONEST }, &mut random());
    let accumulator = folded.instance.accumulate(&shape, &folded.linked, HONEST.assign);
    let missing = *accumulator.last().unwrap();
    assert_ne!(missing, Fp::ZERO);
    let proving_key = shape.with(|| halo2::proving_key(key(K), &FoldCircuit { shape, witness: None })).unwrap();
    let columns = halo2::CircuitColumns { advice: shape.advice(), linked: shape.linked() };
    for chosen in [Fp::ZERO, -missing, missing] {
        let generator = Chosen::new(&vec![chosen; 6 * shape.advice()]);
        let circuit = FoldCircuit { shape, witness: Some((&folded.linked, &accumulator)) };
        let instances = folded.instance.columns();
        let (proof, proved) = shape
            .with(|| halo2::prove(key(K), &proving_key, circuit, &instances, columns, Fp::ONE, generator))
            .unwrap();
        assert!(proved.iter().all(|column| column.randomness.unusable == [chosen; 6]));
        let sum = halo2::verify(key(K), proving_key.get_vk(), &instances, Fp::ONE, &proof).unwrap();
        assert!(!sum.eval(), "{chosen:?}");
    }
}

/// The circuit, by all that its verifying key depends on.
#[derive(Clone, Copy, Debug)]
struct Fold {
    k: u32,
    pairs: usize,
    crosses: usize,
}

impl Fold {
    fn verifying_key(self) -> String {
        let Self { k, pairs, crosses } = self;
        let shape = FoldShape { k, pairs, crosses };
        let verifying_key = shape.with(|| halo2::verifying_key(key(k), &FoldCircuit { shape, witness: None }));
        format!("{:#?}\n", verifying_key.unwrap().pinned())
    }
}

/// Changing a circuit changes every proof; then the protocol version must change too. With `FTK_WRITE_GOLDENS` the
/// texts are written anew.
#[test]
fn verifying_keys_are_the_pinned_ones() {
    let pinned = |name: &str, found: &str| {
        let path = format!("{}/src/tests/verifying_keys/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("FTK_WRITE_GOLDENS").is_some() {
            std::fs::write(&path, found).unwrap();
        }
        assert!(found == std::fs::read_to_string(&path).unwrap(), "{name} is not that of {path}");
    };
    // Every kind of shape as text: an adapter of rank two has two pairs, one of many columns has more than one column
    // of cross terms.
    for (name, shape) in [
        ("fold", Fold { k: K, pairs: 1, crosses: 1 }),
        ("fold_pairs", Fold { k: K, pairs: 2, crosses: 1 }),
        ("fold_crosses", Fold { k: K, pairs: 1, crosses: 2 }),
        ("fold_pairs_crosses", Fold { k: K, pairs: 3, crosses: 3 }),
    ] {
        pinned(name, &shape.verifying_key());
    }
    // Sizes that adapters have, by digest of the same text.
    let mut digests = String::new();
    for (k, pairs, crosses) in [(8, 1, 1), (8, 4, 1), (8, 16, 1), (8, 128, 1), (9, 8, 2), (10, 1, 1)] {
        digests += &line(Fold { k, pairs, crosses });
    }
    pinned("digests", &digests);
}

fn line(shape: Fold) -> String {
    format!("{shape:?}: {}\n", blake3::hash(shape.verifying_key().as_bytes()))
}

/// The shapes of [`verifying_keys_are_the_pinned_ones`] are those that commitments ask for.
#[test]
fn adapters_ask_for_pinned_kinds_of_shapes() {
    let asked = |shapes: &[crate::SiteShape]| {
        let layout = crate::layout::Layout::new(shapes);
        let rows = useful_rows(layout.k);
        let pairs = shapes.len().div_ceil(rows);
        let strips = layout.strips + 2 * pairs;
        (layout.k, pairs * layout.lanes, (2 * strips - 2).div_ceil(rows))
    };
    assert_eq!(asked(&[shape("one", 4, 768, 2304)]), (8, 4, 1));
    assert_eq!(asked(&[shape("one", 16, 768, 2304)]), (8, 16, 1));
    assert_eq!(asked(&[shape("one", 128, 200, 200)]), (8, 128, 1));
    let many: Vec<_> = (0..32).map(|i| shape(&format!("s{i}"), 8, 2048, 2048)).collect();
    assert_eq!(asked(&many), (9, 8, 2));
}
