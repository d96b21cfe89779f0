//! What real users' files do: for each kind of public report a small copy of its own making, and what is to come of it.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

use crate::run::{ftk, stderr, succeed};

/// The base that ships with ftk, with this chat template.
fn base(folder: &Path, template: &str) -> PathBuf {
    ftk_bases::village::unpack(folder).unwrap();
    let base = folder.join("base");
    std::fs::write(base.join("chat_template.jinja"), template).unwrap();
    base
}

const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/// What `ftk data preview` gives: each text with what is scored of it, or the error; and the notes.
fn preview(template: &str, name: &str, rows: &[u8], more: &[&str]) -> Result<(Vec<[String; 2]>, Value), String> {
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
    let rows = object["rows"].as_array().unwrap().iter();
    Ok((rows.map(|row| [scored(row, false), scored(row, true)]).collect(), object["data"][0].clone()))
}

fn shown(template: &str, row: &Value, more: &[&str]) -> Vec<[String; 2]> {
    preview(template, "rows.jsonl", row.to_string().as_bytes(), more).unwrap().0
}

fn refused(row: &Value, more: &[&str], expected: &str) {
    let error = preview(CHATML, "rows.jsonl", row.to_string().as_bytes(), more).unwrap_err();
    assert!(error.starts_with(&format!("error: rows.jsonl:1:{expected}")), "{error}");
}

fn turns() -> Value {
    json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}])
}

#[test]
fn an_answer_is_scored_from_where_prompt_and_whole_part() {
    let opened =
        CHATML.replace("'<|im_start|>assistant\n' }}{% endif %}", "'<|im_start|>assistant\n<think>\n' }}{% endif %}");
    let row =
        json!({"prompt": [turns()[0]], "chosen": [turns()[1]], "rejected": [{"role": "assistant", "content": "no"}]});
    let rows = preview(&opened, "rows.jsonl", row.to_string().as_bytes(), &["--task", "dpo"]).unwrap();
    assert_eq!([&rows.0[0][1], &rows.0[1][1]], ["r<|im_end|>\n", "no<|im_end|>\n"]);
    assert_eq!(rows.1["parted"], 1);
}

#[test]
fn reasoning_reaches_a_template_that_writes_it_and_is_refused_where_none_does() {
    let writes = CHATML.replace("m.content +", "(m.reasoning_content or '') + m.content +");
    let row = json!({"messages": [turns()[0], {"role": "assistant", "content": "r", "reasoning_content": "hm "}]});
    assert!(shown(&writes, &row, &[])[0][1].ends_with("hm r<|im_end|>\n"));
    refused(&row, &[], "messages: the chat template does not write this part of a turn: reasoning_content");
}

#[test]
fn columns_of_known_formats_are_used_or_named() {
    let rows = shown(CHATML, &json!({"system": "s", "messages": turns()}), &[]);
    assert!(rows[0].concat().starts_with("<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nq"), "{rows:?}");
    let lost = "is not read beside";
    refused(&json!({"system": "s", "prompt": "q ", "completion": "r"}), &[], &format!("system: {lost}"));
    refused(&json!({"input": "i", "prompt": "q ", "completion": "r"}), &[], &format!("input: {lost}"));
    refused(&json!({"history": [["a", "b"]], "messages": turns()}), &[], &format!("history: {lost}"));
    let pair = json!({"question": "q", "chosen": "The Aller.", "rejected": "The river."});
    refused(&pair, &["--task", "dpo"], &format!("question: {lost}"));
    refused(&json!({"chosen": "The Aller.", "rejected": "The river."}), &["--task", "dpo"], "prompt: is missing");
    let rows = shown(CHATML, &json!({"instruction": "", "input": "q", "output": "r"}), &[]);
    assert_eq!(rows[0], ["<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n", "r<|im_end|>\n"]);
    let (_, counts) = preview(CHATML, "rows.jsonl", b"{\"text\": \"a\", \"id\": 3}", &[]).unwrap();
    assert_eq!(counts["unread"], json!({"id": 1}));
}

/// What two answers happen to begin with is no prompt where the question stands beside them, whatever it is called.
#[test]
fn a_question_under_any_name_is_not_passed_over_in_pairs_without_a_prompt() {
    let answers = [("chosen", "I think that it is deep."), ("rejected", "I think not.")];
    let pair = |name: &str, text: &str| {
        let mut row = json!({(name): text});
        row.as_object_mut().unwrap().extend(answers.map(|(name, text)| (name.to_owned(), text.into())));
        row
    };
    for name in ["problem", "what_was_asked"] {
        refused(&pair(name, "How deep is it?"), &["--task", "dpo"], &format!("{name}: may be the prompt"));
    }
    for (name, text) in [("source", "forum"), ("prompt_prefix", "I think")] {
        let row = pair(name, text).to_string();
        assert_eq!(preview(CHATML, "rows.jsonl", row.as_bytes(), &["--task", "dpo"]).unwrap().0.len(), 2);
    }
    let only = ["--task", "dpo", "--set", "data.columns=[\"chosen\", \"rejected\"]"];
    let row = pair("problem", "How deep is it?").to_string();
    assert_eq!(preview(CHATML, "rows.jsonl", row.as_bytes(), &only).unwrap().0.len(), 2);
}

#[test]
fn a_prompt_that_its_answers_begin_with_is_not_read_twice() {
    let whole = |answer: &str| json!([turns()[0], {"role": "assistant", "content": answer}]);
    let chat = json!({"prompt": [turns()[0]], "chosen": whole("a"), "rejected": whole("b")});
    let plain = json!({"prompt": "How deep? ", "chosen": "How deep? Deep.", "rejected": "How deep? No."});
    for row in [chat, plain] {
        refused(
            &row,
            &["--task", "dpo"],
            "prompt: stands at the beginning of chosen and of rejected, too\nhint: say which",
        );
        let only = ["--task", "dpo", "--set", "data.columns=[\"chosen\", \"rejected\"]"];
        assert_eq!(preview(CHATML, "rows.jsonl", row.to_string().as_bytes(), &only).unwrap().0.len(), 2);
    }
    let told = json!({"prompt": [turns()[0]], "completion": whole("a")});
    refused(&told, &[], "prompt: stands at the beginning of completion, too");
    let echo = json!({"prompt": "How deep? ", "chosen": "How deep? Deep.", "rejected": "No."}).to_string();
    assert!(preview(CHATML, "rows.jsonl", echo.as_bytes(), &["--task", "dpo"]).is_ok());
}

#[test]
fn answers_of_nothing_but_white_space_are_counted() {
    let blank = json!({"role": "assistant", "content": " \n"});
    for (row, more) in [
        (json!({"prompt": "q", "completion": "  "}), &[][..]),
        (json!({"messages": [turns()[0], blank]}), &["--set", "data.loss=assistant"]),
        (json!({"prompt": [turns()[0]], "chosen": [turns()[1]], "rejected": [blank]}), &["--task", "dpo"]),
    ] {
        let (_, counts) = preview(CHATML, "rows.jsonl", row.to_string().as_bytes(), more).unwrap();
        assert_eq!(counts["blank"], 1, "{row}");
    }
}

#[test]
fn tools_and_parts_of_text_are_given_to_the_template_or_named() {
    let parts = json!([{"type": "text", "text": "q"}]);
    let rows =
        shown(CHATML, &json!({"messages": [{"role": "user", "content": parts}, turns()[1]], "tools": "[]"}), &[]);
    assert!(rows[0].concat().contains("user\nq<|im_end|>"), "{rows:?}");
    let call = json!({"type": "function", "function": {"name": "f", "arguments": {}}});
    let called = json!({"messages": [turns()[0], {"role": "assistant", "content": null, "tool_calls": [call]},
                                     {"role": "tool", "content": "3"}, turns()[1]], "tools": [{"name": "f"}]});
    refused(&called, &[], "messages: the chat template does not write this part of a turn: tool_calls");
    let writes = "{{ tools | tojson }}".to_owned()
        + &CHATML.replace("m.content +", "(m.content or '') ~ (m.tool_calls | tojson if m.tool_calls else '') +");
    let rows = shown(&writes, &called, &[]);
    let text = rows[0].concat();
    assert!(text.starts_with("[{\"name\": \"f\"}]") && text.contains("\"arguments\": {}"), "{text}");
    let told = json!({"conversations": [{"from": "human", "value": "q"}, {"from": "observation", "value": "3"},
                                        {"from": "gpt", "value": "r"}]});
    assert!(shown(CHATML, &told, &[])[0].concat().contains("tool\n3<|im_end|>"));
}

#[test]
fn turns_of_a_role_that_the_template_leaves_out_are_refused() {
    let picky = CHATML.replace("{% for m in messages %}", "{% for m in messages if m.role in ['user', 'assistant'] %}");
    for role in ["system", "developer", "tool"] {
        let mut messages = turns();
        messages.as_array_mut().unwrap().insert(1, json!({"role": role, "content": "Be brief."}));
        let row = json!({"messages": messages}).to_string();
        for more in [&[][..], &["--set", "data.loss=assistant"]] {
            let error = preview(&picky, "rows.jsonl", row.as_bytes(), more).unwrap_err();
            let message =
                format!("error: rows.jsonl:1: the chat template does not write turns of this role: {role}\nhint: give");
            assert!(error.starts_with(&message), "{error}");
        }
        assert!(preview(CHATML, "rows.jsonl", row.as_bytes(), &[]).is_ok());
    }
    let row = json!({"system": "s", "prompt": [turns()[0]], "completion": [turns()[1]]}).to_string();
    let error = preview(&picky, "rows.jsonl", row.as_bytes(), &[]).unwrap_err();
    assert!(error.contains("turns of this role: system"), "{error}");
    // One that writes such turns beside others only is left to itself.
    let beside = CHATML.replace(
        "{% for m in messages %}",
        "{% for m in messages if m.role != 'system' or messages[0].role == 'system' and messages | length > 2 %}",
    );
    let row = json!({"system": "s", "messages": turns()}).to_string();
    assert!(preview(&beside, "rows.jsonl", row.as_bytes(), &[]).is_ok());
}

#[test]
fn a_template_for_tools_is_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let model = base(folder.path(), &("{{ tools }}".to_owned() + CHATML));
    let with = json!({"messages": turns(), "tools": [{"name": "f"}]}).to_string() + "\n";
    let without = json!({"messages": turns()}).to_string() + "\n";
    let look = |rows: &str| {
        std::fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
        let mut command = ftk(&["data", "preview", "--data"]);
        command.arg(folder.path().join("rows.jsonl")).arg("--base").arg(&model).output().unwrap()
    };
    assert!(look(&with).status.success());
    let config = model.join("tokenizer_config.json");
    let mut listed: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    let source = std::fs::read_to_string(model.join("chat_template.jinja")).unwrap();
    listed["chat_template"] = json!([{"name": "tool_use", "template": "x"}, {"name": "default", "template": source}]);
    for listed_only in [true, false] {
        if listed_only {
            std::fs::remove_file(model.join("chat_template.jinja")).unwrap();
            std::fs::write(&config, listed.to_string()).unwrap();
        } else {
            std::fs::write(model.join("chat_template.jinja"), &source).unwrap();
            std::fs::create_dir(model.join("additional_chat_templates")).unwrap();
            std::fs::write(model.join("additional_chat_templates/tool_use.jinja"), "x").unwrap();
        }
        let said = stderr(&look(&with));
        assert!(said.contains(":1:tools: the base has another chat template for rows with tools"), "{said}");
        assert!(look(&without).status.success());
    }
}

#[test]
fn ids_are_taken_without_padding_and_labels_at_their_places() {
    let row =
        json!({"input_ids": [9, 9, 5, 6, 7], "attention_mask": [0, 0, 1, 1, 1], "labels": [-100, -100, -100, 6, 7]});
    let (_, counts) = preview(CHATML, "rows.jsonl", row.to_string().as_bytes(), &[]).unwrap();
    assert_eq!((&counts["tokens"], &counts["scored"]), (&json!(3), &json!(2)));
    refused(&json!({"input_ids": [5, 6, 7, 8], "labels": [6, 7, 8, -100]}), &[], "labels: scores another id");
}

#[test]
fn masks_and_weights_of_ids_are_used_or_refused_by_name() {
    for name in ["loss_mask", "assistant_mask", "response_mask", "completion_mask"] {
        let row = json!({"input_ids": [5, 6, 7, 8], (name): [0, 0, 1, 1]}).to_string();
        assert_eq!(preview(CHATML, "rows.jsonl", row.as_bytes(), &[]).unwrap().1["scored"], 2, "{name}");
        refused(&json!({"text": "a", (name): [0, 1]}), &[], &format!("{name}: is not read beside text"));
    }
    for (name, value) in [
        ("mask", json!([true, true, false, false])),
        ("weights", json!([0, 0, 1, 1])),
        ("prompt_mask", json!([1, 1, 0, 0])),
        ("seq_lengths", json!([2, 2])),
        ("position_ids", json!([0, 1, 0, 1])),
    ] {
        refused(
            &json!({"input_ids": [5, 6, 7, 8], (name): value}),
            &[],
            &format!("{name}: is not read beside input_ids"),
        );
    }
    for (name, value) in [("weight", json!(0)), ("loss_weight", json!(0.5)), ("train", json!(false))] {
        refused(&json!({"messages": turns(), (name): value}), &[], &format!("{name}: is not read beside messages"));
    }
    // What says what is so without it is no reason to refuse a row.
    for (name, value) in [
        ("weights", json!([1, 1.0])),
        ("position_ids", json!([0, 1])),
        ("seq_lengths", json!([2])),
        ("train", json!(true)),
    ] {
        let row = json!({"input_ids": [5, 6], (name): value}).to_string();
        assert_eq!(preview(CHATML, "rows.jsonl", row.as_bytes(), &[]).unwrap().1["unread"], json!({(name): 1}));
    }
}

#[test]
fn a_turn_that_is_marked_is_not_scored() {
    let folder = tempfile::tempdir().unwrap();
    let model = base(folder.path(), CHATML);
    let bad = |mark: &str, value: Value| json!({"role": "assistant", "content": "BAD", (mark): value});
    let rows: String = [bad("weight", json!(0)), bad("train", json!(false)), bad("loss_weight", json!(0.0))]
        .map(|bad| json!({"messages": [turns()[0], bad, turns()[0], turns()[1]]}).to_string() + "\n")
        .concat();
    std::fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
    let recipe = format!(
        "task = \"sft\"\n[base]\nmodel = {model:?}\n[data]\ntrain = \"rows.jsonl\"\nloss = \"assistant\"\n[lora]\n\
         [run]\nout = \"out\"\n"
    );
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    let mut command = ftk(&["data", "preview", "--json", "--rows", "9", "--recipe"]);
    let output = command.arg(folder.path().join("recipe.toml")).output().unwrap();
    let object: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
    let rows = object["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let scored = row["text"].as_array().unwrap().iter().filter(|part| part[1] == true);
        assert_eq!(scored.map(|part| part[0].as_str().unwrap()).collect::<Vec<_>>(), ["r<|im_end|>"]);
    }
}

#[test]
fn text_that_was_rendered_before_ends_once() {
    let row =
        json!({"prompt": "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "completion": "yo<|im_end|>\n"});
    assert_eq!(shown(CHATML, &row, &[])[0][1], "yo<|im_end|>\n");
}

#[test]
fn templates_follow_python_and_write_no_day_that_nobody_gave() {
    let row = json!({"messages": turns()});
    let whole = |template: &str| shown(&(template.to_owned() + CHATML), &row, &[])[0].concat();
    for (template, expected) in [
        ("{% for k in {'S1': 1, 'S2': 2, 'S10': 3} %}{{ k }}{% endfor %}", "S1S2S10"),
        ("{% if tools is iterable and tools | length > 0 %}T{% endif %}", ""),
        ("{{ 'a/b/c'.rsplit('/', 1)[1] }}{{ '%s-%d' % ('a', 3) }}{{ [1, 'a', none] }}", "ca-3[1, 'a', None]"),
        ("a\r\n{{ {'a': [1]} | tojson(separators=(',', ':')) }}", "a\n{\"a\":[1]}"),
    ] {
        let text = whole(template);
        assert!(text.starts_with(&format!("{expected}<|im_start|>user")), "{text}");
    }
    let dated = "{{ strftime_now('%d %B %Y') }}".to_owned() + CHATML;
    let rows = row.to_string();
    let error = preview(&dated, "rows.jsonl", rows.as_bytes(), &[]).unwrap_err();
    assert!(error.contains("strftime_now") && error.contains("hint: ") && error.contains("base.date"), "{error}");
    let (texts, _) = preview(&dated, "rows.jsonl", rows.as_bytes(), &["--date", "2025-07-06"]).unwrap();
    assert!(texts[0].concat().starts_with("06 July 2025"));
    let error = preview(&dated, "rows.jsonl", rows.as_bytes(), &["--date", "6.7.2025"]).unwrap_err();
    assert!(error.starts_with("error: --date: must be a day such as 2025-07-06: 6.7.2025"), "{error}");
}

#[test]
fn files_of_other_tools_are_read_or_named_with_their_line() {
    let row = "{\"prompt\": \"q\", \"completion\": \"r\", \"score\": NaN}\n";
    assert_eq!(preview(CHATML, "rows.jsonl", row.as_bytes(), &[]).unwrap().0.len(), 1);
    let wide: Vec<u8> = row.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let error = preview(CHATML, "rows.jsonl", &[&[0xFF, 0xFE], wide.as_slice()].concat(), &[]).unwrap_err();
    assert!(
        error.starts_with("error: rows.jsonl:1: not UTF-8: UTF-16") && error.contains("rows must be UTF-8"),
        "{error}"
    );
    let error = preview(CHATML, "rows.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"caf\xe9\"}\n", &[]).unwrap_err();
    assert!(error.starts_with("error: rows.jsonl:2: not UTF-8: the byte 0xe9"), "{error}");
    let error = preview(CHATML, "rows.jsonl", b"[{\"text\": \"a\"}]", &[]).unwrap_err();
    assert!(error.contains("is one array is named .json"), "{error}");
    assert_eq!(preview(CHATML, "rows.json", b"{\"text\": \"a\"}\n{\"text\": \"b\"}", &[]).unwrap().0.len(), 2);
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n";
    for name in ["rows.jsonl", "rows.parquet"] {
        let error = preview(CHATML, name, pointer, &[]).unwrap_err();
        assert!(error.contains("a Git LFS pointer") && error.contains("git lfs pull"), "{error}");
    }
}

#[test]
fn a_file_of_another_kind_than_its_name_says_is_named() {
    for (bytes, found, hint) in [
        (&b"\x1f\x8b\x08\x00"[..], "gzip", "let its name end with .gz"),
        (b"PAR1", "Parquet", "let its name end with .parquet"),
        (b"PK\x03\x04", "zip", "unpack it"),
    ] {
        let error = preview(CHATML, "rows.jsonl", bytes, &[]).unwrap_err();
        let told = format!("error: rows.jsonl: is a file of {found}, which its name does not say\nhint: {hint}");
        assert!(error.starts_with(&told), "{error}");
    }
}

#[test]
fn rows_beyond_the_context_and_pairs_of_equals_are_counted() {
    let long = json!({"text": "the old mill ".repeat(600)});
    let (_, counts) = preview(CHATML, "rows.jsonl", long.to_string().as_bytes(), &[]).unwrap();
    assert_eq!(counts["beyond"], 1);
    let same = json!({"prompt": "q ", "chosen": "r", "rejected": "r"});
    let (_, counts) = preview(CHATML, "rows.jsonl", same.to_string().as_bytes(), &["--task", "dpo"]).unwrap();
    assert_eq!(counts["equal"], 1);
}

#[test]
fn a_turn_that_the_template_leaves_open_is_refused_with_what_to_mend() {
    let open = CHATML.replace("m.content + '<|im_end|>\n'", "m.content + ('' if loop.last else '<|im_end|>\n')");
    let row = json!({"messages": [turns()[0], {"role": "assistant", "content": "It is deep."}]}).to_string();
    let error = preview(&open, "rows.jsonl", row.as_bytes(), &[]).unwrap_err();
    assert!(error.starts_with("error: rows.jsonl:1: generation stops at <|im_end|>"), "{error}");
    assert!(error.contains("hint: the chat template leaves the assistant's turn open"), "{error}");
    assert!(!error.contains("eos_token_id"), "{error}");
}

/// The class that a configuration names, and what it says of the beginning, change nothing: the file says what it does.
#[test]
fn ids_are_those_of_the_tokenizers_file_whatever_class_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let model = base(folder.path(), CHATML);
    let ids = |text: &str| {
        let mut command = ftk(&["generate", "--raw", "--max-tokens", "1", "--json", "--prompt", text, "--base"]);
        serde_json::from_str::<Value>(&succeed(command.arg(&model))).unwrap()["prompt_ids"].clone()
    };
    let [plain, marked] = ["the mill", "xthe mill"].map(ids);
    assert_ne!(plain, marked);
    let edit = |name: &str, keys: Value| {
        let mut file: Value = serde_json::from_slice(&std::fs::read(model.join(name)).unwrap()).unwrap();
        file.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        std::fs::write(model.join(name), file.to_string()).unwrap();
    };
    edit(
        "tokenizer_config.json",
        json!({"tokenizer_class": "LlamaTokenizer", "legacy": false, "add_prefix_space": true}),
    );
    assert_eq!(ids("the mill"), plain);
    edit("tokenizer.json", json!({"normalizer": {"type": "Prepend", "prepend": "x"}}));
    assert_eq!(ids("the mill"), marked);
}

/// A token that only a configuration names is one token in text, as transformers has it.
#[test]
fn a_special_token_that_is_only_named_is_one_token() {
    let folder = tempfile::tempdir().unwrap();
    let model = base(folder.path(), CHATML);
    let ids = || {
        let mut command =
            ftk(&["generate", "--raw", "--max-tokens", "1", "--json", "--prompt", "a<|im_end|>b", "--base"]);
        serde_json::from_str::<Value>(&succeed(command.arg(&model))).unwrap()["prompt_ids"].clone()
    };
    let whole = ids();
    let path = model.join("tokenizer.json");
    let mut file: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let added = file["added_tokens"].as_array_mut().unwrap();
    let at = added.iter().position(|token| token["content"] == "<|im_end|>").unwrap();
    let id = added.remove(at)["id"].clone();
    file["model"]["vocab"]["<|im_end|>"] = id;
    std::fs::write(&path, file.to_string()).unwrap();
    assert_eq!(ids(), whole);
}

#[test]
fn a_run_that_diverges_says_so_at_the_step_where_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let model = base(folder.path(), CHATML);
    let rows: String = (0..4).map(|n| json!({"text": format!("the old mill {n}")}).to_string() + "\n").collect();
    std::fs::write(folder.path().join("rows.jsonl"), rows).unwrap();
    let recipe = format!(
        "task = \"sft\"\n[base]\nmodel = {model:?}\n[data]\ntrain = \"rows.jsonl\"\n[lora]\nrank = 2\n[optim]\nlr = 1e6\n\
         schedule = \"constant\"\n[run]\nout = \"out\"\nsteps = 40\nbatch = 2\n"
    );
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    let output = ftk(&["train", "--recipe"]).arg(folder.path().join("recipe.toml")).output().unwrap();
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    let error = told.lines().find(|line| line.starts_with("error: ")).unwrap();
    assert!(error.starts_with("error: step 2: ") && error.contains("lora_"), "{told}");
    assert!(told.contains("hint: the run has diverged: lower optim.lr"), "{told}");
}

#[test]
fn an_adapter_may_hold_a_copy_of_the_base_and_a_template_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let model = base(folder.path(), CHATML);
    std::fs::write(folder.path().join("rows.jsonl"), "{\"text\": \"the old mill\"}\n").unwrap();
    let recipe = format!(
        "task = \"sft\"\n[base]\nmodel = {model:?}\n[data]\ntrain = \"rows.jsonl\"\n[lora]\nrank = 2\n[run]\nout = \"out\"\n\
         steps = 1\n"
    );
    std::fs::write(folder.path().join("recipe.toml"), recipe).unwrap();
    succeed(ftk(&["train", "--recipe"]).arg(folder.path().join("recipe.toml")));
    let adapter = folder.path().join("out");
    let generate = || {
        let mut command = ftk(&["generate", "--prompt", "hi", "--max-tokens", "1", "--base"]);
        command.arg(&model).arg("--adapter").arg(&adapter).output().unwrap()
    };
    assert!(!stderr(&generate()).contains("chat template"));
    std::fs::write(adapter.join("chat_template.jinja"), "{{ messages }}").unwrap();
    assert!(stderr(&generate()).contains("out: has a chat template of its own, which differs from the base's"));

    let (factors, weights) = (adapter.join("adapter_model.safetensors"), model.join("model.safetensors"));
    let (own, table) = (std::fs::read(&factors).unwrap(), std::fs::read(weights).unwrap());
    let table = SafeTensors::deserialize(&table).unwrap();
    let table = table.tensor("model.embed_tokens.weight").unwrap();
    let mut copy = table.data().to_vec();
    let write = |copy: &[u8]| {
        let own = SafeTensors::deserialize(&own).unwrap();
        let mut tensors = own.tensors();
        let copy = TensorView::new(table.dtype(), table.shape().to_vec(), copy).unwrap();
        tensors.push(("base_model.model.lm_head.base_layer.weight".to_owned(), copy));
        std::fs::write(&factors, safetensors::serialize(tensors, None).unwrap()).unwrap();
    };
    write(&copy);
    assert!(generate().status.success(), "{}", stderr(&generate()));
    copy[5] ^= 1;
    write(&copy);
    let output = generate();
    assert_eq!(output.status.code(), Some(2));
    let told = stderr(&output);
    assert!(told.contains("out: holds a weight of the base that differs from the base's own: lm_head"), "{told}");
}

/// A template that asks for the day is proved about and verified with the same one.
#[test]
fn the_day_of_a_template_is_given_in_proofs_too() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    base(place, &("{{ strftime_now('%d %B %Y') }}".to_owned() + CHATML));
    crate::seller::adapter_of_rank(&place.join("adapter"), 81, 24);
    let run = |line: &str| ftk(&line.split(' ').collect::<Vec<_>>()).current_dir(place).output().unwrap();
    assert!(run("commit --base base --adapter adapter --out commitment").status.success());
    let prove =
        "prove --base base --adapter adapter --commitment commitment --prompt Hello --max-tokens 2 --out bundle";
    let error = stderr(&run(prove));
    assert!(error.contains("strftime_now") && error.contains("or with --date"), "{error}");
    let made = run(&format!("{prove} --date 2025-07-06"));
    assert!(made.status.success(), "{}", stderr(&made));
    let verify = |day: &str| {
        let said = run(&format!("verify --base base bundle --expect-input Hello --date {day}"));
        String::from_utf8(said.stdout).unwrap().lines().next().unwrap().to_owned()
    };
    assert!(verify("2025-07-06").starts_with("consistent"), "{}", verify("2025-07-06"));
    assert!(verify("2025-07-07").starts_with("invalid: expected input"), "{}", verify("2025-07-07"));
}

#[test]
fn what_cannot_be_done_is_said_and_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let long = "word ".repeat(400);
    let said = ftk(&["generate", "--base", "village", "--raw", "--prompt", &long]).output().unwrap();
    assert_eq!(said.status.code(), Some(2));
    assert!(
        stderr(&said).contains("tokens fills the base's 256 positions\nhint: give a shorter prompt"),
        "{}",
        stderr(&said)
    );
    crate::seller::adapter(&place.join("adapter"), 82);
    std::fs::write(place.join("rows.jsonl"), "{\"prompt\": \"a\"}\n").unwrap();
    for verb in ["commit", "merge"] {
        let mut command =
            ftk(&[verb, "--base", "village", "--adapter", "adapter", "--text", "rows.jsonl", "--out", "o"]);
        let said = command.current_dir(place).output().unwrap();
        assert!(stderr(&said).starts_with("error: rows.jsonl: holds rows, not text"), "{}", stderr(&said));
    }
    let said = ftk(&["commit", "--base", "village", "--adapter", "adapter", "--out", "o", "--max-memory", "1M"])
        .current_dir(place)
        .output()
        .unwrap();
    assert!(stderr(&said).contains("and there are: 1\n"), "{}", stderr(&said));
    let said = ftk(&["commit", "--base", "village", "--adapter", "adapter", "--out", "o", "--max-memory", "8X"]);
    let said = { said }.current_dir(place).output().unwrap();
    assert!(stderr(&said).contains("has the unit K, M, G or T, or none"), "{}", stderr(&said));
}

/// A recipe with this for its sections `[lora]` and `[run]`, on four short texts.
fn recipe(folder: &Path, lora: &str, run: &str) -> PathBuf {
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

#[test]
fn a_finished_run_is_gone_on_with_from_its_result() {
    let folder = tempfile::tempdir().unwrap();
    let path = recipe(folder.path(), "rank = 2", "steps = 2");
    succeed(ftk(&["train"]).arg(&path));
    let more = ftk(&["train", "--resume", "--set", "run.steps=4"]).arg(&path).output().unwrap();
    assert_eq!(more.status.code(), Some(2));
    let told = stderr(&more);
    assert!(told.contains("was made by a different recipe: run.steps was 2 and is 4\nhint: "), "{told}");
    assert!(told.contains("to train on from its result, also with more steps, name it as lora.start"), "{told}");
    // How many states are kept changes no number.
    succeed(ftk(&["train", "--resume", "--set", "run.keep=3", "--set", "run.save_every=1"]).arg(&path));
    let (out, next) = (folder.path().join("out"), folder.path().join("next"));
    let mut command = ftk(&["train", "--set", &format!("lora.start={}", out.display()), "--out"]);
    succeed(command.arg(&next).arg(&path));
    assert_eq!(std::fs::read_to_string(next.join("metrics.jsonl")).unwrap().lines().count(), 2);
}

#[test]
fn an_adapter_comes_with_a_card_and_one_scale_for_every_loader() {
    let folder = tempfile::tempdir().unwrap();
    let path = recipe(folder.path(), "rank = 2\nalpha = 4.0\nrank_pattern = { v_proj = 3 }", "steps = 2");
    let train = |more: &[&str]| {
        let mut command = ftk(&["train"]);
        let output = command.arg(&path).args(more).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let out = folder.path().join(more.last().map_or("out", |out| out));
        let read = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
        (read("README.md"), serde_json::from_str::<Value>(&read("adapter_config.json")).unwrap())
    };
    let named = folder.path().join("named").display().to_string();
    let (card, config) = train(&["--set", "base.name=org/village-1.0", "--out", &named]);
    assert_eq!(config["base_model_name_or_path"], "org/village-1.0");
    // llama.cpp's loader divides one alpha by each tensor's rank.
    assert_eq!((&config["r"], &config["lora_alpha"], &config["rank_pattern"]), (&json!(3), &json!(3), &json!({})));
    let front = "---\nbase_model: org/village-1.0\nlibrary_name: peft\npipeline_tag: text-generation\ntags:\n\
                 - base_model:adapter:org/village-1.0\n- ftk\n- lora\n---\n\n# LoRA adapter of `org/village-1.0`\n";
    assert!(card.starts_with(front), "{card}");
    let metrics = std::fs::read_to_string(Path::new(&named).join("metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    assert!(card.contains(&format!("| `loss` | {:.4} |\n", last["loss"].as_f64().unwrap())), "{card}");
    assert!(card.contains("train = \"rows.jsonl\"\n") && card.contains("v_proj = 3\n"), "{card}");

    // What is no name of the hub is in no metadata, and no path of this machine in the card.
    let plain = folder.path().join("plain").display().to_string();
    let (card, config) = train(&["--out", &plain]);
    assert!(config["base_model_name_or_path"].as_str().unwrap().ends_with("/base"), "{config}");
    assert!(card.starts_with("---\nlibrary_name: peft\n") && card.contains("# LoRA adapter of `base`\n"), "{card}");
    assert!(!card.contains(&folder.path().display().to_string()), "{card}");
    // The name changes no number, and a card of somebody's own stays.
    let factors = |folder: &str| std::fs::read(Path::new(folder).join("adapter_model.safetensors")).unwrap();
    let manifest = |folder: &str| -> Value {
        serde_json::from_slice(&std::fs::read(Path::new(folder).join("manifest.json")).unwrap()).unwrap()
    };
    assert_eq!(manifest(&plain)["run"], manifest(&named)["run"]);
    let numbers = |folder: &str| SafeTensors::deserialize(&factors(folder)).unwrap().names().len();
    assert_eq!(numbers(&plain), numbers(&named));
    std::fs::create_dir(folder.path().join("own")).unwrap();
    std::fs::write(folder.path().join("own/README.md"), "mine").unwrap();
    let own = folder.path().join("own").display().to_string();
    assert_eq!(train(&["--out", &own]).0, "mine");

    let wrong = ftk(&["recipes", "check", "--set", "base.name=../village"]).arg(&path).output().unwrap();
    assert_eq!(stderr(&wrong), "error: --set base.name: must be a name on the hub: ORG/NAME\n");
}

/// What PEFT trained is rounded, and what comes of that has a card with the digest it is committed to under.
#[test]
fn an_adapter_that_was_rounded_has_a_card_with_its_commitment() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    crate::seller::adapter(&place.join("adapter"), 83);
    let config = place.join("adapter/adapter_config.json");
    let mut value: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    value["base_model_name_or_path"] = json!("org/village");
    value["lora_alpha"] = json!(1.5);
    std::fs::write(&config, value.to_string()).unwrap();
    let commit = ["commit", "--base", "village", "--adapter", "adapter", "--out", "commitment", "--quiet"];
    let digest = succeed(ftk(&commit).current_dir(place));
    let card = std::fs::read_to_string(place.join("commitment/adapter/README.md")).unwrap();
    assert!(card.starts_with("---\nbase_model: org/village\n"), "{card}");
    assert!(card.contains(&format!("Committed to as `{}`: ", digest.trim())), "{card}");
}

#[test]
fn a_rank_that_cannot_be_committed_to_is_said_before_training_and_memory_is_one_figure() {
    let folder = tempfile::tempdir().unwrap();
    let path = recipe(folder.path(), "rank = 200\ntargets = [\"v_proj\"]", "steps = 1");
    let note = "no commitment can be made to this adapter, and nothing be proved of it: rank out of bounds: 200; ranks \
                up to 128 can";
    assert!(succeed(ftk(&["train", "--dry-run"]).arg(&path)).contains(note));
    let output = ftk(&["train"]).arg(&path).output().unwrap();
    let (told, began) = (stderr(&output), "step 1/1");
    assert!(told.find(note).unwrap() < told.find(began).unwrap(), "{told}");
    let output = ftk(&["estimate", "--json"]).arg(&path).output().unwrap();
    assert!(stderr(&output).contains(note), "{}", stderr(&output));
    let estimate: Value = serde_json::from_slice(&output.stdout).unwrap();
    let dry = succeed(ftk(&["train", "--dry-run", "--json", "--out"]).arg(folder.path().join("other")).arg(&path));
    let dry: Value = serde_json::from_str(&dry).unwrap();
    assert_eq!(estimate["bytes"]["together"], dry["counts"]["memory"]);
    // Without the rows, what the recipe allows.
    std::fs::remove_file(folder.path().join("rows.jsonl")).unwrap();
    let most: Value = serde_json::from_str(&succeed(ftk(&["estimate", "--json"]).arg(&path))).unwrap();
    assert_eq!(most["tokens"], 2 * 1024);
    assert!(most["bytes"]["together"].as_u64() > estimate["bytes"]["together"].as_u64());
}

#[test]
fn hints_fit_the_row_that_is_refused() {
    let hint = |row: &Value, more: &[&str]| {
        let error = preview(CHATML, "rows.jsonl", row.to_string().as_bytes(), more).unwrap_err();
        error.lines().find_map(|line| line.strip_prefix("hint: ").map(str::to_owned)).unwrap()
    };
    let pair = json!({"prompt": "q", "chosen": "a", "rejected": "b", "input": "i"});
    let columns = "data.columns = [\"chosen\", \"prompt\", \"rejected\"]";
    assert!(hint(&pair, &["--task", "dpo"]).ends_with(columns), "{}", hint(&pair, &["--task", "dpo"]));
    let asked = json!({"question": "q", "chosen": "a", "rejected": "b"});
    assert!(hint(&asked, &["--task", "dpo"]).starts_with("call the question instruction"));
    let thought = json!({"messages": [turns()[0], {"role": "assistant", "content": "r", "reasoning_content": "hm"}]});
    assert!(hint(&thought, &[]).starts_with("give the base a chat template that writes it"));
    // As the hint says, from the command line.
    let rows = pair.to_string();
    let set = ["--task", "dpo", "--set", "data.columns=[\"prompt\", \"chosen\", \"rejected\"]"];
    assert_eq!(preview(CHATML, "rows.jsonl", rows.as_bytes(), &set).unwrap().0.len(), 2);
}

#[test]
fn pairs_that_are_taken_together_are_previewed_as_they_are_trained_on() {
    let pair = |chosen: &str, rejected: &str| {
        json!({"prompt": "q ", "chosen": chosen, "rejected": rejected}).to_string() + "\n"
    };
    let rows = [pair("a", "b"), pair("a", "c"), pair("d", "e")].concat();
    let set = ["--task", "dpo", "--set", "dpo.loss=softmax"];
    let (texts, counts) = preview(CHATML, "rows.jsonl", rows.as_bytes(), &set).unwrap();
    assert_eq!(counts["choices"], 2);
    let scored: Vec<&str> = texts.iter().map(|[_, scored]| &scored.trim_start()[..1]).collect();
    assert_eq!(scored, ["a", "b", "c", "d", "e"]);
    let (_, counts) = preview(CHATML, "rows.jsonl", rows.as_bytes(), &["--task", "dpo"]).unwrap();
    assert_eq!(counts["choices"], Value::Null);
}

#[test]
fn activations_beyond_the_exact_network_are_refused_with_layer_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path();
    let model = base(place, CHATML);
    let file = model.join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let weights = SafeTensors::deserialize(&bytes).unwrap();
    // The upper half of a float is the same number in bf16, which this base is in.
    let large = 30_000f32.to_le_bytes()[2..].to_vec();
    let norm = "model.layers.0.input_layernorm.weight";
    let raised = large.repeat(weights.tensor(norm).unwrap().shape()[0]);
    let tensors: Vec<(String, TensorView)> = weights
        .tensors()
        .into_iter()
        .map(|(name, tensor)| {
            let data = if name == norm { &raised } else { tensor.data() };
            let tensor = TensorView::new(tensor.dtype(), tensor.shape().to_vec(), data).unwrap();
            (name, tensor)
        })
        .collect();
    let changed = safetensors::serialize(tensors, None).unwrap();
    std::fs::write(&file, changed).unwrap();
    crate::seller::adapter(&place.join("adapter"), 84);
    std::fs::write(place.join("text.txt"), "the old mill").unwrap();
    let commit = |out: &str, more: &[&str]| {
        let command = ["commit", "--base", "base", "--adapter", "adapter", "--out", out];
        ftk(&[&command[..], more].concat()).current_dir(place).output().unwrap()
    };
    let with = commit("one", &["--text", "text.txt"]);
    assert_eq!(with.status.code(), Some(2));
    let told = stderr(&with);
    assert!(told.contains("reaches 2^31 at site: model.layers.0."), "{told}");
    assert!(told.contains("hint: proofs are about whole numbers of 32 bits"), "{told}");
    let without = stderr(&commit("two", &[]));
    assert!(
        without.contains("proofs may not be possible: output ") && without.contains("look with --text"),
        "{without}"
    );
}
