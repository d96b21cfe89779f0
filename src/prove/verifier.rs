//! Verifying many bundles against one base, from memory: no file is read or written here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use ftk_circuits::{
    CheckFailed, CommitmentKey, Digest, KeyError, SiteRows, SiteShape, Statement, verify, verify_registration,
};

use super::bundle::Bundle;
use super::limits::{Limits, in_time};
use super::verdict::{Expectations, Refusal, Verdict, replayed, undoubted};
use super::{FixedModel, FixedModelError};
use crate::models::Source;

/// A base as integers, with commitment keys and accepted registrations, which bundles share.
#[derive(Debug)]
pub struct Verifier {
    model: FixedModel,
    stop_ids: BTreeSet<u32>,
    limits: Limits,
    derive: fn(u32) -> Result<CommitmentKey, KeyError>,
    keys: BTreeMap<u32, CommitmentKey>,
    registered: BTreeMap<Digest, Vec<u8>>,
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
        let weights = source.weights(&candle_core::Device::Cpu)?;
        let model = FixedModel::new(source, &weights)?;
        let stop_ids = source.special().stop.clone();
        Ok(Self { model, stop_ids, limits, derive, keys: BTreeMap::new(), registered: BTreeMap::new() })
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
        let rows = replayed(&self.model, &self.stop_ids, &bundle, expectations, deadline)?;
        in_time(deadline)?;
        let Bundle { statement, commitment, deltas, proof, registration } = bundle;
        let rows: Vec<SiteRows> =
            rows.into_iter().zip(deltas).map(|(inputs, deltas)| SiteRows { inputs, deltas }).collect();
        let key = match self.keys.entry(commitment.k()) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert((self.derive)(commitment.k()).map_err(CheckFailed::KeyBytes)?)
            }
        };
        in_time(deadline)?;
        verify(key, &statement, &commitment, &rows, &proof)?;
        if let Some(registration) = &registration
            && self.registered.get(&commitment.digest()) != Some(registration)
        {
            in_time(deadline)?;
            verify_registration(key, &commitment, registration)?;
            self.registered.insert(commitment.digest(), registration.clone());
        }
        let verdict = undoubted(&statement, expectations, registration.is_some());
        Ok(Judged { verdict, statement, shapes: commitment.shapes().to_vec() })
    }
}
