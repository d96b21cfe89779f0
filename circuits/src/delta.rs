//! The delta proof of open mode: the stated deltas are those of the committed adapter (`STATEMENT.md`, section 4).

pub(crate) mod encoding;
pub(crate) mod fold;
mod mersenne;
pub(crate) mod rows;

use ff::Field;
use pasta_curves::{EqAffine, Fp};
use rayon::prelude::*;

use crate::bytes::Reader;
use crate::check::{Check, Checks, Stop, go_on, never};
use crate::columns::{Committed, append_points, commit_columns, read_points};
use crate::commitment::{AdapterCommitment, Opening, SiteFactors, arrange};
use crate::conduct::{Conduct, HONEST, Label};
use crate::delta::fold::{FoldedSite, fold};
use crate::delta::rows::{SiteRows, check_rows, rows_digest};
use crate::entropy::fresh_generator;
use crate::error::{CheckFailed, ProveError};
use crate::field::powers;
use crate::folding::{Column, Folding, Spread, Strip, Witness};
use crate::hash::{Absorb, Digest, Tag};
use crate::key::CommitmentKey;
use crate::layout::useful_rows;
use crate::link::{self, LinkSubject};
use crate::statement::StatementBytes;

const KIND: u8 = 0;

/// What `proof.bin` and `link.bin` hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaProof {
    /// Commitments and the halo2 proof.
    pub proof: Vec<u8>,
    /// Their link to the adapter's commitment, [`crate::LINK_BYTES`] bytes.
    pub link: Vec<u8>,
}

/// Everything prover and verifier derive from the public values.
struct PublicDeltas<'a> {
    commitment: &'a AdapterCommitment,
    /// Digest of statement and rows.
    anchor: Digest,
    folded: Vec<FoldedSite>,
    /// `tau^j`
    taus: Vec<Fp>,
}

impl<'a> PublicDeltas<'a> {
    fn derive(
        statement: &StatementBytes,
        commitment: &'a AdapterCommitment,
        sites: &[SiteRows],
        stop: &Stop<'_>,
    ) -> Result<Self, CheckFailed> {
        let shapes = commitment.shapes();
        let (statement, rows) = (statement.digest(), rows_digest(shapes, sites, stop)?);
        let challenges = fold_challenges(&statement, &rows);
        let longest = shapes.iter().map(|shape| shape.d_out as usize).max().unwrap_or(0);
        Ok(Self {
            commitment,
            anchor: anchor(&statement, &rows),
            folded: fold(shapes, sites, challenges, stop)?,
            taus: powers(challenges[1], longest),
        })
    }

    /// Strips of u, and of v.
    fn pair_strips(&self) -> usize {
        self.folded.len().div_ceil(useful_rows(self.commitment.layout.k))
    }

    /// Columns of u, and of v.
    fn pair_columns(&self) -> usize {
        self.pair_strips() * self.commitment.layout.lanes
    }

    /// The linear equation and the products, once the commitments to u and v are known.
    fn folding(&self, pairs: &[EqAffine]) -> Folding {
        let layout = &self.commitment.layout;
        let [gamma, phi, lambda, theta] = product_challenges(&self.anchor, pairs);
        let gammas = powers(gamma, self.folded.len());
        let rows = useful_rows(layout.k);
        let mut coefficients = vec![vec![Fp::ZERO; rows]; layout.strips];
        for (((site, shape), start), weight) in
            self.folded.iter().zip(self.commitment.shapes()).zip(&layout.starts).zip(&gammas)
        {
            let from_b = *weight * phi;
            let a = site.inputs.iter().map(|x| *weight * x);
            let b = self.taus[..shape.d_out as usize].iter().map(|tau| from_b * tau);
            for (entry, value) in (*start..).zip(a.chain(b)) {
                let (strip, row) = layout.cell(entry);
                coefficients[strip][row] = value;
            }
        }
        for factor in [-Fp::ONE, -phi] {
            coefficients.extend(gammas.chunks(rows).map(|gammas| gammas.iter().map(|gamma| factor * gamma).collect()));
        }
        let weighed: Vec<(Fp, u32)> =
            gammas.iter().zip(self.commitment.shapes()).map(|(gamma, shape)| (theta * gamma, shape.rank)).collect();
        let products = weighed.chunks(rows).flat_map(|sites| {
            (0..layout.lanes).map(|lane| {
                let weight = |(weight, rank): &(Fp, u32)| if lane < *rank as usize { *weight } else { Fp::ZERO };
                sites.iter().map(weight).collect()
            })
        });
        let lanes = powers(lambda, layout.lanes);
        let strip =
            |(number, coefficients)| Strip { first: number * layout.lanes, weights: lanes.clone(), coefficients };
        Folding {
            k: layout.k,
            strips: coefficients.into_iter().enumerate().map(strip).collect(),
            products: products.collect(),
            start: -weighed.iter().zip(&self.folded).map(|((weight, _), site)| *weight * site.result).sum::<Fp>(),
            bound: Absorb::new(Tag::Products).digest(&self.anchor).points(pairs).finish(),
            spread: Spread::default(),
            early: None,
        }
    }

    /// u and v of every site and lane, as columns.
    fn pairs(&self, columns: &[Vec<Fp>]) -> Vec<Vec<Fp>> {
        let layout = &self.commitment.layout;
        let rows = useful_rows(layout.k);
        let count = self.pair_columns();
        let dot = |lane: usize, from: usize, vector: &[Fp]| -> Fp {
            let terms = (from..).zip(vector).map(|(entry, value)| {
                let (strip, row) = layout.cell(entry);
                columns[strip * layout.lanes + lane][row] * value
            });
            terms.sum()
        };
        let sites = self.folded.par_iter().zip(self.commitment.shapes()).zip(&layout.starts);
        let factors: Vec<Vec<[Fp; 2]>> = sites
            .map(|((site, shape), start)| {
                let (middle, taus) = (start + shape.d_in as usize, &self.taus[..shape.d_out as usize]);
                (0..layout.lanes).map(|lane| [dot(lane, *start, &site.inputs), dot(lane, middle, taus)]).collect()
            })
            .collect();
        let mut pairs = vec![vec![Fp::ZERO; rows.min(self.folded.len())]; 2 * count];
        for (site, lanes) in factors.iter().enumerate() {
            for (lane, [u, v]) in lanes.iter().enumerate() {
                let column = site / rows * layout.lanes + lane;
                pairs[column][site % rows] = *u;
                pairs[count + column][site % rows] = *v;
            }
        }
        pairs
    }

    /// The first site whose products do not come to what its deltas fold to.
    fn wrong_site(&self, pairs: &[Vec<Fp>]) -> Option<usize> {
        let lanes = self.commitment.layout.lanes;
        let rows = useful_rows(self.commitment.layout.k);
        let (left, right) = pairs.split_at(self.pair_columns());
        let sum = |site: usize, rank: u32| -> Fp {
            let columns = (0..rank as usize).map(|lane| site / rows * lanes + lane);
            columns.map(|column| left[column][site % rows] * right[column][site % rows]).sum()
        };
        let mut sites = self.commitment.shapes().iter().zip(&self.folded).enumerate();
        sites.find(|(index, (shape, site))| sum(*index, shape.rank) != site.result).map(|(index, _)| index)
    }

    fn subject(&self) -> LinkSubject {
        LinkSubject { kind: KIND, anchor: self.anchor, adapter: self.commitment.digest() }
    }
}

/// rho and tau.
pub(crate) fn fold_challenges(statement: &Digest, rows: &Digest) -> [Fp; 2] {
    Absorb::new(Tag::Fold).digest(statement).digest(rows).challenges()
}

/// L0
pub(crate) fn anchor(statement: &Digest, rows: &Digest) -> Digest {
    Absorb::new(Tag::DeltaAnchor).digest(statement).digest(rows).finish()
}

/// gamma, phi, lambda and theta.
pub(crate) fn product_challenges(anchor: &Digest, pairs: &[EqAffine]) -> [Fp; 4] {
    Absorb::new(Tag::Products).digest(anchor).points(pairs).challenges()
}

/// The checks of public values that need no proof.
fn check_public(
    key: &CommitmentKey,
    statement: &StatementBytes,
    commitment: &AdapterCommitment,
    sites: &[SiteRows],
) -> Result<(), CheckFailed> {
    if statement.base != commitment.base() {
        return Err(CheckFailed::Base(commitment.base()));
    }
    let digest = commitment.digest();
    if statement.adapter != digest {
        return Err(CheckFailed::Adapter(digest));
    }
    commitment.check_key(key)?;
    check_rows(commitment.shapes(), sites)
}

/// Proves that `sites` holds the committed adapter's deltas on its inputs, one entry per site in canonical order.
///
/// `progress` is called with (proofs done, proofs) before the first and after each.
///
/// # Errors
/// If the public values would be refused, the factors or the opening are not the commitment's, or a delta is wrong.
pub fn prove(
    key: &CommitmentKey,
    statement: &StatementBytes,
    commitment: &AdapterCommitment,
    opening: &Opening,
    factors: &[SiteFactors],
    sites: &[SiteRows],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<DeltaProof, ProveError> {
    progress(0, 1);
    check_public(key, statement, commitment, sites).map_err(ProveError::Public)?;
    commitment.check_secret(opening, factors)?;
    let columns = arrange(&commitment.layout, factors);
    let proof = prove_columns(key, statement, commitment, opening, &columns, sites, HONEST)?;
    progress(1, 1);
    Ok(proof)
}

/// Proves with columns as [`arrange`] makes them; forgers in tests pass others, and conduct themselves otherwise.
pub(crate) fn prove_columns(
    key: &CommitmentKey,
    statement: &StatementBytes,
    commitment: &AdapterCommitment,
    opening: &Opening,
    columns: &[Vec<Fp>],
    sites: &[SiteRows],
    conduct: Conduct<'_>,
) -> Result<DeltaProof, ProveError> {
    let public = PublicDeltas::derive(statement, commitment, sites, &never).map_err(ProveError::Public)?;
    let mut pairs = public.pairs(columns);
    conduct.pass(Label::Pair, &mut pairs);
    if let (Some(site), true) = (public.wrong_site(&pairs), conduct.check) {
        return Err(ProveError::Delta(commitment.shapes()[site].name.clone()));
    }
    let mut random = fresh_generator()?;
    let committed_pairs = commit_columns(key, &pairs, &mut random);
    let points: Vec<EqAffine> = committed_pairs.iter().map(|column| column.point).collect();
    let mut proof = Vec::new();
    append_points(&mut proof, &points);

    let all: Vec<Column<'_>> = columns.iter().chain(&pairs).map(|column| Column::Full(column)).collect();
    let committed: Vec<Committed> = commitment.committed(opening).chain(committed_pairs).collect();
    let witness = Witness { columns: &all, committed: &committed };
    let equations = public.folding(&points).prove(key, witness, conduct, &mut random, &mut proof)?;
    let link = link::prove(key, &public.subject(), &proof, equations, &mut random, conduct.check)?;
    Ok(DeltaProof { proof, link })
}

impl DeltaProof {
    /// Whether the bytes have the form of a proof and a link, whatever they are of: points that are on the curve where a
    /// proof begins, and whole words. It costs next to nothing, and what it refuses need not be replayed.
    ///
    /// # Errors
    /// The check that would fail later.
    pub fn well_formed(&self) -> Result<(), CheckFailed> {
        let begins = read_points(&mut Reader::new(&self.proof), 2).is_some();
        if !begins || !self.proof.len().is_multiple_of(32) {
            return Err(CheckFailed::DeltaProof);
        }
        if link::is_link(&self.link) { Ok(()) } else { Err(CheckFailed::Link) }
    }
}

/// Everything about a delta proof but its sums.
pub(crate) fn begin<'k>(
    key: &'k CommitmentKey,
    statement: &StatementBytes,
    commitment: &AdapterCommitment,
    sites: &[SiteRows],
    proof: &DeltaProof,
    stop: &Stop<'_>,
) -> Result<Checks<'k>, CheckFailed> {
    check_public(key, statement, commitment, sites)?;
    let public = PublicDeltas::derive(statement, commitment, sites, stop)?;
    go_on(stop)?;
    let mut reader = Reader::new(&proof.proof);
    let pairs = read_points(&mut reader, 2 * public.pair_columns()).ok_or(CheckFailed::DeltaProof)?;
    let columns = [commitment.points.as_slice(), &pairs].concat();
    let (sum, equations) = public.folding(&pairs).verify(key, &columns, &mut reader).ok_or(CheckFailed::DeltaProof)?;
    let link = link::verify(key, &public.subject(), &proof.proof, equations, &proof.link).ok_or(CheckFailed::Link)?;
    Ok(Checks {
        seed: link.seed,
        checks: vec![
            Check { sum, otherwise: CheckFailed::DeltaProof },
            Check { sum: link.sum, otherwise: CheckFailed::Link },
        ],
    })
}

/// Checks that the deltas in `sites` are those of the committed adapter on the inputs in `sites`.
///
/// The inputs and the numbers of rows must come from the verifier's own replay. The verdict is about field elements
/// until [`crate::verify_registration`] has accepted the commitment too, and what the statement says is bytes here:
/// that it is well-formed is the caller's to check.
///
/// # Errors
/// The first check that fails.
pub fn verify(
    key: &CommitmentKey,
    statement: &StatementBytes,
    commitment: &AdapterCommitment,
    sites: &[SiteRows],
    proof: &DeltaProof,
) -> Result<(), CheckFailed> {
    begin(key, statement, commitment, sites, proof, &never)?.settle()
}
