//! What is named on the hub, against an endpoint on this machine that counts what it is asked.

mod push;
mod server;
mod upload;
mod ways;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use self::server::{Fault, State, etag, serve};
use crate::run::{fixture, ftk, stderr, succeed};

const FIRST: &str = "1111111111111111111111111111111111111111";
const SECOND: &str = "2222222222222222222222222222222222222222";

/// An endpoint and an empty cache.
pub struct Hub {
    address: String,
    state: Arc<Mutex<State>>,
    home: tempfile::TempDir,
}

impl Hub {
    fn new() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        Self { address: serve(&state, false), state, home: tempfile::tempdir().unwrap() }
    }

    /// Large files come from a host of their own from now on.
    fn with_storage(self) -> Self {
        let storage = serve(&self.state, true);
        self.state.lock().unwrap().storage = Some(storage);
        self
    }

    /// With the base of the fixtures as `org/tiny`.
    pub fn with_model() -> Self {
        let hub = Self::new();
        for name in ["config.json", "generation_config.json", "model.safetensors"] {
            hub.add("org/tiny", FIRST, name, &std::fs::read(fixture("micro-llama/base").join(name)).unwrap());
        }
        hub.add("org/tiny", FIRST, "README.md", b"not needed");
        hub
    }

    /// Adds a file to a commit and lets `main` be that.
    fn add(&self, repo: &str, commit: &str, name: &str, content: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.files.insert((repo.to_owned(), commit.to_owned(), name.to_owned()), content.to_owned());
        state.main.insert(repo.to_owned(), commit.to_owned());
    }

    fn fault(&self, name: &str, fault: Option<Fault>) {
        let faults = &mut self.state.lock().unwrap().faults;
        match fault {
            Some(fault) => faults.insert(name.to_owned(), fault),
            None => faults.remove(name),
        };
    }

    /// What was asked since the last call.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().asked).into_iter().map(|(request, _)| request).collect()
    }

    /// The command, with this hub and this cache.
    pub fn ftk(&self, arguments: &[&str]) -> Command {
        let mut command = ftk(arguments);
        for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH"] {
            command.env_remove(name);
        }
        command.env("HF_HOME", self.home.path()).env("HF_ENDPOINT", &self.address).env("NO_PROXY", "127.0.0.1");
        command
    }

    fn pull(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&succeed(&mut self.ftk(&[&["pull", "--json"], arguments].concat()))).unwrap()
    }

    /// The command fails with this error, which names the cache `CACHE` and the endpoint `HUB`, and this hint.
    fn refused(&self, arguments: &[&str], message: &str, hint: &str) {
        let output = self.ftk(&[&["--quiet"], arguments].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        let cache = self.cache().display().to_string();
        let stderr = stderr(&output).replace(&cache, "CACHE").replace(&self.address, "HUB");
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!(lines.len(), 2, "{stderr}");
        assert!(lines[0].starts_with(&format!("error: {message}")), "{stderr}\nexpected: {message}");
        assert!(lines[1].starts_with("hint: ") && lines[1].contains(hint), "{stderr}");
    }

    fn cache(&self) -> PathBuf {
        self.home.path().join("hub")
    }

    fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache().join("models--org--tiny/snapshots").join(commit)
    }

    /// The logits of the fixtures' ids under a base.
    fn logits(&self, options: &[&str]) -> Vec<u8> {
        let out = self.home.path().join("logits.safetensors");
        let mut command = self.ftk(&["logits"]);
        command.args(options).arg("--ids").arg(fixture("micro-llama/logits.safetensors")).arg("--out").arg(&out);
        succeed(&mut command);
        std::fs::read(out).unwrap()
    }
}

/// The files in a folder, links among them followed.
fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| folder.join(name).is_file())
        .collect();
    names.sort();
    names
}

#[test]
fn a_pulled_model_is_in_the_cache_and_nothing_is_asked_for_twice() {
    let hub = Hub::with_model();
    let pulled = hub.pull(&["org/tiny"]);
    assert_eq!(pulled["name"], format!("hf://org/tiny@{FIRST}"));
    assert_eq!(pulled["commit"], FIRST);
    assert_eq!(pulled["path"], hub.snapshot(FIRST).to_str().unwrap());
    assert_eq!(pulled["files"], json!(["config.json", "generation_config.json", "model.safetensors"]));
    assert_eq!(files(&hub.snapshot(FIRST)), ["config.json", "generation_config.json", "model.safetensors"]);
    let asked = hub.asked();
    assert_eq!(asked[0], "/api/models/org/tiny/revision/main");
    assert!(asked[1..].iter().all(|path| path.contains(FIRST)), "the commit, not the branch: {asked:?}");
    assert!(!asked.iter().any(|path| path.contains("README")), "{asked:?}");

    // The layout that other tools read.
    let folder = hub.cache().join("models--org--tiny");
    assert_eq!(std::fs::read_to_string(folder.join("refs/main")).unwrap(), FIRST);
    let weights = std::fs::read(fixture("micro-llama/base/model.safetensors")).unwrap();
    let blob = format!("../../blobs/{}", etag("model.safetensors", &weights));
    #[cfg(unix)]
    assert_eq!(std::fs::read_link(hub.snapshot(FIRST).join("model.safetensors")).unwrap(), Path::new(&blob));
    assert_eq!(std::fs::read(hub.snapshot(FIRST).join("model.safetensors")).unwrap(), weights);
    assert!(folder.join(".no_exist").join(FIRST).join("tokenizer.json").exists());
    assert!(!folder.join(".partial").exists());

    // Again: only what main is now. A commit never changes, and without a connection nothing is asked.
    assert_eq!(hub.pull(&["org/tiny"]), pulled);
    assert_eq!(hub.asked(), ["/api/models/org/tiny/revision/main"]);
    assert_eq!(hub.pull(&[&format!("org/tiny@{FIRST}")])["path"], pulled["path"]);
    assert_eq!(hub.pull(&["hf://org/tiny", "--offline"])["path"], pulled["path"]);

    let local = hub.logits(&["--base", fixture("micro-llama/base").to_str().unwrap()]);
    for base in ["org/tiny", "org/tiny@main", "hf://org/tiny", &format!("org/tiny@{FIRST}")] {
        assert_eq!(hub.logits(&["--base", base]), local, "{base}");
        assert_eq!(hub.logits(&["--base", base, "--offline"]), local, "{base}");
    }
    assert_eq!(hub.asked(), [""; 0]);
}

#[test]
fn a_branch_that_moved_is_followed_by_pull_alone() {
    let hub = Hub::with_model();
    hub.logits(&["--base", "org/tiny"]);
    let weights = std::fs::read(fixture("micro-llama/base/model.safetensors")).unwrap();
    let config = std::fs::read(fixture("micro-llama/base/config.json")).unwrap();
    hub.add("org/tiny", SECOND, "config.json", &[&config[..], b"\n"].concat());
    hub.add("org/tiny", SECOND, "model.safetensors", &weights);
    hub.asked();
    hub.logits(&["--base", "org/tiny"]);
    assert_eq!(hub.asked(), [""; 0]);

    assert_eq!(hub.pull(&["org/tiny"])["commit"], SECOND);
    let asked = hub.asked();
    assert!(asked.iter().any(|path| path.ends_with("config.json 0-")), "{asked:?}");
    assert!(!asked.iter().any(|path| path.ends_with("model.safetensors 0-")), "it was there: {asked:?}");
    assert_eq!(std::fs::read(hub.snapshot(SECOND).join("model.safetensors")).unwrap(), weights);
    assert_eq!(hub.pull(&["org/tiny", "--offline"])["commit"], SECOND);
    assert_eq!(hub.pull(&[&format!("org/tiny@{FIRST}"), "--offline"])["commit"], FIRST);
    assert_eq!(hub.asked(), [""; 0]);
}

#[test]
fn a_recipe_names_model_and_rows_on_the_hub_and_the_run_writes_their_commits_down() {
    let hub = Hub::with_model();
    let rows = b"{\"input_ids\": [5, 6, 7]}\n{\"input_ids\": [9, 8]}\n";
    hub.add("datasets/org/rows", SECOND, "data/some rows.jsonl", rows);
    let folder = hub.home.path().join("run");
    std::fs::create_dir(&folder).unwrap();
    let recipe = folder.join("recipe.toml");
    let text = "task = \"sft\"\n[base]\nmodel = \"org/tiny\"\n[data]\ntrain = \"hf://org/rows/data/some rows.jsonl\"\n\
                [lora]\nrank = 2\n[run]\nout = \"out\"\nsteps = 1\n";
    std::fs::write(&recipe, text).unwrap();
    let train = |recipe: &Path, out: &str, options: &[&str]| {
        let out = folder.join(out);
        let mut command = hub.ftk(&["train", "--recipe"]);
        succeed(command.arg(recipe).arg("--out").arg(&out).args(options));
        (std::fs::read(out.join("adapter_model.safetensors")).unwrap(), out.join("recipe.toml"))
    };
    let (adapter, written) = train(&recipe, "out", &[]);
    assert!(hub.asked().iter().any(|path| path == "/api/datasets/org/rows/revision/main"));
    let resolved = std::fs::read_to_string(&written).unwrap();
    assert!(resolved.contains(&format!("model = \"hf://org/tiny@{FIRST}\"")), "{resolved}");
    assert!(resolved.contains(&format!("train = \"hf://org/rows@{SECOND}/data/some rows.jsonl\"")), "{resolved}");
    let config = std::fs::read_to_string(folder.join("out/adapter_config.json")).unwrap();
    assert!(config.contains("\"base_model_name_or_path\": \"org/tiny\""), "{config}");

    // From the cache, and the recipe that was written down is the same run.
    assert_eq!(train(&recipe, "again", &[]).0, adapter);
    assert_eq!(train(&written, "written", &["--offline"]).0, adapter);
    assert_eq!(hub.asked(), [""; 0]);
}

#[test]
fn what_the_hub_does_not_have_is_refused_by_name() {
    let hub = Hub::with_model();
    let hint = "private or gated needs HF_TOKEN";
    hub.refused(&["pull", "org/other"], "hf://org/other: not at HUB, or not open to you: status 404", hint);
    hub.refused(&["pull", "org/tiny@v2"], "hf://org/tiny@v2: not at HUB, or not open to you: status 404", hint);
    hub.refused(&["generate", "--base", "org/other", "--prompt", "a"], "hf://org/other: not at HUB", hint);
    hub.refused(&["pull", "org/tiny", "--file", "m.gguf"], "hf://org/tiny: no such file: m.gguf", "list of files");
    hub.refused(&["pull", "org/rows/a.jsonl", "--dataset"], "hf://org/rows: not at HUB", hint);
    assert!(!hub.cache().join("models--org--tiny/refs").exists());
    hub.add("datasets/org/rows", FIRST, "a.jsonl", b"{}");
    let message = "hf://org/rows: is a data set, and no model";
    hub.refused(&["pull", "org/rows"], message, "`ftk pull hf://org/rows --dataset` fetches its rows");
    hub.refused(&["generate", "--base", "org/rows", "--prompt", "a"], message, "a base is a model");
    let message = "hf://org/tiny: is a model, and no data set";
    hub.refused(&["pull", "org/tiny", "--dataset"], message, "`ftk pull hf://org/tiny` fetches it");

    hub.add("org/quants", FIRST, "config.json", b"{}");
    hub.add("org/quants", FIRST, "a.Q4.gguf", b"GGUF");
    hub.refused(&["pull", "org/quants"], "hf://org/quants: holds no safetensors", "GGUF files: a.Q4.gguf");
    assert_eq!(hub.pull(&["org/quants", "--file", "a.Q4.gguf"])["files"], json!(["a.Q4.gguf"]));
    hub.asked();
    let path = hub.cache().join("models--org--quants/snapshots").join(FIRST).join("a.Q4.gguf");
    let message = format!("{}: ", path.display()).replace(hub.cache().to_str().unwrap(), "CACHE");
    let output = hub.ftk(&["generate", "--base", "hf://org/quants/a.Q4.gguf", "--prompt", "a"]).output().unwrap();
    let text = stderr(&output).replace(hub.cache().to_str().unwrap(), "CACHE");
    assert!(text.starts_with(&format!("error: {message}")), "the file was opened: {text}");
    assert_eq!(hub.asked(), [""; 0]);
}

#[test]
fn malformed_names_are_refused_before_anything_is_asked() {
    let hub = Hub::new();
    for name in ["org", "org/..", "../org/name", "org/name@", "org/name@../x"] {
        hub.refused(&["pull", name], &format!("not a name on the hub: {name}"), "ORG/NAME@REVISION");
    }
    hub.refused(&["pull", "org/name", "--file", "../x"], "not a file's name: ../x", "inside the repository");
    hub.refused(
        &["generate", "--base", "hf://org", "--prompt", "a"],
        "not a name on the hub: hf://org",
        "hf://ORG/NAME",
    );
    assert_eq!(hub.asked(), [""; 0]);
}

#[test]
fn a_broken_connection_leaves_no_entry_and_is_taken_up_where_it_broke() {
    let hub = Hub::with_model();
    hub.fault("model.safetensors", Some(Fault::Breaks));
    let name = "hf://org/tiny/model.safetensors: cannot be fetched: ";
    hub.refused(&["pull", "org/tiny"], name, "what has arrived is kept");
    assert_eq!(files(&hub.snapshot(FIRST)), ["config.json", "generation_config.json"]);
    assert!(!hub.cache().join("models--org--tiny/refs/main").exists());
    hub.refused(&["pull", "org/tiny", "--offline"], "offline, and config.json of hf://org/tiny is not in", "ftk pull");

    hub.fault("model.safetensors", None);
    hub.asked();
    hub.pull(&["org/tiny"]);
    let asked = hub.asked();
    let starts = |path: &String| path.split_once("/model.safetensors ").map(|(_, range)| range.to_owned());
    let ranges: Vec<String> = asked.iter().filter_map(starts).filter(|range| range != "0-0").collect();
    assert!(!ranges.is_empty() && ranges.iter().all(|range| !range.starts_with("0-")), "{asked:?}");
    let weights = std::fs::read(fixture("micro-llama/base/model.safetensors")).unwrap();
    assert_eq!(std::fs::read(hub.snapshot(FIRST).join("model.safetensors")).unwrap(), weights);
}

#[test]
fn a_file_that_is_not_the_announced_one_never_enters_the_cache() {
    let size = std::fs::metadata(fixture("micro-llama/base/model.safetensors")).unwrap().len();
    let short = format!("{size} bytes were announced, there are {}", size / 2);
    for (file, fault, reason) in [
        ("model.safetensors", Fault::Short, short.as_str()),
        ("model.safetensors", Fault::Other, "SHA-256 "),
        ("generation_config.json", Fault::Other, "git id "),
    ] {
        let hub = Hub::with_model();
        hub.fault(file, Some(fault));
        let message = format!("hf://org/tiny/{file}: damaged on its way: {reason}");
        hub.refused(&["pull", "org/tiny"], &message, "nothing of it entered the cache");
        assert!(!files(&hub.snapshot(FIRST)).contains(&file.to_owned()));
        assert!(!hub.cache().join("models--org--tiny/refs").exists());
        hub.fault(file, None);
        hub.pull(&["org/tiny"]);
        let expected = std::fs::read(fixture("micro-llama/base").join(file)).unwrap();
        assert_eq!(std::fs::read(hub.snapshot(FIRST).join(file)).unwrap(), expected);
    }
}

#[test]
fn offline_means_no_connection_and_says_what_is_missing() {
    let hub = Hub::with_model();
    let message = "offline, and config.json of hf://org/tiny is not in the cache: CACHE";
    let hint = "run `ftk pull hf://org/tiny` with a connection";
    hub.refused(&["--offline", "pull", "org/tiny"], message, hint);
    hub.refused(&["generate", "--base", "org/tiny", "--prompt", "a", "--offline"], message, hint);
    for word in ["1", "true", "YES", "on"] {
        let output = hub.ftk(&["pull", "org/tiny"]).env("HF_HUB_OFFLINE", word).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("error: offline, and config.json"), "{word}: {}", stderr(&output));
    }
    let message = "offline, and a.jsonl of hf://org/rows is not in the cache: CACHE";
    let hint = "run `ftk pull hf://org/rows --dataset`";
    hub.refused(&["--offline", "pull", "org/rows/a.jsonl", "--dataset"], message, hint);
    assert_eq!(hub.asked(), [""; 0]);
    // The other words do not mean it.
    succeed(hub.ftk(&["pull", "org/tiny"]).env("HF_HUB_OFFLINE", "0"));
    // One file is gone.
    std::fs::remove_file(hub.snapshot(FIRST).join("model.safetensors")).unwrap();
    let message = "offline, and model.safetensors of hf://org/tiny is not in the cache: CACHE";
    hub.refused(&["--offline", "pull", "org/tiny"], message, "ftk pull hf://org/tiny");
}

#[test]
fn weights_in_shards_come_with_their_index() {
    let hub = Hub::with_model();
    let file = std::fs::read(fixture("micro-llama/base/model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let (mut map, mut shards) = (BTreeMap::new(), [Vec::new(), Vec::new()]);
    for (at, (name, view)) in tensors.tensors().into_iter().enumerate() {
        map.insert(name.clone(), format!("part {}.safetensors", at % 2));
        shards[at % 2].push((name, view));
    }
    for (at, shard) in shards.into_iter().enumerate() {
        let bytes = safetensors::serialize(shard, None).unwrap();
        hub.add("org/shards", FIRST, &format!("part {at}.safetensors"), &bytes);
    }
    let index = json!({ "weight_map": map }).to_string();
    hub.add("org/shards", FIRST, "model.safetensors.index.json", index.as_bytes());
    let config = std::fs::read(fixture("micro-llama/base/config.json")).unwrap();
    hub.add("org/shards", FIRST, "config.json", &config);
    let local = hub.logits(&["--base", fixture("micro-llama/base").to_str().unwrap()]);
    assert_eq!(hub.logits(&["--base", "org/shards"]), local);
    hub.asked();
    assert_eq!(hub.logits(&["--base", "org/shards"]), local);
    assert_eq!(hub.asked(), [""; 0]);
    std::fs::remove_file(hub.cache().join("models--org--shards/snapshots").join(FIRST).join("part 1.safetensors"))
        .unwrap();
    let message = "offline, and part 1.safetensors of hf://org/shards is not in the cache";
    hub.refused(&["--offline", "pull", "org/shards"], message, "ftk pull");

    let leaving = index.replace("part 1.safetensors", "../part 1.safetensors");
    hub.add("org/leaving", FIRST, "model.safetensors.index.json", leaving.as_bytes());
    hub.add("org/leaving", FIRST, "config.json", &config);
    let mut named = hub.ftk(&["pull", "org/tiny"]);
    let output = named.env("HF_ENDPOINT", "https://user:s3cret@hub.example").output().unwrap();
    let told = stderr(&output);
    assert!(
        told.starts_with("error: HF_ENDPOINT: holds a name or a password, which would stand in messages\nhint: "),
        "{told}"
    );
    assert!(output.status.code() == Some(2) && !told.contains("s3cret"), "{told}");
    hub.refused(&["pull", "org/leaving"], "HUB: not an answer of a hub: ", "HF_ENDPOINT");
}

#[test]
fn a_data_set_is_its_files_of_rows() {
    let hub = Hub::new();
    for (name, content) in [("a.jsonl", "{}"), ("b/c.json", "[]"), ("d.parquet", "PAR1"), ("README.md", "#")] {
        hub.add("datasets/org/rows", FIRST, name, content.as_bytes());
    }
    let pulled = hub.pull(&["org/rows", "--dataset"]);
    assert_eq!(pulled["files"], json!(["a.jsonl", "b/c.json", "d.parquet"]));
    let folder = hub.cache().join("datasets--org--rows/snapshots").join(FIRST);
    assert_eq!(std::fs::read(folder.join("b/c.json")).unwrap(), b"[]");
    hub.asked();
    assert_eq!(hub.pull(&["org/rows", "--dataset", "--offline"]), pulled);
    assert_eq!(hub.asked(), [""; 0]);

    hub.add("datasets/org/rows", SECOND, "../../../evil.jsonl", b"{}");
    hub.refused(&["pull", "org/rows", "--dataset"], "HUB: not an answer of a hub: no plain file name", "HF_ENDPOINT");
    assert_eq!(hub.pull(&["org/rows", "--dataset", "--offline"]), pulled);
}

#[test]
fn what_other_tools_have_pulled_is_used_and_the_rest_is_fetched() {
    let hub = Hub::with_model();
    hub.add("org/tiny", FIRST, "chat_template.jinja", b"{{ messages }}");
    // Some tools leave files where links could be, and no marks.
    let snapshot = hub.snapshot(FIRST);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(hub.cache().join("models--org--tiny/refs")).unwrap();
    std::fs::write(hub.cache().join("models--org--tiny/refs/main"), FIRST).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture("micro-llama/base").join(name), snapshot.join(name)).unwrap();
    }
    hub.logits(&["--base", "org/tiny", "--offline"]);
    assert_eq!(hub.asked(), [""; 0]);
    hub.logits(&["--base", "org/tiny"]);
    let asked = hub.asked();
    assert!(!asked.iter().any(|path| path.contains("/config.json") || path.contains("model.safetensors")), "{asked:?}");
    assert_eq!(files(&snapshot), ["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"]);
}

#[test]
fn cache_and_token_are_where_the_environment_says() {
    let hub = Hub::with_model();
    let cache = hub.home.path().join("elsewhere");
    std::fs::write(hub.home.path().join("token"), "secret\n").unwrap();
    succeed(hub.ftk(&["pull", "org/tiny"]).env("HF_HUB_CACHE", &cache));
    assert!(cache.join("models--org--tiny/refs/main").exists() && !hub.cache().exists());
    assert!(hub.state.lock().unwrap().asked.iter().any(|(_, token)| *token));
    std::fs::write(hub.home.path().join("token"), "").unwrap();
    hub.asked();
    succeed(&mut hub.ftk(&["pull", "org/tiny"]));
    assert!(!hub.state.lock().unwrap().asked.iter().any(|(_, token)| *token));
    hub.asked();
    succeed(hub.ftk(&["pull", "org/tiny"]).env("HF_TOKEN", "secret"));
    assert!(hub.state.lock().unwrap().asked.iter().all(|(_, token)| *token));
}

#[test]
fn what_older_tools_call_the_environment_is_honoured() {
    let hub = Hub::with_model();
    let cache = hub.home.path().join("older");
    let tokens = || hub.state.lock().unwrap().asked.drain(..).map(|(_, token)| token).collect::<Vec<_>>();
    succeed(
        hub.ftk(&["pull", "org/tiny"]).env("HUGGINGFACE_HUB_CACHE", &cache).env("HUGGING_FACE_HUB_TOKEN", "secret"),
    );
    assert!(cache.join("models--org--tiny/refs/main").exists() && !hub.cache().exists());
    assert!(tokens().iter().all(|token| *token));
    // Whoever forbids to send what nobody asked for is obeyed.
    let quiet = [("HF_TOKEN", "secret"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")];
    succeed(hub.ftk(&["pull", "org/tiny"]).envs(quiet));
    let seen = tokens();
    assert!(!seen.is_empty() && !seen.contains(&true), "{seen:?}");
    let output = hub.ftk(&["pull", "org/other"]).env("TRANSFORMERS_OFFLINE", "1").output().unwrap();
    assert!(stderr(&output).starts_with("error: offline, and "), "{}", stderr(&output));
    // The newer name goes first.
    let both = [("TRANSFORMERS_OFFLINE", "1"), ("HF_HUB_OFFLINE", "0")];
    succeed(hub.ftk(&["pull", "org/tiny"]).envs(both));
    assert!(!tokens().is_empty());
    let output = hub.ftk(&["pull", "org/tiny"]).env("HF_HUB_ETAG_TIMEOUT", "soon").output().unwrap();
    let message = "error: HF_HUB_ETAG_TIMEOUT: not a number of seconds from 1: soon";
    assert!(stderr(&output).starts_with(message), "{}", stderr(&output));
    let fresh = hub.home.path().join("fresh");
    succeed(hub.ftk(&["pull", "org/tiny"]).env("HF_HUB_ETAG_TIMEOUT", "5").env("HF_HUB_CACHE", &fresh));
}

#[test]
fn the_token_never_leaves_the_hub() {
    let hub = Hub::with_model().with_storage();
    // The storage host refuses a request with a token, as S3 does.
    succeed(hub.ftk(&["pull", "org/tiny"]).env("HF_TOKEN", "secret"));
    let state = hub.state.lock().unwrap();
    assert!(state.asked.iter().all(|(_, token)| *token), "{:?}", state.asked);
    assert!(!state.stored.is_empty() && state.stored.iter().all(|(_, token)| !token), "{:?}", state.stored);
}

#[test]
fn a_hub_that_is_busy_for_a_moment_is_waited_for() {
    for status in [429, 500, 503] {
        let hub = Hub::with_model();
        hub.state.lock().unwrap().busy = (3, status);
        hub.pull(&["org/tiny"]);
    }
    let hub = Hub::with_model();
    hub.state.lock().unwrap().busy = (99, 429);
    hub.refused(&["pull", "org/tiny"], "hf://org/tiny: cannot be fetched: status 429, 5 times", "try again");
}

#[test]
fn a_hub_without_parts_sends_files_whole_and_a_portal_is_no_hub() {
    let hub = Hub::with_model();
    hub.state.lock().unwrap().whole = true;
    hub.fault("model.safetensors", Some(Fault::Breaks));
    hub.refused(&["pull", "org/tiny"], "hf://org/tiny/model.safetensors: cannot be fetched: ", "try again");
    hub.fault("model.safetensors", None);
    hub.pull(&["org/tiny"]);
    let weights = std::fs::read(fixture("micro-llama/base/model.safetensors")).unwrap();
    assert_eq!(std::fs::read(hub.snapshot(FIRST).join("model.safetensors")).unwrap(), weights);
    hub.state.lock().unwrap().portal = true;
    hub.refused(&["pull", "org/tiny"], "HUB: not an answer of a hub: no list of files: ", "HF_ENDPOINT");
}

#[test]
fn an_empty_file_is_pulled_though_it_has_no_parts() {
    let hub = Hub::with_model();
    hub.add("org/tiny", FIRST, "added_tokens.json", b"");
    hub.pull(&["org/tiny", "--file", "added_tokens.json"]);
    assert_eq!(std::fs::read(hub.snapshot(FIRST).join("added_tokens.json")).unwrap(), b"");
}

#[test]
fn a_file_that_was_cut_short_in_the_cache_is_fetched_anew() {
    let hub = Hub::with_model();
    hub.pull(&["org/tiny"]);
    let weights = hub.snapshot(FIRST).join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..100]).unwrap();
    hub.pull(&["org/tiny"]);
    assert_eq!(std::fs::read(&weights).unwrap(), whole);
}

#[test]
fn the_cache_is_where_a_shell_would_say_it_is() {
    let hub = Hub::with_model();
    let home = hub.home.path().join("home");
    std::fs::create_dir(&home).unwrap();
    succeed(hub.ftk(&["pull", "org/tiny"]).env("HOME", &home).env("HF_HUB_CACHE", "~/$PART/hub").env("PART", "a"));
    assert!(home.join("a/hub/models--org--tiny/refs/main").exists());
    let mut command = hub.ftk(&["pull", "org/tiny"]);
    let output = command.env("HF_HUB_CACHE", "$NOWHERE/hub").env_remove("NOWHERE").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with("error: HF_HUB_CACHE: unknown here: $NOWHERE: $NOWHERE/hub"),
        "{}",
        stderr(&output)
    );
}

/// A server that sends every request on to another, as mirrors do, and counts what it is asked.
fn mirror(to: &str) -> (String, Arc<Mutex<Vec<bool>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, to) = (format!("http://{}", listener.local_addr().unwrap()), to.to_owned());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let shared = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let path = lines[0].split(' ').nth(1).unwrap();
            shared
                .lock()
                .unwrap()
                .push(lines.iter().any(|line| line.to_ascii_lowercase().starts_with("authorization")));
            let head = format!("HTTP/1.1 308 Permanent Redirect\r\nLocation: {to}{path}\r\n");
            let _ = stream.write_all((head + "Content-Length: 0\r\nConnection: close\r\n\r\n").as_bytes());
        }
    });
    (address, asked)
}

#[test]
fn a_mirror_that_redirects_everything_is_followed_without_the_token() {
    let hub = Hub::with_model();
    let (address, asked) = mirror(&hub.address);
    succeed(hub.ftk(&["pull", "org/tiny"]).env("HF_ENDPOINT", address).env("HF_TOKEN", "secret"));
    assert!(asked.lock().unwrap().iter().all(|token| *token));
    let state = hub.state.lock().unwrap();
    assert!(!state.asked.is_empty() && state.asked.iter().all(|(_, token)| !token), "{:?}", state.asked);
    drop(state);
    let weights = std::fs::read(fixture("micro-llama/base/model.safetensors")).unwrap();
    assert_eq!(std::fs::read(hub.snapshot(FIRST).join("model.safetensors")).unwrap(), weights);
}

#[test]
fn a_connection_that_stalls_ends_when_the_environment_says_and_goes_on_from_there() {
    let hub = Hub::with_model();
    hub.fault("model.safetensors", Some(Fault::Stalls));
    let began = std::time::Instant::now();
    let output = hub.ftk(&["pull", "org/tiny"]).env("HF_HUB_DOWNLOAD_TIMEOUT", "1").output().unwrap();
    assert!(output.status.code() == Some(2) && began.elapsed().as_secs() < 30, "{}", stderr(&output));
    let told = stderr(&output);
    assert!(told.contains("the connection broke, going on from byte "), "{told}");
    assert!(told.contains("error: hf://org/tiny/model.safetensors: cannot be fetched: "), "{told}");
    hub.fault("model.safetensors", None);
    hub.asked();
    hub.pull(&["org/tiny"]);
    assert!(!hub.asked().iter().any(|path| path.ends_with("model.safetensors 0-")));
    let weights = std::fs::read(fixture("micro-llama/base/model.safetensors")).unwrap();
    assert_eq!(std::fs::read(hub.snapshot(FIRST).join("model.safetensors")).unwrap(), weights);
    for wrong in ["soon", "0", "-1"] {
        let output = hub.ftk(&["pull", "org/tiny"]).env("HF_HUB_DOWNLOAD_TIMEOUT", wrong).output().unwrap();
        let message = format!("error: HF_HUB_DOWNLOAD_TIMEOUT: not a number of seconds from 1: {wrong}\nhint: ");
        assert!(output.status.code() == Some(2) && stderr(&output).starts_with(&message), "{}", stderr(&output));
    }
}

#[test]
fn what_is_waited_for_is_said() {
    let hub = Hub::with_model();
    {
        let mut state = hub.state.lock().unwrap();
        (state.busy, state.mute) = ((1, 429), 2);
    }
    let output = hub.ftk(&["pull", "org/tiny"]).output().unwrap();
    let told = stderr(&output);
    assert!(output.status.success(), "{told}");
    let lines: Vec<&str> = told.lines().collect();
    assert!(lines[0].starts_with("no answer from 127.0.0.1, trying again in 1 s: "), "{told}");
    assert!(lines[1].starts_with("no answer from 127.0.0.1, trying again in 2 s: "), "{told}");
    assert_eq!(lines[2], "127.0.0.1 is busy (status 429), trying again in 0 s");
    hub.state.lock().unwrap().mute = 3;
    hub.refused(&["pull", "org/tiny"], "hf://org/tiny: cannot be fetched: ", "try again");
    assert_eq!(hub.state.lock().unwrap().mute, 0);
}

#[test]
fn the_place_for_a_result_is_looked_at_before_anything_is_fetched() {
    let hub = Hub::with_model();
    let folder = hub.home.path().join("run");
    std::fs::create_dir_all(folder.join("out")).unwrap();
    std::fs::write(folder.join("out/adapter_model.safetensors"), "").unwrap();
    let text = "task = \"sft\"\n[base]\nmodel = \"org/tiny\"\n[data]\ntrain = \"rows.jsonl\"\n[lora]\n\
                [run]\nout = \"out\"\n";
    std::fs::write(folder.join("recipe.toml"), text).unwrap();
    for more in [&[][..], &["--dry-run"]] {
        let output = hub.ftk(&["train", "recipe.toml"]).args(more).current_dir(&folder).output().unwrap();
        let told = stderr(&output);
        assert!(told.starts_with("error: out/adapter_model.safetensors: is there already"), "{told}");
        assert_eq!(hub.asked(), [""; 0]);
    }
}
