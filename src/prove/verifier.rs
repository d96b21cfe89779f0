//! Verifying many bundles against one base, from memory: no file is read or written here.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ftk_adapters::peft::Saved;
use ftk_circuits::{
    AdapterCommitment, CheckFailed, Claim, CommitmentKey, DeltaProof, Digest, KeyError, SiteRows, SiteShape,
    StatementBytes, verify_all,
};
use ftk_networks::graphs::neighbourhood::{EXPANSION, Neighbourhood};
use ftk_proofs::{Deadline, FixedModel, Net, Statement};

use super::bundle::{Bundle, HEAD, Packed};
use super::graph_base::GraphBase;
use super::limits::Limits;
use super::model::{self, FixedModelError};
use super::refusal::{Refusal, Stage};
use super::subject::Subject;
use super::verdict::{Expectations, Verdict, expected, replayed, undoubted};
use crate::models::Source;

/// A base as integers, with commitment keys and accepted registrations, which bundles share.
#[derive(Debug)]
pub struct Verifier {
    model: FixedModel,
    /// The base itself, where bundles may bring another head for it.
    graph: Option<GraphBase>,
    limits: Limits,
    derive: fn(u32) -> Result<CommitmentKey, KeyError>,
    keys: BTreeMap<u32, Arc<CommitmentKey>>,
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
        let model = model::read(source)?;
        Ok(Self { model, graph: None, limits, derive, keys: BTreeMap::new(), registered: BTreeMap::new() })
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
                let (model, graph) = (model::of_graphs(base)?, Some(base.clone()));
                Ok(Self { model, graph, limits, derive, keys: BTreeMap::new(), registered: BTreeMap::new() })
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
        let sent = Packed::parse(files, &self.limits)?;
        let replayed = self.replay(sent, expectations, deadline)?;
        self.settle(vec![replayed]).swap_remove(0)
    }

    /// Everything but the proofs, which are left as much time as there is until the deadline.
    ///
    /// # Errors
    /// As [`Verifier::verify_bytes`].
    pub fn replay(
        &mut self,
        sent: Packed,
        expectations: &Expectations,
        deadline: Deadline,
    ) -> Result<Replayed, Refusal> {
        let other;
        let model = match &sent.head {
            None => &self.model,
            Some(head) => {
                other = self.with_head(head)?;
                &other
            }
        };
        expected(model, &sent, expectations)?;
        if let (Net::Graph(network), Some(graph)) = (model.net(), &sent.graph) {
            self.limits.projection(graph, network.prepare.project.unwrap_or(0))?;
            self.limits.logits(sent.statement.cases.len(), network.outputs())?;
        }
        let bundle = sent.expand(deadline)?;
        let inputs = replayed(model, &bundle, deadline)?;
        let Bundle { statement, commitment, deltas, proof, registration, graph, head } = bundle;
        let rows = commitment.shapes().iter().zip(inputs).zip(deltas).map(|((shape, inputs), deltas)| SiteRows {
            rows: inputs.len() / shape.d_in as usize,
            inputs,
            deltas,
        });
        let rows = rows.collect();
        let key = match self.keys.entry(commitment.k()) {
            Entry::Occupied(place) => Arc::clone(place.get()),
            Entry::Vacant(place) => {
                let key = (self.derive)(commitment.k()).map_err(CheckFailed::KeyBytes)?;
                Arc::clone(place.insert(Arc::new(key)))
            }
        };
        let left = deadline.left();
        let verdict = undoubted(&statement, expectations, registration.is_some());
        let head = head.is_some();
        Ok(Replayed { verdict, statement, commitment, key, rows, proof, registration, left, graph, head })
    }

    /// The base with the head that a bundle brought.
    fn with_head(&self, head: &Saved) -> Result<FixedModel, Refusal> {
        let malformed = |reason| Refusal::Malformed { file: HEAD, reason };
        let base = self.graph.as_ref().ok_or_else(|| malformed("the base takes no other head".to_owned()))?;
        let base = base.with_head(head).map_err(|name| malformed(format!("is none of the base: {name}")))?;
        let model = model::of_graphs(&base).map_err(|error| malformed(error.to_string()))?;
        if model.digest() == self.model.digest() { Err(malformed("is the base's own".to_owned())) } else { Ok(model) }
    }

    /// Checks the proofs of many bundles together, whoever replayed them, with a verdict on each: one multiplication for
    /// all, and only if it fails one for each.
    pub fn settle(&mut self, bundles: Vec<Replayed>) -> Vec<Result<Judged, Refusal>> {
        let digests: Vec<Digest> = bundles.iter().map(|bundle| bundle.commitment.digest()).collect();
        let statements: Vec<StatementBytes> = bundles.iter().map(|bundle| bundle.statement.bytes()).collect();
        // A registration is looked at once, however many bundles bring it.
        let mut registrations: BTreeMap<(Digest, &[u8]), usize> = BTreeMap::new();
        let (mut claims, mut left) = (Vec::with_capacity(2 * bundles.len()), Vec::new());
        for (Replayed { commitment, key, rows, proof, left: time, .. }, statement) in bundles.iter().zip(&statements) {
            claims.push(Claim::Deltas { key, statement, commitment, sites: rows, proof });
            left.push(*time);
        }
        for (Replayed { commitment, key, registration, left: time, .. }, digest) in bundles.iter().zip(&digests) {
            let Some(registration) = registration else { continue };
            if self.registered.get(digest) == Some(&blake3::hash(registration)) {
                continue;
            }
            match registrations.entry((*digest, registration)) {
                Entry::Vacant(place) => {
                    place.insert(claims.len());
                    claims.push(Claim::Registration { key, commitment, registration });
                    left.push(*time);
                }
                // As long as the most patient of them waits.
                Entry::Occupied(place) => {
                    let patience = &mut left[*place.get()];
                    *patience = patience.zip(*time).map(|(one, other)| one.max(other));
                }
            }
        }
        // Claims are checked side by side: the time of each begins with its own check.
        let began: Vec<OnceLock<Instant>> = claims.iter().map(|_| OnceLock::new()).collect();
        let is_late = |claim: usize| {
            let began = began[claim].get_or_init(Instant::now);
            left[claim].is_some_and(|left| began.elapsed() >= left)
        };
        let results = verify_all(&claims, &is_late);
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
            let verdict = verdict.map_err(|error| match error {
                CheckFailed::Stopped => Refusal::Time(Stage::Proofs),
                error => Refusal::Check(error),
            });
            judged.push(verdict.map(|()| {
                if let Some(registration) = registration {
                    self.registered.insert(digest, blake3::hash(&registration));
                }
                Judged { verdict: doubts, statement, shapes: commitment.shapes().to_vec(), graph, head }
            }));
        }
        judged
    }
}

/// A bundle whose proofs are still to be checked. It has all that this takes: any verifier can do it.
#[derive(Debug)]
pub struct Replayed {
    verdict: Verdict,
    statement: Statement,
    commitment: AdapterCommitment,
    key: Arc<CommitmentKey>,
    rows: Vec<SiteRows>,
    proof: DeltaProof,
    registration: Option<Vec<u8>>,
    graph: Option<Neighbourhood>,
    head: bool,
    /// How long the proofs may take, if not as long as they like.
    left: Option<Duration>,
}

impl Replayed {
    /// Bytes of memory it takes, but for what is small.
    pub fn bytes(&self) -> u64 {
        let bytes = |rows: &SiteRows| size_of_val(rows.inputs.as_slice()) + size_of_val(rows.deltas.as_slice());
        let sent = self.proof.proof.len() + self.proof.link.len() + self.registration.as_ref().map_or(0, Vec::len);
        let graph = self.graph.as_ref().map_or(0, |graph| EXPANSION * graph.encode().len() as u64);
        let named = self.statement.bytes().encode().len() + self.commitment.encode().len();
        (self.rows.iter().map(bytes).sum::<usize>() + sent + named) as u64 + graph
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::super::verdict::{self, ExpectedInput, Missing};
    use super::*;

    /// The frozen bundle of this protocol.
    fn bundle() -> PathBuf {
        let version = ftk_circuits::PROTOCOL_VERSION.to_string();
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/frozen").join(version)
    }

    fn verifier() -> Verifier {
        Verifier::new(&Source::open(Path::new("village")).unwrap(), Limits::NONE).unwrap()
    }

    fn replayed(verifier: &mut Verifier, change: impl FnOnce(&mut Packed)) -> Replayed {
        let mut sent = Packed::read(&bundle(), &Limits::NONE).unwrap();
        change(&mut sent);
        let any = Expectations { input: ExpectedInput::Any, ..Expectations::default() };
        verifier.replay(sent, &any, Deadline::NONE).unwrap()
    }

    #[test]
    fn what_another_verifier_replayed_is_judged_all_the_same() {
        let mut first = verifier();
        // It has derived no key yet, and has seen no registration.
        let mut second = verifier();
        let honest = replayed(&mut first, |_| {});
        let wrong = replayed(&mut first, |sent| sent.proof.proof[40] ^= 1);
        let verdicts = second.settle(vec![honest, wrong]);
        let missing = &verdicts[0].as_ref().unwrap().verdict.missing;
        assert_eq!(*missing, [Missing::Adapter, Missing::Task, Missing::MaxTokens, Missing::Context]);
        assert!(matches!(verdicts[1], Err(Refusal::Check(CheckFailed::DeltaProof))), "{:?}", verdicts[1]);
    }

    #[test]
    fn proofs_are_left_when_their_time_is_up_and_others_are_judged() {
        let mut verifier = verifier();
        let mut late = replayed(&mut verifier, |_| {});
        late.left = Some(Duration::ZERO);
        let patient = replayed(&mut verifier, |_| {});
        let verdicts = verifier.settle(vec![late, patient]);
        assert!(matches!(verdicts[0], Err(Refusal::Time(Stage::Proofs))), "{:?}", verdicts[0]);
        assert!(verdicts[1].is_ok(), "{:?}", verdicts[1]);
        // A registration that no other bundle brings is left with its bundle.
        let mut late = replayed(&mut self::verifier(), |_| {});
        late.left = Some(Duration::ZERO);
        let mut fresh = self::verifier();
        assert!(matches!(fresh.settle(vec![late]).swap_remove(0), Err(Refusal::Time(Stage::Proofs))));
        assert!(fresh.registered.is_empty());
    }

    #[test]
    fn the_replay_ends_at_the_deadline() {
        let verifier = verifier();
        let bundle = Bundle::read(&bundle(), &Limits::NONE).unwrap();
        let late = verdict::replayed(&verifier.model, &bundle, Deadline::after(Duration::ZERO));
        assert!(matches!(late, Err(Refusal::Time(Stage::Replay))), "{late:?}");
        assert!(verdict::replayed(&verifier.model, &bundle, Deadline::NONE).is_ok());
    }
}
