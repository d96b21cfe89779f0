//! Linear equations over many committed columns, folded into one column and proved in one small circuit
//! (`STATEMENT.md`, section 4).

pub(crate) mod circuit;

use ff::{Field, PrimeField};
use group::CurveAffine as _;
use halo2_proofs::arithmetic::best_fft;
use halo2_proofs::poly::commitment::MSM;
use pasta_curves::{EqAffine, Fp};
use rand_chacha::ChaCha20Rng;
use rayon::prelude::*;

use crate::bytes::Reader;
use crate::columns::{Committed, Randomness, append_points, commit_columns, read_points};
use crate::conduct::{Conduct, Draw, Label};
use crate::entropy::fork;
use crate::error::ProveError;
use crate::field::{SmallSums, powers, signed};
use crate::folding::circuit::{FoldCircuit, FoldInstance, FoldShape};
use crate::hash::{Absorb, Digest, Tag};
use crate::key::{CommitmentKey, UNUSABLE};
use crate::layout::{fold_rows, useful_rows};
use crate::link::Equation;
use crate::link::halo2::{self, CircuitColumns};

/// Values of a column; rows past its end are zero.
#[derive(Clone, Copy)]
pub(crate) enum Column<'a> {
    /// Of any size.
    Full(&'a [Fp]),
    /// Small integers.
    Small(&'a [i32]),
}

/// Columns that were committed to with fewer rows. Such a column is one of all rows too, of the polynomial that it has
/// already: its row i is row `i << bits`, and what is in the others follows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spread {
    /// So many, before all others.
    pub(crate) columns: usize,
    /// log2 of how many times fewer rows they have.
    pub(crate) bits: u32,
}

/// A sum of columns with a weight each, and what its rows are weighed with.
#[derive(Clone, Debug)]
pub(crate) struct Strip {
    /// The first of the columns, which follow each other.
    pub(crate) first: usize,
    /// One weight for each column.
    pub(crate) weights: Vec<Fp>,
    /// f; rows past its end are zero.
    pub(crate) coefficients: Vec<Fp>,
}

/// One equation: strips of columns, the products beside it, and their coefficients.
#[derive(Clone, Debug)]
pub(crate) struct Folding {
    pub(crate) k: u32,
    pub(crate) strips: Vec<Strip>,
    /// g of each column of u; the last columns of the equation are u, then v.
    pub(crate) products: Vec<Vec<Fp>>,
    /// Minus what the products must come to.
    pub(crate) start: Fp,
    pub(crate) spread: Spread,
    /// Digest of everything that comes before.
    pub(crate) bound: Digest,
    /// What forgers in tests know too early.
    pub(crate) early: Option<Draw>,
}

/// What a prover has beyond [`Folding`], and nothing may print.
#[derive(Clone, Copy)]
pub(crate) struct Witness<'a> {
    pub(crate) columns: &'a [Column<'a>],
    /// Their commitments.
    pub(crate) committed: &'a [Committed],
}

/// What a prover has once the equation is folded, and nothing may print.
#[derive(Clone)]
pub(crate) struct Folded {
    /// Values of the circuit's linked columns.
    pub(crate) linked: Vec<Vec<Fp>>,
    pub(crate) instance: FoldInstance,
    beta: Fp,
    bound: Digest,
    crosses: Vec<Committed>,
    /// What spread columns have in the last rows.
    last: [Fp; UNUSABLE],
}

/// What a proof of a folding leaves to be linked and checked.
type Verified<'k> = (MSM<'k, EqAffine>, Vec<Equation<EqAffine>>);

impl Folding {
    pub(crate) fn shape(&self) -> FoldShape {
        let crosses = (2 * self.strips.len() - 2).div_ceil(useful_rows(self.k));
        FoldShape { k: self.k, pairs: self.products.len(), crosses }
    }

    /// Draws beta; the digest is what the proof is bound to.
    fn fold(&self, crosses: &[EqAffine]) -> (Fp, Digest) {
        let before = || Absorb::new(Tag::Crosses).digest(&self.bound);
        let after = || before().points(crosses);
        let [beta] = if Draw::Crosses.is_early(self.early) { before() } else { after() }.challenges();
        (beta, after().finish())
    }

    fn instance(&self, beta: Fp) -> FoldInstance {
        // Zero, which has no inverse, is drawn by nobody.
        let inverses = powers(beta.invert().unwrap_or(Fp::ZERO), self.strips.len());
        let betas = powers(beta, self.strips.len());
        let mut coefficients = vec![Fp::ZERO; fold_rows(self.k)];
        for (strip, weight) in self.strips.iter().zip(&inverses) {
            for (sum, value) in coefficients.iter_mut().zip(&strip.coefficients) {
                *sum += *weight * value;
            }
        }
        let crosses: Vec<Fp> = betas.into_iter().skip(1).chain(inverses.into_iter().skip(1)).collect();
        FoldInstance {
            coefficients,
            crosses: crosses.chunks(useful_rows(self.k)).map(<[Fp]>::to_vec).collect(),
            products: self.products.clone(),
            start: self.start,
        }
    }

    fn prefix(bound: &Digest) -> Fp {
        let [prefix] = Absorb::new(Tag::FoldProof).digest(bound).challenges();
        prefix
    }

    /// Equations of w, of u and v, and of the cross terms.
    fn equations<T: Copy>(&self, beta: Fp, linked: &[T], columns: &[T], crosses: &[T]) -> Vec<Equation<T>> {
        let mut weights = vec![Fp::ZERO; columns.len()];
        for (strip, beta) in self.strips.iter().zip(powers(beta, self.strips.len())) {
            for (sum, weight) in weights[strip.first..].iter_mut().zip(&strip.weights) {
                *sum -= beta * weight;
            }
        }
        let mut terms = vec![(Fp::ONE, linked[0])];
        terms.extend(weights.into_iter().zip(columns.iter().copied()));
        let pairs = &columns[columns.len() - 2 * self.products.len()..];
        let single = linked[1..].iter().zip(pairs.iter().chain(crosses));
        std::iter::once(Equation { terms }).chain(single.map(|(left, right)| Equation::equal(*left, *right))).collect()
    }

    /// The sum of the columns of each strip, with as many rows as the longest has.
    fn sums(&self, columns: &[Column<'_>]) -> Vec<Vec<Fp>> {
        let add = |mut sum: Vec<Fp>, mut other: Vec<Fp>| {
            if sum.len() < other.len() {
                std::mem::swap(&mut sum, &mut other);
            }
            sum.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
            sum
        };
        let weighed = |(mut small, mut full): (SmallSums, Vec<Fp>), (column, weight): (&Column<'_>, &Fp)| {
            match column {
                Column::Small(values) => small.add(weight, values),
                Column::Full(values) => {
                    full.resize(full.len().max(values.len()), Fp::ZERO);
                    full.iter_mut().zip(*values).for_each(|(sum, value)| *sum += *weight * value);
                }
            }
            (small, full)
        };
        let sum = |strip: &Strip| {
            let terms = columns[strip.first..].par_iter().zip(&strip.weights);
            let terms = terms.filter(|(_, weight)| **weight != Fp::ZERO);
            let parts = terms.fold(Default::default, weighed).map(|(small, full)| add(small.finish(), full));
            let sum = parts.reduce(Vec::new, add);
            if strip.first < self.spread.columns { self.spread(sum) } else { sum }
        };
        self.strips.par_iter().map(sum).collect()
    }

    /// A column of fewer rows at all rows.
    fn spread(&self, mut column: Vec<Fp>) -> Vec<Fp> {
        let short = self.k - self.spread.bits;
        let root = |log: u32| (log..Fp::S).fold(Fp::ROOT_OF_UNITY, |root, _| root.square());
        column.resize(1 << short, Fp::ZERO);
        if self.spread.bits == 0 {
            return column;
        }
        // The inverse transform is the transform read backwards, divided by the size.
        best_fft(&mut column, root(short), short);
        column[1..].reverse();
        let scale = Fp::TWO_INV.pow_vartime([u64::from(short)]);
        column.iter_mut().for_each(|value| *value *= scale);
        column.resize(1 << self.k, Fp::ZERO);
        best_fft(&mut column, root(self.k), self.k);
        column
    }

    /// Proves the equation, and the products: appends the cross terms' commitments and the proof to `bytes`.
    pub(crate) fn prove(
        &self,
        key: &CommitmentKey,
        witness: Witness<'_>,
        conduct: Conduct<'_>,
        random: &mut ChaCha20Rng,
        bytes: &mut Vec<u8>,
    ) -> Result<Vec<Equation<Committed>>, ProveError> {
        let folded = self.prepare(key, witness, conduct, random);
        self.finish(key, witness, folded, conduct, random, bytes)
    }

    /// Commits to the cross terms and folds.
    pub(crate) fn prepare(
        &self,
        key: &CommitmentKey,
        witness: Witness<'_>,
        conduct: Conduct<'_>,
        random: &mut ChaCha20Rng,
    ) -> Folded {
        let strips = self.sums(witness.columns);
        let coefficients: Vec<&[Fp]> = self.strips.iter().map(|strip| strip.coefficients.as_slice()).collect();
        let crosses = cross_terms(&strips, &coefficients);
        let mut crosses: Vec<Vec<Fp>> = crosses.chunks(useful_rows(self.k)).map(<[Fp]>::to_vec).collect();
        conduct.pass(Label::Cross, &mut crosses);
        let committed = commit_columns(key, &crosses, random);
        let points: Vec<EqAffine> = committed.iter().map(|column| column.point).collect();
        let (beta, bound) = self.fold(&points);
        let all = if self.spread.columns > 0 { 1 << self.k } else { fold_rows(self.k) };
        let mut folded = vec![Fp::ZERO; all];
        for (strip, weight) in strips.iter().zip(powers(beta, strips.len())) {
            for (sum, value) in folded.iter_mut().zip(strip) {
                *sum += weight * value;
            }
        }
        let mut last = [Fp::ZERO; UNUSABLE];
        if self.spread.columns > 0 {
            last.copy_from_slice(&folded[all - UNUSABLE..]);
            folded.truncate(all - UNUSABLE);
        }
        let pairs = &witness.columns[witness.columns.len() - 2 * self.products.len()..];
        let full = |column: &Column<'_>| match column {
            Column::Full(values) => values.to_vec(),
            Column::Small(values) => values.iter().map(|value| signed((*value).into())).collect(),
        };
        let linked = std::iter::once(folded).chain(pairs.iter().map(full)).chain(crosses).collect();
        Folded { linked, instance: self.instance(beta), beta, bound, crosses: committed, last }
    }

    /// Proves what is left in a circuit, and says what its columns must be equal to.
    pub(crate) fn finish(
        &self,
        key: &CommitmentKey,
        witness: Witness<'_>,
        folded: Folded,
        conduct: Conduct<'_>,
        random: &mut ChaCha20Rng,
        bytes: &mut Vec<u8>,
    ) -> Result<Vec<Equation<Committed>>, ProveError> {
        let shape = self.shape();
        let Folded { linked, instance, beta, bound, crosses, last } = folded;
        let accumulator = instance.accumulate(&shape, &linked, conduct.assign);
        if conduct.check && accumulator.last() != Some(&Fp::ZERO) {
            return Err(ProveError::Opening);
        }
        let columns = CircuitColumns { advice: shape.advice(), linked: shape.linked() };
        let generator = fork(random);
        let (proof, proved) = shape.with(|| {
            let proving_key = halo2::proving_key(key, &FoldCircuit { shape, witness: None })?;
            let circuit = FoldCircuit { shape, witness: Some((&linked, &accumulator)) };
            let prefix = Self::prefix(&bound);
            halo2::prove(key, &proving_key, circuit, &instance.columns(), columns, prefix, generator)
        })?;
        append_points(bytes, &crosses.iter().map(|column| column.point).collect::<Vec<_>>());
        bytes.extend(proof);
        let mut equations = self.equations(beta, &proved, witness.committed, &crosses);
        // Their commitments say nothing of what spread columns have in the last rows, and the fold of all has it.
        let randomness = Randomness { unusable: last, blind: Fp::ZERO };
        equations[0].terms.push((-Fp::ONE, Committed { point: EqAffine::identity(), randomness }));
        Ok(equations)
    }

    /// Reads what [`Folding::prove`] appended, to the end; `None` for what cannot be such a proof. `columns` are the
    /// commitments.
    pub(crate) fn verify<'k>(
        &self,
        key: &'k CommitmentKey,
        columns: &[EqAffine],
        reader: &mut Reader<'_>,
    ) -> Option<Verified<'k>> {
        let shape = self.shape();
        let crosses = read_points(reader, shape.crosses)?;
        let (beta, bound) = self.fold(&crosses);
        let proof = reader.rest();
        let linked = halo2::linked_points(proof, CircuitColumns { advice: shape.advice(), linked: shape.linked() })?;
        let verifying_key = shape.with(|| halo2::verifying_key(key, &FoldCircuit { shape, witness: None })).ok()?;
        let instance = self.instance(beta);
        let sum = halo2::verify(key, &verifying_key, &instance.columns(), Self::prefix(&bound), proof)?;
        Some((sum, self.equations(beta, &linked, columns, &crosses)))
    }
}

/// Coefficients of `X^1, X^2, .., X^-1, X^-2, ..` in `< sum_j X^j strip_j, sum_j X^-j f_j >`.
fn cross_terms(strips: &[Vec<Fp>], coefficients: &[&[Fp]]) -> Vec<Fp> {
    let strips: Vec<&[Fp]> = strips.iter().map(Vec::as_slice).collect();
    let count = strips.len();
    if count == 1 {
        return Vec::new();
    }
    let log = (2 * count - 1).next_power_of_two().ilog2();
    let size = 1 << log;
    let root = (log..Fp::S).fold(Fp::ROOT_OF_UNITY, |root, _| root.square());
    // Both polynomials of a row at all roots of unity; X^-j is X^(size - j) there.
    let values = |row: usize, of: &[&[Fp]], place: &dyn Fn(usize) -> usize| {
        let mut values = vec![Fp::ZERO; size];
        let mut any = false;
        for (j, column) in of.iter().enumerate() {
            if let Some(value) = column.get(row) {
                values[place(j)] = *value;
                any = true;
            }
        }
        any.then(|| {
            best_fft(&mut values, root, log);
            values
        })
    };
    let rows = coefficients.iter().map(|strip| strip.len()).max().unwrap_or(0);
    let sum = (0..rows)
        .into_par_iter()
        .fold(
            || vec![Fp::ZERO; size],
            |mut sum, row| {
                let left = values(row, &strips, &|j| j);
                let right = values(row, coefficients, &|j| (size - j) % size);
                if let (Some(left), Some(right)) = (left, right) {
                    for ((sum, left), right) in sum.iter_mut().zip(left).zip(right) {
                        *sum += left * right;
                    }
                }
                sum
            },
        )
        .reduce_with(|mut a, b| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
            a
        });
    let Some(mut sum) = sum else { return vec![Fp::ZERO; 2 * count - 2] };
    // The inverse transform is the transform read backwards, divided by the size.
    best_fft(&mut sum, root, log);
    let scale = Fp::TWO_INV.pow_vartime([u64::from(log)]);
    let coefficient = |power: usize| sum[(size - power) % size] * scale;
    (1..count).map(coefficient).chain((1..count).map(|power| coefficient(size - power))).collect()
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn cross_terms_are_the_other_coefficients_of_the_product() {
        let mut generator = ChaCha20Rng::seed_from_u64(3);
        let mut columns = |lengths: &[usize]| -> Vec<Vec<Fp>> {
            lengths.iter().map(|&len| (0..len).map(|_| Fp::random(&mut generator)).collect()).collect()
        };
        for (left, right) in [(vec![3, 3, 1], vec![3, 2, 3]), (vec![2, 0], vec![2, 2]), (vec![4], vec![4])] {
            let (strips, coefficients) = (columns(&left), columns(&right));
            let count = strips.len() as i32;
            let expected: Vec<Fp> = (1..count)
                .chain((1..count).map(|power| -power))
                .map(|power| {
                    let pairs =
                        (0..count).flat_map(|i| (0..count).map(move |j| (i, j))).filter(|(i, j)| i - j == power);
                    pairs
                        .map(|(i, j)| {
                            let terms = strips[i as usize].iter().zip(&coefficients[j as usize]);
                            terms.map(|(a, b)| *a * b).sum::<Fp>()
                        })
                        .sum()
                })
                .collect();
            let coefficients: Vec<&[Fp]> = coefficients.iter().map(Vec::as_slice).collect();
            assert_eq!(cross_terms(&strips, &coefficients), expected);
        }
    }
}
