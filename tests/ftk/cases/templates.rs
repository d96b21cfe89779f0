//! Chat templates, and what of a conversation they write and is scored.

use serde_json::{Value, json};

use super::look::{CHATML, base, preview, refused, shown, turns};
use crate::run::{ftk, stderr};

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

/// transformers has three ways to keep a template for conversations with tools beside the other: a folder, a list in a
/// configuration, and a key of GGUF files, which a test of theirs is about.
#[test]
fn a_template_for_tools_is_taken_where_there_are_tools() {
    let folder = tempfile::tempdir().unwrap();
    let model = base(folder.path(), CHATML);
    let mut with = json!({"messages": turns(), "tools": [{"name": "f"}]});
    let without = json!({"messages": turns(), "tools": []});
    let look = |row: &Value| {
        std::fs::write(folder.path().join("rows.jsonl"), row.to_string()).unwrap();
        let mut command = ftk(&["data", "preview", "--data"]);
        command.arg(folder.path().join("rows.jsonl")).arg("--base").arg(&model).output().unwrap()
    };
    // Without the marks of what is scored.
    let text = |row: &Value| String::from_utf8(look(row).stdout).unwrap().replace("[[", "").replace("]]", "");
    assert!(stderr(&look(&with)).contains(":1:tools: the chat template writes no tools"));
    let for_tools = "TOOLS:{{ tools | tojson }}".to_owned() + CHATML;
    let config = model.join("tokenizer_config.json");
    let mut listed: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    listed["chat_template"] =
        json!([{"name": "tool_use", "template": for_tools}, {"name": "default", "template": CHATML}]);
    for listed_only in [true, false] {
        if listed_only {
            std::fs::remove_file(model.join("chat_template.jinja")).unwrap();
            std::fs::write(&config, listed.to_string()).unwrap();
        } else {
            std::fs::write(model.join("chat_template.jinja"), CHATML).unwrap();
            std::fs::create_dir(model.join("additional_chat_templates")).unwrap();
            std::fs::write(model.join("additional_chat_templates/tool_use.jinja"), &for_tools).unwrap();
        }
        for tools in [json!([{"name": "f"}]), json!("[{\"name\": \"f\"}]")] {
            with["tools"] = tools;
            assert!(text(&with).contains("TOOLS:[{\"name\": \"f\"}]"), "{}", text(&with));
        }
        assert!(!text(&without).contains("TOOLS:") && text(&without).contains("<|im_start|>"), "{}", text(&without));
        // What such a template writes of a turn is asked of it, and not of the other.
        let mut called = with.clone();
        called["messages"][1] = json!({"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]});
        assert!(stderr(&look(&called)).contains("does not write this part of a turn: tool_calls"));
    }
}

#[test]
fn what_a_template_leaves_out_of_an_answer_is_counted() {
    let strips = CHATML.replace("m.content", "m.content.split('</think>')[-1]");
    let thought = |content: &str| json!({"messages": [turns()[0], {"role": "assistant", "content": content}]});
    let count = |template: &str, row: &Value, more: &[&str]| {
        preview(template, "rows.jsonl", row.to_string().as_bytes(), more).unwrap().1["shortened"].clone()
    };
    let assistant = ["--set", "data.loss=assistant"];
    for more in [&[][..], &assistant] {
        assert_eq!(count(&strips, &thought("<think>a</think>r"), more), 1);
        assert_eq!(count(&strips, &thought("r"), more), 0);
    }
    let pair = json!({"prompt": [turns()[0]], "completion": [{"role": "assistant", "content": "<think>a</think>r"}]});
    assert_eq!(count(&strips, &pair, &[]), 1);
    // Thoughts of any turn, and of two alike each.
    let last = CHATML.replace("m.content +", "(m.reasoning_content or '' if loop.last else '') + m.content +");
    let thinks = |first: Value, second: Value| {
        let turn = |thought: Value| json!({"role": "assistant", "content": "r", "reasoning_content": thought});
        json!({"messages": [turns()[0], turn(first), turns()[0], turn(second)]})
    };
    assert_eq!(count(&last, &thinks(json!("hm"), json!("oh")), &[]), 1);
    assert_eq!(count(&last, &thinks(json!(null), json!("oh")), &[]), 0);
    let once = CHATML.replace("m.content +", "(m.content if loop.last else m.content.split('</think>')[-1]) +");
    let same = thought("<think>a</think>r");
    let twice = json!({"messages": [turns()[0], same["messages"][1], turns()[0], same["messages"][1]]});
    assert_eq!(count(&once, &twice, &[]), 1);
    // White space is the template's own.
    let spaced = CHATML.replace("m.content", "m.content.split('</think>') | join('</think>\n\n')");
    assert_eq!(count(&spaced, &thought("<think>a</think>r"), &[]), 0);
}

#[test]
fn what_a_template_refuses_is_told_with_the_row() {
    let strict =
        "{% if messages[0].role != 'user' %}{{ raise_exception('begin with the user') }}{% endif %}".to_owned();
    let (good, bad) = (json!({"messages": turns()}), json!({"messages": [turns()[1], turns()[0], turns()[1]]}));
    let error = preview(&(strict + CHATML), "rows.jsonl", format!("{good}\n{bad}").as_bytes(), &[]).unwrap_err();
    assert!(
        error.starts_with("error: rows.jsonl:2: chat template: ") && error.contains("begin with the user"),
        "{error}"
    );
    let forgets = CHATML.replace("m.content", "(m.content if loop.last else '')");
    let rows = json!({"messages": [turns()[0], turns()[1], turns()[0], turns()[1]]}).to_string();
    let error = preview(&forgets, "rows.jsonl", rows.as_bytes(), &["--set", "data.loss=assistant"]).unwrap_err();
    assert!(error.starts_with("error: rows.jsonl:1: the chat template neither marks"), "{error}");
    let last = CHATML.replace("+ m.content", "+ ('!' if loop.last and m.role == 'user' else '') + m.content");
    let row = json!({"prompt": [turns()[0]], "completion": [turns()[1]]}).to_string();
    let error = preview(&last, "rows.jsonl", row.as_bytes(), &[]).unwrap_err();
    assert!(error.contains("otherwise once it is answered\nhint: give the base a chat template"), "{error}");
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
fn a_turn_that_the_template_leaves_open_is_refused_with_what_to_mend() {
    let open = CHATML.replace("m.content + '<|im_end|>\n'", "m.content + ('' if loop.last else '<|im_end|>\n')");
    let row = json!({"messages": [turns()[0], {"role": "assistant", "content": "It is deep."}]}).to_string();
    let error = preview(&open, "rows.jsonl", row.as_bytes(), &[]).unwrap_err();
    assert!(error.starts_with("error: rows.jsonl:1: generation stops at <|im_end|>"), "{error}");
    assert!(error.contains("hint: the chat template leaves the assistant's turn open"), "{error}");
    assert!(!error.contains("eos_token_id"), "{error}");
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
