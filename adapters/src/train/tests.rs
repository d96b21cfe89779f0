//! Every hand-written backward pass against finite differences.

use candle_core::{Device, Result, Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::attention::attention;
use super::linear::{linear, lora_linear};
use super::norm::rms_norm;
use super::rotary::Angles;
use super::swiglu::swiglu;
use super::{Lora, from_host, log_prob};
use crate::ops::{Heads, Llama3Scaling, Rope};

/// Step of the differences. The stencil's error goes with the fourth power of the step, that of
/// f32 with its inverse; here both are below a tenth of [`TOLERANCE`].
const STEP: f64 = 0.05;
/// Largest difference along a direction of unit length, relative to the gradient's length.
const TOLERANCE: f64 = 1e-3;

/// Values between -1 and 1.
fn values(seed: u64, count: usize) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0).collect()
}

fn tensor(values: &[f64], shape: &[usize]) -> Tensor {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn random(seed: u64, shape: &[usize]) -> Tensor {
    tensor(&values(seed, shape.iter().product()), shape)
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Directions of unit length: a random one, the entry of the largest gradient, some others.
fn directions(gradient: &[f64]) -> Vec<Vec<f64>> {
    let largest = (0..gradient.len()).max_by(|&i, &j| gradient[i].abs().total_cmp(&gradient[j].abs())).unwrap();
    let random = values(99, gradient.len());
    let length = dot(&random, &random).sqrt();
    let entry = |at: usize| (0..gradient.len()).map(move |i| f64::from(u8::from(i == at))).collect();
    let mut all = vec![random.iter().map(|value| value / length).collect()];
    all.extend([largest, 0, gradient.len() / 2, gradient.len() - 1].map(entry));
    all
}

/// Checks the gradient of a random weighting of `f`'s result with respect to every operand, both
/// with the result as it is and read through a transposition, which makes the gradient that
/// comes back one that is not contiguous.
fn agrees(operands: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let all = vec![true; operands.len()];
    agrees_for(operands, &all, &f);
    if f(operands).unwrap().rank() > 1 {
        agrees_for(operands, &all, |operands| f(operands)?.t());
    }
}

/// [`agrees`] with respect to some operands; the others must be left without a gradient.
fn agrees_for(operands: &[Tensor], tracked: &[bool], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let variables: Vec<Tensor> = operands
        .iter()
        .zip(tracked)
        .map(|(x, &tracked)| if tracked { Var::from_tensor(x).unwrap().into_inner() } else { x.clone() })
        .collect();
    let result = f(&variables).unwrap();
    let weighting = random(7, result.dims());
    let store = (&result * &weighting).unwrap().sum_all().unwrap().backward().unwrap();
    let weighting = numbers(&weighting);
    for (index, (operand, &tracked)) in operands.iter().zip(tracked).enumerate() {
        let Some(gradient) = store.get(&variables[index]) else {
            assert!(!tracked, "operand {index} gets no gradient");
            continue;
        };
        assert!(tracked, "operand {index} is frozen and gets a gradient");
        assert_eq!(gradient.dims(), operand.dims());
        let (gradient, base) = (numbers(gradient), numbers(operand));
        let length = dot(&gradient, &gradient).sqrt();
        assert!(length > 0.05, "operand {index} has hardly any gradient: {length}");
        for direction in directions(&gradient) {
            let at = |step: f64| {
                let moved: Vec<f64> = base.iter().zip(&direction).map(|(x, d)| x + step * d).collect();
                let mut operands = operands.to_vec();
                operands[index] = tensor(&moved, operand.dims());
                dot(&numbers(&f(&operands).unwrap()), &weighting)
            };
            let near = (at(STEP) - at(-STEP)) * 8.0;
            let far = at(2.0 * STEP) - at(-2.0 * STEP);
            let (difference, ours) = ((near - far) / (12.0 * STEP), dot(&gradient, &direction));
            let error = (difference - ours).abs() / length;
            assert!(error < TOLERANCE, "operand {index}: {ours} against {difference}, {error:e} of {length}");
        }
    }
}

#[test]
fn a_frozen_linear_layer_passes_its_gradient_to_the_input_alone() {
    let operands = [random(1, &[2, 3, 5]), random(2, &[4, 5])];
    agrees_for(&operands, &[true, false], |x| linear(&x[0], &x[1]));
    agrees_for(&operands, &[true, false], |x| linear(&x[0], &x[1])?.t());
}

#[test]
fn a_trained_linear_layer_passes_its_gradient_to_input_and_weight() {
    let operands = [random(1, &[2, 3, 5]), random(2, &[4, 5])];
    agrees(&operands, |x| linear(&x[0], &x[1]));
    agrees_for(&operands, &[false, true], |x| linear(&x[0], &x[1]));
}

#[test]
fn an_adapted_linear_layer_passes_its_gradient_to_input_and_factors() {
    let operands = [random(1, &[2, 3, 5]), random(2, &[2, 5]), random(3, &[4, 2]), random(4, &[4, 5])];
    let adapted = |x: &[Tensor]| lora_linear(&x[0], &x[3], &Lora { a: x[1].clone(), b: x[2].clone(), scale: 1.5 });
    agrees_for(&operands, &[true, true, true, false], adapted);
    agrees_for(&operands, &[true, true, true, false], |x| adapted(x)?.t());
    agrees_for(&operands, &[false, true, true, false], adapted);
    agrees_for(&operands, &[true, false, false, false], adapted);
}

#[test]
fn a_norm_passes_its_gradient_to_input_and_weight() {
    let operands = [random(1, &[2, 3, 6]), random(2, &[6])];
    // An eps large enough to be seen in the gradient.
    agrees(&operands, |x| rms_norm(&x[0], &x[1], 0.1));
    agrees_for(&operands, &[true, false], |x| rms_norm(&x[0], &x[1], 0.1));
    agrees_for(&operands, &[false, true], |x| rms_norm(&x[0], &x[1], 0.1));
}

#[test]
fn a_rotation_passes_its_gradient_at_any_position() {
    let scaling = Llama3Scaling { factor: 4.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 16 };
    for scaling in [None, Some(scaling)] {
        let angles = Angles::new(&Rope { dim: 6, theta: 100.0, scaling }, 9, &Device::Cpu).unwrap();
        for first in [0, 5] {
            agrees(&[random(1, &[2, 3, 12])], |x| angles.rotate(&x[0], first));
        }
    }
}

#[test]
fn attention_with_grouped_heads_passes_its_gradient_to_queries_keys_and_values() {
    let heads = Heads { query: 4, key_value: 2, dim: 3 };
    let (queries, keys) = (heads.query * heads.dim, heads.key_value * heads.dim);
    // As many rows as positions, and fewer, as after a cached prefix.
    for rows in [5, 2] {
        let operands = [random(1, &[2, rows, queries]), random(2, &[2, 5, keys]), random(3, &[2, 5, keys])];
        agrees(&operands, |x| attention(&x[0], &x[1], &x[2], heads));
    }
    let heads = Heads { query: 3, key_value: 3, dim: 2 };
    let operands = [random(1, &[1, 4, 6]), random(2, &[1, 4, 6]), random(3, &[1, 4, 6])];
    agrees(&operands, |x| attention(&x[0], &x[1], &x[2], heads));
}

#[test]
fn a_row_does_not_attend_to_what_follows_it() {
    let heads = Heads { query: 2, key_value: 1, dim: 3 };
    let run = |changed: f64| {
        let k = numbers(&random(2, &[1, 4, 3])).into_iter().enumerate();
        let k: Vec<f64> = k.map(|(i, value)| if i >= 9 { value + changed } else { value }).collect();
        let (q, k) = (random(1, &[1, 4, 6]), tensor(&k, &[1, 4, 3]));
        numbers(&attention(&q, &k, &k, heads).unwrap())
    };
    let (before, after) = (run(0.0), run(1.0));
    assert_eq!(before[..18], after[..18]);
    assert_ne!(before[18..], after[18..]);
}

#[test]
fn the_gate_of_the_mlp_passes_its_gradient_to_both_sides() {
    let gate = (random(1, &[2, 3, 4]) * 3.0).unwrap();
    agrees(&[gate, random(2, &[2, 3, 4])], |x| swiglu(&x[0], &x[1]));
}

#[test]
fn log_probabilities_pass_their_gradient_to_every_logit() {
    let labels = Tensor::new(&[4u32, 0, 2, 2], &Device::Cpu).unwrap();
    agrees(&[(random(1, &[4, 5]) * 2.0).unwrap()], |x| log_prob(&x[0], &labels));
}

#[test]
fn log_probabilities_of_huge_logits_stay_finite() {
    let logits = tensor(&[1e4, 0.0, -1e4, 3e4, 3e4, 0.0], &[2, 3]);
    let labels = Tensor::new(&[0u32, 1], &Device::Cpu).unwrap();
    let found = numbers(&log_prob(&logits, &labels).unwrap());
    assert!(found[0].abs() < 1e-6 && (found[1] + 2.0f64.ln()).abs() < 1e-3, "{found:?}");
}

#[test]
fn a_loss_computed_on_the_host_passes_the_gradient_it_was_given() {
    // The sum of cubes, whose gradient is three times the squares.
    agrees(&[random(1, &[6])], |x| {
        let x64 = numbers(&x[0]);
        let gradient = x64.iter().map(|x| (3.0 * x * x) as f32).collect();
        from_host(&x[0], x64.iter().map(|x| x.powi(3)).sum(), gradient)
    });
}

#[test]
fn what_depends_on_nothing_tracked_stays_out_of_the_graph() {
    let (x, w) = (random(1, &[1, 2, 3]), random(2, &[3, 3]));
    let norm = random(3, &[3]);
    let lora = Lora { a: random(4, &[1, 3]), b: random(5, &[3, 1]), scale: 1.0 };
    let heads = Heads { query: 1, key_value: 1, dim: 3 };
    let results = [
        linear(&x, &w),
        lora_linear(&x, &w, &lora),
        rms_norm(&x, &norm, 1e-5),
        attention(&x, &x, &x, heads),
        swiglu(&x, &x),
    ];
    for (index, result) in results.into_iter().enumerate() {
        assert!(!result.unwrap().track_op(), "operation {index}");
    }
}
