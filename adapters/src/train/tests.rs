//! Every hand-written backward pass against finite differences, and against the same by candle's operations, which
//! compute on devices that the kernels know nothing of.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use ftk_kernels::float::attention::AttentionSpan;
use ftk_networks::ops::graph::{Features, Propagation, Sparse, symmetric_coefficient};
use ftk_networks::ops::{Bias, Heads, Llama3Scaling, Nodes, Ops, Rope, TableShape, Tokens};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::host::portable;
use super::rotary::TokenPlaces;
use super::{Learns, LoraTensors, Train};
use crate::Error;
use crate::lora::{Adapter, Factors};
use crate::weights::Weights;

/// What an operation is told of its widths, which tensors know by themselves.
const WIDTH: usize = 0;
const TABLE: TableShape = TableShape { rows: WIDTH, features: WIDTH, scale: 1.0 };

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

pub(super) fn random(seed: u64, shape: &[usize]) -> Tensor {
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

/// Whether two tensors are equal up to rounding.
pub(super) fn close(ours: &Tensor, theirs: &Tensor) {
    assert_eq!(ours.dims(), theirs.dims());
    let (ours, theirs) = (numbers(ours), numbers(theirs));
    let largest = theirs.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!((ours - theirs).abs() < 2e-6 * largest.max(1.0), "{ours} is not {theirs}");
    }
}

/// An operation's operands by name: inputs, weights (`w.weight`), factors (`w.lora_A`).
type Operands = BTreeMap<&'static str, Tensor>;

/// An operation on an interpretation that has these operands.
type Operation<'a> = &'a dyn Fn(&mut Train<'_>, &Operands) -> Result<Tensor, Error>;

/// Factor of the adapter's product.
const SCALE: f32 = 1.5;

/// The result of an operation, and with `learns` the gradients of a weighting of it, by name.
fn run(operands: &Operands, learns: Option<Learns>, f: Operation<'_>) -> (Tensor, BTreeMap<String, Tensor>) {
    let weights: Weights = operands.iter().map(|(&name, value)| (name.to_owned(), value.clone())).collect();
    let adapter = operands.get("w.lora_A").map(|a| {
        let ((rank, d_in), b) = (a.dims2().unwrap(), &operands["w.lora_B"]);
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1().unwrap();
        let factors = Factors { rank, d_in, d_out: b.dim(0).unwrap(), a: flat(a), b: flat(b), scale: SCALE };
        LoraTensors::frozen(&Adapter { sites: [("w".to_owned(), factors)].into() }, &Device::Cpu).unwrap()
    });
    let mut pass = match learns {
        Some(learns) => Train::recording(&weights, adapter.as_ref(), learns),
        None => Train::new(&weights, adapter.as_ref()),
    };
    let inputs: Vec<&&str> = operands.keys().filter(|name| !name.contains('.')).collect();
    inputs.iter().for_each(|&&name| pass.watch(&operands[name]));
    let result = f(&mut pass, operands).unwrap();
    if learns.is_none() {
        return (result, BTreeMap::new());
    }
    let mut gradients = pass.backward(&result, random(7, result.dims())).unwrap();
    let watched: Vec<_> =
        inputs.iter().map(|&&name| (name.to_owned(), gradients.take(&operands[name]).unwrap())).collect();
    (result, watched.into_iter().chain(gradients.into_trained()).collect())
}

/// Checks the gradient of a random weighting of `f`'s result with respect to every operand that
/// must have one; the others must have none.
fn agrees(operands: &[(&'static str, Tensor)], learns: Learns, f: Operation<'_>) {
    let trained = operands.iter().map(|(name, _)| *name).filter(|name| match learns {
        Learns::Adapter => name.contains("lora"),
        Learns::Base => name.contains(".weight") || name.contains(".bias"),
    });
    agrees_with(operands, learns, &trained.collect::<Vec<_>>(), f);
}

/// [`agrees`] where the names of what is trained are given.
fn agrees_with(operands: &[(&'static str, Tensor)], learns: Learns, trained: &[&str], f: Operation<'_>) {
    let operands: Operands = operands.iter().cloned().collect();
    let (result, gradients) = run(&operands, Some(learns), f);
    let trained = |name: &str| trained.contains(&name);
    let expected: Vec<&str> = operands.keys().copied().filter(|name| !name.contains('.') || trained(name)).collect();
    assert_eq!(gradients.keys().collect::<Vec<_>>(), expected);
    // What candle's operations give in the place of the kernels, as on a device.
    let (portable_result, portable_gradients) = portable::run(|| run(&operands, Some(learns), f));
    close(&portable_result, &result);
    gradients.iter().for_each(|(name, gradient)| close(&portable_gradients[name], gradient));
    let weighting = numbers(&random(7, result.dims()));
    for (name, gradient) in gradients {
        let operand = &operands[name.as_str()];
        assert_eq!(gradient.dims(), operand.dims());
        let (gradient, base) = (numbers(&gradient), numbers(operand));
        let length = dot(&gradient, &gradient).sqrt();
        assert!(length > 0.05, "{name} has hardly any gradient: {length}");
        for direction in directions(&gradient) {
            let at = |step: f64| {
                let moved: Vec<f64> = base.iter().zip(&direction).map(|(x, d)| x + step * d).collect();
                let mut operands = operands.clone();
                *operands.get_mut(name.as_str()).unwrap() = tensor(&moved, operand.dims());
                dot(&numbers(&run(&operands, None, f).0), &weighting)
            };
            let near = (at(STEP) - at(-STEP)) * 8.0;
            let far = at(2.0 * STEP) - at(-2.0 * STEP);
            let (difference, ours) = ((near - far) / (12.0 * STEP), dot(&gradient, &direction));
            let error = (difference - ours).abs() / length;
            assert!(error < TOLERANCE, "{name}: {ours} against {difference}, {error:e} of {length}");
        }
    }
}

/// Two sequences of tokens, to give a pass its positions: `lengths` tokens of a one-row table.
fn positions(pass: &mut Train<'_>, lengths: &[usize]) -> Result<(), Error> {
    pass.embed("table", TABLE, &Tokens::sequences(lengths.iter().map(|&length| vec![0; length]))).map(drop)
}

fn table() -> (&'static str, Tensor) {
    ("table.weight", random(9, &[1, 1]))
}

#[test]
fn what_devices_compute_is_what_the_tests_compare_with() {
    let x = random(1, &[2, 2]);
    assert!(portable::run(|| super::host::read([&x], |_| Ok(())).unwrap()).is_none());
    assert!(super::host::read([&x], |_| Ok(())).unwrap().is_some());
}

#[test]
fn a_linear_layer_passes_its_gradient_to_input_and_weight() {
    let operands = [("x", random(1, &[6, 5])), ("w.weight", random(2, &[4, 5]))];
    for learns in [Learns::Adapter, Learns::Base] {
        agrees(&operands, learns, &|pass, x| pass.linear("w", WIDTH, Bias::Absent, &x["x"]));
    }
}

#[test]
fn an_adapted_linear_layer_passes_its_gradient_to_input_and_factors() {
    let operands = [
        ("x", random(1, &[6, 5])),
        ("w.lora_A", random(2, &[2, 5])),
        ("w.lora_B", random(3, &[4, 2])),
        ("w.weight", random(4, &[4, 5])),
    ];
    agrees(&operands, Learns::Adapter, &|pass, x| pass.linear("w", WIDTH, Bias::Absent, &x["x"]));
}

#[test]
fn a_norm_passes_its_gradient_to_input_and_weight() {
    let operands = [("x", random(1, &[6, 7])), ("w.weight", random(2, &[7]))];
    for learns in [Learns::Adapter, Learns::Base] {
        // An eps large enough to be seen in the gradient.
        agrees(&operands, learns, &|pass, x| pass.rms_norm("w", &x["x"], 0.1));
    }
}

#[test]
fn a_bias_passes_its_gradient_through_and_takes_its_own() {
    let operands = [("x", random(1, &[6, 5])), ("w.bias", random(3, &[4])), ("w.weight", random(2, &[4, 5]))];
    for learns in [Learns::Adapter, Learns::Base] {
        agrees(&operands, learns, &|pass, x| pass.linear("w", WIDTH, Bias::Present, &x["x"]));
    }
}

#[test]
fn a_missing_bias_is_an_error() {
    let weights: Weights = [("w.weight".to_owned(), random(1, &[2, 3]))].into_iter().collect();
    let error = Train::new(&weights, None).linear("w", WIDTH, Bias::Present, &random(2, &[4, 3])).unwrap_err();
    assert_eq!(error.to_string(), "no such weight: w.bias");
}

#[test]
fn a_layer_norm_passes_its_gradient_to_input_weight_and_bias() {
    let operands = [("x", random(1, &[6, 7])), ("w.bias", random(3, &[7])), ("w.weight", random(2, &[7]))];
    for learns in [Learns::Adapter, Learns::Base] {
        agrees(&operands, learns, &|pass, x| pass.layer_norm("w", &x["x"], 0.1));
    }
}

#[test]
fn norms_of_heads_pass_their_gradient_to_input_and_weight() {
    let rope = Rope { dim: 4, theta: 100.0, scaling: None };
    for learns in [Learns::Adapter, Learns::Base] {
        let operands = [("x", random(1, &[5, 12])), ("w.weight", random(2, &[4]))];
        agrees(&operands, learns, &|pass, x| {
            pass.spans = vec![AttentionSpan { rows: 0..5, own: 0..5, before: 0..0 }];
            pass.places = Some(TokenPlaces::new(vec![0, 1, 2, 3, 4], &Device::Cpu).unwrap());
            pass.norm_rope("w", &x["x"], 0.1, &rope)
        });
    }
}

#[test]
fn learned_positions_pass_their_gradient_to_the_rows_they_took() {
    let operands = [("table.weight", random(1, &[5, 3])), ("w.weight", random(2, &[3, 3]))];
    agrees(&operands, Learns::Base, &|pass, _| {
        let x = pass.embed("table", TABLE, &Tokens::sequences([vec![4, 1, 0], vec![4]]))?;
        pass.add_positions("w", WIDTH, &x)
    });
    let operands: Operands = operands.into();
    let weights: Weights = operands.iter().map(|(&name, value)| (name.to_owned(), value.clone())).collect();
    let mut pass = Train::new(&weights, None);
    let x = pass.embed("table", TABLE, &Tokens::sequences([vec![1], vec![1; 4]])).unwrap();
    let error = pass.add_positions("w", WIDTH, &x).unwrap_err();
    assert_eq!(error.to_string(), "the 3 positions of w are not enough for: 4");
}

#[test]
fn a_part_of_the_features_passes_its_gradient_to_that_part() {
    agrees(&[("x", random(1, &[4, 6]))], Learns::Adapter, &|pass, x| {
        let (first, last) = (pass.part(&x["x"], 0..2)?, pass.part(&x["x"], 4..6)?);
        pass.swiglu(&first, &last)
    });
}

#[test]
fn gelu_passes_its_gradient_on() {
    let x = (random(1, &[6, 4]) * 3.0).unwrap();
    agrees(&[("x", x)], Learns::Adapter, &|pass, x| pass.gelu(&x["x"]));
}

#[test]
fn the_gate_of_gelu_passes_its_gradient_to_both_sides() {
    let gate = (random(1, &[6, 4]) * 3.0).unwrap();
    agrees(&[("gate", gate), ("up", random(2, &[6, 4]))], Learns::Adapter, &|pass, x| pass.geglu(&x["gate"], &x["up"]));
}

#[test]
fn a_rotation_alone_passes_its_gradient_at_every_position() {
    let rope = Rope { dim: 6, theta: 100.0, scaling: None };
    agrees(&[("x", random(1, &[9, 12])), table()], Learns::Adapter, &|pass, x| {
        positions(pass, &[6, 3])?;
        pass.rope(&x["x"], &rope)
    });
}

#[test]
fn a_scaled_embedding_passes_its_gradient_to_the_rows_it_took() {
    let scaled = TableShape { scale: 5.5, ..TABLE };
    agrees(&[("table.weight", random(1, &[5, 3]))], Learns::Base, &|pass, _| {
        pass.embed("table", scaled, &Tokens::sequences([vec![4, 1], vec![4]]))
    });
}

#[test]
fn a_window_is_refused_only_where_it_would_show() {
    let heads = Heads { query: 1, key_value: 1, dim: 2 };
    let attend = |window| {
        let x = random(1, &[5, 2]);
        let weights: Weights = [table()].map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        let mut pass = Train::new(&weights, None);
        positions(&mut pass, &[2, 3]).unwrap();
        let value = pass.attention("a", &x, &x, &x, heads, window).map_err(|error| error.to_string())?;
        Ok::<_, String>(value.to_vec2::<f32>().unwrap())
    };
    assert_eq!(attend(Some(3)), attend(None));
    let message = "attention at a sees a window of 2 positions, which are not enough for: 3";
    assert_eq!(attend(Some(2)), Err(message.to_owned()));
}

#[test]
fn a_rotation_passes_its_gradient_at_every_position() {
    let scaling = Llama3Scaling { factor: 4.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 16 };
    for scaling in [None, Some(scaling)] {
        let rope = Rope { dim: 6, theta: 100.0, scaling };
        let operands = [("x", random(1, &[9, 5])), ("w.weight", random(2, &[12, 5])), table()];
        agrees(&operands, Learns::Adapter, &|pass, x| {
            positions(pass, &[6, 3])?;
            pass.linear_rope("w", WIDTH, Bias::Absent, &x["x"], &rope)
        });
    }
}

#[test]
fn attention_with_grouped_heads_passes_its_gradient_to_queries_keys_and_values() {
    for heads in [Heads { query: 4, key_value: 2, dim: 3 }, Heads { query: 3, key_value: 3, dim: 2 }] {
        let (queries, keys) = (heads.query * heads.dim, heads.key_value * heads.dim);
        let operands =
            [("q", random(1, &[7, queries])), ("k", random(2, &[7, keys])), ("v", random(3, &[7, keys])), table()];
        agrees(&operands, Learns::Adapter, &|pass, x| {
            positions(pass, &[5, 2])?;
            pass.attention("a", &x["q"], &x["k"], &x["v"], heads, None)
        });
    }
}

#[test]
fn a_row_sees_neither_what_follows_it_nor_another_sequence() {
    let heads = Heads { query: 2, key_value: 1, dim: 3 };
    let attend = |changed: usize| {
        let k = random(2, &[4, 3]).to_vec2::<f32>().unwrap().into_iter().enumerate();
        let k: Vec<f32> =
            k.flat_map(|(i, row)| row.into_iter().map(move |x| x + f32::from(u8::from(i == changed)))).collect();
        let operands = [("q", random(1, &[4, 6])), ("k", Tensor::from_vec(k, (4, 3), &Device::Cpu).unwrap()), table()];
        let attend = |pass: &mut Train<'_>, x: &Operands| {
            positions(pass, &[3, 1])?;
            pass.attention("a", &x["q"], &x["k"], &x["k"], heads, None)
        };
        run(&operands.into(), None, &attend).0.to_vec2::<f32>().unwrap()
    };
    let plain = attend(9);
    for (changed, sees) in [(0, &[0usize, 1, 2][..]), (1, &[1, 2]), (2, &[2]), (3, &[3])] {
        let differs: Vec<usize> = (0..4).filter(|&row| attend(changed)[row] != plain[row]).collect();
        assert_eq!(differs, sees);
    }
}

#[test]
fn the_gate_of_the_mlp_passes_its_gradient_to_both_sides() {
    let gate = (random(1, &[6, 4]) * 3.0).unwrap();
    agrees(&[("gate", gate), ("up", random(2, &[6, 4]))], Learns::Adapter, &|pass, x| {
        pass.swiglu(&x["gate"], &x["up"])
    });
}

#[test]
fn a_sum_and_a_choice_of_rows_pass_their_gradient_on() {
    let operands = [("x", random(1, &[4, 3])), ("y", random(2, &[4, 3]))];
    agrees(&operands, Learns::Adapter, &|pass, x| {
        let sum = pass.add(&x["x"], &x["y"])?;
        let twice = pass.add(&sum, &x["x"])?;
        pass.select(&twice, &[3, 0, 3])
    });
}

#[test]
fn an_embedding_passes_its_gradient_to_the_rows_it_took() {
    agrees(&[("table.weight", random(1, &[5, 3]))], Learns::Base, &|pass, _| {
        pass.embed("table", TABLE, &Tokens::sequences([vec![4, 1], vec![4]]))
    });
}

#[test]
fn log_probabilities_pass_their_gradient_to_input_and_head() {
    let operands = [("x", random(1, &[4, 5])), ("w.weight", (random(2, &[6, 5]) * 2.0).unwrap())];
    for learns in [Learns::Adapter, Learns::Base] {
        agrees(&operands, learns, &|pass, x| {
            pass.score(vec![4, 0, 2, 2], None);
            pass.head("w", "w", WIDTH, &x["x"])
        });
    }
}

#[test]
fn the_gradient_of_a_head_adds_up_parts_of_so_many_logits_as_the_arithmetic_says() {
    const VOCAB: usize = 1 << 20;
    let (x, slopes) = (random(1, &[20, 3]), random(3, &[20]));
    let weights: Weights = [("w.weight".to_owned(), random(2, &[VOCAB, 3]))].into_iter().collect();
    let gradient = |first: usize, count: usize| {
        let rows = |of: &Tensor| of.narrow(0, first, count).unwrap();
        let mut pass = Train::recording(&weights, None, Learns::Base);
        pass.score(vec![7; count], None);
        let scored = pass.head("w", "w", WIDTH, &rows(&x)).unwrap();
        pass.backward(&scored, rows(&slopes)).unwrap().into_trained().remove("w.weight").unwrap()
    };
    let parts = (gradient(0, 16) + gradient(16, 4)).unwrap();
    assert!(numbers(&gradient(0, 20)) == numbers(&parts), "2^24 logits are 16 rows");
}

#[test]
fn log_probabilities_of_huge_logits_stay_finite() {
    let operands = [("x", tensor(&[1.0, 1.0], &[2, 1])), ("w.weight", tensor(&[3e4, 3e4, 1e4, -1e4], &[4, 1]))];
    let scored = |pass: &mut Train<'_>, x: &Operands| {
        pass.score(vec![1, 0], None);
        pass.head("w", "w", WIDTH, &x["x"])
    };
    for found in numbers(&run(&operands.into(), None, &scored).0) {
        assert!((found + 2.0f64.ln()).abs() < 1e-3, "{found}");
    }
}

/// Messages between five nodes, one of which hears itself alone.
fn messages() -> Arc<Propagation> {
    let incoming: [&[u32]; 5] = [&[0, 1, 3], &[0, 1], &[2], &[0, 3, 4], &[3, 4]];
    let degree = |node: u32| incoming[node as usize].len();
    let row = |node: usize| {
        incoming[node].iter().map(move |&sender| (sender, symmetric_coefficient(degree(sender), incoming[node].len())))
    };
    Arc::new(Propagation::new(Sparse::from_rows(5, (0..5).map(|node| row(node).collect::<Vec<_>>()))))
}

/// Features of five nodes, two entries in a row of eight.
fn sparse_features() -> Arc<Features> {
    let rows = (0..5u32).map(|node| [(node % 4, 0.5 + node as f32 / 8.0), (4 + node % 3, -0.75)]);
    Arc::new(Features::sparse(Sparse::from_rows(8, rows)))
}

#[test]
fn a_convolution_passes_its_gradient_to_nodes_weight_and_bias_in_either_order() {
    for (d_in, d_out) in [(3, 7), (7, 3)] {
        let operands =
            [("x", random(1, &[5, d_in])), ("w.bias", random(3, &[d_out])), ("w.weight", random(2, &[d_out, d_in]))];
        for learns in [Learns::Adapter, Learns::Base] {
            agrees(&operands, learns, &|pass, x| {
                pass.convolve("w", WIDTH, Bias::Present, Nodes::Value(&x["x"]), &messages())
            });
        }
    }
}

#[test]
fn a_convolution_of_features_passes_its_gradient_to_weight_and_factors() {
    let weight = ("w.weight", random(2, &[6, 8]));
    let dense = Arc::new(Features::new(8, (0..40).map(|i| (i * 7 % 13) as f32 / 8.0 - 0.7).collect()));
    for features in [sparse_features(), dense] {
        let convolve = |pass: &mut Train<'_>, _: &Operands| {
            pass.drop_values(0.3, 0.0, 5);
            pass.convolve("w", WIDTH, Bias::Absent, Nodes::Features(&features), &messages())
        };
        agrees(std::slice::from_ref(&weight), Learns::Base, &convolve);
        let adapted = [("w.lora_A", random(3, &[2, 8])), ("w.lora_B", random(4, &[6, 2])), weight.clone()];
        agrees(&adapted, Learns::Adapter, &convolve);
    }
}

#[test]
fn features_are_the_same_however_they_are_held() {
    let sparse = sparse_features();
    let values: Vec<f32> = (0..5).flat_map(|row| sparse.row(row)).collect();
    let operands: Operands =
        [("w.lora_A", random(3, &[2, 8])), ("w.lora_B", random(4, &[6, 2])), ("w.weight", random(2, &[6, 8]))].into();
    let held =
        run(&operands, None, &|pass, _| pass.convolve("w", WIDTH, Bias::Absent, Nodes::Features(&sparse), &messages()))
            .0;
    let x = Tensor::from_vec(values, (5, 8), &Device::Cpu).unwrap();
    let given =
        run(&operands, None, &|pass, _| pass.convolve("w", WIDTH, Bias::Absent, Nodes::Value(&x), &messages())).0;
    close(&held, &given);
}

#[test]
fn attention_over_neighbours_passes_its_gradient_to_nodes_and_vectors() {
    for (heads, drop) in [(2, 0.0), (3, 0.4)] {
        // The rectifier bends where a score is 0: senders take turns above and below, and none comes near. The vector of
        // receivers, which only the bend lets through, is short.
        let around = |seed: u64, count: usize, centre: &dyn Fn(usize) -> f64| {
            values(seed, count).into_iter().enumerate().map(|(at, x)| centre(at) * (1.0 + 0.3 * x)).collect::<Vec<_>>()
        };
        let turns = |at: usize| if (at / 6).is_multiple_of(2) { 1.0 } else { -1.0 };
        let operands = [
            ("w.att_dst", tensor(&around(2, 6, &|_| 0.2), &[6])),
            ("w.att_src", tensor(&around(3, 6, &|_| 1.0), &[6])),
            ("w.bias", random(4, &[6])),
            ("x", tensor(&around(1, 30, &turns), &[5, 6])),
        ];
        agrees_with(&operands, Learns::Base, &["w.att_dst", "w.att_src", "w.bias"], &|pass, x| {
            pass.drop_values(0.0, drop, 11);
            pass.attend_neighbours("w", &x["x"], heads, &messages())
        });
    }
}

#[test]
fn the_rectifier_and_dropout_pass_on_what_they_let_through() {
    // No entry within reach of the differences' steps from the bend.
    let x = values(1, 24).into_iter().map(|x| x + 0.3 * x.signum()).collect::<Vec<_>>();
    agrees(&[("x", tensor(&x, &[6, 4]))], Learns::Adapter, &|pass, x| {
        pass.drop_values(0.5, 0.0, 3);
        let x = pass.relu(&x["x"])?;
        pass.dropout(&x)
    });
    let x = tensor(&x, &[6, 4]);
    let plain = run(&[("x", x.clone())].into(), None, &|pass, x| pass.dropout(&x["x"])).0;
    close(&plain, &x);
}

#[test]
fn a_weight_named_beside_an_adapter_is_learnt_with_it() {
    let operands: Operands = [
        ("head.bias", random(6, &[2])),
        ("head.weight", random(5, &[2, 4])),
        ("w.lora_A", random(2, &[2, 5])),
        ("w.lora_B", random(3, &[4, 2])),
        ("w.weight", random(4, &[4, 5])),
        ("x", random(1, &[6, 5])),
    ]
    .into();
    let (_, gradients) = run(&operands, Some(Learns::Adapter), &|pass, x| {
        pass.learn_also(["head.weight", "head.bias"].map(str::to_owned).into());
        let x = pass.linear("w", WIDTH, Bias::Absent, &x["x"])?;
        pass.linear("head", WIDTH, Bias::Present, &x)
    });
    let names: Vec<&str> = gradients.keys().map(String::as_str).collect();
    assert_eq!(names, ["head.bias", "head.weight", "w.lora_A", "w.lora_B", "x"]);
}

#[test]
fn messages_from_other_nodes_than_there_are_is_an_error() {
    let weights: Weights = [("w.weight".to_owned(), random(1, &[2, 3]))].into_iter().collect();
    let x = random(2, &[4, 3]);
    let error =
        Train::new(&weights, None).convolve("w", WIDTH, Bias::Absent, Nodes::Value(&x), &messages()).unwrap_err();
    let error = error.to_string();
    assert!(error.starts_with("messages from 5 nodes cannot be taken from 4"), "{error}");
}
