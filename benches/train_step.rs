//! Training steps of `ftk train` as a whole command, on random weights of SmolLM2-135M's shape or, with the word `qwen`,
//! of Qwen2.5-0.5B's: rank 8 on all linear layers, in f32 and in bf16. The rows of the table:
//!
//! - `sft`: 4 sequences of 256 tokens;
//! - `sft-long`: one of 2048;
//! - `dpo`: 4 pairs of prompts of 128 tokens with answers of 128, with the reference computed in every step;
//! - `dpo-shared`: 4 pairs of prompts of 192 tokens with answers of 64, likewise. A prompt is computed once for a pair.
//!
//! `cargo bench --bench train_step` measures ftk. With `-- --peer PYTHON`, an interpreter that has torch, transformers,
//! peft and trl, `benches/peer.py` trains the same folder on the same rows in the same run: bare PyTorch with PEFT in
//! fp32, in fp32 with products in bf16 (autocast) and all in bf16, and TRL in fp32 and with autocast. Each tool has its
//! turn twice, or with the word `once` once, with `often` five times; what a peer takes by what ftk takes is compared turn
//! by turn. Words pick rows, number formats and peers: `-- often sft bf16 bare-autocast --peer PYTHON`.
//!
//! `cargo bench --bench train_step -- roofline` says what a step of supervised rows spends its time on.
//!
//! Processor time and peak memory are read from `/proc`, so they are known on Linux only. Before each tool some memory is
//! touched and given back: a virtual machine's host may have to find it first, and start-up would be that.

#[path = "train_step/roofline.rs"]
mod roofline;

use std::collections::BTreeMap;
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

/// Steps before timing, and timed.
const STEPS: [usize; 2] = [1, 5];

/// Bytes that are touched before a tool starts: about what the largest runs of ftk take here.
const TOUCHED: usize = 6 << 30;

/// A row of the table.
struct Workload {
    name: &'static str,
    /// As recipes name it.
    task: &'static str,
    /// Rows or pairs of a step.
    batch: usize,
    /// Tokens of a sequence.
    length: usize,
    /// Those of them that are the prompt, in pairs.
    prompt: usize,
}

const WORKLOADS: [Workload; 4] = [
    Workload { name: "sft", task: "sft", batch: 4, length: 256, prompt: 0 },
    Workload { name: "sft-long", task: "sft", batch: 1, length: 2048, prompt: 0 },
    Workload { name: "dpo", task: "dpo", batch: 4, length: 256, prompt: 128 },
    Workload { name: "dpo-shared", task: "dpo", batch: 4, length: 256, prompt: 192 },
];

struct Measured {
    /// Median of all steps, on the clock and of the processor.
    seconds_a_step: [f64; 2],
    peak_mib: Option<f64>,
    /// Until the first step begins: all is read by then.
    begins: f64,
    /// Until the end of the first step, less what a step takes: also what is done but once in it.
    startup: f64,
    /// What the system took of the processor until then, most of it to clear memory.
    system: f64,
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
    if asked("touch") {
        std::hint::black_box(vec![1u8; TOUCHED]);
        return;
    }
    let peer = args.iter().position(|arg| arg == "--peer").map(|at| args.get(at + 1).expect("--peer needs a path"));
    let workloads: Vec<&Workload> = WORKLOADS.iter().filter(|workload| asked(workload.name)).collect();
    let workloads = if workloads.is_empty() { WORKLOADS.iter().collect() } else { workloads };
    let formats: Vec<_> = TOOLS.iter().filter(|(format, _)| asked(format)).collect();
    let formats = if formats.is_empty() { TOOLS.iter().collect() } else { formats };

    let turns = match peer {
        Some(_) if asked("often") => 5,
        Some(_) if !asked("once") => 2,
        _ => 1,
    };
    let names_peers =
        TOOLS.iter().flat_map(|(_, tools)| *tools).any(|tool| matches!(tool, Tool::Peer(mode) if asked(mode)));

    let network = if asked("qwen") { qwen() } else { smollm2() };
    if asked("roofline") {
        let weights = weights(&network);
        for Workload { batch, length, .. } in workloads.iter().filter(|workload| workload.task == "sft") {
            for (format, _) in &formats {
                let format = if *format == "bf16" { DType::BF16 } else { DType::F32 };
                roofline::print(&network, weights.clone(), [*batch, *length], format);
            }
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    make_model(&network, &folder.path().join("model"));
    println!(
        "| task | tool | s a step | processor s a step | tokens/s | pairs/s | peak MiB | first step begins after, s | its end less a step, s | system's processor s till then |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let mut compared = Vec::new();
    for workload in workloads {
        make_rows(folder.path(), workload, network.vocab());
        for (_, tools) in &formats {
            let mut ratios: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
            for _ in 0..turns {
                let mut of_peers = Vec::new();
                for &tool in *tools {
                    match (tool, peer) {
                        (Tool::Peer(mode), Some(python)) if !names_peers || asked(mode) => {
                            let measured = run_peer(python, folder.path(), workload, mode);
                            report(workload, mode, &measured);
                            of_peers.push((mode, measured.seconds_a_step[1]));
                        }
                        (Tool::Peer(_), _) => {}
                        (Tool::Ftk(format), _) => {
                            let measured = run_ftk(folder.path(), workload, format);
                            report(workload, &format!("ftk {format}"), &measured);
                            for &(mode, seconds) in &of_peers {
                                ratios.entry(mode).or_default().push(seconds / measured.seconds_a_step[1]);
                            }
                        }
                    }
                }
            }
            compared.extend(ratios.into_iter().map(|(mode, ratios)| (workload.name, mode, ratios)));
        }
    }
    for (name, mode, ratios) in compared {
        let each = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect::<Vec<_>>().join(", ");
        println!("{name}: processor time of {mode} by ftk's, turn by turn: {each}; median {:.2}", median(ratios));
    }
}

fn report(&Workload { name, task, batch, length, .. }: &Workload, tool: &str, measured: &Measured) {
    let [seconds, of_processor] = measured.seconds_a_step;
    let sequences = if task == "dpo" { 2 * batch } else { batch };
    let pairs = if task == "dpo" { format!("{:.2}", batch as f64 / seconds) } else { "-".to_owned() };
    let peak = measured.peak_mib.map_or("-".to_owned(), |peak| format!("{peak:.0}"));
    let tokens = (sequences * length) as f64 / seconds;
    let Measured { begins, startup, system, .. } = measured;
    println!(
        "| {name} | {tool} | {seconds:.2} | {of_processor:.2} | {tokens:.0} | {pairs} | {peak} | {begins:.1} | {startup:.1} | {system:.1} |"
    );
}

fn smollm2() -> Network {
    Network::from(Llama {
        family: LlamaVariant::Llama,
        vocab: 49152,
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

fn qwen() -> Network {
    Network::from(Llama {
        family: LlamaVariant::Qwen2,
        vocab: 151_936,
        hidden: 896,
        intermediate: 4864,
        layers: 24,
        heads: Heads { query: 14, key_value: 2, dim: 64 },
        rope: Rope { dim: 64, theta: 1e6, scaling: None },
        eps: 1e-6,
        tied: true,
        context: 32_768,
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

fn make_model(network: &Network, path: &Path) {
    // A token a word, so that lengths are known.
    let vocab: serde_json::Map<String, Value> = (0..network.vocab()).map(|id| (word(id), json!(id))).collect();
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
    save_folder(path, network, &weights(network), Precision::F32, &special, &files).expect("a model folder");
}

fn word(id: usize) -> String {
    format!("w{id}")
}

/// Rows a little longer than a sequence may be.
fn make_rows(folder: &Path, &Workload { name, task, batch, length, prompt }: &Workload, vocab: usize) {
    let mut state = 1u64;
    let mut words = |count: usize| {
        let draw = |_| {
            // Knuth's MMIX generator: any words will do.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word(2 + (state >> 33) as usize % (vocab - 2))
        };
        (0..count).map(draw).collect::<Vec<_>>().join(" ")
    };
    let mut rows = String::new();
    for _ in 0..batch * (STEPS[0] + STEPS[1]) {
        let row = match task {
            "sft" => json!({"text": words(length + 4)}),
            _ => {
                let answer = length - prompt + 4;
                let (prompt, chosen, rejected) = (words(prompt), words(answer), words(answer));
                json!({"prompt": prompt, "chosen": format!(" {chosen}"), "rejected": format!(" {rejected}")})
            }
        };
        rows += &format!("{row}\n");
    }
    std::fs::write(folder.join(format!("{name}.jsonl")), rows).expect("rows on disk");
}

fn run_ftk(folder: &Path, &Workload { name, task, batch, length, .. }: &Workload, format: &str) -> Measured {
    let out = folder.join("run");
    // A run folder is not used twice.
    std::fs::remove_dir_all(&out).ok();
    let steps = STEPS[0] + STEPS[1];
    // TRL computes the reference in every step, so that is what is timed.
    let dpo = if task == "dpo" { "[dpo]\ncache = false\n" } else { "" };
    let recipe = format!(
        "task = \"{task}\"\n[base]\nmodel = \"model\"\n[data]\ntrain = \"{name}.jsonl\"\nmax_length = {length}\n\
         [lora]\nrank = 8\n{dpo}[run]\nout = \"run\"\nbatch = {batch}\nsteps = {steps}\nprecision = \"{format}\"\n"
    );
    let path = folder.join("recipe.toml");
    std::fs::write(&path, recipe).expect("a recipe on disk");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ftk"));
    command.args(["train", "--json", "--quiet", "--recipe"]).arg(path);
    measure(command)
}

fn run_peer(python: &str, folder: &Path, workload: &Workload, mode: &str) -> Measured {
    let &Workload { name, task, batch, length, prompt } = workload;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer.py");
    let mut command = Command::new(python);
    command
        .arg(script)
        .args([task, mode])
        .arg(folder)
        .arg(format!("{name}.jsonl"))
        .args([batch, length, prompt, STEPS[0] + STEPS[1]].map(|n| n.to_string()));
    measure(command)
}

/// Runs a command that prints a JSON object when its first step begins, and one with a `step` after each step.
fn measure(mut command: Command) -> Measured {
    // By a process of its own, which gives all of it back.
    let touched = Command::new(std::env::current_exe().expect("this program")).arg("touch").status();
    assert!(touched.expect("this program starts").success(), "no memory to touch");
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the command starts");
    let process = format!("/proc/{}", child.id());
    let (mut begins, mut ends, mut peak_mib) = (None, Vec::new(), None);
    for line in BufReader::new(child.stdout.take().expect("piped above")).lines().map_while(Result::ok) {
        let object = serde_json::from_str::<Value>(&line).unwrap_or_default();
        if object.is_object() {
            begins.get_or_insert_with(|| began.elapsed().as_secs_f64());
        }
        // The last object says what came of all steps.
        if object["step"].is_u64() && object["ended"].is_null() {
            let [user, system] = processor(&process).unwrap_or([f64::NAN; 2]);
            ends.push([began.elapsed().as_secs_f64(), user + system, system]);
            let status = std::fs::read_to_string(format!("{process}/status")).unwrap_or_default();
            let peak =
                status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
            peak_mib = peak.map(|kib: f64| kib / 1024.0).or(peak_mib);
        }
    }
    assert!(child.wait().expect("the command ends").success(), "the command failed");
    let seconds_a_step = [0, 1].map(|of| {
        let steps: Vec<f64> = ends.windows(2).map(|pair| pair[1][of] - pair[0][of]).skip(STEPS[0] - 1).collect();
        assert_eq!(steps.len(), STEPS[1], "a line a step");
        median(steps)
    });
    let begins = begins.expect("a line before the first step");
    Measured { seconds_a_step, peak_mib, begins, startup: ends[0][0] - seconds_a_step[0], system: ends[0][2] }
}

/// The middle one, or the mean of the two there.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

/// Seconds of processor that a process has taken itself, and the system for it.
fn processor(process: &str) -> Option<[f64; 2]> {
    /// Linux counts so many a second for every program, whatever it does inside.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("{process}/stat")).ok()?;
    // Its name, in brackets, may hold anything; user and system time are fields 14 and 15.
    let mut after = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || after.next()?.parse::<f64>().ok();
    Some([next()? / TICKS, next()? / TICKS])
}
