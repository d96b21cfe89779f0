//! Gradients of the whole network against finite differences.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use ftk_adapters::lora::Adapter;
use ftk_adapters::train::{Dropout, Learns, LoraTensors, Train, initial_factors, normal_values};
use ftk_adapters::weights::Weights;
use ftk_networks::ops::{Heads, Llama3Scaling, Rope, Tokens};
use ftk_networks::sites::Role;
use ftk_networks::{Gpt2, Llama, LlamaVariant, Network};

/// Steps of the differences, of which one must agree. The stencil's error goes with the fourth power of
/// the step, that of f32 with its inverse: where the loss is much curved the second is the better one.
const STEPS: [f64; 2] = [0.02, 0.005];
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
    let gpt2 = Gpt2 { vocab: 11, hidden: 8, intermediate: 12, layers: 2, heads: 2, eps: 1e-3, tied: true, context: 7 };
    [
        llama(LlamaVariant::Llama, false).into(),
        llama(LlamaVariant::Llama, true).into(),
        llama(LlamaVariant::Qwen2, true).into(),
        llama(LlamaVariant::Qwen3, false).into(),
        gpt2.into(),
    ]
}

/// Each with the log-probabilities asked for in one of the two ways.
fn cases() -> impl Iterator<Item = (Network, Scored)> {
    networks().into_iter().zip([Scored::Later, Scored::Known].into_iter().cycle())
}

/// Numbers of the base by name, with shapes.
type Numbers = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn base(network: &Network) -> Numbers {
    let make = |(name, shape): (String, Vec<usize>)| {
        let vector = shape.len() == 1;
        let values = normal_values(&name, shape.iter().product(), if vector { 0.2 } else { 0.35 }, 3);
        let centre = if vector && name.ends_with(".weight") { 1.0 } else { 0.0 };
        let values = values.into_iter().map(|value| value + centre).collect();
        (name, (shape, values))
    };
    network.shapes().into_iter().map(make).collect()
}

fn weights(numbers: &Numbers) -> Weights {
    let make = |(name, (shape, values)): (&String, &(Vec<usize>, Vec<f32>))| {
        (name.clone(), Tensor::from_slice(values, shape.as_slice(), &Device::Cpu).unwrap())
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

/// How the log-probabilities are asked for.
#[derive(Clone, Copy, Debug)]
enum Scored {
    /// Their gradient is told only afterwards.
    Later,
    /// It is known to the forward pass.
    Known,
}

/// A weighted sum of log-probabilities at some rows of two sequences: its value in f64, its gradients.
fn loss(network: &Network, mut pass: Train<'_>, scored: Scored) -> (f64, BTreeMap<String, Tensor>) {
    let tokens = Tokens::sequences([vec![1, 5, 2, 9, 5, 0, 10], vec![3, 3, 8, 7, 4]]);
    let (rows, labels) = ([0, 2, 3, 5, 7, 8, 10], vec![5u32, 9, 5, 1, 3, 8, 4]);
    let weighting = vec![1.0f32, -0.5, 0.8, 1.2, -1.0, 0.6, 0.9];
    pass.score(labels, matches!(scored, Scored::Known).then(|| weighting.clone()));
    let log_probs = network.forward(&mut pass, &tokens, &rows).unwrap();
    let values = log_probs.to_vec1::<f32>().unwrap();
    let value = values.iter().zip(&weighting).map(|(&value, &weight)| f64::from(value) * f64::from(weight)).sum();
    let gradient = Tensor::from_vec(weighting, 7, &Device::Cpu).unwrap();
    (value, pass.backward(&log_probs, gradient).unwrap().into_trained())
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
        let ours: f64 = gradient.iter().zip(&direction).map(|(&g, d)| f64::from(g) * d).sum();
        let error = |step: f64| {
            let near = 8.0 * (moved(step) - moved(-step));
            let far = moved(2.0 * step) - moved(-2.0 * step);
            ((near - far) / (12.0 * step) - ours).abs() / length
        };
        let errors = STEPS.map(error);
        assert!(errors.iter().any(|error| *error < TOLERANCE), "{name}: {ours} is off by {errors:?} of {length}");
    }
}

#[test]
fn every_adapter_tensor_has_the_gradient_of_finite_differences() {
    for (network, scored) in cases() {
        let weights = weights(&base(&network));
        let adapter = adapter(&network);
        let linear = network.sites().iter().filter(|site| site.role == Role::Linear).count();
        assert_eq!(adapter.sites.len(), linear + 1);
        let trained = LoraTensors::frozen(&adapter, &Device::Cpu).unwrap();
        let gradients = loss(&network, Train::recording(&weights, Some(&trained), Learns::Adapter), scored).1;
        // The factors, and nothing of the base.
        assert!(gradients.keys().eq(trained.tensors().map(|(name, _)| name).collect::<Vec<_>>().iter()));
        for (site, factors) in &adapter.sites {
            for half in ["lora_A", "lora_B"] {
                let name = format!("{site}.{half}");
                let values = if half == "lora_A" { &factors.a } else { &factors.b };
                compare(&name, &gradients[&name], values, |values| {
                    let mut moved = adapter.clone();
                    let factors = moved.sites.get_mut(site).unwrap();
                    *(if half == "lora_A" { &mut factors.a } else { &mut factors.b }) = values;
                    let frozen = LoraTensors::frozen(&moved, &Device::Cpu).unwrap();
                    loss(&network, Train::new(&weights, Some(&frozen)), scored).0
                });
            }
        }
    }
}

#[test]
fn a_pass_that_is_not_recorded_has_no_gradients() {
    let [network, ..] = networks();
    let weights = weights(&base(&network));
    let adapter = LoraTensors::frozen(&adapter(&network), &Device::Cpu).unwrap();
    assert!(loss(&network, Train::new(&weights, Some(&adapter)), Scored::Later).1.is_empty());
}

#[test]
fn every_weight_of_a_trained_base_has_the_gradient_of_finite_differences() {
    for (network, scored) in cases() {
        let numbers = base(&network);
        let trained = weights(&numbers);
        let gradients = loss(&network, Train::recording(&trained, None, Learns::Base), scored).1;
        assert!(gradients.keys().eq(numbers.keys()));
        for (name, gradient) in &gradients {
            compare(name, gradient, &numbers[name].1, |values| {
                let mut moved = numbers.clone();
                moved.get_mut(name).unwrap().1 = values;
                loss(&network, Train::new(&weights(&moved), None), scored).0
            });
        }
    }
}

#[test]
fn an_adapted_layer_with_dropout_has_the_gradient_of_finite_differences() {
    let [network, ..] = networks();
    let weights = weights(&base(&network));
    let adapter = adapter(&network);
    let dropping = |mut pass: Train<'_>| {
        pass.drop_out(Dropout { rate: 0.3, keys: (100..112).collect() });
        loss(&network, pass, Scored::Later)
    };
    let trained = LoraTensors::frozen(&adapter, &Device::Cpu).unwrap();
    let (value, gradients) = dropping(Train::recording(&weights, Some(&trained), Learns::Adapter));
    assert_ne!(value, loss(&network, Train::new(&weights, Some(&trained)), Scored::Later).0, "nothing was dropped");
    for site in ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj", "lm_head"] {
        compare(site, &gradients[&format!("{site}.lora_A")], &adapter.sites[site].a, |values| {
            let mut moved = adapter.clone();
            moved.sites.get_mut(site).unwrap().a = values;
            let moved = LoraTensors::frozen(&moved, &Device::Cpu).unwrap();
            dropping(Train::new(&weights, Some(&moved))).0
        });
    }
}

#[test]
fn sequences_that_share_their_beginning_have_the_figures_and_gradients_of_whole_ones() {
    for network in networks() {
        let weights = weights(&base(&network));
        let adapter = LoraTensors::frozen(&adapter(&network), &Device::Cpu).unwrap();
        let pair: [&[u32]; 2] = [&[1, 5, 2, 9, 5, 0, 10], &[1, 5, 2, 8, 7]];
        let run = |tokens: &Tokens, rows: &[usize]| {
            let mut pass = Train::recording(&weights, Some(&adapter), Learns::Adapter);
            pass.score(vec![9, 5, 0, 10, 8, 7], None);
            let log_probs = network.forward(&mut pass, tokens, rows).unwrap();
            let gradient = Tensor::new(&[1.0f32, 0.5, -1.0, 2.0, -0.7, 0.3], &Device::Cpu).unwrap();
            let gradients = pass.backward(&log_probs, gradient).unwrap().into_trained();
            let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            (values(&log_probs), gradients.values().flat_map(values).collect::<Vec<f32>>())
        };
        let mut shared = Tokens::default();
        let placed = shared.push_alike(&pair);
        assert_eq!(shared.ids().len(), 9);
        let rows: Vec<usize> = (2..6).map(|at| placed[0].row(at)).chain((2..4).map(|at| placed[1].row(at))).collect();
        let shared = run(&shared, &rows);
        let whole = run(&Tokens::sequences(pair), &[2, 3, 4, 5, 9, 10]);
        for (shared, whole) in shared.0.iter().zip(&whole.0).chain(shared.1.iter().zip(&whole.1)) {
            assert!((shared - whole).abs() < 1e-5 * whole.abs().max(1.0), "{network:?}: {shared} is not {whole}");
        }
    }
}
