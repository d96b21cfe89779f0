//! Verifying many bundles against one base, from memory: no file is read or written here.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ftk_circuits::sealed::SealedPlan;
use ftk_circuits::{
    AdapterCommitment, CheckFailed, CommitmentKey, DeferredClaim, DeltaProof, Digest, KeyError, SiteRows, SiteShape,
    StatementBytes, verify_all,
};
use ftk_networks::graphs::opened::OpenedPart;
use serde_json::{Map, Value, json};

use crate::bundle::{Files, HEAD, PackedBundle, Proof};
use crate::deadline::Deadline;
use crate::disclosure::disclosed;
use crate::fixed::PassError;
use crate::fixed::plan::plan;
use crate::head::{GraphBase, Tensors};
use crate::limits::Limits;
use crate::model::{FixedModel, Net};
use crate::open_mode::{self, replayed};
use crate::outputs::Output;
use crate::refusal::{Refusal, Stage, timed};
use crate::replay::{add_base, difference, rows_of};
use crate::statement::{Case, Statement};
use crate::verdict::{Expectations, Missing, NOT_PROVED, Verdict, expected, undoubted};

/// A base as integers, with commitment keys and accepted registrations, which bundles share.
#[derive(Debug)]
pub struct Verifier {
    model: FixedModel,
    /// The base itself, where bundles may bring another head for it.
    graph: Option<GraphBase>,
    limits: Limits,
    keys: Keys,
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
    /// Root of the training transcript that the commitment names, in the words of whoever committed.
    pub transcript: Option<Digest>,
    /// Whether the proof is sealed, and has told nothing but what it states.
    pub sealed: bool,
    /// How many logits came along because the statement has their digests.
    pub logits: u64,
    /// The part of the graph or state that reaches the nodes or pairs it is about.
    pub graph: Option<OpenedPart>,
    /// Whether the head is one that the bundle brought, and not the base's.
    pub head: bool,
}

impl Judged {
    /// The verdict in a word.
    pub fn word(&self) -> &'static str {
        if self.verdict.is_valid() { "valid" } else { "consistent" }
    }

    /// What is missing for it to be valid, or else what only was not expected.
    pub fn missing(&self, decides: bool) -> impl Iterator<Item = Missing> {
        self.verdict.missing.iter().copied().filter(move |missing| missing.decides() == decides)
    }

    /// What the bundle makes public, in words.
    pub fn disclosed(&self) -> String {
        disclosed(&self.statement, self.graph.as_ref(), &self.shapes, self.sealed.then_some(self.logits))
    }

    /// As JSON, with each doubt in the words of whoever asks, with cases as these show them, and with what lay beside the
    /// bundle's files.
    pub fn json(
        &self,
        doubt: fn(Missing) -> &'static str,
        case: &dyn Fn(&Case) -> Value,
        others: &[impl AsRef<str>],
    ) -> Map<String, Value> {
        let Self { statement, transcript, sealed, head, .. } = self;
        let doubts = |decides| json!(self.missing(decides).map(doubt).collect::<Vec<_>>());
        let entries = [
            ("verdict", json!(self.word())),
            ("undecided", doubts(true)),
            ("not_expected", doubts(false)),
            ("adapter", json!(statement.adapter.to_string())),
            ("base", json!(statement.base.to_string())),
            ("transcript", json!(transcript.map(|root| root.to_string()))),
            ("context", json!(String::from_utf8_lossy(&statement.context))),
            ("graph", json!(statement.graph().map(|root| root.to_string()))),
            ("head_of_its_own", json!(head)),
            ("cases", statement.cases.iter().map(case).collect()),
            ("preferences", json!(statement.preferences().map(|found| found.json()))),
            ("not_proved", json!(NOT_PROVED)),
            ("sealed", json!(sealed)),
            ("disclosed", json!(self.disclosed())),
            ("also_there", others.iter().map(AsRef::as_ref).collect()),
        ];
        entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

impl Verifier {
    /// Of a base of tokens. Keys are derived when they are first needed, which takes seconds for a large adapter.
    pub fn new(model: FixedModel, limits: Limits) -> Self {
        let keys = Keys { derive: CommitmentKey::generate, known: BTreeMap::new() };
        Self { model, graph: None, limits, keys, registered: BTreeMap::new() }
    }

    /// Of a base of graphs, for which bundles may bring a head.
    ///
    /// # Errors
    /// Weights that do not fit their grid, a network that has no integer form.
    pub fn of_graphs(base: GraphBase, limits: Limits) -> Result<Self, PassError> {
        Ok(Self { graph: Some(base.clone()), ..Self::new(base.fixed()?, limits) })
    }

    /// The same with keys from elsewhere, such as a cache; each is checked against the digest that the protocol has of it.
    #[must_use]
    pub fn with_keys(self, derive: fn(u32) -> Result<CommitmentKey, KeyError>) -> Self {
        Self { keys: Keys { derive, known: BTreeMap::new() }, ..self }
    }

    /// Judges the files of a bundle, by name ([`crate::bundle`] says which there are).
    ///
    /// # Errors
    /// The first check that fails, or [`Refusal::Limit`].
    pub fn verify(&mut self, files: &Files<'_>, expectations: &Expectations) -> Result<Judged, Refusal> {
        let deadline = self.limits.deadline();
        let sent = PackedBundle::parse(files, &self.limits)?;
        let replayed = self.replay(sent, expectations, deadline)?;
        self.settle(vec![replayed]).swap_remove(0)
    }

    /// Everything but the proofs, which are left as much time as there is until the deadline. Of a sealed bundle nothing is
    /// replayed; what it states is written down for its proof.
    ///
    /// # Errors
    /// As [`Verifier::verify`].
    pub fn replay(
        &mut self,
        sent: PackedBundle,
        expectations: &Expectations,
        deadline: Deadline,
    ) -> Result<Pending, Refusal> {
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
        let PackedBundle { statement, commitment, proof, registration, graph, head } = sent;
        let claimed = match proof {
            Proof::Open { deltas, proof } => {
                // What is no proof of anything costs no replay.
                proof.well_formed()?;
                let rows = rows_of(&statement, graph.as_ref(), commitment.shapes());
                let deltas = open_mode::expand(&deltas, &commitment, &rows, deadline)?;
                let rows = replayed(model, (&statement, &commitment, graph.as_ref()), deltas, deadline)?;
                Claimed::Open { rows, proof }
            }
            // Nothing is run but the base alone, where that is stated: the proof is of all else that the statement says. It
            // is run last, for who brought the logits of each digest and as much of a proof as there must be.
            Proof::Sealed { proof, digested } => {
                let features = model.sites().iter().map(|site| site.d_in).max().unwrap_or(0);
                let outputs = if let Net::Graph(network) = model.net() { Some(network.outputs()) } else { None };
                let planned = self.limits.plan(&statement, commitment.shapes(), features as usize, outputs)?;
                let stated = (statement.cases.as_slice(), &digested);
                let plan = plan(model, &commitment, stated, graph.as_ref(), deadline).map_err(timed)?;
                plan.may_be_of(&proof)?;
                let mut outputs: Vec<Output> = statement.cases.iter().map(|case| case.output.clone()).collect();
                add_base(model, &mut outputs, &statement.cases, deadline).map_err(timed)?;
                if let Some((case, difference)) = difference(&statement.cases, &outputs) {
                    return Err(Refusal::Output { case, difference });
                }
                Claimed::Sealed { key: self.keys.of(plan.k())?, plan, proof, planned, logits: digested.count() }
            }
        };
        let key = self.keys.of(commitment.k())?;
        let left = deadline.left();
        let verdict = undoubted(&statement, expectations, registration.is_some());
        let head = head.is_some();
        Ok(Pending { verdict, statement, commitment, key, claimed, registration, left, graph, head })
    }

    /// The base with the head that a bundle brought.
    fn with_head(&self, head: &Tensors) -> Result<FixedModel, Refusal> {
        let malformed = |reason| Refusal::Malformed { file: HEAD, reason };
        let base = self.graph.as_ref().ok_or_else(|| malformed("the base takes no other head".to_owned()))?;
        let base = base.with_head(head).map_err(|name| malformed(format!("is none of the base: {name}")))?;
        let model = base.fixed().map_err(|error| malformed(error.to_string()))?;
        if model.digest() == self.model.digest() { Err(malformed("is the base's own".to_owned())) } else { Ok(model) }
    }

    /// Checks the proofs of many bundles together, whoever replayed them, with a verdict on each: one multiplication for
    /// all, and only if it fails one for each.
    pub fn settle(&mut self, bundles: Vec<Pending>) -> Vec<Result<Judged, Refusal>> {
        let digests: Vec<Digest> = bundles.iter().map(|bundle| bundle.commitment.digest()).collect();
        let statements: Vec<StatementBytes> = bundles.iter().map(|bundle| bundle.statement.bytes()).collect();
        // A registration is looked at once, however many bundles bring it.
        let mut registrations: BTreeMap<(Digest, &[u8]), usize> = BTreeMap::new();
        let (mut claims, mut left) = (Vec::with_capacity(2 * bundles.len()), Vec::new());
        for (Pending { commitment, key, claimed, left: time, .. }, statement) in bundles.iter().zip(&statements) {
            claims.push(match claimed {
                Claimed::Open { rows, proof } => {
                    DeferredClaim::Deltas { key, statement, commitment, sites: rows, proof }
                }
                Claimed::Sealed { key, plan, proof, .. } => {
                    DeferredClaim::Sealed { key, statement, commitment, plan, proof }
                }
            });
            left.push(*time);
        }
        for (Pending { commitment, key, registration, left: time, .. }, digest) in bundles.iter().zip(&digests) {
            let Some(registration) = registration else { continue };
            if self.registered.get(digest) == Some(&blake3::hash(registration)) {
                continue;
            }
            match registrations.entry((*digest, registration)) {
                Entry::Vacant(place) => {
                    place.insert(claims.len());
                    claims.push(DeferredClaim::Registration { key, commitment, registration });
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
        let began: Vec<OnceLock<Deadline>> = claims.iter().map(|_| OnceLock::new()).collect();
        let is_late = |claim: usize| {
            let deadline = || left[claim].map_or(Deadline::NONE, Deadline::after);
            began[claim].get_or_init(deadline).is_past()
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
            let Pending { verdict: doubts, statement, commitment, claimed, registration, graph, head, .. } = bundle;
            let (sealed, logits) = match claimed {
                Claimed::Open { .. } => (false, 0),
                Claimed::Sealed { logits, .. } => (true, logits),
            };
            let verdict = verdict.map_err(|error| match error {
                CheckFailed::Stopped => Refusal::Time(Stage::Proofs),
                error => Refusal::Check(error),
            });
            judged.push(verdict.map(|()| {
                if let Some(registration) = registration {
                    self.registered.insert(digest, blake3::hash(&registration));
                }
                let (shapes, transcript) = (commitment.shapes().to_vec(), commitment.transcript());
                Judged { verdict: doubts, statement, shapes, transcript, sealed, logits, graph, head }
            }));
        }
        judged
    }
}

/// Commitment keys by k, each made when it is first needed.
#[derive(Debug)]
struct Keys {
    derive: fn(u32) -> Result<CommitmentKey, KeyError>,
    known: BTreeMap<u32, Arc<CommitmentKey>>,
}

impl Keys {
    fn of(&mut self, k: u32) -> Result<Arc<CommitmentKey>, CheckFailed> {
        Ok(match self.known.entry(k) {
            Entry::Occupied(place) => Arc::clone(place.get()),
            Entry::Vacant(place) => {
                let key = (self.derive)(k).map_err(CheckFailed::KeyBytes)?;
                Arc::clone(place.insert(Arc::new(key)))
            }
        })
    }
}

/// What a proof is to be of.
#[derive(Debug)]
enum Claimed {
    /// Inputs and deltas.
    Open { rows: Vec<SiteRows>, proof: DeltaProof },
    /// A plan, which has a key of its own.
    Sealed {
        key: Arc<CommitmentKey>,
        plan: SealedPlan,
        proof: Vec<u8>,
        /// Bytes of memory of the plan.
        planned: u64,
        /// How many are stated of which the statement has the digest.
        logits: u64,
    },
}

/// A bundle whose proofs are still to be checked. It has all that this takes: any verifier can do it.
#[derive(Debug)]
pub struct Pending {
    verdict: Verdict,
    statement: Statement,
    commitment: AdapterCommitment,
    key: Arc<CommitmentKey>,
    claimed: Claimed,
    registration: Option<Vec<u8>>,
    graph: Option<OpenedPart>,
    head: bool,
    /// How long the proofs may take, if not as long as they like.
    left: Option<Duration>,
}

impl Pending {
    /// Bytes of memory it takes, but for what is small.
    pub fn bytes(&self) -> u64 {
        let of_rows = |rows: &SiteRows| size_of_val(rows.inputs.as_slice()) + size_of_val(rows.deltas.as_slice());
        let claimed = match &self.claimed {
            Claimed::Open { rows, proof } => {
                (rows.iter().map(of_rows).sum::<usize>() + proof.proof.len() + proof.link.len()) as u64
            }
            Claimed::Sealed { proof, planned, logits, .. } => {
                planned + proof.len() as u64 + size_of::<i64>() as u64 * logits
            }
        };
        let sent = self.registration.as_ref().map_or(0, Vec::len);
        let graph = self.graph.as_ref().map_or(0, OpenedPart::memory);
        let named = self.statement.bytes().encode().len() + self.commitment.encode().len();
        claimed + (sent + named) as u64 + graph
    }
}

#[cfg(test)]
impl Verifier {
    /// Whether a registration of this adapter was accepted.
    pub(crate) fn has_registered(&self, adapter: Digest) -> bool {
        self.registered.contains_key(&adapter)
    }
}

#[cfg(test)]
impl Pending {
    /// With so much time for its proofs.
    pub(crate) fn within(self, time: Duration) -> Self {
        Self { left: Some(time), ..self }
    }
}
