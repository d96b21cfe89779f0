//! Sealed proofs of every family of networks: plans state what the pass on integers yields.
#![cfg(feature = "prove")]

use std::borrow::Cow;
use std::collections::BTreeSet;

use ftk_circuits::fixed::linear::Factors;
use ftk_circuits::sealed::{seal, verify_sealed};
use ftk_circuits::{AdapterCommitment, CheckFailed, CommitmentKey, Opening, SiteFactors, commit, required_k};
use ftk_networks::digest::Texts;
use ftk_networks::ops::{Heads, Llama3Scaling, Rope};
use ftk_networks::{Family, Gemma3, Gpt2, Llama, Network, Phi3};
use ftk_proofs::fixed::{Adaptation, Error, FixedAdapter};
use ftk_proofs::prove::settle;
use ftk_proofs::{
    AtLeast, Case, Choice, Completion, Deadline, FixedModel, Input, Logits, Net, Output, Statement, Weight, plan,
    replay,
};

const VOCABULARY: usize = 16;

fn llama(family: Family) -> Llama {
    Llama {
        family,
        vocab: VOCABULARY,
        hidden: 8,
        intermediate: 12,
        layers: 2,
        heads: Heads { query: 2, key_value: 1, dim: 4 },
        rope: Rope { dim: 4, theta: 10_000.0, scaling: None },
        eps: 1e-5,
        tied: false,
        context: 32,
    }
}

/// One of each kind.
fn networks() -> Vec<Network> {
    let Llama { vocab, hidden, intermediate, layers, heads, rope, eps, context, .. } = llama(Family::Llama);
    let scaling = Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 16 };
    let scaled = Rope { dim: 4, theta: 5e5, scaling: Some(scaling) };
    let local_rope = Rope { theta: 100.0, ..rope.clone() };
    let sees_all = vec![false, true];
    vec![
        Llama { rope: scaled, tied: true, ..llama(Family::Llama) }.into(),
        llama(Family::Qwen2).into(),
        llama(Family::Qwen3).into(),
        Gpt2 { vocab, hidden, intermediate, layers, heads: 2, eps, tied: true, context }.into(),
        Gemma3 {
            vocab,
            hidden,
            intermediate,
            sees_all,
            heads,
            rope: rope.clone(),
            local_rope,
            window: 16,
            eps,
            tied: true,
            context,
        }
        .into(),
        Phi3 { vocab, hidden, intermediate, layers, heads, rope, window: Some(16), eps, tied: false, context }.into(),
    ]
}

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
        let mut state = 7;
        let shapes = network.shapes();
        let weight = |name: &str| {
            let shape = shapes[name].clone();
            let values = values(&mut state, shape.iter().product(), 0.5);
            Some(Weight { shape: Cow::Owned(shape), values: Cow::Owned(values) })
        };
        let model =
            FixedModel::new(Net::Tokens(network), Texts { stop: BTreeSet::from([3]), ..Texts::default() }, weight);
        let model = model.unwrap();
        let mut adapter = FixedAdapter::default();
        for (number, site) in model.sites().iter().enumerate().filter(|(_, site)| site.name != "lm_head") {
            let (rank, d_in, d_out) = (1 + number % 3, site.d_in as usize, site.d_out as usize);
            let mut entries = |count| values(&mut state, count, 20_000.0).into_iter().map(|x| x as i16).collect();
            let (a, b) = (entries(rank * d_in), entries(d_out * rank));
            let factors = Factors::new(&site.name, rank, [d_in, d_out], a, b, [16, 17]).unwrap();
            adapter.sites.insert(site.name.clone(), factors);
        }
        let factors = model.factors(&adapter);
        let shapes: Vec<_> = factors.iter().map(|site| site.shape.clone()).collect();
        let key = CommitmentKey::generate(required_k(&shapes).unwrap()).unwrap();
        let (commitment, opening) = commit(&key, model.digest(), &factors).unwrap();
        Self { model, factors, adapter, commitment, opening }
    }

    /// Cases with what the base and the adapter yield.
    fn settled(&self, cases: Vec<Case>) -> Vec<Case> {
        settle(&self.model, &self.adapter, cases, None, |_, count| Ok(vec![0; count])).unwrap().0
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
    for network in networks() {
        let base = Base::new(network);
        let cases = base.settled(vec![
            case(&[5, 1, 9, 2, 2], completion(3)),
            case(&[7, 7], Choice::among(vec![1, 4, 5, 11]).into()),
            case(&[5, 1, 9], Choice::among(vec![0, 2]).into()),
            case(&[4], Logits::asked().into()),
        ]);
        let name = format!("{:?}", base.model.net());
        let sealed = plan(&base.model, &base.commitment, &cases, None).unwrap();
        let key = CommitmentKey::generate(sealed.k()).unwrap();
        let statement = base.statement(cases.clone()).bytes();
        let proof =
            seal(&key, &statement, &base.commitment, &base.opening, &base.factors, &sealed, &mut |_, _| {}).unwrap();
        assert_eq!(verify_sealed(&key, &statement, &base.commitment, &sealed, &proof), Ok(()), "{name}");
        // Another output has another plan: what is proved is not that.
        let mut others = cases;
        let Output::Logits(Logits::Values(logits)) = &mut others[3].output else {
            unreachable!("logits are asked for")
        };
        logits[2] += 1;
        let other = plan(&base.model, &base.commitment, &others, None).unwrap();
        let refused = verify_sealed(&key, &statement, &base.commitment, &other, &proof);
        assert_eq!(refused, Err(CheckFailed::SealedProof), "{name}");
    }
}

#[test]
fn outputs_that_are_not_stated_are_named() {
    let base = Base::new(llama(Family::Llama).into());
    let cases = base.settled(vec![case(&[1, 2], AtLeast { id: 4, bound: -1 << 24, holds: false }.into())]);
    let error = plan(&base.model, &base.commitment, &cases, None).unwrap_err();
    assert_eq!(error.to_string(), "sealed proofs do not state bounds of log-probabilities; an open one does");
    // And the pass that they would be of is one.
    let pass = replay(&base.model, Adaptation::Factors(&base.adapter), &cases, None, Deadline::NONE);
    assert!(pass.is_ok() && matches!(error, Error::Unsealed(_)));
}
