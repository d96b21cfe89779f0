//! Sealed proofs of every family of networks: plans state what the pass on integers yields.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ftk_circuits::fixed::linear::FixedFactors;
use ftk_circuits::sealed::{SealedPlan, verify_sealed};
use ftk_circuits::{
    AdapterCommitment, CheckFailed, CommitmentKey, Digest, Opening, SiteFactors, commit, register, required_k,
};
use ftk_networks::digest::Texts;
use ftk_networks::graphs::leaf::{Carries, Frame, Incident, NodeLeaf};
use ftk_networks::graphs::neighbourhood::Neighbourhood;
use ftk_networks::graphs::opened::OpenedPart;
use ftk_networks::graphs::{GraphNetwork, GraphNetworkKind, Head};
use ftk_networks::{Llama, Network, tiny};
use ftk_proofs::bundle::{
    COMMITMENT, DELTAS, Files, LINK, LOGITS, PROOF, PackedBundle, Proof, REGISTRATION, SEALED, STATEMENT,
};
use ftk_proofs::digested::Digested;
use ftk_proofs::fixed::{FixedAdapter, PassError};
use ftk_proofs::limits::Limits;
use ftk_proofs::prove::{answer, seal};
use ftk_proofs::verdict::{Expectations, ExpectedInput};
use ftk_proofs::verifier::Verifier;
use ftk_proofs::{
    AtLeast, Case, Choice, Completion, Deadline, FixedModel, FloatWeight, Input, Kind, LogProb, Logits, Net, Output,
    Preference, Statement, Top, plan,
};

/// Values in `[-peak, peak)` from a linear congruence.
fn values(state: &mut u64, count: usize, peak: f32) -> Vec<f32> {
    let next = |_| {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f32::from((*state >> 48) as u16 as i16) / 32768.0 * peak
    };
    (0..count).map(next).collect()
}

struct Base {
    model: FixedModel,
    factors: Vec<SiteFactors>,
    adapter: FixedAdapter,
    commitment: AdapterCommitment,
    opening: Opening,
}

impl Base {
    /// Random weights, and a random adapter of the linear sites but the head.
    fn new(network: Network) -> Self {
        Self::of(network, |name| name != "lm_head")
    }

    /// The same with an adapter of some sites.
    fn of(network: Network, adapted: impl Fn(&str) -> bool) -> Self {
        Self::of_net(Net::Tokens(network), adapted)
    }

    /// The same of networks of graphs, too.
    fn of_net(network: Net, adapted: impl Fn(&str) -> bool) -> Self {
        let mut state = 7;
        let shapes = network.shapes();
        let weight = |name: &str| {
            let shape = shapes[name].clone();
            let values = values(&mut state, shape.iter().product(), 0.5);
            Some(FloatWeight { shape: Cow::Owned(shape), values: Cow::Owned(values) })
        };
        let texts = Texts { stop: BTreeSet::from([3]), ..Texts::default() };
        let model = FixedModel::new(network.clone(), texts, weight).unwrap();
        let mut adapter = FixedAdapter::default();
        for (number, site) in model.sites().iter().enumerate().filter(|(_, site)| adapted(&site.name)) {
            let (rank, d_in, d_out) = (1 + number % 3, site.d_in as usize, site.d_out as usize);
            let mut entries = |count| values(&mut state, count, 20_000.0).into_iter().map(|x| x as i16).collect();
            let (a, b) = (entries(rank * d_in), entries(d_out * rank));
            let factors = FixedFactors::new(&site.name, rank, [d_in, d_out], a, b, [16, 17]).unwrap();
            adapter.sites.insert(site.name.clone(), factors);
        }
        let factors = model.factors(&adapter);
        let shapes: Vec<_> = factors.iter().map(|site| site.shape.clone()).collect();
        let key = CommitmentKey::generate(required_k(&shapes).unwrap()).unwrap();
        let (commitment, opening) = commit(&key, model.digest(), &factors).unwrap();
        Self { model, factors, adapter, commitment, opening }
    }

    /// Cases with what the base and the adapter yield.
    fn answered(&self, cases: Vec<Case>) -> Vec<Case> {
        self.answered_with_logits(cases).0
    }

    /// The same with the logits behind digests.
    fn answered_with_logits(&self, cases: Vec<Case>) -> (Vec<Case>, Digested) {
        let mut digested = Digested::default();
        let propose = |_: &[u32], count: usize| Ok(vec![0; count]);
        let answered = answer(&self.model, &self.adapter, cases, None, Some(&mut digested), propose);
        (answered.unwrap().0, digested)
    }

    fn plan(&self, cases: &[Case]) -> Result<SealedPlan, PassError> {
        self.plan_with(cases, &Digested::default())
    }

    fn plan_with(&self, cases: &[Case], digested: &Digested) -> Result<SealedPlan, PassError> {
        plan(&self.model, &self.commitment, (cases, digested), None, Deadline::NONE)
    }

    fn seal(&self, key: &CommitmentKey, statement: &Statement, plan: &SealedPlan) -> Vec<u8> {
        let secret = (&self.commitment, &self.opening, self.factors.as_slice());
        seal(key, statement, secret, plan, &mut |_, _| {}).unwrap()
    }

    fn register(&self) -> Vec<u8> {
        let key = CommitmentKey::generate(self.commitment.k()).unwrap();
        register(&key, &self.commitment, &self.opening, &self.factors, &mut |_, _| {}).unwrap()
    }

    fn statement(&self, cases: Vec<Case>) -> Statement {
        Statement { base: self.model.digest(), adapter: self.commitment.digest(), context: Vec::new(), cases }
    }
}

fn completion(max_tokens: u32) -> Output {
    Completion { ids: Vec::new(), max_tokens, stop_ids: vec![3] }.into()
}

fn case(input: &[u32], output: Output) -> Case {
    Case { input: Input::Tokens(input.to_vec()), output }
}

#[test]
fn every_family_is_sealed() {
    for network in tiny::all() {
        let base = Base::new(network);
        let cases = base.answered(vec![
            case(&[5, 1, 9, 2, 2], completion(3)),
            case(&[7, 7], Choice::among(vec![1, 4, 5, 11]).into()),
            case(&[5, 1, 9], Choice::among(vec![0, 2]).into()),
            case(&[4], Logits::asked().into()),
            case(&[5, 1], LogProb { ids: vec![9, 2, 2], log_prob: 0 }.into()),
            case(&[5, 1], Preference::between(vec![9, 4], vec![8]).into()),
            case(&[6], AtLeast { id: 7, bound: -3 << 24, holds: false }.into()),
            case(&[2, 2], Top::of(3).into()),
        ]);
        let name = format!("{:?}", base.model.net());
        let sealed = base.plan(&cases).unwrap();
        let key = CommitmentKey::generate(sealed.k()).unwrap();
        let statement = base.statement(cases.clone());
        let proof = base.seal(&key, &statement, &sealed);
        let statement = statement.bytes();
        assert_eq!(verify_sealed(&key, &statement, &base.commitment, &sealed, &proof), Ok(()), "{name}");
        // Another output has another plan: what is proved is not that.
        let others: [fn(&mut Output); 5] = [
            |output| {
                if let Output::Logits(Logits::Values(logits)) = output {
                    logits[2] += 1
                }
            },
            |output| {
                if let Output::LogProb(stated) = output {
                    stated.log_prob += 1
                }
            },
            |output| {
                if let Output::Preference(stated) = output {
                    stated.rejected.log_prob -= 1
                }
            },
            |output| {
                if let Output::AtLeast(stated) = output {
                    stated.holds = !stated.holds
                }
            },
            |output| {
                if let Output::Top(top) = output {
                    top.likeliest[2].log_prob -= 1
                }
            },
        ];
        for (number, change) in others.into_iter().enumerate() {
            let mut others = cases.clone();
            change(&mut others[3 + number].output);
            assert_ne!(others, cases);
            let other = base.plan(&others).unwrap();
            let refused = verify_sealed(&key, &statement, &base.commitment, &other, &proof);
            assert_eq!(refused, Err(CheckFailed::SealedProof), "{name}, {number}");
        }
    }
}

#[test]
fn outputs_that_no_base_has_are_named() {
    let base = Base::new(tiny::network().into());
    let shape = |what: &str| format!("{what} does not fit the shape of site: lm_head");
    let outputs: [(Output, &str); 4] = [
        (AtLeast { id: 16, bound: -1 << 24, holds: false }.into(), "stated output"),
        (LogProb { ids: vec![16], log_prob: 0 }.into(), "stated output"),
        (Top { likeliest: Vec::new() }.into(), "stated ranking"),
        (Top::of(2).into(), "stated ranking"),
    ];
    for (output, named) in outputs {
        assert_eq!(base.plan(&[case(&[1, 2], output)]).unwrap_err().to_string(), shape(named));
    }
}

/// What a statement says that no base can have, each by its own refusal.
#[test]
fn plans_of_what_a_base_cannot_have_are_refused() {
    let completed =
        |input: &[u32], id: u32| case(input, Completion { ids: vec![id], max_tokens: 1, stop_ids: vec![3] }.into());
    let refused = |base: &Base, case: Case| base.plan(&[case]).unwrap_err();
    let base = Base::new(tiny::network().into());
    assert!(base.plan(&[completed(&[1, 15], 15)]).is_ok());
    assert!(matches!(refused(&base, completed(&[1, 16], 2)), PassError::Token(16)));
    let stated = refused(&base, completed(&[1], 16)).to_string();
    assert_eq!(stated, "stated output does not fit the shape of site: lm_head");
    let listed = case(&[1], Choice { among: vec![3, 16], chosen: 3 }.into());
    assert!(matches!(refused(&base, listed), PassError::Token(16)));
    let short = case(&[1], Logits::Values(vec![0; 15]).into());
    assert_eq!(refused(&base, short).to_string(), "stated output does not fit the shape of site: lm_head");
    let node = Case { input: Input::Node { graph: Digest([0; 32]), node: 1 }, output: Logits::asked().into() };
    assert!(matches!(refused(&base, node), PassError::Kind));
    let long = Base::new(tiny::phi3().into());
    assert!(matches!(refused(&long, completed(&[1; 17], 2)), PassError::Window { window: 16, positions: 17, .. }));
    let learned = Base::new(tiny::gpt2().into());
    assert!(matches!(refused(&learned, completed(&[1; 33], 2)), PassError::Positions(32)));
    let stated = (&[completed(&[1], 2)][..], &Digested::default());
    let late = plan(&base.model, &base.commitment, stated, None, Deadline::after(Duration::ZERO));
    assert!(matches!(late, Err(PassError::Time)));
}

/// An adapter of the head itself occurs in all that is stated, of all outputs and of those that are chosen among.
#[test]
fn an_adapted_head_states_everything() {
    let base = Base::of(tiny::network().into(), |_| true);
    let cases = base.answered(vec![
        case(&[5, 1], completion(2)),
        case(&[7, 7], Choice::among(vec![1, 4, 5, 11]).into()),
        case(&[5, 1, 9], Choice::among(vec![0, 2]).into()),
        case(&[4], Logits::asked().into()),
        case(&[5, 1], LogProb { ids: vec![9, 2, 2], log_prob: 0 }.into()),
    ]);
    let plan = base.plan(&cases).unwrap();
    let key = CommitmentKey::generate(plan.k()).unwrap();
    let statement = base.statement(cases.clone());
    let proof = base.seal(&key, &statement, &plan);
    let statement = statement.bytes();
    assert_eq!(verify_sealed(&key, &statement, &base.commitment, &plan, &proof), Ok(()));
    let other = |stated: &Output| match stated.clone() {
        Output::Completion(mut stated) => {
            stated.ids[0] ^= 1;
            stated.into()
        }
        Output::Choice(mut stated) => {
            let another = stated.among.iter().find(|id| **id != stated.chosen);
            stated.chosen = *another.expect("there are several");
            Output::from(stated)
        }
        Output::Logits(Logits::Values(mut stated)) => {
            stated[2] += 1;
            Logits::Values(stated).into()
        }
        Output::LogProb(stated) => LogProb { log_prob: stated.log_prob + 1, ..stated }.into(),
        stated => stated,
    };
    for number in 0..cases.len() {
        let mut others = cases.clone();
        others[number].output = other(&cases[number].output);
        assert_ne!(others, cases);
        let plan = base.plan(&others).unwrap();
        let refused = verify_sealed(&key, &statement, &base.commitment, &plan, &proof);
        assert_eq!(refused, Err(CheckFailed::SealedProof), "case {number}");
    }
}

/// Files by their names.
type Sent = BTreeMap<&'static str, Vec<u8>>;

/// Those of a sealed bundle.
fn sealed_files(base: &Base) -> Sent {
    let cases = base.answered(vec![case(&[5, 1, 9], completion(2))]);
    let plan = base.plan(&cases).unwrap();
    let statement = base.statement(cases);
    let proof = base.seal(&CommitmentKey::generate(plan.k()).unwrap(), &statement, &plan);
    packed(base, statement, proof, Digested::default())
}

fn packed(base: &Base, statement: Statement, proof: Vec<u8>, digested: Digested) -> Sent {
    let (commitment, registration) = (base.commitment.clone(), Some(base.register()));
    let proof = Proof::Sealed { proof, digested };
    PackedBundle { statement, commitment, proof, registration, graph: None, head: None }.files().unwrap()
}

/// What the base alone yields is not in the proof: a verifier computes it.
#[test]
fn a_sealed_preference_is_compared_with_the_base_alone() {
    let base = Base::new(tiny::network().into());
    let mut cases = base.answered(vec![case(&[5, 1], Preference::between(vec![9, 4], vec![8]).into())]);
    let plan = base.plan(&cases).unwrap();
    let key = CommitmentKey::generate(plan.k()).unwrap();
    let judge = |cases: &[Case], length: usize| {
        let statement = base.statement(cases.to_vec());
        let mut proof = base.seal(&key, &statement, &plan);
        proof.truncate(length);
        let proof = Proof::Sealed { proof, digested: Digested::default() };
        let (commitment, registration) = (base.commitment.clone(), None);
        let sent = PackedBundle { statement, commitment, proof, registration, graph: None, head: None };
        let mut verifier = Verifier::new(Base::new(tiny::network().into()).model, Limits::NONE);
        let pending = verifier.replay(sent, &Expectations::default(), Deadline::NONE)?;
        verifier.settle(vec![pending]).swap_remove(0)
    };
    assert!(judge(&cases, usize::MAX).unwrap().sealed);
    let Output::Preference(preference) = &mut cases[0].output else { unreachable!("it was asked for") };
    preference.rejected.base_log_prob += 1;
    // What is no proof costs no run of the base.
    let short = judge(&cases, 255).unwrap_err();
    assert_eq!(short.check(), "sealed encoding", "{short}");
    let short = judge(&cases, 256 + 32 * plan.columns() - 1).unwrap_err();
    assert_eq!(short.check(), "sealed proof", "{short}");
    let refused = judge(&cases, 256 + 32 * plan.columns()).unwrap_err();
    assert_eq!(refused.check(), "output", "{refused}");
    let refused = judge(&cases, usize::MAX).unwrap_err();
    assert_eq!(refused.check(), "output");
    assert!(refused.to_string().contains("rejected under the base alone"), "{refused}");
}

#[test]
fn every_refusal_of_a_sealed_bundle_has_its_check() {
    let base = Base::new(tiny::network().into());
    let (honest, other) = (sealed_files(&base), Base::of(tiny::network().into(), |name| name.ends_with("q_proj")));
    let input = ExpectedInput::Inputs(vec![Input::Tokens(vec![5, 1, 9])]);
    let judge = |files: &Sent, limits: Limits, task: Option<Kind>| {
        let mut verifier = Verifier::new(Base::new(tiny::network().into()).model, limits);
        let adapter = Some(base.commitment.digest());
        let expectations = Expectations { adapter, input: input.clone(), task, ..Expectations::default() };
        let files: Files<'_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        verifier.verify(&files, &expectations)
    };
    let judged = judge(&honest, Limits::NONE, None).unwrap();
    assert!(judged.sealed && judged.verdict.is_valid());
    let refused = |limits: Limits, change: &dyn Fn(&mut Sent)| {
        let mut files = honest.clone();
        change(&mut files);
        judge(&files, limits, None).unwrap_err()
    };
    let check = |change: &dyn Fn(&mut Sent)| refused(Limits::NONE, change).check();
    for name in [DELTAS, PROOF, LINK] {
        assert_eq!(check(&|files| drop(files.insert(name, Vec::new()))), name);
    }
    for name in [STATEMENT, COMMITMENT, REGISTRATION] {
        assert_eq!(check(&|files| drop(files.remove(name))), name);
    }
    // Without its proof it is an open one, of which all is missing.
    assert_eq!(check(&|files| drop(files.remove(SEALED))), PROOF);
    assert_eq!(check(&|files| drop(files.insert(REGISTRATION, other.register()))), "registration proof");
    assert_eq!(check(&|files| files.get_mut(SEALED).unwrap().truncate(255)), "sealed encoding");
    assert_eq!(check(&|files| files.get_mut(SEALED).unwrap()[40] ^= 1), "sealed link");
    assert_eq!(check(&|files| files.get_mut(SEALED).unwrap()[300] ^= 1), "sealed proof");
    assert_eq!(judge(&honest, Limits::NONE, Some(Kind::Choice)).unwrap_err().check(), "expected task");
    assert_eq!(refused(Limits { sites: 13, ..Limits::NONE }, &|_| {}).check(), "limit");
    // Four rows see each other twice, with inputs of twelve features, sixteen bytes each.
    let needs = 2 * 4 * 4 + 16 * 4 * 12;
    assert!(judge(&honest, Limits { memory: needs, ..Limits::NONE }, None).is_ok());
    let limit = refused(Limits { memory: needs - 1, ..Limits::NONE }, &|_| {}).to_string();
    assert_eq!(limit, format!("limit: {needs} bytes of memory are more than {}", needs - 1));
    let packed =
        PackedBundle::parse(&honest.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect(), &Limits::NONE);
    assert_eq!(packed.unwrap().expand(Deadline::NONE).unwrap_err().to_string(), "sealed.bin: has no deltas");
}

/// What waits for its proof to be checked takes what its plan takes, and a proof that is too short does not wait.
#[test]
fn a_bundle_that_waits_counts_its_plan() {
    let base = Base::new(tiny::network().into());
    let files = sealed_files(&base);
    let replay = |length: usize| {
        let mut files = files.clone();
        files.get_mut(SEALED).unwrap().truncate(length);
        let files: Files<'_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        let sent = PackedBundle::parse(&files, &Limits::NONE).unwrap();
        let mut verifier = Verifier::new(Base::new(tiny::network().into()).model, Limits::NONE);
        verifier.replay(sent.clone(), &Expectations::default(), Deadline::NONE).map(|pending| (pending.bytes(), sent))
    };
    let (bytes, sent) = replay(usize::MAX).unwrap();
    let named = sent.statement.bytes().encode().len() + sent.commitment.encode().len();
    // Four rows see each other twice, with inputs of twelve features, sixteen bytes each.
    let planned = 2 * 4 * 4 + 16 * 4 * 12;
    assert_eq!(bytes, (named + files[SEALED].len() + files[REGISTRATION].len() + planned) as u64);
    let columns = base.plan(&sent.statement.cases).unwrap().columns();
    assert!(replay(256 + 32 * columns).is_ok());
    assert_eq!(replay(256 + 32 * columns - 1).unwrap_err().check(), "sealed proof");
    assert_eq!(replay(255).unwrap_err().check(), "sealed encoding");
}

/// Each list that is chosen among has weights of all rows and of all that the adapter adds.
#[test]
fn lists_are_held_to_the_limit_on_memory() {
    let base = Base::new(tiny::network().into());
    let cases = vec![
        case(&[7, 7], Choice::among(vec![1, 4, 5, 11]).into()),
        case(&[5, 1, 9], Choice::among(vec![0, 2]).into()),
        case(&[4], Choice::among(vec![0, 2]).into()),
    ];
    let cases = base.answered(cases);
    let proof = vec![0; 256 + 32 * base.plan(&cases).unwrap().columns()];
    let ranks: u64 = base.commitment.shapes().iter().map(|shape| u64::from(shape.rank)).sum();
    // Three lists of eight ids over six rows, of twelve features; two of them are others.
    let needs = 2 * 6 * 6 + 16 * 6 * 12 + 2 * 8 * 12 + 128 * 3 * 12 + 64 * 2 * 6 + 300 * 2 * ranks;
    let replay = |memory: u64| {
        let proof = Proof::Sealed { proof: proof.clone(), digested: Digested::default() };
        let (statement, commitment) = (base.statement(cases.clone()), base.commitment.clone());
        let sent = PackedBundle { statement, commitment, proof, registration: None, graph: None, head: None };
        let model = Base::new(tiny::network().into()).model;
        let mut verifier = Verifier::new(model, Limits { memory, ..Limits::NONE });
        verifier.replay(sent, &Expectations::default(), Deadline::NONE)
    };
    assert!(replay(needs).is_ok());
    let refused = replay(needs - 1).unwrap_err().to_string();
    assert_eq!(refused, format!("limit: {needs} bytes of memory are more than {}", needs - 1));
}

/// Of many logits the digest is stated, and they come along: each lie about them has its check.
#[test]
fn logits_behind_digests_are_sealed() {
    let network = || Llama { vocab: 300, ..tiny::network() };
    let base = Base::of(network().into(), |name| name.ends_with("q_proj") || name == "lm_head");
    let asked = [&[5, 1][..], &[299, 7, 2]].map(|input| case(input, Logits::asked().into()));
    let others = [case(&[5, 1], completion(2)), case(&[9, 4], Top::of(2).into())];
    let (cases, digested) = base.answered_with_logits([&asked[..1], &others, &asked[1..]].concat().to_vec());
    assert!(digested.0.len() == 2 && digested.count() == 600);
    let plan = base.plan_with(&cases, &digested).unwrap();
    let key = CommitmentKey::generate(plan.k()).unwrap();
    let statement = base.statement(cases);
    let proof = base.seal(&key, &statement, &plan);
    let mut verifier = Verifier::new(Base::of(network().into(), |name| name == "lm_head").model, Limits::NONE);
    let adapter = Some(base.commitment.digest());
    let expectations = Expectations { adapter, input: ExpectedInput::Any, ..Expectations::default() };
    let mut judge = |files: &Sent| {
        let files: Files<'_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        verifier.verify(&files, &expectations).map(|judged| judged.verdict.is_valid())
    };
    assert!(judge(&packed(&base, statement.clone(), proof.clone(), digested.clone())).unwrap());
    // What the statement says, if it is made to fit.
    let of = |digested: &Digested| {
        let mut statement = statement.clone();
        for (case, logits) in [0, 3].into_iter().zip(&digested.0) {
            statement.cases[case].output = Logits::Digest(Logits::digest_of(logits)).into();
        }
        statement
    };
    assert_eq!(of(&digested), statement);
    type Change = fn(&mut Vec<Vec<i64>>);
    let changes: [(&str, Change, [&str; 2]); 6] = [
        ("a value", |all| all[0][17] += 1, ["logits digest", "sealed proof"]),
        ("the last value", |all| all[1][299] -= 1, ["logits digest", "sealed proof"]),
        ("each other's", |all| all.swap(0, 1), ["logits digest", "sealed proof"]),
        ("one cut off", |all| all.iter_mut().for_each(|own| own.truncate(299)), ["logits digest", "replay"]),
        ("one added", |all| all.iter_mut().for_each(|own| own.push(0)), ["logits digest", "replay"]),
        // So few that they would be stated one by one.
        ("most cut off", |all| all.iter_mut().for_each(|own| own.truncate(256)), ["logits digest"; 2]),
    ];
    for (name, change, checks) in changes {
        let mut forged = digested.clone();
        change(&mut forged.0);
        for (statement, check) in [statement.clone(), of(&forged)].into_iter().zip(checks) {
            let refused = judge(&packed(&base, statement, proof.clone(), forged.clone())).unwrap_err();
            assert_eq!(refused.check(), check, "{name}: {refused}");
        }
    }
    let mut other = statement.clone();
    other.cases[3].output = Logits::Digest(Digest([3; 32])).into();
    let refused = judge(&packed(&base, other, proof.clone(), digested.clone())).unwrap_err();
    assert_eq!(refused.to_string(), "logits digest: case 3 states that of others");
    // Logits of one case alone, of none, of a statement without digests; and in the open nobody needs them.
    let honest = packed(&base, statement.clone(), proof.clone(), digested.clone());
    let first = Digested(digested.0[..1].to_vec());
    let mut changed = |change: &dyn Fn(&mut Sent)| {
        let mut files = honest.clone();
        change(&mut files);
        judge(&files).unwrap_err().check()
    };
    assert_eq!(changed(&|files| drop(files.insert(LOGITS, first.encode().unwrap().unwrap()))), LOGITS);
    assert_eq!(changed(&|files| drop(files.remove(LOGITS))), LOGITS);
    assert_eq!(changed(&|files| files.get_mut(LOGITS).unwrap().push(0)), LOGITS);
    assert_eq!(changed(&|files| drop(files.remove(SEALED))), LOGITS);
    let bare = Statement { cases: others.to_vec(), ..statement };
    let bare = ftk_proofs::text(&Statement { cases: base.answered(bare.cases.clone()), ..bare }).into_bytes();
    assert_eq!(changed(&|files| drop(files.insert(STATEMENT, bare.clone()))), LOGITS);
}

/// The same logits, as many to each case as is said; behind their digest where a statement has it.
fn dealt(all: &[i64], lengths: &[usize]) -> (Vec<Output>, Digested) {
    let (mut outputs, mut digested, mut from) = (Vec::new(), Digested::default(), 0);
    for length in lengths {
        let own = &all[from..from + length];
        let output = Logits::of(own);
        if let Logits::Digest(_) = output {
            digested.0.push(own.to_vec());
        }
        outputs.push(output.into());
        from += length;
    }
    assert_eq!(from, all.len());
    (outputs, digested)
}

/// Logits that are what the network yields one after another, but not of each case by itself: of two classes the first
/// of one node, then its second with the first of the next.
#[test]
fn logits_of_one_case_are_not_those_of_another() {
    let few = Base::new(tiny::network().into());
    let many = Base::of(Llama { vocab: 300, ..tiny::network() }.into(), |name| name.ends_with("q_proj"));
    let deals: [(&Base, &[&[usize]]); 2] = [
        (&few, &[&[15, 17], &[17, 15], &[15, 16, 17]]),
        (&many, &[&[299, 301], &[301, 299], &[299, 300, 301], &[256, 344], &[344, 256]]),
    ];
    for (base, deals) in deals {
        for lengths in deals {
            let inputs = [&[5, 1][..], &[7, 2, 2], &[9]];
            let asked: Vec<Case> =
                inputs[..lengths.len()].iter().map(|input| case(input, Logits::asked().into())).collect();
            let (cases, digested) = base.answered_with_logits(asked);
            let stated = |case: &Case| match &case.output {
                Output::Logits(Logits::Values(values)) => values.clone(),
                _ => Vec::new(),
            };
            let all = [cases.iter().flat_map(stated).collect(), digested.0.concat()].concat();
            let with = |lengths: &[usize]| {
                let (outputs, digested) = dealt(&all, lengths);
                let case = |(case, output): (&Case, Output)| Case { output, ..case.clone() };
                (cases.iter().zip(outputs).map(case).collect::<Vec<Case>>(), digested)
            };
            let each = vec![all.len() / lengths.len(); lengths.len()];
            assert_eq!(with(&each), (cases.clone(), digested.clone()));
            assert!(base.plan_with(&cases, &digested).is_ok());
            let (forged, of_forged) = with(lengths);
            let refused = base.plan_with(&forged, &of_forged).unwrap_err().to_string();
            assert_eq!(refused, "stated output does not fit the shape of site: lm_head", "{lengths:?}");
            // Digests of several lengths are no file.
            if of_forged.encode().is_ok() {
                let files = packed(base, base.statement(forged), vec![0; 32], of_forged);
                let files: Files<'_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
                let model = Base::of_net(base.model.net().clone(), |_| true).model;
                let verdict = Verifier::new(model, Limits::NONE).verify(&files, &Expectations::default());
                assert_eq!(verdict.unwrap_err().check(), "replay", "{lengths:?}");
            }
        }
    }
}

/// Three nodes in a row, of two classes each.
#[test]
fn logits_of_one_node_are_not_those_of_another() {
    let network = GraphNetwork::new(GraphNetworkKind::Gcn, [2, 3, 2, 1], Head::Convolution, 2);
    let base = Base::of_net(Net::Graph(network), |_| true);
    let edge = |other| Incident { other, sends: false, weight: 1.0, time: 0.0 };
    let leaf = |(node, edges): (u32, &[u32])| NodeLeaf {
        node,
        name: node.to_string(),
        time: None,
        degree: edges.len() as u32,
        edges: edges.iter().copied().map(edge).collect(),
        features: vec![(0, 1.0), (1, node as f32)],
    };
    let leaves = [(0, &[1][..]), (1, &[0, 2]), (2, &[1])].map(leaf);
    let frame = Frame { nodes: 3, width: 2, carries: Carries::default(), timed: false };
    let graph = OpenedPart::Graph(Neighbourhood::of_leaves(frame, &leaves, &[0, 1, 2], 2));
    let asked = |node| Case { input: Input::Node { graph: Digest([0; 32]), node }, output: Logits::asked().into() };
    let propose = |_: &[u32], _: usize| Ok(Vec::new());
    let cases = answer(&base.model, &base.adapter, [0, 1, 2].map(asked).to_vec(), Some(&graph), None, propose);
    let cases = cases.unwrap().0;
    let all: Vec<i64> = cases
        .iter()
        .flat_map(|case| match &case.output {
            Output::Logits(Logits::Values(values)) => values.clone(),
            other => unreachable!("{other:?}"),
        })
        .collect();
    let plan_of = |lengths: &[usize]| {
        let with = |(case, output): (&Case, Output)| Case { output, ..case.clone() };
        let forged: Vec<Case> = cases.iter().zip(dealt(&all, lengths).0).map(with).collect();
        plan(&base.model, &base.commitment, (&forged, &Digested::default()), Some(&graph), Deadline::NONE)
    };
    assert!(plan_of(&[2, 2, 2]).is_ok());
    for lengths in [[1, 2, 3], [3, 2, 1], [2, 1, 3]] {
        let refused = plan_of(&lengths).unwrap_err().to_string();
        assert_eq!(refused, "stated output does not fit the shape of site: logits", "{lengths:?}");
    }
}

/// What the logits behind digests take is held against the limit before they are read.
#[test]
fn logits_behind_digests_are_held_to_the_limit_on_memory() {
    let network = Llama { vocab: 300, ..tiny::network() };
    let base = Base::of(network.into(), |name| name.ends_with("q_proj"));
    let (cases, digested) = base.answered_with_logits(vec![case(&[5, 1], Logits::asked().into())]);
    let files = packed(&base, base.statement(cases), vec![0; 32], digested);
    let files: Files<'_> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let needs = 11 * files[LOGITS].len() as u64;
    let parse = |memory: u64| PackedBundle::parse(&files, &Limits { memory, ..Limits::NONE });
    assert!(parse(needs).is_ok());
    let refused = parse(needs - 1).unwrap_err().to_string();
    assert_eq!(refused, format!("limit: {needs} bytes of memory are more than {}", needs - 1));
}
