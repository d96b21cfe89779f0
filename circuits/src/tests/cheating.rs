//! Cells of the circuits that a prover chooses freely must not change what is accepted.

use ff::{Field, PrimeField};
use halo2_proofs::dev::MockProver;
use pasta_curves::Fp;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng, TryRng};

use super::support::*;
use crate::circuit::Label;
use crate::circuit::fold::{FoldCircuit, FoldShape};
use crate::circuit::range::{RangeCircuit, Trace, with_width};
use crate::folding::{Conduct, Folding, HONEST, Witness, commit_columns};
use crate::hash::Digest;
use crate::layout::{fold_rows, useful_rows};
use crate::link::{self, Equation, Subject};
use crate::linked;

const K: u32 = 6;

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
    (Folding { k: K, lanes, coefficients, products, start, bound }, columns)
}

/// Every cell of the circuit, one at a time, is changed so that the false equation seems to hold. The accumulator's
/// cells are refused by the circuit. The others are free there, on purpose: they are what the link ties to the
/// commitments, and the link refuses them.
#[test]
fn no_cell_makes_a_false_equation_true() {
    let (folding, columns) = false_equation();
    let shape = folding.shape();
    assert_eq!(shape, FoldShape { k: K, pairs: 2, crosses: 1 });
    let values: Vec<&[Fp]> = columns.iter().map(Vec::as_slice).collect();
    let committed = commit_columns(key(K), &columns).unwrap();
    let points: Vec<_> = committed.iter().map(|column| column.point).collect();
    let witness = Witness { columns: &values, committed: &committed };
    let forger = Conduct { check: false, ..HONEST };
    let folded = folding.prepare(key(K), witness, forger).unwrap();

    // What the circuit says of columns, and what the link says if it accepts them.
    let judge = |change: &dyn Fn(&mut crate::folding::Folded), assign: &(dyn Fn(Label, usize, Fp) -> Fp + Sync)| {
        let mut folded = folded.clone();
        change(&mut folded);
        let mut bytes = Vec::new();
        let conduct = Conduct { assign, check: false };
        let equations = folding.finish(key(K), witness, folded, conduct, &mut bytes).unwrap();
        let subject = Subject { kind: 0, anchor: BASE, adapter: BASE };
        let link = link::prove(key(K), &subject, &bytes, equations, false).unwrap();
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
        let strips = columns.chunks_exact(2).zip(&folding.coefficients);
        strips
            .map(|(lanes, f)| {
                let lane = |(column, weight): (&Vec<Fp>, &Fp)| -> Fp {
                    *weight * column.iter().zip(f).map(|(value, f)| *value * f).sum::<Fp>()
                };
                lanes.iter().zip(&folding.lanes).map(lane).sum::<Fp>()
            })
            .sum()
    };
    let missing = equation(&columns);
    let slope = folding.lanes[0] * folding.coefficients[0][9];
    columns[0][9] -= missing * slope.invert().unwrap();
    assert_eq!(equation(&columns), Fp::ZERO);
    folding.start = -(0..2)
        .flat_map(|lane| (0..2).map(move |row| (lane, row)))
        .map(|(lane, row)| folding.products[lane][row] * columns[4 + lane][row] * columns[6 + lane][row])
        .sum::<Fp>();
    let accepted = |folding: &Folding, columns: &[Vec<Fp>]| {
        let values: Vec<&[Fp]> = columns.iter().map(Vec::as_slice).collect();
        let committed = commit_columns(key(K), columns).unwrap();
        let points: Vec<_> = committed.iter().map(|column| column.point).collect();
        let witness = Witness { columns: &values, committed: &committed };
        let mut bytes = Vec::new();
        let conduct = Conduct { check: false, ..HONEST };
        let equations = folding.prove(key(K), witness, conduct, &mut bytes).unwrap();
        let (sum, _) = folding.verify(key(K), &points, &mut crate::bytes::Reader::new(&bytes)).unwrap();
        (sum.eval(), Equation::holds(key(K), Fp::from(77), equations))
    };
    assert_eq!(accepted(&folding, &columns), (true, true));
    let other = Folding { start: folding.start + Fp::ONE, ..folding.clone() };
    assert_eq!(accepted(&other, &columns), (false, true));
}

/// Every computed cell of the range circuit, one at a time; entries are the link's, and free here on purpose.
#[test]
fn no_computed_cell_of_the_range_circuit_is_free() {
    let (point, width) = (Fp::from(1 << 20), 3);
    let entries = vec![vec![Fp::from(77); (1 << K) - 6]; width];
    let run = |target: Option<(Label, usize)>| {
        let trace = Trace::new(K, point, &entries, &|label, row, value| {
            if target == Some((label, row)) { value + Fp::from(3) } else { value }
        });
        let circuit = RangeCircuit { k: K, witness: Some((&entries, &trace)) };
        let instances = vec![vec![point; useful_rows(K)]];
        with_width(width, || MockProver::run(K, &circuit, instances).unwrap().verify().is_ok())
    };
    assert!(run(None));
    let sum = Trace::new(K, point, &entries, HONEST.assign).accumulator[useful_rows(K)];
    let each = (point - Fp::from(77)).invert().unwrap();
    assert_eq!(sum, each * Fp::from(3 * useful_rows(K) as u64));
    for row in 0..useful_rows(K) {
        assert!(!run(Some((Label::Reciprocal(0), row))), "{row}");
        assert!(!run(Some((Label::Accumulator, row))), "{row}");
    }
    assert!(!run(Some((Label::Accumulator, useful_rows(K)))));
    // An entry at the point has no reciprocal: no sum can be made of it.
    let mut at_the_point = entries.clone();
    at_the_point[1][4] = point;
    let trace = Trace::new(K, point, &at_the_point, HONEST.assign);
    let circuit = RangeCircuit { k: K, witness: Some((&at_the_point, &trace)) };
    let instances = vec![vec![point; useful_rows(K)]];
    assert!(with_width(width, || MockProver::run(K, &circuit, instances).unwrap().verify().is_err()));
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
    let values: Vec<&[Fp]> = columns.iter().map(Vec::as_slice).collect();
    let committed = commit_columns(key(K), &columns).unwrap();
    let witness = Witness { columns: &values, committed: &committed };
    let folded = folding.prepare(key(K), witness, Conduct { check: false, ..HONEST }).unwrap();
    let accumulator = folded.instance.accumulate(&shape, &folded.linked, HONEST.assign);
    let missing = *accumulator.last().unwrap();
    assert_ne!(missing, Fp::ZERO);
    let proving_key = shape.with(|| linked::proving_key(key(K), &FoldCircuit { shape, witness: None })).unwrap();
    let columns = linked::Columns { advice: shape.advice(), linked: shape.linked() };
    for chosen in [Fp::ZERO, -missing, missing] {
        let generator = Chosen::new(&vec![chosen; 6 * shape.advice()]);
        let circuit = FoldCircuit { shape, witness: Some((&folded.linked, &accumulator)) };
        let instances = folded.instance.columns();
        let (proof, proved) = shape
            .with(|| linked::prove(key(K), &proving_key, circuit, &instances, columns, Fp::ONE, generator))
            .unwrap();
        assert!(proved.iter().all(|column| column.randomness.unusable == [chosen; 6]));
        let sum = linked::verify(key(K), proving_key.get_vk(), &instances, Fp::ONE, &proof).unwrap();
        assert!(!sum.eval(), "{chosen:?}");
    }
}

/// Changing a circuit changes every proof; then the protocol version must change too. With `FTK_WRITE_GOLDENS` the
/// texts are written anew.
#[test]
fn verifying_keys_are_the_pinned_ones() {
    let shape = FoldShape { k: K, pairs: 1, crosses: 1 };
    let fold = shape.with(|| linked::verifying_key(key(K), &FoldCircuit { shape, witness: None })).unwrap();
    let range = with_width(3, || linked::verifying_key(key(K), &RangeCircuit { k: K, witness: None })).unwrap();
    for (name, key) in [("fold", fold), ("range", range)] {
        let path = format!("{}/src/tests/verifying_keys/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let found = format!("{:#?}\n", key.pinned());
        if std::env::var_os("FTK_WRITE_GOLDENS").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        assert!(found == std::fs::read_to_string(&path).unwrap(), "the key of {name} is not that of {path}");
    }
}
