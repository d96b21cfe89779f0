//! What a command says and leaves behind when it cannot do what was asked.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::run::{fixture, ftk, stderr};

/// A folder with a recipe that works and its rows.
struct Place(tempfile::TempDir);

const ROW: &str = "{\"input_ids\": [5, 6, 7]}\n";

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("rows.jsonl", ROW);
        let base = fixture("micro-llama/base");
        let recipe = format!(
            "task = \"sft\"\n[base]\nmodel = {base:?}\n[data]\ntrain = \"rows.jsonl\"\n[lora]\nrank = 2\n\
             [run]\nout = \"out\"\nsteps = 1\n"
        );
        place.write("recipe.toml", &recipe);
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    /// Changes the recipe.
    fn replace(self, from: &str, to: &str) -> Self {
        let text = std::fs::read_to_string(self.path().join("recipe.toml")).unwrap();
        assert!(text.contains(from), "{from}");
        self.write("recipe.toml", &text.replace(from, to));
        self
    }

    fn train(&self, json: bool) -> Output {
        let mut command = ftk(&["train", "--recipe"]);
        command.arg(self.path().join("recipe.toml")).args(json.then_some("--json")).output().unwrap()
    }

    /// Training is refused, for a person and for a program alike, with this message and a hint that
    /// holds these words; nothing is written.
    fn refused(&self, message: &str, hint: &str) {
        let message = message.replace("FOLDER", &self.path().display().to_string());
        let plain = self.train(false);
        refusal(&plain, &message, hint);
        assert!(plain.stdout.is_empty());
        let json = self.train(true);
        refusal(&json, &message, hint);
        object(&json, &message);
        assert!(!self.path().join("out").exists(), "something was written");
    }
}

/// Exit code 2, one line that says what is wrong, one that says what to do.
fn refusal(output: &Output, message: &str, hint: &str) {
    let stderr = stderr(output);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert_eq!(lines[0], format!("error: {message}"));
    assert!(lines[1].starts_with("hint: ") && lines[1].contains(hint), "{stderr}");
}

/// One JSON object with the message, and with the hint that a person gets.
fn object(output: &Output, message: &str) {
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    let object: Value = serde_json::from_str(&stdout).unwrap();
    let mut expected = serde_json::json!({ "error": message });
    let hint = stderr(output).lines().find_map(|line| line.strip_prefix("hint: ").map(str::to_owned));
    if let Some(hint) = hint {
        expected["hint"] = hint.into();
    }
    assert_eq!(object, expected);
}

#[test]
fn the_recipe_that_the_errors_start_from_works() {
    let place = Place::new();
    let output = place.train(false);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(place.path().join("out/adapter_model.safetensors").exists());
}

#[test]
fn an_unknown_recipe_key_is_refused_with_its_line_and_the_nearest_key() {
    let place = Place::new().replace("rank = 2", "rnak = 2");
    place.refused("FOLDER/recipe.toml:7: unknown key: rnak", "did you mean rank?");
}

#[test]
fn a_recipe_that_is_not_there_is_refused_by_its_path() {
    let output = ftk(&["train", "--recipe", "no/such.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("error: no/such.toml: cannot read the recipe: "), "{}", stderr(&output));
    assert!(stderr(&output).contains("\nhint: give the path of a recipe file"), "{}", stderr(&output));
}

#[test]
fn a_missing_model_is_refused_by_its_path() {
    let base = format!("{:?}", fixture("micro-llama/base"));
    let place = Place::new().replace(&base, "\"nowhere\"");
    place.refused("FOLDER/nowhere: no such file or folder", "give a Hugging Face folder");
}

#[test]
fn a_malformed_row_is_refused_by_path_line_and_key() {
    let rows = [
        ("{\"input_ids\": [5, 6], \"labels\": [5]}", ":labels: must be as long as input_ids"),
        ("{\"input_ids\": \"5\"}", ":input_ids: must be a list of token ids"),
        ("{\"input_ids\": [5, -6]}", ":input_ids: must be a list of token ids"),
        ("{\"input_ids\": [5, 512]}", ":input_ids: holds an id outside the vocabulary of 512: 512"),
        ("{\"prompt\": \"a\"}", ":completion: is missing"),
        ("{\"prompt\": 3, \"completion\": \"b\"}", ":prompt: must be a string or a list of {role, content}"),
        (
            "{\"messages\": [{\"role\": \"user\"}]}",
            ":messages: a turn's content must be text or a list of parts, and is nothing: user",
        ),
        (
            "{\"txt\": \"a\"}",
            ": needs text, messages, conversations, prompt and completion, instruction and output, or input_ids; there \
             are: txt",
        ),
    ];
    for (row, message) in rows {
        let place = Place::new();
        // After a good row and a blank line.
        place.write("rows.jsonl", &format!("{ROW}\n{row}\n"));
        place.refused(&format!("FOLDER/rows.jsonl:3{message}"), "");
    }
    let place = Place::new();
    place.write("rows.jsonl", "\n[5, 6]\n");
    let output = place.train(false);
    assert_eq!(output.status.code(), Some(2));
    let start = format!("error: {}/rows.jsonl:2: an array, not an object; ", place.path().display());
    assert!(stderr(&output).starts_with(&start), "{}", stderr(&output));
    let place = Place::new();
    place.write("rows.jsonl", "\n\n");
    place.refused("FOLDER/rows.jsonl: holds no rows", "");
}

#[test]
fn a_pair_without_its_other_half_is_refused_by_path_line_and_key() {
    for (row, message) in [
        ("{\"prompt_ids\": [1], \"chosen_ids\": [2]}", ":rejected_ids: is missing"),
        (
            "{\"prompt_ids\": [1], \"chosen_ids\": [600], \"rejected_ids\": [2]}",
            ":chosen_ids: holds an id outside the vocabulary of 512: 600",
        ),
        ("{\"prompt\": \"a\", \"rejected\": \"b\"}", ":chosen: is missing"),
    ] {
        let place = Place::new().replace("\"sft\"", "\"dpo\"");
        place.write("rows.jsonl", row);
        place.refused(&format!("FOLDER/rows.jsonl:1{message}"), "");
    }
}

#[test]
fn text_for_a_base_without_tokenizer_is_refused_with_what_is_missing() {
    let place = Place::new();
    place.write("rows.jsonl", "{\"text\": \"a\"}\n");
    let message = format!("{}: this model has no tokenizer", fixture("micro-llama/base").display());
    place.refused(&message, "add the model's tokenizer.json, or give token ids");
}

#[test]
fn rows_in_which_nothing_is_scored_are_refused() {
    let place = Place::new();
    place.write("rows.jsonl", "{\"input_ids\": [5, 6], \"labels\": [-100, -100]}\n");
    place.refused("FOLDER/rows.jsonl: no row has a scored token or pair", "labels");
    place.write("rows.jsonl", "{\"input_ids\": [5, 6, 7, 8], \"labels\": [-100, -100, -100, 8]}\n");
    let place = place.replace("\"rows.jsonl\"\n", "\"rows.jsonl\"\nmax_length = 3\n");
    place.refused("FOLDER/rows.jsonl: no row has a scored token or pair", "data.max_length in 1 rows");
}

/// The adapter of the fixtures, for a base of another width.
fn wider(folder: &Path) -> std::path::PathBuf {
    let from = fixture("micro-llama/adapter");
    let adapter = ftk_adapters::peft::load(&from).unwrap();
    let mut wide = adapter.clone();
    let factors = wide.sites.get_mut("model.layers.1.mlp.up_proj").unwrap();
    factors.d_in += 1;
    factors.a.resize(factors.rank * factors.d_in, 0.0);
    let out = folder.join("wide");
    ftk_adapters::peft::save(&out, &wide, "base", &[], false).unwrap();
    out
}

#[test]
fn an_adapter_that_does_not_fit_its_base_is_refused_by_its_site() {
    let place = Place::new().replace("rank = 2", "start = \"wide\"");
    wider(place.path());
    let message = "FOLDER/wide: does not fit the base: model.layers.1.mlp.up_proj";
    place.refused(message, "give the base this adapter was trained on");

    let out = place.path().join("logits.safetensors");
    let mut command = ftk(&["--json", "logits", "--adapter"]);
    command.arg(place.path().join("wide")).arg("--base").arg(fixture("micro-llama/base"));
    command.arg("--ids").arg(fixture("micro-llama/logits.safetensors")).arg("--out").arg(&out);
    let output = command.output().unwrap();
    let message = message.replace("FOLDER", &place.path().display().to_string());
    refusal(&output, &message, "give the base this adapter was trained on");
    object(&output, &message);
    assert!(!out.exists());
}

#[test]
fn an_adapter_of_another_kind_is_refused_by_file_and_key() {
    let place = Place::new().replace("rank = 2", "start = \"dora\"");
    let (from, to) = (fixture("micro-llama/adapter"), place.path().join("dora"));
    std::fs::create_dir(&to).unwrap();
    std::fs::copy(from.join("adapter_model.safetensors"), to.join("adapter_model.safetensors")).unwrap();
    let config = std::fs::read_to_string(from.join("adapter_config.json")).unwrap();
    let config = config.replace("\"use_dora\": false", "\"use_dora\": true");
    std::fs::write(to.join("adapter_config.json"), config).unwrap();
    place.refused("FOLDER/dora/adapter_config.json:use_dora: this kind of adapter is not supported: true", "LoRA");
}

#[test]
fn an_adapter_or_base_that_no_run_made_is_never_replaced() {
    let place = Place::new();
    std::fs::create_dir_all(place.path().join("out/base")).unwrap();
    place.write("out/adapter_model.safetensors", "somebody's");
    let message = |name: &str| {
        format!("{}: is there already, from no run in this folder", place.path().join("out").join(name).display())
    };
    refusal(&place.train(false), &message("adapter_model.safetensors"), "--out");
    assert_eq!(std::fs::read(place.path().join("out/adapter_model.safetensors")).unwrap(), b"somebody's");
    let messages = message("base");
    let place = place.replace("[lora]\nrank = 2\n", "").replace("[data]", "train = true\n[data]");
    refusal(&place.train(false), &messages, "--out");
    assert!(place.path().join("out/base").is_dir());
}

#[test]
fn targets_that_name_no_layer_are_refused_with_those_there_are() {
    let place = Place::new().replace("rank = 2", "targets = [\"q_proj\", \"c_attn\"]");
    place.refused("lora.targets names no linear layer of this base: c_attn", "gate_proj");
}

#[test]
fn choices_that_leave_no_layer_or_match_none_are_refused_with_what_to_do() {
    let place = Place::new().replace("rank = 2", "targets = \"q_proj\"");
    place.refused("lora.targets matches no linear layer of this base: q_proj", "write [\"q_proj\"]");
    let place = Place::new().replace("rank = 2", "targets = [\"q_proj\"]\nexclude = '.*attn.*'");
    place.refused("lora.exclude leaves no layer to train", "lora.targets");
    let place = Place::new().replace("rank = 2", "layers = [0, 2]");
    place.refused("lora.layers holds a layer that this base does not have: 2", "its layers are 0 to 1");
    let place = Place::new().replace("rank = 2", "rank_pattern = { q_porj = 4 }");
    place.refused("lora.rank_pattern matches no layer with an adapter: q_porj", "did you mean q_proj?");
    let place = Place::new().replace("rank = 2", "dora = true");
    place.refused("FOLDER/recipe.toml:7: unknown key: dora", "proofs are about what is added");
}

#[test]
fn ids_outside_the_vocabulary_are_refused_before_the_forward_pass() {
    let folder = tempfile::tempdir().unwrap();
    let (ids, out) = (folder.path().join("ids.safetensors"), folder.path().join("logits.safetensors"));
    let words: Vec<u8> = [3i64, 512].iter().flat_map(|id| id.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::I64, vec![1, 2], &words).unwrap();
    safetensors::serialize_to_file([("input_ids", view)], None, &ids).unwrap();
    let mut command = ftk(&["logits", "--base"]);
    command.arg(fixture("micro-llama/base")).arg("--ids").arg(&ids).arg("--out").arg(&out);
    let message = format!("{}: input_ids holds an id outside the vocabulary: 512", ids.display());
    refusal(&command.output().unwrap(), &message, "ids must be below 512");
    assert!(!out.exists());
}

#[test]
fn a_device_the_build_lacks_is_refused_with_the_feature_to_build_with() {
    let base = fixture("micro-llama/base");
    for (device, shown, feature) in
        [("cuda", "cuda:0", "cuda"), ("cuda:1", "cuda:1", "cuda"), ("metal", "metal", "metal")]
    {
        if (feature == "cuda" && cfg!(feature = "cuda")) || (feature == "metal" && cfg!(feature = "metal")) {
            continue;
        }
        let mut command = ftk(&["generate", "--prompt", "a", "--device", device, "--base"]);
        let output = command.arg(&base).output().unwrap();
        let hint = format!("--features {feature}");
        refusal(&output, &format!("this build of ftk cannot compute on: {shown}"), &hint);
        let place = Place::new();
        let mut command = ftk(&["train", "--device", device, "--recipe"]);
        let output = command.arg(place.path().join("recipe.toml")).output().unwrap();
        refusal(&output, &format!("this build of ftk cannot compute on: {shown}"), &hint);
        assert!(!place.path().join("out").exists());
    }
    // What other devices alone have is not passed over.
    let place = Place::new();
    let mut command = ftk(&["train", "--set", "run.tf32=true", "--recipe"]);
    let output = command.arg(place.path().join("recipe.toml")).output().unwrap();
    refusal(&output, "run.tf32: TF32 is a number format of CUDA devices alone", "--device cuda");
    let output = ftk(&["generate", "--prompt", "a", "--device", "gpu", "--base", "village"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("must be cpu, cuda, cuda:N or metal"), "{}", stderr(&output));
}

#[test]
fn an_unknown_flag_or_verb_exits_with_two() {
    for arguments in [&["train", "--recipee", "r.toml"][..], &["--no-such-flag"], &["trian"], &["train"], &[]] {
        let output = ftk(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    assert!(ftk(&["--version"]).output().unwrap().status.success());
    let choice = ["prove", "--base", "b", "--adapter", "a", "--commitment", "c", "--prompt", "q", "--task", "choice"];
    let output = ftk(&[&choice[..], &["--out", "o"]].concat()).output().unwrap();
    refusal(&output, "a choice needs the ids that it is among", "--among ID,ID");
}

#[test]
fn a_chat_template_that_eats_memory_is_refused_while_there_is_some_left() {
    let folder = tempfile::tempdir().unwrap();
    let village = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/text/village/base");
    for file in std::fs::read_dir(village).unwrap().map(|entry| entry.unwrap()) {
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let doubles = "{% set ns = namespace(a='a') %}{% for i in range(99) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}";
    std::fs::write(folder.path().join("chat_template.jinja"), doubles).unwrap();
    let mut command = ftk(&["generate", "--prompt", "Hi", "--base"]);
    let output = command.arg(folder.path()).output().unwrap();
    refusal(&output, "chat template: takes more bytes of memory than 268435456", "chat template");
}
