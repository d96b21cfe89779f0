//! Training steps of `ftk train` as a whole command, on random weights of SmolLM2-135M's shape: rank 8 on all linear
//! layers, SFT on 4 x 256 tokens and DPO on 4 pairs of 128 + 128 tokens, in f32 and in bf16.
//!
//! `cargo bench --bench train_step` measures ftk. With `-- --peer PYTHON`, an interpreter that has torch, transformers,
//! peft and trl, `benches/peer.py` trains the same folder on the same rows in the same run: bare PyTorch with PEFT in
//! fp32, in fp32 with products in bf16 (autocast) and all in bf16, and TRL in fp32 and with autocast. Each tool has its
//! turn twice. Words pick tasks and number formats: `-- sft bf16`.
//!
//! `cargo bench --bench train_step -- roofline` says what a step of the SFT spends its time on.
//!
//! Processor time and peak memory are read from `/proc`, so they are known on Linux only.

#[path = "train_step/roofline.rs"]
mod roofline;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use ftk_adapters::train::normal_values;
use ftk_adapters::weights::Weights;
use ftk_bases::{Precision, SpecialTokens, TextFile, save_folder};
use ftk_networks::ops::{Heads, Rope};
use ftk_networks::{Llama, LlamaVariant, Network};
use serde_json::{Value, json};

/// As the command has it: the allocator is part of what is measured.
#[global_allocator]
static ALLOCATOR: ftk_bases::budget::Metered = ftk_bases::budget::Metered;

const VOCAB: usize = 49152;
/// Steps before timing, and timed.
const STEPS: [usize; 2] = [1, 5];
/// Rows or pairs of a step.
const BATCH: usize = 4;
/// Tokens of a sequence; in DPO the first half is the prompt.
const LENGTH: usize = 256;

struct Measured {
    /// Median of all steps, on the clock and of the processor.
    seconds_a_step: [f64; 2],
    peak_mib: Option<f64>,
    startup: f64,
}

/// Who trains, and how: the peer's mode, or ftk's number format.
#[derive(Clone, Copy)]
enum Tool {
    Peer(&'static str),
    Ftk(&'static str),
}

/// The tools, by what they multiply in.
const TOOLS: [(&str, &[Tool]); 2] = [
    ("f32", &[Tool::Peer("bare-fp32"), Tool::Peer("trl-fp32"), Tool::Ftk("f32")]),
    ("bf16", &[Tool::Peer("bare-autocast"), Tool::Peer("bare-bf16"), Tool::Peer("trl-autocast"), Tool::Ftk("bf16")]),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let asked = |word: &str| args.iter().any(|arg| arg == word);
    let peer = args.iter().position(|arg| arg == "--peer").map(|at| args.get(at + 1).expect("--peer needs a path"));
    let tasks: Vec<&str> = ["sft", "dpo"].into_iter().filter(|task| asked(task)).collect();
    let tasks = if tasks.is_empty() { vec!["sft", "dpo"] } else { tasks };
    let formats: Vec<_> = TOOLS.iter().filter(|(format, _)| asked(format)).collect();
    let formats = if formats.is_empty() { TOOLS.iter().collect() } else { formats };

    if asked("roofline") {
        let (network, weights) = (network(), weights(&network()));
        for (format, _) in formats {
            let format = if *format == "bf16" { DType::BF16 } else { DType::F32 };
            roofline::print(&network, weights.clone(), format);
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    make_model(&folder.path().join("model"));
    println!(
        "| task | tool | s a step | processor s a step | tokens/s | pairs/s | peak MiB | start-up to first step, s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for task in tasks {
        make_rows(folder.path(), task);
        for (_, tools) in &formats {
            for _ in 0..if peer.is_some() { 2 } else { 1 } {
                for tool in *tools {
                    match (tool, peer) {
                        (Tool::Peer(mode), Some(python)) => {
                            report(task, mode, &run_peer(python, folder.path(), [task, mode]));
                        }
                        (Tool::Peer(_), None) => {}
                        (Tool::Ftk(format), _) => {
                            report(task, &format!("ftk {format}"), &run_ftk(folder.path(), [task, format]));
                        }
                    }
                }
            }
        }
    }
}

fn report(task: &str, tool: &str, measured: &Measured) {
    let [seconds, of_processor] = measured.seconds_a_step;
    let sequences = if task == "dpo" { 2 * BATCH } else { BATCH };
    let pairs = if task == "dpo" { format!("{:.2}", BATCH as f64 / seconds) } else { "-".to_owned() };
    let peak = measured.peak_mib.map_or("-".to_owned(), |peak| format!("{peak:.0}"));
    let tokens = (sequences * LENGTH) as f64 / seconds;
    let startup = measured.startup;
    println!("| {task} | {tool} | {seconds:.2} | {of_processor:.2} | {tokens:.0} | {pairs} | {peak} | {startup:.1} |");
}

fn network() -> Network {
    Network::from(Llama {
        family: LlamaVariant::Llama,
        vocab: VOCAB,
        hidden: 576,
        intermediate: 1536,
        layers: 30,
        heads: Heads { query: 9, key_value: 3, dim: 64 },
        rope: Rope { dim: 64, theta: 1e5, scaling: None },
        eps: 1e-5,
        tied: true,
        context: 2048,
    })
}

fn weights(network: &Network) -> Weights {
    let weights = network.shapes().into_iter().map(|(name, shape)| {
        let count = shape.iter().product();
        let values = if shape.len() == 1 { vec![1.0; count] } else { normal_values(&name, count, 0.02, 0) };
        (name, Tensor::from_vec(values, shape, &Device::Cpu).expect("a host tensor"))
    });
    weights.collect()
}

fn make_model(path: &Path) {
    // A token a word, so that lengths are known.
    let vocab: serde_json::Map<String, Value> = (0..VOCAB).map(|id| (word(id), json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null, "decoder": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": word(0)},
    });
    let config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": word(0), "pad_token": word(1), "bos_token": word(0),
    });
    let file = |name: &str, value: &Value| TextFile { name: name.to_owned(), bytes: value.to_string().into_bytes() };
    let files = [file("tokenizer.json", &tokenizer), file("tokenizer_config.json", &config)];
    let special = SpecialTokens { bos: Some(0), eos: Some(0), pad: Some(1), stop: [0].into() };
    save_folder(path, &network(), &weights(&network()), Precision::F32, &special, &files).expect("a model folder");
}

fn word(id: usize) -> String {
    format!("w{id}")
}

/// Rows a little longer than a sequence may be.
fn make_rows(folder: &Path, task: &str) {
    let mut state = 1u64;
    let mut words = |count: usize| {
        let draw = |_| {
            // Knuth's MMIX generator: any words will do.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word(2 + (state >> 33) as usize % (VOCAB - 2))
        };
        (0..count).map(draw).collect::<Vec<_>>().join(" ")
    };
    let mut rows = String::new();
    for _ in 0..BATCH * (STEPS[0] + STEPS[1]) {
        let row = match task {
            "sft" => json!({"text": words(LENGTH + 4)}),
            _ => {
                let half = LENGTH / 2;
                let (prompt, chosen, rejected) = (words(half), words(half + 4), words(half + 4));
                json!({"prompt": prompt, "chosen": format!(" {chosen}"), "rejected": format!(" {rejected}")})
            }
        };
        rows += &format!("{row}\n");
    }
    std::fs::write(folder.join(format!("{task}.jsonl")), rows).expect("rows on disk");
}

fn run_ftk(folder: &Path, [task, format]: [&str; 2]) -> Measured {
    let out = folder.join("run");
    // A run folder is not used twice.
    std::fs::remove_dir_all(&out).ok();
    let steps = STEPS[0] + STEPS[1];
    // TRL computes the reference in every step, so that is what is timed.
    let dpo = if task == "dpo" { "[dpo]\ncache = false\n" } else { "" };
    let recipe = format!(
        "task = \"{task}\"\n[base]\nmodel = \"model\"\n[data]\ntrain = \"{task}.jsonl\"\nmax_length = {LENGTH}\n\
         [lora]\nrank = 8\n{dpo}[run]\nout = \"run\"\nbatch = {BATCH}\nsteps = {steps}\nprecision = \"{format}\"\n"
    );
    let path = folder.join("recipe.toml");
    std::fs::write(&path, recipe).expect("a recipe on disk");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ftk"));
    command.args(["train", "--json", "--quiet", "--recipe"]).arg(path);
    measure(command)
}

fn run_peer(python: &str, folder: &Path, [task, mode]: [&str; 2]) -> Measured {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer.py");
    let mut command = Command::new(python);
    command
        .arg(script)
        .args([task, mode])
        .arg(folder)
        .args([BATCH, LENGTH, STEPS[0] + STEPS[1]].map(|n| n.to_string()));
    measure(command)
}

/// Runs a command that prints a JSON object with a `step` after each step.
fn measure(mut command: Command) -> Measured {
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the command starts");
    let process = format!("/proc/{}", child.id());
    let (mut ends, mut peak_mib) = (Vec::new(), None);
    for line in BufReader::new(child.stdout.take().expect("piped above")).lines().map_while(Result::ok) {
        let object = serde_json::from_str::<Value>(&line).unwrap_or_default();
        if object["step"].is_u64() {
            ends.push([began.elapsed().as_secs_f64(), processor(&process).unwrap_or(f64::NAN)]);
            let status = std::fs::read_to_string(format!("{process}/status")).unwrap_or_default();
            let peak =
                status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
            peak_mib = peak.map(|kib: f64| kib / 1024.0).or(peak_mib);
        }
    }
    assert!(child.wait().expect("the command ends").success(), "the command failed");
    let seconds_a_step = [0, 1].map(|of| {
        let mut steps: Vec<f64> = ends.windows(2).map(|pair| pair[1][of] - pair[0][of]).skip(STEPS[0] - 1).collect();
        assert_eq!(steps.len(), STEPS[1], "a line a step");
        steps.sort_by(f64::total_cmp);
        steps[steps.len() / 2]
    });
    Measured { seconds_a_step, peak_mib, startup: ends[0][0] - seconds_a_step[0] }
}

/// Seconds of processor that a process has taken.
fn processor(process: &str) -> Option<f64> {
    /// Linux counts so many a second for every program, whatever it does inside.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("{process}/stat")).ok()?;
    // Its name, in brackets, may hold anything; user and system time are fields 14 and 15.
    let mut after = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || after.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / TICKS)
}
