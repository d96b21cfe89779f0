//! `ftk convert`: llama.cpp's adapters are ours, number for number.

use std::path::Path;
use std::process::Command;

use ftk_adapters::lora::Adapter;
use ftk_adapters::peft;
use ftk_adapters::train::{initial_factors, normal_values};
use ftk_bases::BaseModel;

use crate::run::{fixture, ftk, models, stderr};

/// The fixture of a family that GGUF files do not hold.
const NOT_HELD: &str = "tiny-gpt2";

fn convert(folder: &Path, base: &Path, arguments: &[&str]) -> std::process::Output {
    let mut command = ftk(&["--quiet", "convert"]);
    command.args(arguments).arg("--base").arg(base).current_dir(folder).output().unwrap()
}

fn converted(folder: &Path, base: &Path, arguments: &[&str]) {
    let output = convert(folder, base, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
}

/// A random adapter on all layers of a base but its head.
fn adapter(folder: &Path, base: &Path) {
    let source = BaseModel::open(base).unwrap();
    let network = source.network();
    let sites = network.shapes_of_sites().into_iter().filter(|(name, _)| name != "lm_head");
    let sites: Vec<(String, [usize; 2])> = sites.collect();
    let mut adapter = Adapter::default();
    for (name, [d_out, d_in]) in &sites {
        let mut factors = initial_factors(name, 4, (*d_out, *d_in), 1.0, 81);
        factors.b = normal_values(name, factors.b.len(), 0.05, 81);
        adapter.sites.insert(name.clone(), factors);
    }
    let linear: Vec<String> = sites.into_iter().map(|(name, _)| name).collect();
    peft::save(&folder.join("out"), &adapter, "base", &linear, network.fan_in_fan_out()).unwrap();
}

#[test]
fn adapters_of_every_family_go_there_and_back_to_the_bit() {
    let mut seen = 0;
    for name in models() {
        let (place, base) = (tempfile::tempdir().unwrap(), fixture(&name).join("base"));
        let folder = place.path();
        adapter(folder, &base);
        let refused = convert(folder, &base, &["out", "--out", "adapter.gguf"]);
        if name == NOT_HELD {
            assert_eq!(refused.status.code(), Some(2));
            assert!(stderr(&refused).contains("no GGUF file holds networks of "), "{name}: {}", stderr(&refused));
            continue;
        }
        assert!(refused.status.success(), "{name}: {}", stderr(&refused));
        seen += 1;
        converted(folder, &base, &["adapter.gguf", "--out", "back"]);
        let read = |name: &str| peft::load(&folder.join(name)).unwrap();
        assert!(read("back") == read("out"), "{name}: values of f32 are as they were");
        // From a file of half precision on, nothing is lost either.
        for dtype in ["f16", "bf16"] {
            let (file, again, back) = (format!("{dtype}.gguf"), format!("{dtype}-2.gguf"), format!("back-{dtype}"));
            converted(folder, &base, &["out", "--dtype", dtype, "--out", &file]);
            converted(folder, &base, &[&file, "--out", &back]);
            converted(folder, &base, &[&back, "--dtype", dtype, "--out", &again]);
            let bytes = |name: &str| std::fs::read(folder.join(name)).unwrap();
            assert!(bytes(&file) == bytes(&again), "{name}, {dtype}");
            assert!(bytes(&file).len() < bytes("adapter.gguf").len());
        }
    }
    assert!(seen > 5, "{seen}");
}

#[test]
fn what_is_no_adapter_of_the_base_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (folder, base) = (place.path(), fixture("micro-llama/base"));
    adapter(folder, &base);
    converted(folder, &base, &["out", "--out", "adapter.gguf"]);
    let refused = |base: &Path, arguments: &[&str]| {
        let output = convert(folder, base, arguments);
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    let again = refused(&base, &["out", "--out", "adapter.gguf"]);
    assert!(again.starts_with("error: adapter.gguf: is there already\n"), "{again}");
    let other = refused("village".as_ref(), &["adapter.gguf", "--out", "x"]);
    assert!(other.contains("adapter.gguf") && !folder.join("x").exists(), "{other}");
    std::fs::write(folder.join("text.gguf"), "no such thing").unwrap();
    let text = refused(&base, &["text.gguf", "--out", "x"]);
    assert!(text.contains("malformed GGUF: it does not begin with GGUF"), "{text}");
}

/// The package gguf, which llama.cpp's own converter writes with, reads what we write: keys, names, shapes, numbers.
#[test]
#[ignore = "needs the Python package gguf: pip install gguf safetensors, with FTK_GGUF naming the python that has them"]
fn the_package_gguf_reads_the_same_numbers() {
    let place = tempfile::tempdir().unwrap();
    let (folder, base) = (place.path(), fixture("micro-llama/base"));
    adapter(folder, &base);
    for dtype in ["f32", "f16"] {
        converted(folder, &base, &["out", "--dtype", dtype, "--out", &format!("{dtype}.gguf")]);
    }
    let python = std::env::var("FTK_GGUF").unwrap_or_else(|_| "python3".to_owned());
    let mut check = Command::new(python);
    check.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/gguf_adapter.py")).arg(folder);
    let output = check.arg(&base).output().unwrap();
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
}
