//! What is no regular file is refused by every verb, wherever it stands, and never waited for.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::run::{ftk, succeed};
use crate::seller::Seller;

/// Longer than any of the commands takes to refuse; one that waits for a writer never ends.
const PATIENCE: Duration = Duration::from_secs(60);

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Code and output of a command, which is killed where it does not end.
fn ended(command: &mut Command) -> (Option<i32>, String) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("{command:?} waits");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_by_every_verb() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    Seller::of_rank(folder.to_owned(), 51, 2).prove_with("bundle", &["--max-tokens", "2", "--prompt", "Hello"]);
    let prompt = "{\"prompt\":\"a \",\"completion\":\"b\"}\n";
    for (name, text) in [("rows.jsonl", prompt), ("text.txt", "Hello"), ("edges.csv", "src,dst\na,b\n")] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let recipe = "task = \"sft\"\nbase.model = \"village\"\ndata.train = \"rows.jsonl\"\nlora.rank = 2\n\
        run = { out = \"run\", steps = 1 }\n";
    std::fs::write(folder.join("recipe.toml"), recipe).unwrap();
    succeed(ftk(&["train", "recipe.toml", "--quiet"]).current_dir(folder));
    ftk_bases::village::unpack(folder).unwrap();
    let gnn = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/gnn/guilds");
    std::fs::create_dir(folder.join("graph")).unwrap();
    for name in ["edges.csv", "nodes.csv"] {
        std::fs::copy(gnn.join(name), folder.join("graph").join(name)).unwrap();
    }
    for name in ["ids.safetensors", "model.gguf", "market.csv", "state.json", "decisions.jsonl", "plan.toml"] {
        std::fs::write(folder.join(name), "").unwrap();
    }

    let open = "open adapter --commitment commitment";
    let prove =
        "prove --base village --adapter adapter --commitment commitment --open --disclose --prompt Hello --out new";
    let verify = "verify --base village bundle";
    let cases = [
        ("adapter/adapter_config.json", open),
        ("adapter/adapter_model.safetensors", open),
        ("commitment/commitment.bin", open),
        ("commitment/opening.bin", open),
        ("commitment/commitment.bin", "open adapter --commitment commitment/commitment.bin"),
        ("text.txt", "open adapter --commitment commitment --opening text.txt"),
        ("commitment/commitment.bin", prove),
        ("commitment/registration.bin", prove),
        ("commitment/opening.bin", prove),
        ("commitment/opening.lock", prove),
        ("rows.jsonl", "prove --base village --adapter adapter --commitment commitment --rows rows.jsonl --out new"),
        ("bundle/statement.json", verify),
        ("bundle/deltas.bin", verify),
        ("bundle/registration.bin", verify),
        ("rows.jsonl", "verify --base village bundle --expect-rows rows.jsonl"),
        ("base/config.json", "verify --base base bundle"),
        ("adapter/adapter_model.safetensors", "commit --base village --adapter adapter --out new"),
        ("text.txt", "commit --base village --adapter adapter --text text.txt --out new"),
        ("recipe.toml", "train recipe.toml --out new"),
        ("rows.jsonl", "train recipe.toml --out new"),
        ("run/checkpoint.safetensors", "train recipe.toml --resume"),
        ("run/metrics.jsonl", "train recipe.toml --resume"),
        ("run/.lock", "train recipe.toml --resume"),
        ("rows.jsonl", "eval --base village --data rows.jsonl"),
        ("base/model.safetensors", "eval --base base --data rows.jsonl"),
        ("adapter/adapter_config.json", "generate --base village --adapter adapter --prompt Hello"),
        ("base/tokenizer.json", "generate --base base --prompt Hello"),
        ("model.gguf", "generate --base model.gguf --prompt Hello"),
        ("ids.safetensors", "logits --base village --ids ids.safetensors --out new"),
        ("text.txt", "merge --base village --adapter adapter --text text.txt --out new"),
        ("recipe.toml", "estimate recipe.toml"),
        ("rows.jsonl", "data preview --base village --data rows.jsonl"),
        ("recipe.toml", "recipes check recipe.toml"),
        ("commitment/commitment.bin", "inspect commitment"),
        ("bundle/proof.bin", "inspect bundle"),
        ("adapter/adapter_config.json", "inspect adapter"),
        ("run/manifest.json", "inspect run"),
        ("base/config.json", "inspect base"),
        ("edges.csv", "gnn import --edges edges.csv"),
        ("graph/nodes.csv", "gnn import graph"),
        ("market.csv", "defi import market.csv --out new"),
        ("plan.toml", "defi backtest plan.toml --out new"),
        ("state.json", "defi quote --plan quoter --state state.json"),
        ("decisions.jsonl", "defi audit --plan quoter --log decisions.jsonl"),
    ];
    for (file, line) in cases {
        let (path, aside) = (folder.join(file), folder.join("aside"));
        std::fs::rename(&path, &aside).unwrap_or_else(|error| panic!("{file}: {error}"));
        pipe(&path);
        let arguments: Vec<&str> = line.split(' ').collect();
        let (code, said) = ended(ftk(&arguments).current_dir(folder));
        assert_eq!(code, Some(2), "{file} of {line}: {said}");
        assert!(said.contains("a pipe, not a file"), "{file} of {line}: {said}");
        assert!(!folder.join("new").join("statement.json").exists(), "{line}");
        std::fs::rename(&aside, &path).unwrap();
    }
}
