//! The forward pass against candle's own Llama, for what the fixtures lack: a head of its own and
//! Llama 3's scaling of the wavelengths.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::llama::{self, Llama3RopeConfig, Llama3RopeType};
use ftk_adapters::train::{Cache, Train, normal_values};
use ftk_adapters::weights::Weights;
use ftk_networks::ops::{Heads, Llama3Scaling, Rope, Tokens};
use ftk_networks::{Gpt2, Llama, LlamaVariant, Network};

/// Positions looked at, well beyond the original context.
const POSITIONS: usize = 48;

/// A model whose wavelengths fall on both sides of the scaling's limits and between them.
fn network(tied: bool, scaled: bool) -> Llama {
    let scaling = Llama3Scaling { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 32 };
    Llama {
        family: LlamaVariant::Llama,
        vocab: 29,
        hidden: 32,
        intermediate: 40,
        layers: 2,
        heads: Heads { query: 4, key_value: 2, dim: 8 },
        rope: Rope { dim: 8, theta: 500.0, scaling: scaled.then_some(scaling) },
        eps: 1e-5,
        tied,
        context: 64,
    }
}

fn weights(network: &Network) -> Weights {
    let make = |(name, shape): (String, Vec<usize>)| {
        let norm = shape.len() == 1;
        let values = normal_values(&name, shape.iter().product(), 0.25, 11);
        let values: Vec<f32> = values.into_iter().map(|value| if norm { value + 1.0 } else { value }).collect();
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    };
    network.shapes().into_iter().map(make).collect()
}

/// Logits of every position: that model gives those of the last position only.
fn theirs(network: &Llama, weights: &Weights, ids: &[u32]) -> Vec<Vec<f32>> {
    let rope_scaling = network.rope.scaling.as_ref().map(|scaling| Llama3RopeConfig {
        factor: scaling.factor as f32,
        low_freq_factor: scaling.low_freq_factor as f32,
        high_freq_factor: scaling.high_freq_factor as f32,
        original_max_position_embeddings: scaling.original_context,
        rope_type: Llama3RopeType::Llama3,
    });
    let config = llama::Config {
        hidden_size: network.hidden,
        intermediate_size: network.intermediate,
        vocab_size: network.vocab,
        num_hidden_layers: network.layers,
        num_attention_heads: network.heads.query,
        num_key_value_heads: network.heads.key_value,
        use_flash_attn: false,
        rms_norm_eps: network.eps,
        rope_theta: network.rope.theta as f32,
        bos_token_id: None,
        eos_token_id: None,
        rope_scaling,
        max_position_embeddings: network.context,
        tie_word_embeddings: network.tied,
    };
    let named = weights.names().map(|name| (name.to_owned(), weights.get(name).unwrap())).collect();
    let model = llama::Llama::load(VarBuilder::from_tensors(named, DType::F32, &Device::Cpu), &config).unwrap();
    let mut cache = llama::Cache::new(false, DType::F32, &config, &Device::Cpu).unwrap();
    (1..=ids.len())
        .map(|length| {
            let ids = Tensor::new(&ids[..length], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
            model.forward(&ids, 0, &mut cache).unwrap().squeeze(0).unwrap().to_vec1().unwrap()
        })
        .collect()
}

fn ids() -> Vec<u32> {
    (0..POSITIONS as u32).map(|i| (i * i * 7 + i * 3 + 5) % 29).collect()
}

fn ours(network: &Network, weights: &Weights) -> Vec<Vec<f32>> {
    let rows: Vec<usize> = (0..POSITIONS).collect();
    let logits = network.forward(&mut Train::new(weights, None), &Tokens::sequence(ids()), &rows).unwrap();
    logits.to_vec2().unwrap()
}

fn largest_difference(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let differences = ours.iter().flatten().zip(theirs.iter().flatten()).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

#[test]
fn logits_equal_those_of_another_implementation_with_untied_head_and_scaled_wavelengths() {
    let mut seen = Vec::new();
    for (tied, scaled) in [(false, true), (false, false), (true, true)] {
        let llama = network(tied, scaled);
        let network = llama.clone().into();
        let weights = weights(&network);
        let ours = ours(&network, &weights);
        let difference = largest_difference(&ours, &theirs(&llama, &weights, &ids()));
        assert!(difference < 1e-4, "tied {tied}, scaled {scaled}: {difference}");
        seen.push(ours);
    }
    // Neither option may be one that changes nothing.
    assert!(largest_difference(&seen[0], &seen[1]) > 0.1);
    assert!(largest_difference(&seen[0], &seen[2]) > 0.1);
}

#[test]
fn positions_seen_one_by_one_give_the_logits_of_all_at_once() {
    let of = |family| Llama { family, ..network(false, true) };
    let gpt2 =
        Gpt2 { vocab: 29, hidden: 32, intermediate: 40, layers: 2, heads: 4, eps: 1e-5, tied: true, context: 64 };
    let networks: [Network; 4] =
        [of(LlamaVariant::Llama).into(), of(LlamaVariant::Qwen2).into(), of(LlamaVariant::Qwen3).into(), gpt2.into()];
    for network in networks {
        let weights = weights(&network);
        let mut cache = Cache::default();
        let mut one_by_one = Vec::new();
        // A prefix of several, then one at a time.
        for (at, next) in std::iter::once((9, &ids()[..10])).chain(ids()[10..].chunks(1).map(|next| (0, next))) {
            let mut ops = Train::continuing(&weights, None, [&mut cache]);
            let logits = network.forward(&mut ops, &Tokens::sequence(next.to_vec()), &[at]).unwrap();
            one_by_one.push(logits.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        }
        assert_eq!(cache.positions(), POSITIONS);
        assert!(largest_difference(&one_by_one, &ours(&network, &weights)[9..]) < 1e-4, "{network:?}");
    }
}
