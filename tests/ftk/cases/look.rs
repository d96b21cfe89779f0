//! Small copies, and how they are looked at.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::run::{ftk, stderr};

/// The base that ships with ftk, with this chat template.
pub(super) fn base(folder: &Path, template: &str) -> PathBuf {
    ftk_bases::village::unpack(folder).unwrap();
    let base = folder.join("base");
    std::fs::write(base.join("chat_template.jinja"), template).unwrap();
    base
}

pub(super) const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// What `ftk data preview` gives: each text with what is scored of it, or the error; and the notes.
pub(super) fn preview(
    template: &str,
    name: &str,
    rows: &[u8],
    more: &[&str],
) -> Result<(Vec<[String; 2]>, Value), String> {
    let folder = tempfile::tempdir().unwrap();
    let base = base(folder.path(), template);
    let file = folder.path().join(name);
    std::fs::write(&file, rows).unwrap();
    let mut command = ftk(&["data", "preview", "--json", "--rows", "9", "--base"]);
    let output = command.arg(base).arg("--data").arg(&file).args(more).output().unwrap();
    if !output.status.success() {
        assert_eq!(output.status.code(), Some(2));
        return Err(stderr(&output).replace(&format!("{}/", folder.path().display()), ""));
    }
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let scored = |row: &Value, wanted: bool| -> String {
        let parts = row["text"].as_array().unwrap().iter();
        parts.filter(|part| part[1] == wanted).map(|part| part[0].as_str().unwrap()).collect()
    };
    let rows = object["examples"].as_array().unwrap().iter();
    Ok((rows.map(|row| [scored(row, false), scored(row, true)]).collect(), object["data"][0].clone()))
}

pub(super) fn shown(template: &str, row: &Value, more: &[&str]) -> Vec<[String; 2]> {
    preview(template, "rows.jsonl", row.to_string().as_bytes(), more).unwrap().0
}

pub(super) fn refused(row: &Value, more: &[&str], expected: &str) {
    let error = preview(CHATML, "rows.jsonl", row.to_string().as_bytes(), more).unwrap_err();
    assert!(error.starts_with(&format!("error: rows.jsonl:1:{expected}")), "{error}");
}

pub(super) fn turns() -> Value {
    json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}])
}

/// A recipe with this for its sections `[lora]` and `[run]`, on four short texts.
pub(super) fn recipe(folder: &Path, lora: &str, run: &str) -> PathBuf {
    let model = base(folder, CHATML);
    let rows: String = (0..4).map(|n| json!({"text": format!("the old mill {n}")}).to_string() + "\n").collect();
    std::fs::write(folder.join("rows.jsonl"), rows).unwrap();
    let recipe = format!(
        "task = \"sft\"\n[base]\nmodel = {model:?}\n[data]\ntrain = \"rows.jsonl\"\n[lora]\n{lora}\n[optim]\n\
         schedule = \"constant\"\n[run]\nout = \"out\"\nbatch = 2\n{run}\n"
    );
    let path = folder.join("recipe.toml");
    std::fs::write(&path, recipe).unwrap();
    path
}
