//! Small adapters, their exact deltas computed without any code of the proof, and cached keys.

use std::sync::OnceLock;

use ff::Field;
use pasta_curves::Fp;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::commitment::{arrange, commit_columns};
use crate::conduct::{Conduct, HONEST};
use crate::delta::prove_columns;
use crate::registration::register_columns;
use crate::*;

/// The key for k, derived once per test run.
pub(crate) fn key(k: u32) -> &'static CommitmentKey {
    static KEYS: [OnceLock<CommitmentKey>; (MAX_K + 1) as usize] = [const { OnceLock::new() }; (MAX_K + 1) as usize];
    KEYS[k as usize].get_or_init(|| CommitmentKey::generate(k).unwrap())
}

/// The solution of `a x + b y = e`, `c x + d y = f`.
pub(crate) fn solve([a, b, e]: [Fp; 3], [c, d, f]: [Fp; 3]) -> [Fp; 2] {
    let inverse = (a * d - b * c).invert().unwrap();
    [(e * d - b * f) * inverse, (a * f - e * c) * inverse]
}

pub(super) fn shape(name: &str, rank: u32, d_in: u32, d_out: u32) -> SiteShape {
    SiteShape { name: name.into(), rank, d_in, d_out, shift_a: 12, shift_b: 14 }
}

/// Factors with entries over the whole 16-bit range.
pub(super) fn factors(seed: u64, shapes: &[SiteShape]) -> Vec<SiteFactors> {
    let mut generator = ChaCha20Rng::seed_from_u64(seed);
    let mut entries = |count: u32| (0..count).map(|_| generator.next_u32() as i16).collect::<Vec<_>>();
    shapes
        .iter()
        .map(|shape| SiteFactors {
            shape: shape.clone(),
            a: entries(shape.rank * shape.d_in),
            b: entries(shape.d_out * shape.rank),
        })
        .collect()
}

/// `B (A x)` in integers, row by row.
pub(super) fn deltas(site: &SiteFactors, inputs: &[i64]) -> Vec<i128> {
    let (rank, d_in, d_out) = (site.shape.rank as usize, site.shape.d_in as usize, site.shape.d_out as usize);
    let mut deltas = Vec::new();
    for x in inputs.chunks_exact(d_in) {
        let hidden: Vec<i128> =
            (0..rank).map(|l| (0..d_in).map(|i| i128::from(site.a[l * d_in + i]) * i128::from(x[i])).sum()).collect();
        deltas
            .extend((0..d_out).map(|j| (0..rank).map(|l| i128::from(site.b[j * rank + l]) * hidden[l]).sum::<i128>()));
    }
    deltas
}

/// Random inputs over the whole 32-bit range and their deltas.
pub(super) fn rows(seed: u64, factors: &[SiteFactors], rows: usize) -> Vec<SiteRows> {
    let mut generator = ChaCha20Rng::seed_from_u64(seed);
    factors
        .iter()
        .map(|site| {
            let count = rows * site.shape.d_in as usize;
            let inputs: Vec<i64> =
                (0..count).map(|_| i64::from(generator.next_u32() as i32)).map(|x| x.max(1 - (1 << 31))).collect();
            SiteRows { rows, deltas: deltas(site, &inputs), inputs }
        })
        .collect()
}

pub(super) const BASE: Digest = Digest([7; 32]);

/// A statement, whatever it says.
pub(super) fn statement(adapter: Digest) -> StatementBytes {
    StatementBytes { base: BASE, adapter, said: b"five six, eight nine".to_vec() }
}
pub(super) const ROWS: usize = 3;

/// An adapter, committed, with rows to prove.
#[derive(Clone)]
pub(super) struct Case {
    pub key: &'static CommitmentKey,
    pub factors: Vec<SiteFactors>,
    pub commitment: AdapterCommitment,
    pub opening: Opening,
    pub statement: StatementBytes,
    pub sites: Vec<SiteRows>,
}

impl Case {
    pub fn new(shapes: &[SiteShape]) -> Self {
        Self::with(factors(1, shapes))
    }

    pub fn with(factors: Vec<SiteFactors>) -> Self {
        let shapes: Vec<_> = factors.iter().map(|site| site.shape.clone()).collect();
        let key = key(required_k(&shapes).unwrap());
        let (commitment, opening) = commit(key, BASE, &factors).unwrap();
        let statement = statement(commitment.digest());
        let sites = rows(2, &factors, ROWS);
        Self { key, factors, commitment, opening, statement, sites }
    }

    /// Two sites of different ranks and awkward dimensions.
    pub fn small() -> Self {
        Self::new(&[shape("q", 2, 20, 5), shape("v", 1, 7, 33)])
    }

    pub fn prove(&self) -> DeltaProof {
        prove(self.key, &self.statement, &self.commitment, &self.opening, &self.factors, &self.sites, &mut |_, _| {})
            .unwrap()
    }

    pub fn verify(&self, proof: &DeltaProof) -> Result<(), CheckFailed> {
        verify(self.key, &self.statement, &self.commitment, &self.sites, proof)
    }

    /// The columns of its factors.
    pub fn columns(&self) -> Vec<Vec<Fp>> {
        arrange(&self.commitment.layout, &self.factors)
    }

    /// Proves whatever the case says, true or not.
    pub fn forge(&self, columns: &[Vec<Fp>]) -> DeltaProof {
        self.conduct(columns, Conduct { check: false, ..HONEST })
    }

    /// Proves as one likes.
    pub fn conduct(&self, columns: &[Vec<Fp>], conduct: Conduct<'_>) -> DeltaProof {
        let Self { key, statement, commitment, opening, sites, .. } = self;
        prove_columns(key, statement, commitment, opening, columns, sites, conduct).unwrap()
    }

    /// Registers whatever these columns hold.
    pub fn register_as(&self, columns: &[Vec<Fp>], conduct: Conduct<'_>) -> Vec<u8> {
        let random = crate::entropy::fresh_generator().unwrap();
        self.register_with(columns, conduct, random)
    }

    /// The same with the given randomness.
    pub fn register_with(&self, columns: &[Vec<Fp>], conduct: Conduct<'_>, random: ChaCha20Rng) -> Vec<u8> {
        let Self { key, commitment, opening, .. } = self;
        register_columns(key, commitment, opening, columns, &mut |_, _| {}, conduct, random).unwrap()
    }

    /// The case with a commitment to these columns.
    pub fn committed_to(&self, columns: &[Vec<Fp>]) -> Self {
        let (commitment, opening) = commit_columns(self.key, BASE, self.commitment.shapes().to_vec(), columns).unwrap();
        let statement = statement(commitment.digest());
        Self { commitment, opening, statement, ..self.clone() }
    }

    pub fn register(&self) -> Vec<u8> {
        register(self.key, &self.commitment, &self.opening, &self.factors, &mut |_, _| {}).unwrap()
    }
}
