//! Verifying many bundles against one base, from memory: no file is read or written here.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ftk_adapters::peft::Saved;
use ftk_circuits::{
    AdapterCommitment, CheckFailed, Claim, CommitmentKey, DeltaProof, Digest, KeyError, SiteRows, SiteShape, Statement,
    verify_all,
};
use ftk_recipes::gnn::neighbourhood::Neighbourhood;

use super::bundle::{Bundle, HEAD};
use super::limits::{Limits, in_time};
use super::subject::{GraphBase, Subject};
use super::verdict::{Expectations, Refusal, Verdict, replayed, undoubted};
use super::{FixedModel, FixedModelError};
use crate::models::Source;

/// A base as integers, with commitment keys and accepted registrations, which bundles share.
#[derive(Debug)]
pub struct Verifier {
    model: FixedModel,
    /// The base itself, where bundles may bring another head for it.
    graph: Option<GraphBase>,
    stop_ids: BTreeSet<u32>,
    limits: Limits,
    derive: fn(u32) -> Result<CommitmentKey, KeyError>,
    keys: BTreeMap<u32, CommitmentKey>,
    /// Of each adapter, the hash of the registration that was accepted.
    registered: BTreeMap<Digest, blake3::Hash>,
}

/// A bundle that was not refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// How far it is to be believed.
    pub verdict: Verdict,
    /// What it says.
    pub statement: Statement,
    /// The adapter's sites.
    pub shapes: Vec<SiteShape>,
    /// The part of the graph that reaches the nodes it is about.
    pub graph: Option<Neighbourhood>,
    /// Whether the head is one that the bundle brought, and not the base's.
    pub head: bool,
}

impl Verifier {
    /// Reads a base. Keys are derived when they are first needed, which takes seconds for a large adapter.
    ///
    /// # Errors
    /// Weights that cannot be read or do not fit their grid.
    pub fn new(source: &Source, limits: Limits) -> Result<Self, FixedModelError> {
        Self::with_keys(source, limits, CommitmentKey::generate)
    }

    /// [`Verifier::new`] with keys from elsewhere, such as [`super::keys::commitment_key`]'s cache.
    ///
    /// # Errors
    /// As [`Verifier::new`].
    pub fn with_keys(
        source: &Source,
        limits: Limits,
        derive: fn(u32) -> Result<CommitmentKey, KeyError>,
    ) -> Result<Self, FixedModelError> {
        let model = FixedModel::read(source)?;
        let stop_ids = source.special().stop.clone();
        Ok(Self { model, graph: None, stop_ids, limits, derive, keys: BTreeMap::new(), registered: BTreeMap::new() })
    }

    /// [`Verifier::with_keys`] for a base of either kind.
    ///
    /// # Errors
    /// As [`Verifier::new`].
    pub fn of(
        subject: &Subject,
        limits: Limits,
        derive: fn(u32) -> Result<CommitmentKey, KeyError>,
    ) -> Result<Self, FixedModelError> {
        match subject {
            Subject::Tokens(source) => Self::with_keys(source, limits, derive),
            Subject::Graph(base) => {
                let (model, graph, stop_ids) = (FixedModel::of_graphs(base)?, Some(base.clone()), BTreeSet::new());
                Ok(Self { model, graph, stop_ids, limits, derive, keys: BTreeMap::new(), registered: BTreeMap::new() })
            }
        }
    }

    /// Judges the files of a bundle, by name ([`super::bundle`] says which there are).
    ///
    /// # Errors
    /// The first check that fails, or [`Refusal::Limit`].
    pub fn verify_bytes(
        &mut self,
        files: &BTreeMap<String, Vec<u8>>,
        expectations: &Expectations,
    ) -> Result<Judged, Refusal> {
        let deadline = self.limits.deadline();
        let bundle = Bundle::parse(files, &self.limits)?;
        self.judge(bundle, expectations, deadline)
    }

    /// Judges a bundle that was read before, until a deadline.
    ///
    /// # Errors
    /// As [`Verifier::verify_bytes`].
    pub fn judge(
        &mut self,
        bundle: Bundle,
        expectations: &Expectations,
        deadline: Option<Instant>,
    ) -> Result<Judged, Refusal> {
        let replayed = self.replay(bundle, expectations, deadline)?;
        self.settle(vec![replayed]).swap_remove(0)
    }

    /// Everything but the proofs.
    ///
    /// # Errors
    /// As [`Verifier::verify_bytes`].
    pub fn replay(
        &mut self,
        bundle: Bundle,
        expectations: &Expectations,
        deadline: Option<Instant>,
    ) -> Result<Replayed, Refusal> {
        let other;
        let model = match &bundle.head {
            None => &self.model,
            Some(head) => {
                other = self.with_head(head)?;
                &other
            }
        };
        let inputs = replayed(model, &self.stop_ids, &bundle, expectations, deadline)?;
        let Bundle { statement, commitment, deltas, proof, registration, graph, head } = bundle;
        let rows = commitment.shapes().iter().zip(inputs).zip(deltas).map(|((shape, inputs), deltas)| SiteRows {
            rows: inputs.len() / shape.d_in as usize,
            inputs,
            deltas,
        });
        let rows = rows.collect();
        if let Entry::Vacant(place) = self.keys.entry(commitment.k()) {
            place.insert((self.derive)(commitment.k()).map_err(CheckFailed::KeyBytes)?);
        }
        in_time(deadline)?;
        let verdict = undoubted(&statement, expectations, registration.is_some());
        Ok(Replayed { verdict, statement, commitment, rows, proof, registration, graph, head: head.is_some() })
    }

    /// The base with the head that a bundle brought.
    fn with_head(&self, head: &Saved) -> Result<FixedModel, Refusal> {
        let malformed = |reason| Refusal::Malformed { file: HEAD, reason };
        let base = self.graph.as_ref().ok_or_else(|| malformed("the base takes no other head".to_owned()))?;
        let base = base.with_head(head).map_err(|name| malformed(format!("is none of the base: {name}")))?;
        FixedModel::of_graphs(&base).map_err(|error| malformed(error.to_string()))
    }

    /// Checks the proofs of many bundles together, with a verdict on each: one multiplication for all, and only if it
    /// fails one for each.
    ///
    /// # Panics
    /// May panic on bundles that another verifier replayed.
    pub fn settle(&mut self, bundles: Vec<Replayed>) -> Vec<Result<Judged, Refusal>> {
        let digests: Vec<Digest> = bundles.iter().map(|bundle| bundle.commitment.digest()).collect();
        // A registration is looked at once, however many bundles bring it.
        let mut registrations: BTreeMap<(Digest, &[u8]), usize> = BTreeMap::new();
        let mut claims = Vec::with_capacity(2 * bundles.len());
        for Replayed { statement, commitment, rows, proof, .. } in &bundles {
            let key = &self.keys[&commitment.k()];
            claims.push(Claim::Deltas { key, statement, commitment, sites: rows, proof });
        }
        for (Replayed { commitment, registration, .. }, digest) in bundles.iter().zip(&digests) {
            let Some(registration) = registration else { continue };
            if self.registered.get(digest) != Some(&blake3::hash(registration))
                && let Entry::Vacant(place) = registrations.entry((*digest, registration))
            {
                place.insert(claims.len());
                let key = &self.keys[&commitment.k()];
                claims.push(Claim::Registration { key, commitment, registration });
            }
        }
        let results = verify_all(&claims);
        let verdict = |index: usize| {
            let bundle = &bundles[index];
            results[index].clone()?;
            let registration = bundle.registration.as_deref();
            let checked = registration.and_then(|bytes| registrations.get(&(digests[index], bytes)));
            checked.map_or(Ok(()), |claim| results[*claim].clone())
        };
        let verdicts: Vec<Result<(), CheckFailed>> = (0..bundles.len()).map(verdict).collect();
        let mut judged = Vec::with_capacity(bundles.len());
        for ((bundle, verdict), digest) in bundles.into_iter().zip(verdicts).zip(digests) {
            let Replayed { verdict: doubts, statement, commitment, registration, graph, head, .. } = bundle;
            judged.push(verdict.map_err(Refusal::Check).map(|()| {
                if let Some(registration) = registration {
                    self.registered.insert(digest, blake3::hash(&registration));
                }
                Judged { verdict: doubts, statement, shapes: commitment.shapes().to_vec(), graph, head }
            }));
        }
        judged
    }
}

/// A bundle whose proofs are still to be checked.
#[derive(Debug)]
pub struct Replayed {
    verdict: Verdict,
    statement: Statement,
    commitment: AdapterCommitment,
    rows: Vec<SiteRows>,
    proof: DeltaProof,
    registration: Option<Vec<u8>>,
    graph: Option<Neighbourhood>,
    head: bool,
}

impl Replayed {
    /// Bytes of memory it takes, but for what is small.
    pub fn bytes(&self) -> u64 {
        let bytes = |rows: &SiteRows| size_of_val(rows.inputs.as_slice()) + size_of_val(rows.deltas.as_slice());
        let sent = self.proof.proof.len() + self.proof.link.len() + self.registration.as_ref().map_or(0, Vec::len);
        (self.rows.iter().map(bytes).sum::<usize>() + sent) as u64
    }
}
