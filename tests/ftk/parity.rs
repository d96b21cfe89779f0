//! Numbers against PEFT and TRL (`tests/fixtures/README.md`).

use std::path::Path;

use candle_core::Device;
use ftk_adapters::peft;
use ftk_bases::BaseModel;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::run::{fixture, ftk, models, succeed};

fn floats(path: &Path, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::F32);
    tensor.data().as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
}

fn largest_difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn logits_equal_those_of_transformers_and_peft() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("logits.safetensors");
    for model in models() {
        let model = fixture(&model);
        let reference = model.join("logits.safetensors");
        for (adapter, name) in [(None, "base_logits"), (Some("adapter"), "adapted_logits")] {
            let mut command = ftk(&["logits", "--base", model.join("base").to_str().unwrap()]);
            command.arg("--ids").arg(&reference).arg("--out").arg(&out);
            if let Some(adapter) = adapter {
                command.arg("--adapter").arg(model.join(adapter));
            }
            succeed(&mut command);
            let difference = largest_difference(&floats(&out, "logits"), &floats(&reference, name));
            assert!(difference < 1e-4, "{} {name}: {difference}", model.display());
        }
    }
}

/// The reference runs' optimiser: no clipping, constant rate.
const OPTIM: &str = "[optim]\nlr = 1e-3\nweight_decay = 0.01\nmax_grad_norm = 0.0\nschedule = \"constant\"\n";

/// Trains on the rows in their order and gives the figures of each step.
fn train(model: &str, folder: &Path, task: &str, start: &str, extra: &str, rows: &[Value]) -> Vec<Value> {
    let model = fixture(model);
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    std::fs::write(folder.join("rows.jsonl"), lines.join("\n")).unwrap();
    let recipe = format!(
        "task = \"{task}\"\n[base]\nmodel = {:?}\n[data]\ntrain = \"rows.jsonl\"\n[lora]\nstart = {:?}\n{OPTIM}\
         [run]\nout = \"out\"\nbatch = 2\nsteps = 10\nshuffle = false\n{extra}",
        model.join("base"),
        model.join(start),
    );
    std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
    let stdout = succeed(ftk(&["train", "--json", "--recipe"]).arg(folder.join("recipe.toml")));
    // The first line counts the rows, the last one says how the run came back.
    let lines: Vec<Value> = stdout.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    let (end, steps) = lines.split_last().unwrap();
    assert_eq!((&end["ended"], &end["steps"]), (&"done".into(), &steps.len().into()));
    steps.to_vec()
}

fn near(ours: &Value, theirs: &Value, tolerance: f64, what: &str) {
    let (a, b) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
    assert!((a - b).abs() < tolerance, "{what}: {a} against {b}");
}

fn steps(model: &str, file: &str, run: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixture(model).join(file)).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    json["runs"][run]["steps"].as_array().unwrap().clone()
}

/// Ids of a padded row without its padding.
fn unpadded(row: &Value, mask: &Value) -> Vec<Value> {
    let pairs = row.as_array().unwrap().iter().zip(mask.as_array().unwrap());
    pairs.filter(|(_, seen)| seen.as_i64() == Some(1)).map(|(id, _)| id.clone()).collect()
}

#[test]
fn sft_steps_equal_those_of_trl() {
    let runs = models().into_iter().flat_map(|model| ["full", "repeat", "padded"].map(|run| (model.clone(), run)));
    for (model, run) in runs {
        let model = model.as_str();
        let folder = tempfile::tempdir().unwrap();
        let reference = steps(model, "sft.json", run);
        let row = |step: &Value, index: usize| {
            let mask = &step["attention_mask"][index];
            serde_json::json!({
                "input_ids": unpadded(&step["input_ids"][index], mask),
                "labels": unpadded(&step["labels"][index], mask),
            })
        };
        let rows: Vec<Value> = reference.iter().flat_map(|step| [row(step, 0), row(step, 1)]).collect();
        let ours = train(model, folder.path(), "sft", "adapter_init", "", &rows);
        assert_eq!(ours.len(), 10);
        for (index, (ours, theirs)) in ours.iter().zip(&reference).enumerate() {
            near(&ours["loss"], &theirs["loss"], 1e-4, &format!("{model} {run} step {index} loss"));
            near(&ours["grad_norm"], &theirs["grad_norm"], 1e-3, &format!("{model} {run} step {index} grad_norm"));
        }
        if run == "full" {
            near_adapter(&folder.path().join("out"), &fixture(model).join("sft_final"));
        }
    }
}

#[test]
fn dpo_steps_equal_those_of_trl() {
    let runs = [
        ("from_init", "adapter_init", ""),
        ("from_adapter", "adapter", ""),
        ("from_adapter_ref_copy", "adapter", "[dpo]\nreference = \"start\"\n"),
    ];
    for (model, (run, start, extra)) in models().into_iter().flat_map(|model| runs.map(|run| (model.clone(), run))) {
        let model = model.as_str();
        let folder = tempfile::tempdir().unwrap();
        let reference = steps(model, "dpo.json", run);
        let rows: Vec<Value> = reference.iter().flat_map(|step| step["pairs"].as_array().unwrap().clone()).collect();
        let ours = train(model, folder.path(), "dpo", start, extra, &rows);
        assert_eq!(ours.len(), 10);
        for (index, (ours, theirs)) in ours.iter().zip(&reference).enumerate() {
            let what = |key: &str| format!("{model} {run} step {index} {key}");
            for key in ["loss", "rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"] {
                near(&ours[key], &theirs[key], 1e-4, &what(key));
            }
            for key in ["grad_norm", "logps/chosen", "logps/rejected"] {
                near(&ours[key], &theirs[key], 1e-3, &what(key));
            }
        }
        if run == "from_init" {
            near_adapter(&folder.path().join("out"), &fixture(model).join("dpo_final"));
        }
    }
}

#[test]
fn other_preference_losses_equal_those_of_trl() {
    let text = std::fs::read_to_string(fixture("micro-llama/dpo_losses.json")).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    let rows: Vec<Value> = steps("micro-llama", "dpo.json", "from_adapter")
        .iter()
        .flat_map(|step| step["pairs"].as_array().unwrap().clone())
        .collect();
    let runs = [("ipo", "loss = \"ipo\""), ("hinge", "loss = \"hinge\""), ("sigmoid_and_sft", "sft_weight = 0.5")];
    for (run, dpo) in runs {
        let folder = tempfile::tempdir().unwrap();
        let ours = train("micro-llama", folder.path(), "dpo", "adapter", &format!("[dpo]\n{dpo}\n"), &rows);
        let theirs = reference["runs"][run].as_array().unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            for (key, theirs) in theirs.as_object().unwrap() {
                // IPO's figures are the square of a distance that is large in the beginning.
                let tolerance = if ["loss", "grad_norm"].contains(&key.as_str()) { 2e-3 } else { 1e-3 };
                near(&ours[key], theirs, tolerance, &format!("{run} step {index} {key}"));
            }
        }
    }
}

#[test]
fn losses_with_rows_of_their_own_equal_those_of_trl() {
    let text = std::fs::read_to_string(fixture("micro-llama/preferences.json")).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    for (run, dpo) in [
        ("orpo", "beta = 0.3"),
        ("simpo", "beta = 2.0\nlabel_smoothing = 0.1\nsimpo.gamma = 1.0"),
        ("kto", "beta = 0.2\nkto.undesirable_weight = 1.5"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let reference = &reference["runs"][run];
        let rows = reference["rows"].as_array().unwrap();
        let extra = format!("[dpo]\nloss = {run:?}\n{dpo}\n");
        let ours = train("micro-llama", folder.path(), "dpo", "adapter", &extra, rows);
        let theirs = reference["steps"].as_array().unwrap();
        assert_eq!(ours.len(), theirs.len());
        for (index, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
            for (key, theirs) in theirs.as_object().unwrap() {
                near(&ours[key], theirs, 1e-3, &format!("{run} step {index} {key}"));
            }
        }
    }
}

/// The exported adapter computes what the reference's does: its factors lie on the grid, so its
/// products are compared, and may differ by what rounding both factors makes of them.
fn near_adapter(ours: &Path, theirs: &Path) {
    let (ours, theirs) = (peft::load(ours).unwrap(), peft::load(theirs).unwrap());
    assert!(ours.sites.keys().eq(theirs.sites.keys()));
    for (site, theirs) in &theirs.sites {
        let ours = &ours.sites[site];
        assert_eq!(ours.scale, 1.0);
        assert!(largest_difference(&ours.a, &theirs.a) < 1e-4, "{site} A");
        let absorbed: Vec<f32> = theirs.b.iter().map(|b| b * theirs.scale).collect();
        assert!(largest_difference(&ours.b, &absorbed) < 1e-4, "{site} B");
    }
}

#[test]
fn both_dialects_of_the_configuration_are_one_network() {
    for model in models() {
        let folder = tempfile::tempdir().unwrap();
        let base = fixture(&model).join("base");
        std::fs::copy(base.join("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
        std::fs::copy(base.join("config.v4.json"), folder.path().join("config.json")).unwrap();
        let (new, old) = (BaseModel::open(&base).unwrap(), BaseModel::open(folder.path()).unwrap());
        assert_eq!(new.network(), old.network(), "{model}");
        let (a, b) = (new.weights(&Device::Cpu).unwrap(), old.weights(&Device::Cpu).unwrap());
        assert_eq!(new.digest(&a).unwrap(), old.digest(&b).unwrap(), "{model}");
    }
}

/// The format PEFT writes is the format we write: same tensor names, shapes, types and metadata.
#[test]
fn exported_files_have_the_keys_of_peft() {
    for model in models() {
        exported_like_peft(&fixture(&model));
    }
}

fn exported_like_peft(model: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let adapter = peft::load(&model.join("adapter")).unwrap();
    let source = BaseModel::open(&model.join("base")).unwrap();
    let linear: Vec<String> = source.network().sites().into_iter().map(|site| site.name).collect();
    peft::save(folder.path(), &adapter, "../base", &linear, source.network().fan_in_fan_out()).unwrap();

    let (ours, theirs) = (folder.path().join(peft::FACTORS), model.join("adapter").join(peft::FACTORS));
    let (ours, theirs) = (std::fs::read(ours).unwrap(), std::fs::read(theirs).unwrap());
    let list = |bytes: &[u8]| {
        let file = SafeTensors::deserialize(bytes).unwrap();
        let about = |(name, view): (String, TensorView<'_>)| (name, view.shape().to_vec(), view.dtype());
        let mut tensors: Vec<_> = file.tensors().into_iter().map(about).collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
        (tensors, header.metadata().clone())
    };
    assert_eq!(list(&ours), list(&theirs));

    let config = |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let (ours, theirs) = (config(&folder.path().join(peft::CONFIG)), config(&model.join("adapter").join(peft::CONFIG)));
    for (key, value) in ours.as_object().unwrap() {
        match key.as_str() {
            // Absorbed into B.
            "lora_alpha" => assert_eq!(*value, ours["r"]),
            // PEFT's order is that of a set.
            "target_modules" => {
                let mut theirs: Vec<_> = theirs[key].as_array().unwrap().clone();
                theirs.sort_by_key(Value::to_string);
                assert_eq!(*value, Value::from(theirs));
            }
            _ => assert_eq!(*value, theirs[key], "{key}"),
        }
    }
}
