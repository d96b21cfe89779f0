//! The exact-integer interpretation against the floating-point one, for any network.

use std::path::Path;

use candle_core::{Device, Tensor};
use ftk::prove::fixed::{Agreement, of_adapter, of_weights};
use ftk_adapters::lora::Adapter;
use ftk_adapters::train::{LoraTensors, Train, initial_factors, normal_values};
use ftk_adapters::weights::Weights;
use ftk_bases::BaseModel;
use ftk_networks::ops::{Heads, Llama3Scaling, Rope, Tokens};
use ftk_networks::sites::Role;
use ftk_networks::{Gpt2, Llama, LlamaVariant, Network};
use ftk_proofs::fixed::{Adaptation, Fixed};

use crate::run::{fixture, models};

/// How far the two interpretations of a network are apart, with a random adapter on every linear site.
fn agreement(network: &Network, weights: &Weights, ids: &[u32]) -> Agreement {
    let mut adapter = Adapter::default();
    for site in network.sites().iter().filter(|site| site.role == Role::Linear) {
        let (d_out, d_in) = weights.get(&format!("{}.weight", site.weight)).unwrap().dims2().unwrap();
        let mut factors = initial_factors(&site.name, 4, (d_out, d_in), 1.0, 5);
        factors.b = normal_values(&site.name, d_out * 4, 0.02, 5);
        adapter.sites.insert(site.name.clone(), factors);
    }
    let adapter = adapter.on_grid().unwrap();
    let (tokens, rows) = (Tokens::sequence(ids.to_vec()), (0..ids.len()).collect::<Vec<_>>());
    let tensors = LoraTensors::frozen(&adapter, &Device::Cpu).unwrap();
    let float = network.forward(&mut Train::new(weights, Some(&tensors)), &tokens, &rows).unwrap();
    let (base, adapter) = (of_weights(weights, &network.sites()).unwrap(), of_adapter(&adapter).unwrap());
    let exact = network.forward(&mut Fixed::new(&base, Adaptation::Factors(&adapter)), &tokens, &rows).unwrap();
    Agreement::of(&exact, &float.flatten_all().unwrap().to_vec1::<f32>().unwrap()).unwrap()
}

fn assert_near(agreement: Agreement) {
    assert!(agreement.top1 >= 0.995 && agreement.log_prob <= 0.002, "{agreement:?}");
}

#[test]
fn integers_agree_with_floats_on_the_village() {
    let source = BaseModel::open(Path::new("village")).unwrap();
    let text = std::fs::read_to_string(fixture("../../recipes/text/village/heldout.jsonl")).unwrap();
    let ids = source.tokenizer().unwrap().encode(&text, false).unwrap();
    let weights = source.weights(&Device::Cpu).unwrap();
    assert_near(agreement(source.network(), &weights, &ids[..200]));
}

#[test]
fn integers_agree_with_floats_on_every_family() {
    for model in models() {
        let source = BaseModel::open(&fixture(&model).join("base")).unwrap();
        let weights = source.weights(&Device::Cpu).unwrap();
        let ids: Vec<u32> = (0..64).map(|i| (i * i + 7 * i + 3) % 128).collect();
        let agreement = agreement(source.network(), &weights, &ids);
        assert!(agreement.top1 == 1.0 && agreement.log_prob <= 0.002, "{model}: {agreement:?}");
    }
}

#[test]
fn integers_agree_with_floats_on_random_networks() {
    let rope = Rope {
        dim: 8,
        theta: 500_000.0,
        scaling: Some(Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 64 }),
    };
    let llama = |family| Llama {
        family,
        vocab: 64,
        hidden: 32,
        intermediate: 48,
        layers: 2,
        heads: Heads { query: 4, key_value: 2, dim: 8 },
        rope: rope.clone(),
        eps: 1e-5,
        tied: false,
        context: 256,
    };
    let gpt2 =
        Gpt2 { vocab: 64, hidden: 32, intermediate: 128, layers: 2, heads: 4, eps: 1e-5, tied: true, context: 256 };
    let networks: [Network; 4] = [
        llama(LlamaVariant::Llama).into(),
        llama(LlamaVariant::Qwen2).into(),
        llama(LlamaVariant::Qwen3).into(),
        gpt2.into(),
    ];
    for network in networks {
        let weight = |(name, shape): (String, Vec<usize>)| {
            let count = shape.iter().product();
            let values = normal_values(&name, count, if shape.len() == 1 { 1.0 } else { 0.2 }, 9);
            (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        };
        let weights: Weights = network.shapes().into_iter().map(weight).collect();
        let ids: Vec<u32> = (0..200).map(|i| (i * i + 7 * i) % 64).collect();
        assert_near(agreement(&network, &weights, &ids));
    }
}
