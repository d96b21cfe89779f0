//! Files and columns of rows.

use serde_json::{Value, json};

use super::look::{CHATML, base, preview, refused, shown, turns};
use crate::run::{ftk, stderr};

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
        let told = format!(
            "{name}: may be the prompt, which no column that is read holds\nhint: call it prompt; or if it is none"
        );
        refused(&pair(name, "How deep is it?"), &["--task", "dpo"], &told);
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
        (json!({"text": " "}), &[][..]),
        (json!({"messages": [turns()[0], blank]}), &["--set", "data.loss=assistant"]),
        (json!({"prompt": [turns()[0]], "chosen": [turns()[1]], "rejected": [blank]}), &["--task", "dpo"]),
    ] {
        let (_, counts) = preview(CHATML, "rows.jsonl", row.to_string().as_bytes(), more).unwrap();
        assert_eq!(counts["blank"], 1, "{row}");
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
    let rows = object["examples"].as_array().unwrap();
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
fn what_one_reader_takes_otherwise_than_another_is_refused_where_it_is_read() {
    let error = |row: &str, name: &str| preview(CHATML, name, row.as_bytes(), &[]).unwrap_err();
    for name in ["rows.jsonl", "rows.json"] {
        let twice = error("{\"text\": \"a\", \"text\": \"b\"}", name);
        assert!(twice.starts_with(&format!("error: {name}:1:text: stands there twice")), "{twice}");
        let half = error("{\"text\": \"a\\ud800b\"}", name);
        assert!(half.starts_with(&format!("error: {name}:1:text: holds half of a surrogate pair")), "{half}");
        let elsewhere = b"{\"text\": \"a\", \"id\": 1, \"id\": 2, \"note\": \"\\udc00\"}";
        let (rows, counts) = preview(CHATML, name, elsewhere, &[]).unwrap();
        assert_eq!((rows.len(), &counts["unread"]), (1, &json!({"id": 1, "note": 1})));
    }
    let inner = error("{\"messages\": [{\"role\": \"user\", \"content\": \"a\", \"content\": \"b\"}]}", "rows.jsonl");
    assert!(
        inner.contains(":1:messages: stands there twice, and only one would be read: content, in messages"),
        "{inner}"
    );
}

#[test]
fn a_row_without_the_columns_it_needs_is_told_with_those_it_has() {
    let error = preview(CHATML, "rows.jsonl", b"{\"Text\": \"a\", \"id\": 1}", &[]).unwrap_err();
    assert!(error.contains(", or input_ids; there are: Text, id\nhint: a row is an object: "), "{error}");
    // A hint about columns is none about what a column holds.
    let error = preview(CHATML, "rows.jsonl", b"{\"text\": 3}", &[]).unwrap_err();
    assert!(error.starts_with("error: rows.jsonl:1:text: must be a string\nhint: mend the row, or name "), "{error}");
    let error =
        preview(CHATML, "rows.jsonl", b"{\"input_ids\": [5, 6, 7], \"labels\": [6, 7, -100]}", &[]).unwrap_err();
    assert!(error.contains("\nhint: labels stand at the places of their ids"), "{error}");
}

/// LLaMA-Factory's name for whether a completion is wanted.
#[test]
fn a_tag_for_kto_is_a_label() {
    let row = |tag: Value| json!({"instruction": "q", "output": "r", "kto_tag": tag});
    let kto = ["--task", "dpo", "--set", "dpo.loss=kto"];
    assert_eq!(preview(CHATML, "rows.jsonl", row(json!(true)).to_string().as_bytes(), &kto).unwrap().0.len(), 1);
    refused(&row(json!("yes")), &kto, "kto_tag: must be true or false");
    // TRL asks whether a label is True, and whether it is False; 1 is neither.
    let numbered = json!({"prompt": "q", "completion": "r", "label": 1}).to_string();
    let error = preview(CHATML, "rows.jsonl", numbered.as_bytes(), &kto).unwrap_err();
    assert!(
        error.contains(":label: must be true or false") && error.contains("jq -c '.label = (.label == 1)'"),
        "{error}"
    );
    refused(&row(json!(false)), &[], "kto_tag: says whether the answer is wanted, but sft learns every answer");
}
