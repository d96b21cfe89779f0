//! From a recipe to a verdict on networks that are not the Llama the other tests are about.

use std::path::Path;

use ftk_bases::BaseModel;
use serde_json::{Value, json};

use crate::run::{fixture, ftk, models, stderr, succeed};

/// The small fixtures, at least one of each family.
fn tiny() -> impl Iterator<Item = String> {
    models().into_iter().filter(|model| model.starts_with("tiny-"))
}

/// A copy of a fixture's base with a tokenizer: word `wN` is id N.
fn base(folder: &Path, model: &str) {
    std::fs::create_dir_all(folder).unwrap();
    for name in ["config.json", "generation_config.json", "model.safetensors"] {
        std::fs::copy(fixture(model).join("base").join(name), folder.join(name)).unwrap();
    }
    let words: serde_json::Map<String, Value> = (0..128).map(|id| (format!("w{id}"), json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w1"},
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

fn train(folder: &Path, recipe: &str) -> String {
    let path = folder.join("recipe.toml");
    std::fs::write(&path, recipe).unwrap();
    let output = ftk(&["train", "--recipe"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    stderr(&output)
}

#[test]
fn what_is_trained_is_proved_for_every_kind_of_network() {
    for model in tiny() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        base(&at("base"), &model);
        let row = json!({"prompt_ids": [7, 9, 20], "chosen_ids": [30, 41, 52], "rejected_ids": [11, 12]});
        std::fs::write(at("rows.jsonl"), row.to_string()).unwrap();
        train(
            folder.path(),
            "task = \"dpo\"\n[base]\nmodel = \"base\"\n[data]\ntrain = \"rows.jsonl\"\n[lora]\nrank = 2\n\
             [optim]\nlr = 0.02\n[run]\nout = \"run\"\nsteps = 3\n",
        );
        let on = |verb: &str| {
            let mut command = ftk(&[verb, "--quiet", "--base"]);
            command.arg(at("base"));
            command
        };
        let adapted = |verb: &str| {
            let mut command = on(verb);
            command.arg("--adapter").arg(at("run"));
            command
        };
        let digest = succeed(adapted("commit").arg("--out").arg(at("commitment")));
        let prompt = "w7 w9 w20 w33";
        let mut prove = adapted("prove");
        prove.arg("--commitment").arg(at("commitment")).args([
            "--prompt",
            prompt,
            "--max-tokens",
            "5",
            "--open",
            "--disclose",
        ]);
        let answer = succeed(prove.arg("--out").arg(at("bundle")));
        let generated = succeed(adapted("generate").args(["--prompt", prompt, "--max-tokens", "5"]));
        assert_eq!(answer.trim(), generated.trim(), "{model}");
        let mut verify = on("verify");
        verify.arg(at("bundle")).args(["--expect-adapter", digest.trim(), "--expect-input", prompt]);
        assert!(succeed(&mut verify).starts_with("valid\n"), "{model}");

        // One bias or norm of another base, whose digest the statement does not name.
        let file = at("base").join("model.safetensors");
        let mut bytes = std::fs::read(&file).unwrap();
        let last = bytes.len() - 2;
        bytes[last] ^= 0x40;
        std::fs::write(&file, bytes).unwrap();
        let output = verify.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{model}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with("invalid: base"), "{model}: {said}");
    }
}

#[test]
fn a_base_of_every_kind_is_trained_in_full_and_read_back() {
    for model in tiny() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        base(&at("base"), &model);
        // Longer than any has rows or a window for.
        let ids: Vec<u32> = (0..150).map(|i| 3 + i * 7 % 120).collect();
        std::fs::write(at("rows.jsonl"), json!({ "input_ids": ids }).to_string()).unwrap();
        let said = train(
            folder.path(),
            "task = \"sft\"\n[base]\nmodel = \"base\"\ntrain = true\n[data]\ntrain = \"rows.jsonl\"\n\
             [optim]\nlr = 0.001\n[run]\nout = \"run\"\nsteps = 2\n",
        );
        let most = match model.as_str() {
            "tiny-gpt2" => Some(128),
            "tiny-gemma3" | "tiny-phi3" => Some(64),
            _ => None,
        };
        assert_eq!(BaseModel::open(&at("base")).unwrap().network().most_positions(), most, "{model}");
        match most {
            Some(most) => assert!(said.contains(&format!("rows cut to {most} tokens: 1")), "{model}: {said}"),
            None => assert!(!said.contains("rows cut to"), "{model}: {said}"),
        }
        let logits = |base: &Path| {
            let out = at("logits.safetensors");
            let mut command = ftk(&["logits", "--quiet", "--base"]);
            command.arg(base).arg("--ids").arg(fixture(&model).join("logits.safetensors")).arg("--out").arg(&out);
            succeed(&mut command);
            std::fs::read(out).unwrap()
        };
        let (before, after) = (logits(&at("base")), logits(&at("run/base")));
        assert_eq!(before.len(), after.len(), "{model}");
        assert_ne!(before, after, "{model}: nothing was trained");
        // A transposed matrix would be another network, far from where training began.
        let floats = |bytes: &[u8]| -> Vec<f32> {
            bytes[bytes.len() - 4 * 2 * 24 * 128..].as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
        };
        let differences = floats(&before).into_iter().zip(floats(&after)).map(|(a, b)| (a - b).abs());
        let largest = differences.fold(0.0, f32::max);
        assert!(largest < 1.0, "{model}: {largest}");
    }
}
