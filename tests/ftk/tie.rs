//! Two most likely tokens: the lower id is the answer, and no proof says the other.

use std::path::Path;

use ftk_proofs::{Input, Output};

use crate::run::{ftk, succeed};
use crate::seller::{adapter, forged, verify_on};

const PROMPT: &str = "What does Elsa sell?";

/// The village with the weights of one token given to another, as its bf16 file has them.
fn twin(folder: &Path, token: u32, other: u32) {
    let village = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/text/village/base");
    std::fs::create_dir(folder).unwrap();
    for file in std::fs::read_dir(village).unwrap().map(|entry| entry.unwrap()) {
        std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    let path = folder.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let about: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    let table = &about["model.embed_tokens.weight"];
    assert_eq!(table["dtype"], "BF16");
    let (start, width) = (
        header + table["data_offsets"][0].as_u64().unwrap() as usize,
        2 * table["shape"][1].as_u64().unwrap() as usize,
    );
    let row = start + token as usize * width;
    bytes.copy_within(row..row + width, start + other as usize * width);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_tie_goes_to_the_lower_id() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    adapter(&folder.join("adapter"), 51);
    let prove = |base: &Path, name: &str| {
        let (commitment, out) = (folder.join(format!("commitment-{name}")), folder.join(name));
        let with = |verb: &str| {
            let mut command = ftk(&[verb, "--quiet", "--base"]);
            command.arg(base).arg("--adapter").arg(folder.join("adapter"));
            command
        };
        succeed(with("commit").arg("--out").arg(&commitment));
        let mut command = with("prove");
        command.args(["--open", "--disclose", "--max-tokens", "1", "--prompt", PROMPT]);
        succeed(command.arg("--commitment").arg(&commitment).arg("--out").arg(&out));
        out
    };
    let alone = prove(Path::new("village"), "alone");
    let bundle = ftk::prove::bundle::read(&alone, &ftk_proofs::limits::Limits::NONE).unwrap();
    let Input::Tokens(prompt) = &bundle.statement.cases[0].input else { panic!("tokens") };
    let Output::Completion(ftk_proofs::Completion { ids, .. }) = &bundle.statement.cases[0].output else {
        panic!("a completion")
    };
    let answer = ids[0];
    let other = (answer + 1..838).find(|id| !prompt.contains(id)).unwrap();

    let base = folder.join("base");
    twin(&base, answer, other);
    let honest = prove(&base, "tied");
    assert_eq!(
        verify_on(&base, &honest, &["--any-input"]),
        (2, "consistent".to_owned()),
        "nothing is wrong with the lower id"
    );
    let higher = forged(&honest, "higher", |bundle| {
        if let Output::Completion(ftk_proofs::Completion { ids, .. }) = &mut bundle.statement.cases[0].output {
            assert_eq!(*ids, [answer]);
            ids[0] = other;
        }
    });
    assert_eq!(verify_on(&base, &higher, &["--any-input"]), (1, "output".to_owned()));
}
