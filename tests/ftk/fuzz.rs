//! Every parser of foreign bytes, given changed copies of honest ones: it may refuse, but not panic, and neither
//! memory nor time may be out of proportion to the bytes.
//!
//! Inputs come from a fixed seed, a few hundred for each target. `FTK_FUZZ_ROUNDS` asks for more and `FTK_FUZZ_SEED`
//! for others; an input that is not borne is written to a file that the failure names.

mod mutate;
mod plugins;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use ftk::commands::records;
use ftk::prove::bundle;
use ftk::prove::keys::commitment_key;
use ftk::prove::model;
use ftk::prove::opening::{OPENING, OpeningFile};
use ftk::train::referee;
use ftk::train::rows::OpenedRows;
use ftk::train::transcript::{self, TRANSCRIPT};
use ftk_adapters::lora::{Adapter, Factors};
use ftk_adapters::{notes, peft};
use ftk_bases::budget::{Budget, within};
use ftk_bases::{BaseModel, ChatTemplate, GgufAdapter, Message, Precision, read_adapter, write_adapter};
use ftk_circuits::{
    AdapterCommitment, CommitmentKey, MIN_K, Opening, StackPart, decode_deltas, stack_parts, stack_registration,
    verify_registration,
};
use ftk_proofs::Deadline;
use ftk_proofs::archive::{archive, unarchive};
use ftk_proofs::bundle::PackedBundle;
use ftk_proofs::limits::Limits;
use ftk_proofs::verdict::Expectations;
use ftk_proofs::verifier::Verifier;
use ftk_recipes::{Data, Recipe};
use ftk_text::load::{self, DatasetKind};
use ftk_text::opened::OpenedRow;

use crate::run::{fixture, ftk, succeed};
use crate::seller::{Seller, adapter, slices};

/// Inputs of one target, where nobody asks for more.
const ROUNDS: usize = 200;
/// Longest an input may take; honest ones take milliseconds, on a machine that has nothing else to do.
const TIME: Duration = Duration::from_secs(60);

/// Runs `parse` on changed copies of the seeds. `bytes` is what it may ask for, beside some multiple of the input.
fn fuzz(target: &str, seeds: &[Vec<u8>], bytes: u64, parse: impl Fn(&[u8]) + Send + Sync + 'static) {
    fuzz_one_in(1, target, seeds, bytes, parse);
}

/// The same with a fraction of the inputs, where each takes long.
fn fuzz_one_in(
    share: usize,
    target: &str,
    seeds: &[Vec<u8>],
    bytes: u64,
    parse: impl Fn(&[u8]) + Send + Sync + 'static,
) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<usize>().expect("a number"));
    let seed = number("FTK_FUZZ_SEED").unwrap_or(1) as u64;
    let parse = Arc::new(parse);
    for round in 0..number("FTK_FUZZ_ROUNDS").unwrap_or(ROUNDS) / share {
        let input = mutate::changed(seeds, seed, round as u64);
        let budget = Budget { bytes: bytes + 400 * input.len() as u64, time: TIME };
        let (given, parse) = (input.clone(), Arc::clone(&parse));
        if let Err(exceeded) = within(budget, move || parse(&given)) {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}-{seed}-{round}"));
            std::fs::write(&path, &input).unwrap();
            panic!("{target}: {exceeded}: {}", path.display());
        }
    }
}

const MEGABYTE: u64 = 1 << 20;

/// A folder with copies of files, of which `parse` sees one replaced.
fn in_folder(
    from: Vec<PathBuf>,
    file: &'static str,
    parse: impl Fn(&Path) + Send + Sync + 'static,
) -> impl Fn(&[u8]) + Send + Sync + 'static {
    let folder = tempfile::tempdir().unwrap();
    for path in from {
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    move |bytes| {
        std::fs::write(folder.path().join(file), bytes).unwrap();
        parse(folder.path());
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

/// The files of a bundle, by name.
fn whole(bundle: &Path) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    files(bundle).into_iter().map(|path| (name(&path), std::fs::read(&path).unwrap())).collect()
}

#[test]
fn bundles() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 5);
    let honest = seller.prove("bundle", "Where is Ada?");
    let read = |name: &str| std::fs::read(honest.join(name)).unwrap();

    for name in ["statement.json", "deltas.bin", "commitment.bin"] {
        let whole = whole(&honest);
        fuzz(name, &[read(name)], 16 * MEGABYTE, move |bytes| {
            let mut files = whole.clone();
            files.insert(name.to_owned(), bytes.to_vec());
            drop(PackedBundle::parse(&slices(&files), &Limits::default()).and_then(|sent| sent.expand(Deadline::NONE)));
        });
    }
    // As one file: what is read is written back as it was.
    let one = archive(&slices(&whole(&honest)));
    fuzz("bundle.ftk", &[one], 16 * MEGABYTE, |bytes| {
        if let Ok(files) = unarchive(bytes) {
            assert!(archive(&files) == bytes);
        }
    });
    // What no check of the proofs refuses is what was given.
    let source = BaseModel::open(Path::new("village")).unwrap();
    let verifier = Verifier::new(model::read(&source).unwrap(), Limits::default()).with_keys(commitment_key);
    let verifier = Arc::new(Mutex::new(verifier));
    for name in ["proof.bin", "link.bin"] {
        let (whole, verifier) = (whole(&honest), Arc::clone(&verifier));
        fuzz_one_in(10, name, &[read(name)], 256 * MEGABYTE, move |bytes| {
            let mut files = whole.clone();
            let given = files.insert(name.to_owned(), bytes.to_vec());
            let verdict = verifier.lock().unwrap().verify(&slices(&files), &Expectations::default());
            assert_eq!(verdict.is_ok(), given.as_deref() == Some(bytes));
        });
    }
    let bundle = bundle::read(&honest, &Limits::NONE).unwrap();
    let deltas = zstd::decode_all(read("deltas.bin").as_slice()).unwrap();
    let shapes = bundle.commitment.shapes().to_vec();
    let rows = vec![bundle.statement.rows(); shapes.len()];
    fuzz("deltas", &[deltas], MEGABYTE, move |bytes| drop(decode_deltas(bytes, &shapes, &rows, &|| false)));
    fuzz("commitment", &[read("commitment.bin")], MEGABYTE, |bytes| drop(AdapterCommitment::decode(bytes)));
    // The stack of two parts of these digests, whatever they are, and what is to be its registration.
    let one = read("commitment.bin");
    let named = [&b"ftk stacked\0"[..], &one[12..48], &[bundle.commitment.k() as u8], &2u32.to_le_bytes(), &[7; 64]];
    let stacked = [&named.concat()[..], &one[48..]].concat();
    let of_two = AdapterCommitment::decode(&stacked).unwrap();
    fuzz("stacked-commitment", &[stacked], MEGABYTE, |bytes| drop(AdapterCommitment::decode(bytes)));
    let part = StackPart { commitment: bundle.commitment.clone(), registration: vec![1; 300] };
    let parts = stack_registration(&[part.clone(), part]);
    fuzz("parts", &[parts], 16 * MEGABYTE, move |bytes| drop(stack_parts(&of_two, bytes)));
    let path = seller.folder.join("commitment").join(OPENING);
    let shapes = bundle.commitment.shapes().to_vec();
    let opening = OpeningFile::read(&path, &shapes).unwrap().opening.encode();
    fuzz("opening", &[opening], MEGABYTE, |bytes| drop(Opening::decode(bytes)));
    let parse = in_folder(Vec::new(), OPENING, move |folder| drop(OpeningFile::read(&folder.join(OPENING), &shapes)));
    fuzz("opening-file", &[std::fs::read(path).unwrap()], MEGABYTE, parse);
    let smallest = CommitmentKey::generate(MIN_K).unwrap();
    fuzz("key", &[smallest.to_bytes()], MEGABYTE, |bytes| drop(CommitmentKey::from_bytes(bytes)));

    // Refused by a length, a point or halo2 itself; what is accepted is what was given.
    let key = commitment_key(bundle.commitment.k()).unwrap();
    let honest = bundle.registration.clone().unwrap();
    let (commitment, seed) = (bundle.commitment.clone(), honest.clone());
    fuzz_one_in(10, "registration", &[seed], 256 * MEGABYTE, move |bytes| {
        let verdict = verify_registration(&key, &commitment, bytes);
        assert_eq!(verdict.is_ok(), bytes == honest);
    });
}

/// What a sealed bundle says is laid out as cells before anything of its proof is looked at.
#[test]
fn sealed_bundles() {
    let folder = tempfile::tempdir().unwrap();
    let seller = Seller::new(folder.path().join("seller"), 6);
    let top = seller.seal("bundle", &["--top", "4", "--prompt", "Where is Ada?"]);
    let logits = seller.seal("logits", &["--task", "logits", "--prompt", "Where is Ada?"]);
    let source = BaseModel::open(Path::new("village")).unwrap();
    let verifier = Verifier::new(model::read(&source).unwrap(), Limits::default()).with_keys(commitment_key);
    let verifier = Arc::new(Mutex::new(verifier));
    let sealed = [(&top, "statement.json"), (&top, "commitment.bin"), (&top, "sealed.bin"), (&logits, "logits.bin")];
    for (bundle, name) in sealed {
        let (whole, verifier) = (whole(bundle), Arc::clone(&verifier));
        let seed = whole[name].clone();
        fuzz_one_in(5, &format!("sealed-{name}"), &[seed], 512 * MEGABYTE, move |bytes| {
            let mut files = whole.clone();
            let given = files.insert(name.to_owned(), bytes.to_vec());
            let verdict = verifier.lock().unwrap().verify(&slices(&files), &Expectations::default());
            assert_eq!(verdict.is_ok(), given.as_deref() == Some(bytes));
        });
    }
}

#[test]
fn models() {
    let llama = fixture("micro-llama/base");
    let village = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/text/village/base");
    let open = |folder: &Path| drop(BaseModel::open(folder));
    for (base, file) in [
        (&llama, "config.json"),
        (&llama, "generation_config.json"),
        (&llama, "model.safetensors"),
        (&village, "tokenizer_config.json"),
    ] {
        let seed = std::fs::read(base.join(file)).unwrap();
        // The header of a safetensors file and a few weights.
        let seed = seed[..seed.len().min(16 << 10)].to_vec();
        fuzz(file, &[seed], 64 * MEGABYTE, in_folder(files(base), file, open));
    }
    let seed = std::fs::read(village.join("tokenizer.json")).unwrap();
    let parse = in_folder(files(&village), "tokenizer.json", |folder| {
        if let Ok(source) = BaseModel::open(folder)
            && let Ok(tokenizer) = source.tokenizer()
        {
            let _ = tokenizer.encode("Where does Nora have the stall?", true).map(|ids| tokenizer.decode(&ids, false));
        }
    });
    fuzz_one_in(4, "tokenizer.json", &[seed], 256 * MEGABYTE, parse);

    let network = BaseModel::open(&llama).unwrap().network().clone();
    let of_site = |(name, [d_out, d_in]): (String, [usize; 2])| {
        let factors = Factors { rank: 2, d_in, d_out, a: vec![0.5; 2 * d_in], b: vec![0.25; 2 * d_out], scale: 1.0 };
        (name, factors)
    };
    let sites = network.shapes_of_sites().into_iter().take(2).map(of_site).collect();
    let file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
    let given = GgufAdapter { adapter: Adapter { sites }, alpha: 2.0 };
    write_adapter(file.path(), &given, &network, Precision::F32).unwrap();
    let seed = std::fs::read(file.path()).unwrap();
    fuzz("gguf-adapter", &[seed], 16 * MEGABYTE, move |bytes| {
        std::fs::write(file.path(), bytes).unwrap();
        drop(read_adapter(file.path(), &network));
    });

    fuzz("gguf", &[gguf()], 16 * MEGABYTE, {
        let file = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
        move |bytes| {
            std::fs::write(file.path(), bytes).unwrap();
            if let Ok(source) = BaseModel::open(file.path()) {
                let _ = source.weights(&Device::Cpu);
            }
        }
    });
}

/// A file of a Llama of one block, with a tokenizer and a template.
fn gguf() -> Vec<u8> {
    let text = |text: &str| Value::String(text.to_owned());
    let list = |values: Vec<Value>| Value::Array(values);
    let tokens: Vec<String> = ('a'..='p').map(String::from).collect();
    let metadata = [
        ("general.architecture", text("llama")),
        ("llama.embedding_length", Value::U32(8)),
        ("llama.feed_forward_length", Value::U32(12)),
        ("llama.block_count", Value::U32(1)),
        ("llama.context_length", Value::U32(32)),
        ("llama.attention.head_count", Value::U32(2)),
        ("llama.attention.head_count_kv", Value::U32(1)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(1e4)),
        ("tokenizer.ggml.model", text("gpt2")),
        ("tokenizer.ggml.pre", text("smollm")),
        ("tokenizer.ggml.tokens", list(tokens.iter().map(|token| text(token)).collect())),
        ("tokenizer.ggml.token_type", list(tokens.iter().map(|_| Value::I32(1)).collect())),
        ("tokenizer.ggml.merges", list(vec![])),
        ("tokenizer.ggml.eos_token_id", Value::U32(3)),
        ("tokenizer.chat_template", text("{% for m in messages %}{{ m.content }}{% endfor %}")),
    ];
    let shapes: [(&str, &[usize]); 12] = [
        ("token_embd.weight", &[16, 8]),
        ("output_norm.weight", &[8]),
        ("blk.0.attn_norm.weight", &[8]),
        ("blk.0.ffn_norm.weight", &[8]),
        ("blk.0.attn_q.weight", &[8, 8]),
        ("blk.0.attn_k.weight", &[4, 8]),
        ("blk.0.attn_v.weight", &[4, 8]),
        ("blk.0.attn_output.weight", &[8, 8]),
        ("blk.0.ffn_gate.weight", &[12, 8]),
        ("blk.0.ffn_up.weight", &[12, 8]),
        ("blk.0.ffn_down.weight", &[8, 12]),
        ("output.weight", &[16, 8]),
    ];
    let tensors = shapes.map(|(name, shape)| {
        let zeros = Tensor::zeros(shape, candle_core::DType::F32, &Device::Cpu).unwrap();
        (name, QTensor::quantize(&zeros, GgmlDType::F32).unwrap())
    });
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let mut file = std::io::Cursor::new(Vec::new());
    gguf_file::write(&mut file, &metadata, &tensors).unwrap();
    let bytes = file.into_inner();
    // The seed is whole: otherwise only its first mistake would be looked at.
    let whole = tempfile::NamedTempFile::with_suffix(".gguf").unwrap();
    std::fs::write(whole.path(), &bytes).unwrap();
    BaseModel::open(whole.path()).unwrap().chat_template().unwrap();
    bytes
}

#[test]
fn templates() {
    let seeds = [
        "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message.content | trim }}{% endfor %}",
        "{%- set ns = namespace(found=false) -%}{%- for m in messages if not loop.first -%}{% set ns.found = true %}\
         {{ m.content.split('a')[-1] }}{%- endfor -%}{% if add_generation_prompt and ns.found %}{{ bos_token }}{% endif %}",
        "{{ 'a%s' % [1] ~ messages[0].items() | list ~ 'b c'.rsplit(none, 1) ~ {'a': 1.5}['items'] }}{{ 'x' | center(9) }}",
        "{% macro f(x) %}{{ x | tojson }}{% endmacro %}{{ f(messages) }}{{ range(9) | join(',') }}{{ 'a' * 3 }}",
    ];
    let messages = ["user", "assistant"].map(|role| Message::new(role, "Who are you?"));
    fuzz("template", &seeds.map(|seed| seed.as_bytes().to_vec()), 64 * MEGABYTE, move |bytes| {
        if let Ok(template) = ChatTemplate::new(String::from_utf8_lossy(bytes).into_owned(), &Default::default()) {
            let _ = template.render(&messages, &[], true);
        }
    });
}

#[test]
fn recipes_and_rows() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/text");
    let read = |name: &str| std::fs::read(recipes.join(name)).unwrap();
    fuzz("recipe", &[read("dpo.toml"), read("sft.toml")], 64 * MEGABYTE, |bytes| {
        drop(Recipe::parse(Path::new("recipe.toml"), &String::from_utf8_lossy(bytes)));
    });

    let source = Arc::new(BaseModel::open(Path::new("village")).unwrap());
    let pairs: Vec<u8> =
        read("village/dpo.jsonl").split_inclusive(|&byte| byte == b'\n').take(4).flatten().copied().collect();
    let turns = read("identity.jsonl").split_inclusive(|&byte| byte == b'\n').take(4).flatten().copied().collect();
    let ids = br#"[{"input_ids": [5, 6, 7], "labels": [-100, -100, 7]}, {"text": "Ada.", "x": null}]"#.to_vec();
    let odd = br#"{"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}], "weight": 0}], "x": NaN}"#;
    let alone = br#"[{"prompt_ids": [5, 6], "completion_ids": [7], "label": true},
        {"prompt": "Where?", "completion": " There.", "label": false}]"#
        .to_vec();
    for (name, kind, seed) in [
        ("rows.jsonl", DatasetKind::Pairs, pairs),
        ("turns.jsonl", DatasetKind::Sft, turns),
        ("rows.json", DatasetKind::Sft, ids),
        ("alone.json", DatasetKind::Unpaired(2), alone),
        ("odd.jsonl", DatasetKind::Sft, odd.to_vec()),
        ("rows.jsonl.zst", DatasetKind::Sft, zstd::encode_all(&odd[..], 1).unwrap()),
    ] {
        let source = Arc::clone(&source);
        let parse = in_folder(Vec::new(), name, move |folder| {
            let path = folder.join(name);
            drop(load::load(&source, &Data::new(path.clone()), kind, &path));
        });
        fuzz(name, &[seed], 64 * MEGABYTE, parse);
    }
}

#[test]
fn transcripts() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/gnn/guilds.toml");
    succeed(ftk(&["train", "--quiet", "--set", "run.steps=6"]).arg(recipe).arg("--out").arg(&out));
    let seed = std::fs::read(out.join(TRANSCRIPT)).unwrap();
    fuzz(TRANSCRIPT, &[seed], 64 * MEGABYTE, |bytes| drop(transcript::read(bytes)));
}

#[test]
fn opened_rows() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).into_os_string().into_string().unwrap();
    let (run, out) = (at("run"), at("rows.json"));
    succeed(&mut ftk(&["train", "--quiet", "sft", "--set", "run.steps=2", "--out", &run]));
    succeed(&mut ftk(&["audit", "--quiet", &run, "--open", "1", "--open", "4", "--out", &out]));
    let transcript = transcript::read(std::fs::File::open(Path::new(&run).join(TRANSCRIPT)).unwrap()).unwrap();
    let digest =
        |content: &serde_json::Value| Some(serde_json::from_value::<OpenedRow>(content.clone()).ok()?.digest());
    let parse = move |bytes: &[u8]| {
        if let Ok(rows) = OpenedRows::read(&String::from_utf8_lossy(bytes)) {
            drop(rows.check(&transcript, digest));
        }
    };
    fuzz("rows.json", &[std::fs::read(&out).unwrap()], 64 * MEGABYTE, parse);
}

#[test]
fn disputes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).into_os_string().into_string().unwrap();
    let (run, theirs, dispute) = (at("run"), at("theirs"), at("dispute"));
    succeed(&mut ftk(&["train", "--quiet", "sft", "--set", "run.steps=1", "--out", &run]));
    let step = ["audit", "--quiet", &run, "--step", "1"];
    succeed(ftk(&step).args(["--record", &theirs]));
    // The last operation is said to have given something else.
    let record = std::fs::read_to_string(&theirs).unwrap();
    let (before, last) = record.rsplit_once("\"outputs\":[\"").unwrap();
    let other = format!("{before}\"outputs\":[\"{}{}", "0".repeat(64), &last[64..]);
    std::fs::write(&theirs, other).unwrap();
    let parted = ftk(&step).args(["--dispute", &theirs, "--out", &dispute]).output().unwrap();
    assert_eq!(parted.status.code(), Some(1));
    let seed = std::fs::read(&dispute).unwrap();
    fuzz("dispute", &[seed], 256 * MEGABYTE, |bytes| {
        if let Ok((records, inputs)) = referee::read(bytes) {
            records::judged(&records, &inputs);
        }
    });
}

#[test]
fn adapters() {
    let folder = tempfile::tempdir().unwrap();
    adapter(folder.path(), 6);
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        let seed = std::fs::read(folder.path().join(file)).unwrap();
        let parse = in_folder(files(folder.path()), file, |folder| {
            drop(peft::load(folder));
            drop(peft::survey(folder));
            drop(notes::noted(folder, "ftk_transcript"));
        });
        fuzz(file, &[seed], 64 * MEGABYTE, parse);
    }
}
