//! Thread counts change no byte.

use std::path::Path;

use crate::run::{ftk, succeed};

/// A base whose matrices are large enough to be split among threads, with random weights.
fn wide_base(folder: &Path) {
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "vocab_size": 1024,
        "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 8,
        "num_key_value_heads": 4, "head_dim": 64, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "tie_word_embeddings": false, "torch_dtype": "float32",
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn one_two_and_four_threads_train_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join("wide")).unwrap();
    wide_base(&folder.join("wide"));
    let ids = |row: usize, length: usize| (0..length).map(|i| (i * 37 + row * 101 + i * i) % 1024).collect::<Vec<_>>();
    let rows: Vec<String> =
        (0..8).map(|row| serde_json::json!({ "input_ids": ids(row, 96 + row) }).to_string()).collect();
    std::fs::write(folder.join("rows.jsonl"), rows.join("\n")).unwrap();
    let pairs: Vec<String> = (0..6)
        .map(|row| {
            serde_json::json!({
                "prompt_ids": ids(row, 40), "chosen_ids": ids(row + 50, 30), "rejected_ids": ids(row + 70, 44)
            })
            .to_string()
        })
        .collect();
    std::fs::write(folder.join("pairs.jsonl"), pairs.join("\n")).unwrap();

    let run = |threads: usize| {
        let out = folder.join(format!("run{threads}"));
        // First a base from random weights, in full; then an adapter on it, by DPO.
        let base = format!(
            "task = \"sft\"\n[base]\nmodel = \"wide\"\ntrain = true\ninit_std = 0.02\n[data]\ntrain = \"rows.jsonl\"\n\
             [run]\nout = {:?}\nbatch = 4\nsteps = 2\n",
            out.join("full")
        );
        let adapter = |precision: &str| {
            format!(
                "task = \"dpo\"\n[base]\nmodel = {:?}\n[data]\ntrain = \"pairs.jsonl\"\n[lora]\n[optim]\nlr = 1e-3\n\
                 [run]\nout = {:?}\nbatch = 3\nsteps = 3\nprecision = \"{precision}\"\n",
                out.join("full/base"),
                out.join(precision)
            )
        };
        for (name, recipe) in [("base.toml", base), ("f32.toml", adapter("f32")), ("bf16.toml", adapter("bf16"))] {
            let path = folder.join(format!("{threads}-{name}"));
            std::fs::write(&path, recipe).unwrap();
            succeed(ftk(&["train", "--recipe"]).arg(&path).env("RAYON_NUM_THREADS", threads.to_string()));
        }
        let read = |name: &str| std::fs::read(out.join(name)).unwrap();
        [
            read("full/base/model.safetensors"),
            read("full/metrics.jsonl"),
            read("f32/adapter_model.safetensors"),
            read("f32/metrics.jsonl"),
            read("f32/checkpoint.safetensors"),
            read("bf16/adapter_model.safetensors"),
            read("bf16/metrics.jsonl"),
            read("bf16/checkpoint.safetensors"),
        ]
    };
    let one = run(1);
    for threads in [2, 4] {
        let many = run(threads);
        for (index, (a, b)) in one.iter().zip(&many).enumerate() {
            assert!(a == b, "file {index} differs between 1 and {threads} threads");
        }
    }
}
