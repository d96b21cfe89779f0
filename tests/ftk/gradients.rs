//! Gradients of the whole network against finite differences, and what gets none.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use ftk::models::{Family, Gpt2, Llama, Network};
use ftk_adapters::lora::Adapter;
use ftk_adapters::ops::{Heads, Llama3Scaling, Rope, Tokens};
use ftk_adapters::sites::Role;
use ftk_adapters::train::{LoraTensors, Train, from_host, initial_factors, log_prob, normal_values};
use ftk_adapters::weights::Weights;

/// Step of the differences. The stencil's error goes with the fourth power of the step, that of
/// f32 with its inverse.
const STEP: f64 = 0.02;
/// Largest difference along a direction of unit length, relative to the length of the tensor's gradient.
const TOLERANCE: f64 = 2e-3;

/// Every feature at its smallest: grouped heads, scaled wavelengths, heads that together are wider than the residual
/// stream, a tied head and one of its own, biases, norms of heads, learned positions.
fn networks() -> [Network; 5] {
    let scaling = Llama3Scaling { factor: 4.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 16 };
    let llama = |family, tied| Llama {
        family,
        vocab: 11,
        hidden: 8,
        intermediate: 12,
        layers: 2,
        heads: Heads { query: 4, key_value: 2, dim: 4 },
        rope: Rope { dim: 4, theta: 100.0, scaling: Some(scaling.clone()) },
        eps: 1e-3,
        tied,
        context: 32,
    };
    let gpt2 = Gpt2 { vocab: 11, hidden: 8, intermediate: 12, layers: 2, heads: 2, eps: 1e-3, tied: true, context: 9 };
    [
        llama(Family::Llama, false).into(),
        llama(Family::Llama, true).into(),
        llama(Family::Qwen2, true).into(),
        llama(Family::Qwen3, false).into(),
        gpt2.into(),
    ]
}

/// Numbers of the base by name, with shapes.
type Numbers = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn base(network: &Network) -> Numbers {
    let make = |(name, shape): (String, Vec<usize>)| {
        let norm = shape.len() == 1;
        let values = normal_values(&name, shape.iter().product(), if norm { 0.2 } else { 0.35 }, 3);
        let values = values.into_iter().map(|value| if norm { value + 1.0 } else { value }).collect();
        (name, (shape, values))
    };
    network.shapes().into_iter().map(make).collect()
}

fn weights(numbers: &Numbers, trained: bool) -> Weights {
    let make = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f32>))| {
        let tensor = Tensor::from_slice(values, shape.as_slice(), &Device::Cpu).unwrap();
        let tensor = if trained { Var::from_tensor(&tensor).unwrap().into_inner() } else { tensor };
        (name.clone(), tensor)
    };
    numbers.iter().map(make).collect()
}

/// An adapter on every linear site and the head, as after some training: `B` is not zero.
fn adapter(network: &Network) -> Adapter {
    let shapes = network.shapes();
    let mut adapter = Adapter::default();
    for site in network.sites() {
        if matches!(site.role, Role::Linear | Role::Head) {
            let shape = &shapes[&format!("{}.weight", site.weight)];
            let mut factors = initial_factors(&site.name, 3, (shape[0], shape[1]), 1.5, 5);
            factors.b = normal_values(&site.name, factors.b.len(), 0.3, 6);
            adapter.sites.insert(site.name, factors);
        }
    }
    adapter
}

/// A weighted sum of log-probabilities at some rows of two sequences: its value in f64, its gradients.
fn loss(network: &Network, weights: &Weights, adapter: Option<&LoraTensors>) -> (f64, Option<GradStore>) {
    let tokens = Tokens::new(2, 6, vec![1, 5, 2, 9, 5, 0, 10, 3, 3, 8, 7, 4]);
    let (rows, labels) = ([0, 2, 3, 5, 7, 8, 10], [5u32, 9, 5, 1, 3, 8, 4]);
    let weighting = [1.0, -0.5, 0.8, 1.2, -1.0, 0.6, 0.9];
    let logits = network.forward(&mut Train::new(weights, adapter), &tokens, &rows).unwrap();
    let labels = Tensor::new(&labels, &Device::Cpu).unwrap();
    let log_probs = log_prob(&logits.squeeze(0).unwrap(), &labels).unwrap();
    let values = log_probs.to_vec1::<f32>().unwrap();
    let value = values.iter().zip(weighting).map(|(&value, weight)| f64::from(value) * weight).sum();
    let gradient = weighting.iter().map(|&weight| weight as f32).collect();
    let scalar = from_host(&log_probs, value, gradient).unwrap();
    let store = scalar.track_op().then(|| scalar.backward().unwrap());
    (value, store)
}

/// Compares a tensor's gradient with differences of `at` (the loss with that tensor moved): in one
/// random direction, at the entry of the largest gradient and at some others.
fn compare(name: &str, gradient: &Tensor, values: &[f32], at: impl Fn(Vec<f32>) -> f64) {
    let gradient = gradient.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(gradient.len(), values.len(), "{name}");
    let length = gradient.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
    assert!(length > 0.02, "{name} has hardly any gradient: {length}");
    let count = gradient.len();
    let largest = (0..count).max_by(|&i, &j| gradient[i].abs().total_cmp(&gradient[j].abs())).unwrap();
    let random = normal_values(name, count, 1.0, 9);
    let norm = random.iter().map(|&d| f64::from(d) * f64::from(d)).sum::<f64>().sqrt();
    let mut directions = vec![random.iter().map(|&d| f64::from(d) / norm).collect::<Vec<_>>()];
    for entry in [largest, 0, count / 3, count / 2, count - 1] {
        directions.push((0..count).map(|i| f64::from(u8::from(i == entry))).collect());
    }
    for direction in directions {
        let moved =
            |step: f64| at(values.iter().zip(&direction).map(|(&x, d)| (f64::from(x) + step * d) as f32).collect());
        let near = 8.0 * (moved(STEP) - moved(-STEP));
        let far = moved(2.0 * STEP) - moved(-2.0 * STEP);
        let difference = (near - far) / (12.0 * STEP);
        let ours: f64 = gradient.iter().zip(&direction).map(|(&g, d)| f64::from(g) * d).sum();
        let error = (difference - ours).abs() / length;
        assert!(error < TOLERANCE, "{name}: {ours} against {difference}, {error:e} of {length}");
    }
}

#[test]
fn every_adapter_tensor_has_the_gradient_of_finite_differences() {
    for network in networks() {
        let weights = weights(&base(&network), false);
        let adapter = adapter(&network);
        let linear = match network {
            Network::Llama(_) => 7,
            Network::Gpt2(_) => 4,
        };
        assert_eq!(adapter.sites.len(), 2 * linear + 1);
        let trained = LoraTensors::trained(&adapter, &Device::Cpu).unwrap();
        let store = loss(&network, &weights, Some(&trained)).1.unwrap();
        let gradients: BTreeMap<String, &Tensor> = trained.tensors().collect();
        for (site, factors) in &adapter.sites {
            for half in ["lora_A", "lora_B"] {
                let name = format!("{site}.{half}");
                let values = if half == "lora_A" { &factors.a } else { &factors.b };
                let gradient = store.get(gradients[&name]).unwrap_or_else(|| panic!("{name} gets no gradient"));
                compare(&name, gradient, values, |values| {
                    let mut moved = adapter.clone();
                    let factors = moved.sites.get_mut(site).unwrap();
                    *(if half == "lora_A" { &mut factors.a } else { &mut factors.b }) = values;
                    let frozen = LoraTensors::frozen(&moved, &Device::Cpu).unwrap();
                    loss(&network, &weights, Some(&frozen)).0
                });
            }
        }
    }
}

#[test]
fn no_frozen_weight_has_a_gradient_in_the_store() {
    for network in networks() {
        let weights = weights(&base(&network), false);
        let trained = LoraTensors::trained(&adapter(&network), &Device::Cpu).unwrap();
        let store = loss(&network, &weights, Some(&trained)).1.unwrap();
        assert_eq!(weights.len(), network.shapes().len());
        for (name, weight) in weights.iter() {
            assert!(store.get(weight).is_none(), "{name}");
        }
        // Nor anything of a weight's shape that is not a factor: no buffer under another name.
        let shapes: Vec<&[usize]> = weights.iter().map(|(_, weight)| weight.dims()).filter(|d| d.len() == 2).collect();
        let factors: Vec<_> = trained.tensors().map(|(_, factor)| factor.id()).collect();
        for id in store.get_ids().filter(|id| !factors.contains(id)) {
            let dims = store.get_id(*id).unwrap().dims();
            assert!(!shapes.contains(&dims), "a gradient of shape {dims:?}");
        }
    }
}

#[test]
fn every_weight_of_a_trained_base_has_the_gradient_of_finite_differences() {
    for network in networks() {
        let numbers = base(&network);
        let trained = weights(&numbers, true);
        let store = loss(&network, &trained, None).1.unwrap();
        for (name, weight) in trained.iter() {
            let gradient = store.get(weight).unwrap_or_else(|| panic!("{name} gets no gradient"));
            compare(name, gradient, &numbers[name].1, |values| {
                let mut moved = numbers.clone();
                moved.get_mut(name).unwrap().1 = values;
                loss(&network, &weights(&moved, false), None).0
            });
        }
    }
}
