use std::collections::BTreeMap;

use ftk_proofs::bundle::Bundle;
use ftk_proofs::circuits::{CommitmentKey, Digest, commit, register, required_k};
use ftk_proofs::fixed::{Exported, FixedAdapter, PassError};
use ftk_proofs::head::Tensors;
use ftk_proofs::networks::digest::Texts;
use ftk_proofs::networks::ops::{Heads, Rope};
use ftk_proofs::networks::{Llama, LlamaVariant, Network};
use ftk_proofs::prove::{answer, prove};
use ftk_proofs::{Case, Choice, FixedModel, FloatWeight, Input, Net, Statement};

/// A small base, the digest of an adapter for it, and a bundle of that adapter.
pub struct World {
    pub network: Network,
    pub weights: Tensors,
    pub adapter: Digest,
    pub bundle: Bundle,
}

impl World {
    pub fn model(&self) -> FixedModel {
        model(&self.network, &self.weights)
    }

    pub fn files(&self) -> BTreeMap<&'static str, Vec<u8>> {
        self.bundle.pack().unwrap().files().unwrap()
    }
}

fn model(network: &Network, weights: &Tensors) -> FixedModel {
    read(network, weights).unwrap()
}

pub fn read(network: &Network, weights: &Tensors) -> Result<FixedModel, PassError> {
    let weight = |name: &str| {
        let (shape, values) = weights.get(name)?;
        Some(FloatWeight { shape: shape.as_slice().into(), values: values.as_slice().into() })
    };
    FixedModel::new(Net::Tokens(network.clone()), Texts::default(), weight)
}

/// Everything that a prover does.
pub fn world() -> World {
    let network = Network::Llama(Llama {
        family: LlamaVariant::Llama,
        vocab: 40,
        hidden: 16,
        intermediate: 24,
        layers: 1,
        heads: Heads { query: 2, key_value: 1, dim: 8 },
        rope: Rope { dim: 8, theta: 10_000.0, scaling: None },
        eps: 1e-5,
        tied: true,
        context: 64,
    });
    // Multiples of 2^-10 from a linear congruence.
    let mut state = 7u32;
    let mut values = |count: usize| -> Vec<f32> {
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 23) as f32 - 256.0) / 1024.0
        };
        (0..count).map(next).collect()
    };
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let entries = values(shape.iter().product());
        (name, (shape, entries))
    };
    let weights: Tensors = network.shapes().into_iter().map(tensor).collect();
    let model = model(&network, &weights);

    let mut adapter = FixedAdapter::default();
    let (a, b) = (values(2 * 16), values(16 * 2));
    let exported = Exported { rank: 2, d_in: 16, d_out: 16, a: &a, b: &b, scale: 1.0 };
    adapter.insert("model.layers.0.self_attn.q_proj", &exported).unwrap();
    let factors = model.factors(&adapter);
    let shapes: Vec<_> = factors.iter().map(|factors| factors.shape.clone()).collect();
    let key = CommitmentKey::generate(required_k(&shapes).unwrap()).unwrap();
    let (commitment, opening) = commit(&key, model.digest(), &factors).unwrap();
    let registration = register(&key, &commitment, &opening, &factors, &mut |_, _| {}).unwrap();

    let question = Case { input: Input::Tokens(vec![5, 6, 7]), output: Choice::among(vec![1, 2, 3]).into() };
    let nothing_to_propose = |_: &[u32], _: usize| Ok(Vec::new());
    let (cases, records) = answer(&model, &adapter, vec![question], None, None, nothing_to_propose).unwrap();
    let digest = commitment.digest();
    let statement = Statement { base: model.digest(), adapter: digest, context: Vec::new(), cases };
    let secrets = (&commitment, &opening, factors.as_slice());
    let (deltas, proof) = prove(&key, &statement, secrets, records, &mut |_, _| {}).unwrap();
    let registration = Some(registration);
    let bundle = Bundle { statement, commitment, deltas, proof, registration, graph: None, head: None };
    World { network, weights, adapter: digest, bundle }
}
