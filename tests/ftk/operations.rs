//! Operations as data against operations as they are trained: each recorded one is computed again from its inputs alone.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use candle_core::{DType, Device, Tensor};
use ftk_adapters::lora::Adapter;
use ftk_adapters::train::operation::{self, Operation};
use ftk_adapters::train::trace::{self, TracedOperation};
use ftk_adapters::train::{Dropout, Learns, LoraTensors, Train, initial_factors, normal_values};
use ftk_adapters::weights::Weights;
use ftk_bases::BaseModel;
use ftk_networks::Network;
use ftk_networks::ops::Tokens;
use ftk_networks::sites::Role;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::run::{fixture, models};

/// An adapter on every linear site, as after some training.
fn adapter(network: &Network, weights: &Weights) -> LoraTensors {
    let mut adapter = Adapter::default();
    for site in network.sites().iter().filter(|site| site.role == Role::Linear) {
        let (d_out, d_in) = weights.get(&format!("{}.weight", site.weight)).unwrap().dims2().unwrap();
        let mut factors = initial_factors(&site.name, 3, (d_out, d_in), 1.5, 5);
        factors.b = normal_values(&site.name, d_out * 3, 0.1, 5);
        adapter.sites.insert(site.name.clone(), factors);
    }
    LoraTensors::frozen(&adapter, &Device::Cpu).unwrap()
}

/// Everything that a pass and its way back compute, with rows of a longer text left out and sequences that share their
/// beginning.
fn seen(
    network: &Network,
    weights: &Weights,
    learns: Learns,
    [known, dropout, half]: [bool; 3],
) -> Vec<TracedOperation> {
    let all: Rc<RefCell<Vec<TracedOperation>>> = Rc::default();
    let into = Rc::clone(&all);
    let keep = move |seen: &mut TracedOperation| {
        let TracedOperation { operation, inputs, outputs } = seen;
        // Copies: nothing may change what was seen.
        let copies = |tensors: &[Tensor]| tensors.iter().map(|tensor| tensor.copy().unwrap()).collect();
        let (inputs, outputs) = (copies(inputs), copies(outputs));
        into.borrow_mut().push(TracedOperation { operation: operation.clone(), inputs, outputs });
        Ok(())
    };
    let adapter = (learns == Learns::Adapter).then(|| adapter(network, weights));
    let (rows, labels) = ([0, 2, 3, 5, 7, 8], vec![5u32, 9, 5, 1, 3, 8]);
    let slopes = vec![1.0f32, -0.5, 0.8, 1.2, -1.0, 0.6];
    trace::during(keep, || {
        let mut tokens = Tokens::default();
        tokens.push_alike(&[&[1, 5, 2, 9, 5, 0, 10], &[1, 5, 2, 8, 7]]);
        let mut pass = Train::recording(weights, adapter.as_ref(), learns);
        if half {
            pass.multiply_in(DType::BF16);
        }
        if dropout {
            pass.drop_out(Dropout { rate: 0.3, keys: (0..tokens.ids().len() as u64).collect() });
        }
        pass.score(labels, known.then(|| slopes.clone()));
        let log_probs = network.forward(&mut pass, &tokens, &rows).unwrap();
        let gradient = Tensor::new(slopes, &Device::Cpu).unwrap();
        pass.backward(&log_probs, gradient).unwrap();
    });
    Rc::try_unwrap(all).unwrap().into_inner()
}

#[test]
fn every_operation_of_every_family_is_computed_again_from_its_inputs_alone() {
    let mut names = BTreeSet::new();
    for model in models() {
        let source = BaseModel::open(&fixture(&model).join("base")).unwrap();
        let weights = source.weights(&Device::Cpu).unwrap();
        let narrowed = weights.clone().narrowed().unwrap();
        let (adapter, base) = (Learns::Adapter, Learns::Base);
        for (weights, learns, how) in [
            (&weights, adapter, [false; 3]),
            (&weights, adapter, [true, true, false]),
            (&narrowed, adapter, [false, true, true]),
            (&weights, base, [false; 3]),
        ] {
            for (at, TracedOperation { operation, inputs, outputs }) in
                seen(source.network(), weights, learns, how).iter().enumerate()
            {
                let again = operation.compute(inputs).unwrap_or_else(|error| panic!("{model}: {operation:?}: {error}"));
                let digests = |all: &[Tensor]| all.iter().map(|it| operation::digest(it).unwrap()).collect::<Vec<_>>();
                assert_eq!(digests(&again), digests(outputs), "{model}: operation {at}: {operation:?}");
                // As it stands in a record.
                let text = serde_json::to_string(operation).unwrap();
                assert_eq!(serde_json::from_str::<Operation>(&text).unwrap(), *operation, "{text}");
                // Inputs of other shapes, and fewer of them, are refused.
                assert!(operation.compute(&inputs[1..]).is_err() || matches!(operation, Operation::Join {}), "{text}");
                names.insert(operation.name());
            }
        }
    }
    // Those of the loss and of the optimiser are recorded where a step is.
    let known = [
        "add_row",
        "attention",
        "attention_back",
        "drop",
        "embed",
        "embed_back",
        "geglu",
        "geglu_back",
        "gelu",
        "gelu_back",
        "join",
        "layer_norm",
        "layer_norm_back",
        "layer_norm_weight_back",
        "linear",
        "linear_back",
        "log_prob",
        "log_prob_back",
        "lora_back",
        "lora_linear",
        "part",
        "part_back",
        "rms_norm",
        "rms_norm_back",
        "rms_norm_weight_back",
        "rotate",
        "row_back",
        "rows",
        "select",
        "select_back",
        "sum",
        "swiglu",
        "swiglu_back",
        "weight_back",
    ];
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), known);
}

#[test]
fn inputs_that_do_not_fit_are_refused_and_not_computed() {
    let floats = |shape: &[usize]| Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
    let numbers = |numbers: &[u32]| Tensor::new(numbers, &Device::Cpu).unwrap();
    let messages = |starts: &[i64], columns: &[u32]| {
        let starts = Tensor::new(starts, &Device::Cpu).unwrap();
        vec![floats(&[2, 3]), starts, numbers(columns), floats(&[columns.len()])]
    };
    let neighbours = |starts: &[i64], senders: &[u32]| {
        let edges = [Tensor::new(starts, &Device::Cpu).unwrap(), numbers(senders)];
        let operands = [floats(&[2, 4]), floats(&[4]), floats(&[1, 2, 2])];
        operands.into_iter().chain(edges).collect::<Vec<_>>()
    };
    let attend = r#"{"kind":"attend_neighbours","heads":2,"drop":null}"#;
    assert!(serde_json::from_str::<Operation>(attend).unwrap().compute(&neighbours(&[0, 2, 3], &[0, 1, 1])).is_ok());
    let doubles = |count: usize| Tensor::zeros(count, candle_core::DType::F64, &Device::Cpu).unwrap();
    let parsed = |text: &str| serde_json::from_str::<Operation>(text).unwrap();
    let attention = r#"{"kind":"attention","heads":[2,1,4],"spans":[[[0,3],[0,3],[0,0]]]}"#;
    let back = r#"{"kind":"select_back","of":18446744073709551615}"#;
    let turn = r#"{"kind":"rotate","dim":4,"theta":4666723172467343360,"scaling":null,"back":false}"#;
    for (operation, inputs) in [
        (r#"{"kind":"linear"}"#, vec![floats(&[2, 3]), floats(&[4, 5])]),
        (r#"{"kind":"linear"}"#, vec![floats(&[1 << 20, 1]), floats(&[1 << 20, 1])]),
        (r#"{"kind":"linear"}"#, vec![floats(&[2, 3])]),
        (r#"{"kind":"rms_norm","eps":0}"#, vec![floats(&[2, 3]), floats(&[2])]),
        (r#"{"kind":"rms_norm","eps":0}"#, vec![floats(&[2, 3]), floats(&[0])]),
        (r#"{"kind":"log_prob"}"#, vec![floats(&[2, 3]), numbers(&[0, 3])]),
        (r#"{"kind":"log_prob"}"#, vec![floats(&[2, 3]), numbers(&[0])]),
        (r#"{"kind":"select"}"#, vec![floats(&[2, 3]), numbers(&[2])]),
        (back, vec![floats(&[2, 3]), numbers(&[0, 1])]),
        (turn, vec![floats(&[2, 8]), numbers(&[0, u32::MAX])]),
        (turn, vec![floats(&[2, 6]), numbers(&[0, 1])]),
        (turn, vec![floats(&[2, 0]), numbers(&[0, 1])]),
        (attention, vec![floats(&[2, 8]), floats(&[3, 4]), floats(&[3, 4])]),
        (attention, vec![floats(&[3, 8]), floats(&[2, 4]), floats(&[2, 4])]),
        (attention, vec![floats(&[3, 8]), floats(&[3, 4]), floats(&[3, 5])]),
        (r#"{"kind":"swiglu"}"#, vec![floats(&[2, 3]), floats(&[3, 2])]),
        (r#"{"kind":"part","from":2,"count":9}"#, vec![floats(&[2, 3])]),
        (r#"{"kind":"sum"}"#, vec![floats(&[2, 3]), numbers(&[1])]),
        (r#"{"kind":"join"}"#, vec![]),
        (r#"{"kind":"embed_back","scale":4607182418800017408,"of":2}"#, vec![floats(&[1, 3]), numbers(&[2])]),
        (r#"{"kind":"embed_back","scale":4607182418800017408,"of":2}"#, vec![floats(&[1, 3]), numbers(&[0, 1])]),
        (r#"{"kind":"weight_back"}"#, vec![floats(&[2, 3]), floats(&[3, 3])]),
        (r#"{"kind":"row_back"}"#, vec![floats(&[2, 0])]),
        (r#"{"kind":"rms_norm_weight_back","eps":0,"width":2}"#, vec![floats(&[2, 3]), floats(&[2, 3])]),
        (r#"{"kind":"rms_norm_weight_back","eps":0,"width":0}"#, vec![floats(&[2, 3]), floats(&[2, 3])]),
        (r#"{"kind":"layer_norm_weight_back","eps":0}"#, vec![floats(&[2, 3]), floats(&[3, 2])]),
        (r#"{"kind":"messages"}"#, messages(&[0, 2], &[0, 2])),
        (r#"{"kind":"messages"}"#, messages(&[0, 3], &[0, 1])),
        (r#"{"kind":"messages"}"#, messages(&[2, 0], &[0, 1])),
        (r#"{"kind":"messages"}"#, messages(&[-2, 2], &[0, 1])),
        (attend, neighbours(&[0, 2], &[0, 1])),
        (attend, neighbours(&[0, 2, 3], &[0, 1, 2])),
        (attend, neighbours(&[0, 2, 3], &[1, 0, 1])),
        (attend, neighbours(&[0, 2, 3], &[1, 1, 1])),
        (attend, neighbours(&[0, 2, 4], &[0, 1, 1])),
        (r#"{"kind":"attend_neighbours","heads":3,"drop":null}"#, neighbours(&[0, 2, 3], &[0, 1, 1])),
        (r#"{"kind":"attend_neighbours","heads":0,"drop":null}"#, neighbours(&[0, 2, 3], &[0, 1, 1])),
        (
            r#"{"kind":"attend_neighbours","heads":2,"drop":[4607182418800017408,1]}"#,
            neighbours(&[0, 2, 3], &[0, 1, 1]),
        ),
        (r#"{"kind":"attend_neighbours_back","heads":2,"drop":null}"#, {
            let operands = neighbours(&[0, 2, 3], &[0, 1, 1]);
            let beside = [floats(&[3, 1]), floats(&[2, 4])];
            operands[..3].iter().cloned().chain(beside).chain(operands[3..].iter().cloned()).collect()
        }),
        (r#"{"kind":"product","scale":0,"turned":[true,false]}"#, vec![floats(&[2, 3]), floats(&[3, 2])]),
        (r#"{"kind":"relu_back"}"#, vec![floats(&[2, 3]), floats(&[3, 2])]),
        (r#"{"kind":"thin","share":4607182418800017408,"key":1}"#, vec![floats(&[2, 3])]),
        (r#"{"kind":"pull","weight":0}"#, vec![floats(&[2, 3]), floats(&[3, 2])]),
        (r#"{"kind":"transpose"}"#, vec![floats(&[2])]),
        (r#"{"kind":"fill","value":0,"count":18446744073709551615}"#, vec![]),
        (r#"{"kind":"sums","tokens":[1,2]}"#, vec![floats(&[4])]),
        (r#"{"kind":"sums","tokens":[18446744073709551615,5]}"#, vec![floats(&[4])]),
        (r#"{"kind":"spread","tokens":[1,18446744073709551615]}"#, vec![doubles(2)]),
        (r#"{"kind":"spread","tokens":[1]}"#, vec![doubles(2)]),
        (r#"{"kind":"task","rule":{"task":"gain"}}"#, vec![doubles(2), doubles(2)]),
    ] {
        assert!(parsed(operation).compute(&inputs).is_err(), "{operation}");
    }
    assert!(serde_json::from_str::<Operation>(r#"{"kind":"linear","more":1}"#).is_err());
    assert!(serde_json::from_str::<Operation>(r#"{"kind":"no_such"}"#).is_err());
}

/// Operations with constants that anybody may write, most of them small enough to fit inputs now and then.
fn any_operation(rng: &mut ChaCha8Rng) -> Operation {
    let mut number = |most: u64| match rng.next_u64() % 8 {
        0 => u64::MAX,
        1 => 1 << 40,
        _ => rng.next_u64() % (most + 1),
    };
    let bits = |share: u64| [0.0f64, 0.25, 1.0, f64::NAN, f64::INFINITY, -2.0, 1e-5][share as usize % 7].to_bits();
    let (a, b, c, real, other) = (number(3), number(3), number(4), bits(number(6)), bits(number(6)));
    let spans = [[[0, a], [0, b], [0, 0]], [[a, a.saturating_add(1)], [0, 1], [b, c]]];
    let drop = if a == 0 { serde_json::Value::Null } else { serde_json::json!([real, b]) };
    let constants = [
        serde_json::json!({"kind": "embed", "scale": real}),
        serde_json::json!({"kind": "linear"}),
        serde_json::json!({"kind": "linear_back"}),
        serde_json::json!({"kind": "lora_linear", "scale": real}),
        serde_json::json!({"kind": "lora_back", "scale": real}),
        serde_json::json!({"kind": "drop", "site": "s", "rate": real}),
        serde_json::json!({"kind": "add_row"}),
        serde_json::json!({"kind": "sum"}),
        serde_json::json!({"kind": "rotate", "dim": a, "theta": real, "scaling": [[real, other, real], b], "back": true}),
        serde_json::json!({"kind": "rotate", "dim": 2, "theta": real, "scaling": null, "back": false}),
        serde_json::json!({"kind": "rms_norm", "eps": real}),
        serde_json::json!({"kind": "rms_norm_back", "eps": real}),
        serde_json::json!({"kind": "layer_norm", "eps": real}),
        serde_json::json!({"kind": "layer_norm_back", "eps": real}),
        serde_json::json!({"kind": "part", "from": a, "count": b}),
        serde_json::json!({"kind": "part_back", "from": a, "of": b}),
        serde_json::json!({"kind": "rows", "from": a, "count": b}),
        serde_json::json!({"kind": "join"}),
        serde_json::json!({"kind": "select"}),
        serde_json::json!({"kind": "select_back", "of": a}),
        serde_json::json!({"kind": "gelu"}),
        serde_json::json!({"kind": "gelu_back"}),
        serde_json::json!({"kind": "swiglu"}),
        serde_json::json!({"kind": "swiglu_back"}),
        serde_json::json!({"kind": "geglu"}),
        serde_json::json!({"kind": "geglu_back"}),
        serde_json::json!({"kind": "attention", "heads": [a, b, c], "spans": spans}),
        serde_json::json!({"kind": "attention_back", "heads": [a, b, c], "spans": spans[..1]}),
        serde_json::json!({"kind": "embed_back", "scale": real, "of": a}),
        serde_json::json!({"kind": "weight_back"}),
        serde_json::json!({"kind": "row_back"}),
        serde_json::json!({"kind": "rms_norm_weight_back", "eps": real, "width": a}),
        serde_json::json!({"kind": "layer_norm_weight_back", "eps": real}),
        serde_json::json!({"kind": "messages"}),
        serde_json::json!({"kind": "attend_neighbours", "heads": a, "drop": drop}),
        serde_json::json!({"kind": "attend_neighbours_back", "heads": a, "drop": drop}),
        serde_json::json!({"kind": "transpose"}),
        serde_json::json!({"kind": "product", "scale": real, "turned": [a == 0, b == 0]}),
        serde_json::json!({"kind": "relu"}),
        serde_json::json!({"kind": "relu_back"}),
        serde_json::json!({"kind": "thin", "share": real, "key": a}),
        serde_json::json!({"kind": "pull", "weight": real}),
        serde_json::json!({"kind": "stated"}),
        serde_json::json!({"kind": "fill", "value": real, "count": a}),
        serde_json::json!({"kind": "sums", "tokens": [a, b]}),
        serde_json::json!({"kind": "spread", "tokens": [a, b]}),
        serde_json::json!({"kind": "task", "rule": {"task": "classes"}}),
        serde_json::json!({"kind": "log_prob"}),
        serde_json::json!({"kind": "log_prob_back"}),
        serde_json::json!({"kind": "accumulate"}),
        serde_json::json!({"kind": "mean", "items": a}),
        serde_json::json!({"kind": "norm"}),
        serde_json::json!({
            "kind": "adam_w", "rate": real, "updates": (a as u32), "betas": [real, other], "eps": real,
            "weight_decay": other, "max_norm": real,
        }),
    ];
    let constants = &constants[rng.next_u64() as usize % constants.len()];
    serde_json::from_value(constants.clone()).unwrap_or_else(|error| panic!("{error}: {constants}"))
}

/// A tensor of any type and of a small shape; numbers that may be places in another.
fn any_tensor(rng: &mut ChaCha8Rng) -> Tensor {
    let rank = [0, 1, 1, 2, 2, 2, 2, 3][rng.next_u64() as usize % 8];
    let shape: Vec<usize> = (0..rank).map(|_| [0, 1, 2, 2, 2, 3, 4][rng.next_u64() as usize % 7]).collect();
    let count = shape.iter().product::<usize>();
    let any = |rng: &mut ChaCha8Rng| match rng.next_u64() % 12 {
        0 => i64::from(u32::MAX),
        1 => -1,
        _ => (rng.next_u64() % 4) as i64,
    };
    let mut numbers: Vec<i64> = (0..count).map(|_| any(rng)).collect();
    if rng.next_u64().is_multiple_of(2) {
        numbers.sort_unstable();
    }
    let floats: Vec<f32> = numbers.iter().map(|&it| it as f32 - 0.5).collect();
    let of = |kind: u64| match kind {
        0 => Tensor::from_vec(numbers.clone(), shape.clone(), &Device::Cpu),
        1 => Tensor::from_vec(numbers.iter().map(|&it| it as u32).collect(), shape.clone(), &Device::Cpu),
        2 => Tensor::from_vec(floats.clone(), shape.clone(), &Device::Cpu)?.to_dtype(DType::F64),
        3 => Tensor::from_vec(floats.clone(), shape.clone(), &Device::Cpu)?.to_dtype(DType::BF16),
        _ => Tensor::from_vec(floats.clone(), shape.clone(), &Device::Cpu),
    };
    of(rng.next_u64() % 9).unwrap()
}

/// A tensor as an input of that name may be: two rows of two numbers, two places, a graph of two edges.
fn fitting_tensor(name: &str, nth: usize, rng: &mut ChaCha8Rng) -> Tensor {
    let tensor = match (name, nth) {
        ("ids" | "rows" | "labels" | "positions", _) => Tensor::new(&[0u32, 1], &Device::Cpu),
        ("graph", 1) => Tensor::new(&[1u32, 0], &Device::Cpu),
        ("graph", 0) => Tensor::new(&[0i64, 1, 2], &Device::Cpu),
        ("keys", _) => Tensor::new(&[3i64, 4], &Device::Cpu),
        ("norm", _) => Tensor::new(1.5f64, &Device::Cpu),
        ("graph" | "slopes" | "log_probs", _) => Tensor::new(&[0.5f32, -1.0], &Device::Cpu),
        ("weight", _) if rng.next_u64().is_multiple_of(2) => Tensor::new(&[0.5f32, -1.0], &Device::Cpu),
        _ => Tensor::new(&[[0.5f32, -1.0], [2.0, 0.25]], &Device::Cpu),
    };
    tensor.unwrap()
}

#[test]
fn no_operation_that_anybody_may_write_panics() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut computed = BTreeSet::new();
    for _ in 0..60_000 {
        let operation = any_operation(&mut rng);
        let names = operation.inputs();
        let more = match (names.last(), operation.name().as_str()) {
            (Some(&"graph"), "messages") => 2,
            (Some(&"graph"), _) => 1,
            _ => usize::from(rng.next_u64().is_multiple_of(16)),
        };
        let (count, fits) = (names.len() + more, rng.next_u64().is_multiple_of(2));
        let input = |at: usize| {
            let name = names.get(at).or(names.last()).copied().unwrap_or("x");
            let fits = fits && !rng.next_u64().is_multiple_of(8);
            if fits {
                fitting_tensor(name, (at + 1).saturating_sub(names.len()), &mut rng)
            } else {
                any_tensor(&mut rng)
            }
        };
        let inputs: Vec<Tensor> = (0..count).map(input).collect();
        let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| operation.compute(&inputs).is_ok()));
        if made.unwrap_or_else(|_| panic!("{operation:?} of {inputs:?}")) {
            computed.insert(operation.name());
        }
    }
    // Not all inputs are refused at the door.
    for kind in ["adam_w", "attend_neighbours", "attend_neighbours_back", "drop", "embed", "linear", "log_prob_back"]
        .into_iter()
        .chain(["lora_back", "lora_linear", "messages", "rms_norm_back", "rotate", "select_back", "swiglu_back"])
    {
        assert!(computed.contains(kind), "{kind} is not among {computed:?}");
    }
}
