//! One turn of a conversation: what its fields mean, and which of them the loss is told by.
//!
//! A turn is written as OpenAI does, `{role, content}`, or as ShareGPT does, `{from, value}`. Its other fields reach the
//! chat template as they are. Those that carry what the model reads, and that the template does not name, are refused;
//! those without a known meaning are named to the caller.

use ftk_bases::{ChatTemplate, Message};
use serde_json::{Map, Value, json};

/// What is said of a part of a turn that would be lost.
pub(super) const NOT_WRITTEN: &str = "the chat template does not write this part of a turn";

/// What is said of a role whose turns would be lost.
pub(super) const NO_ROLE: &str = "the chat template does not write turns of this role";

/// Fields that hold a part of what is said: without them the turn would be another.
pub const SAID: [&str; 14] = [
    "reasoning_content",
    "reasoning",
    "thinking",
    "tool_calls",
    "function_call",
    "tool_plan",
    "tools",
    "documents",
    "images",
    "image",
    "videos",
    "audios",
    "audio",
    "refusal",
];

/// Those of them that hold what was thought before an answer.
pub(super) const THOUGHTS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// Fields that have a namesake among the template's own variables, which is another thing.
const OUTER: [&str; 2] = ["tools", "documents"];

/// Fields that say of a part of a turn whether it is scored, which is not supported.
pub const DETAILS: [&str; 2] = ["train_detail", "training_detail"];

/// Fields that say whether a turn is scored: numbers 0 and 1, or truth values.
pub const MARKS: [&str; 8] =
    ["weight", "loss_weight", "loss_mask", "train", "training", "loss", "loss_scale", "trainable"];

/// Parts of names of fields that say the same in words of somebody's own, where they hold a number or a truth value.
const ABOUT_LOSS: [&str; 8] = ["loss", "mask", "train", "weight", "learn", "ignore", "skip", "supervis"];

/// The field that says so the other way round.
pub const MASKED: &str = "masked";

/// A message, with the names of fields that nothing reads; or what is wrong with it. Without a template nothing is said
/// about what it reads.
pub(super) fn read(turn: &Value, template: Option<&ChatTemplate>) -> Result<(Message, Vec<String>), String> {
    let Some(turn) = turn.as_object() else {
        return Err(format!("must be a list of {{role, content}}, and holds {}", kind(turn)));
    };
    let text = |name: &str| turn.get(name).and_then(Value::as_str);
    let sharegpt = match (text("role"), text("from")) {
        (Some(_), None) => false,
        (None, Some(_)) => true,
        _ => {
            let keys: Vec<&str> = turn.keys().map(String::as_str).collect();
            return Err(format!("a turn is {{role, content}} or {{from, value}}, and one has: {}", keys.join(", ")));
        }
    };
    let mentions = |word: &str| {
        template.is_none_or(|template| match OUTER.contains(&word) {
            true => template.mentions_field(word),
            false => template.mentions(word),
        })
    };
    let (mut fields, mut unread) = (Map::new(), Vec::new());
    for (name, value) in turn {
        match name.as_str() {
            "role" if !sharegpt => drop(fields.insert("role".to_owned(), value.clone())),
            "from" if sharegpt => drop(fields.insert("role".to_owned(), role(value)?.into())),
            "content" | "value" if (name == "value") == sharegpt => {
                fields.insert("content".to_owned(), content(value, template, &mut unread)?);
            }
            _ if value.is_null() => {}
            name if DETAILS.contains(&name) && !empty(value) => {
                return Err(format!("parts of turns cannot be left unscored, only turns: {name}"));
            }
            name if SAID.contains(&name) && !empty(value) && !mentions(name) => {
                return Err(format!("{NOT_WRITTEN}: {name}"));
            }
            name => {
                let known = MARKS.contains(&name) || name == MASKED || mentions(name) || empty(value);
                if !known
                    && (value.is_boolean() || value.is_number())
                    && ABOUT_LOSS.iter().any(|part| name.contains(part))
                {
                    return Err(format!("says of a turn's loss what is not known here: {name}"));
                }
                if !known {
                    unread.push(name.to_owned());
                }
                fields.insert(name.to_owned(), value.clone());
            }
        }
    }
    if sharegpt && text("from") == Some("function_call") {
        calls(&mut fields, template)?;
    }
    if let Some(Value::Array(calls)) = fields.get_mut("tool_calls")
        && template.is_some_and(ChatTemplate::quotes_arguments)
    {
        for arguments in calls.iter_mut().filter_map(|call| call.pointer_mut("/function/arguments")) {
            unquote(arguments);
        }
    }
    let acts = ["tool_calls", "function_call"].into_iter().any(|name| fields.get(name).is_some_and(|v| !empty(v)));
    match fields.get("content") {
        Some(Value::String(_) | Value::Array(_)) => {}
        Some(Value::Null) | None if acts => {}
        other => {
            let found = other.map_or("nothing", kind);
            let role = fields["role"].as_str().unwrap_or_default();
            return Err(format!("a turn's content must be text or a list of parts, and is {found}: {role}"));
        }
    }
    Ok((Message::of(fields), unread))
}

/// ShareGPT's names of those who speak.
fn role(from: &Value) -> Result<&'static str, String> {
    match from.as_str().unwrap_or_default() {
        "human" | "user" => Ok("user"),
        "gpt" | "assistant" | "function_call" => Ok("assistant"),
        "system" => Ok("system"),
        "tool" | "observation" | "function_response" => Ok("tool"),
        other => Err(format!(
            "from must be human, gpt, system, user, assistant, tool, observation, function_call or function_response: {other}"
        )),
    }
}

/// What is said: a text, nothing, or parts of text, which are joined for a template that takes one text.
fn content(value: &Value, template: Option<&ChatTemplate>, unread: &mut Vec<String>) -> Result<Value, String> {
    let Value::Array(parts) = value else { return Ok(value.clone()) };
    let mut texts = Vec::new();
    for part in parts {
        let kind = part["type"].as_str().unwrap_or_default();
        match part.as_str().or_else(|| part["text"].as_str().filter(|_| kind == "text")) {
            Some(text) => texts.push(text),
            None => return Err(format!("content has a part that is not text, of type: {kind}")),
        }
        for (name, _) in part.as_object().into_iter().flatten().filter(|(_, value)| !empty(value)) {
            match name.as_str() {
                "type" | "text" => {}
                name if MARKS.contains(&name) || name == MASKED => {
                    return Err(format!("parts of turns cannot be left unscored, only turns: content[].{name}"));
                }
                name => unread.push(format!("content[].{name}")),
            }
        }
    }
    match template.is_some_and(ChatTemplate::takes_parts) {
        true => Ok(Value::Array(texts.into_iter().map(|text| json!({ "type": "text", "text": text })).collect())),
        false => Ok(texts.concat().into()),
    }
}

/// Turns the text of a ShareGPT call, one `{name, arguments}` or a list of them, into `tool_calls`.
fn calls(fields: &mut Map<String, Value>, template: Option<&ChatTemplate>) -> Result<(), String> {
    if template.is_some_and(|template| !template.mentions("tool_calls")) {
        return Err(format!("{NOT_WRITTEN}: function_call"));
    }
    let wrong = || "function_call must hold {name, arguments} or a list of them, as JSON".to_owned();
    let text = fields.get("content").and_then(Value::as_str).ok_or_else(wrong)?;
    let calls = match serde_json::from_str(text).map_err(|_| wrong())? {
        Value::Array(calls) => calls,
        call => vec![call],
    };
    let call = |call: Value| match (call["name"].as_str(), call.get("arguments")) {
        (Some(name), Some(arguments)) => {
            let mut arguments = arguments.clone();
            unquote(&mut arguments);
            Ok(json!({ "type": "function", "function": { "name": name, "arguments": arguments } }))
        }
        _ => Err(wrong()),
    };
    let calls = calls.into_iter().map(call).collect::<Result<Vec<Value>, String>>()?;
    fields.insert("content".to_owned(), "".into());
    fields.insert("tool_calls".to_owned(), calls.into());
    Ok(())
}

/// Puts the object in the place of a text of one: arguments as OpenAI writes them, which most templates take as objects.
fn unquote(arguments: &mut Value) {
    if let Some(object) = arguments.as_str().and_then(|text| serde_json::from_str::<Map<_, _>>(text).ok()) {
        *arguments = object.into();
    }
}

/// What a turn's marks say about the loss: which field, and whether the turn is scored.
///
/// # Errors
/// The field, and what is wrong with it: a weight between 0 and 1, marks that contradict each other.
pub(super) fn mark(message: &Message) -> Result<Option<(&'static str, bool)>, (&'static str, String)> {
    let mut found: Option<(&'static str, bool)> = None;
    for name in MARKS.into_iter().chain([MASKED]) {
        let Some(value) = message.field(name) else { continue };
        let scored = match (value.as_bool(), value.as_f64()) {
            (Some(bit), _) => bit,
            (_, Some(number)) if number == 0.0 || number == 1.0 => number == 1.0,
            _ => return Err((name, format!("says neither that a turn is scored nor that it is not: {value}"))),
        };
        let scored = scored != (name == MASKED);
        match found {
            Some((other, before)) if before != scored => {
                return Err((name, format!("contradicts another field of the turn: {other}")));
            }
            _ => found = Some((name, scored)),
        }
    }
    Ok(found)
}

/// What a value is, for errors.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Whether a value is nothing that a model could read.
pub(super) fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(source.to_owned(), &BTreeMap::new()).unwrap()
    }

    const PLAIN: &str = "{% for m in messages %}{{ m.role + ':' + m.content }}{% endfor %}";
    const RICH: &str = "{% for m in messages %}{{ m.role }}{% for part in m.content %}{{ part.text }}{% endfor %}\
        {{ m.reasoning_content }}{{ m.tool_calls }}{{ m.name }}{% endfor %}";

    fn of(turn: Value, source: &str) -> Result<(Message, Vec<String>), String> {
        read(&turn, Some(&template(source)))
    }

    fn message(fields: Value) -> Message {
        Message::of(fields.as_object().unwrap().clone())
    }

    #[test]
    fn what_a_template_does_not_write_is_refused_or_named() {
        let turn = json!({"role": "assistant", "content": "a", "reasoning_content": "r"});
        let refusal = "the chat template does not write this part of a turn: reasoning_content";
        assert_eq!(of(turn.clone(), PLAIN).unwrap_err(), refusal);
        assert_eq!(of(turn.clone(), RICH).unwrap(), (message(turn), vec![]));
        for name in SAID.into_iter().filter(|name| *name != "tool_calls") {
            let turn = json!({"role": "assistant", "content": "a", (name): "x"});
            let error = of(turn, PLAIN).unwrap_err();
            assert_eq!(error, format!("the chat template does not write this part of a turn: {name}"));
        }
        let turn = json!({"role": "tool", "content": "a", "name": "f", "id": 3, "weight": 1, "tool_calls": []});
        assert_eq!(of(turn.clone(), PLAIN).unwrap(), (message(turn.clone()), vec!["name".to_owned(), "id".to_owned()]));
        assert_eq!(of(turn, RICH).unwrap().1, ["id"]);
        let error = of(json!({"role": "assistant", "content": "a", "train_detail": [{}]}), PLAIN).unwrap_err();
        assert_eq!(error, "parts of turns cannot be left unscored, only turns: train_detail");
    }

    #[test]
    fn parts_of_text_are_joined_unless_the_template_takes_them() {
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let turn = json!({"role": "user", "content": parts});
        assert_eq!(of(turn.clone(), PLAIN).unwrap().0.content(), Some("ab"));
        // Written as a list, parts are not read.
        assert_eq!(of(turn.clone(), "{{ messages[0].content }}").unwrap().0.content(), Some("ab"));
        assert_eq!(of(turn.clone(), RICH).unwrap().0, message(turn));
        let error = of(json!({"role": "user", "content": [{"type": "image", "image": "x"}]}), RICH).unwrap_err();
        assert_eq!(error, "content has a part that is not text, of type: image");
        let part = |more: Value| {
            let mut part = json!({"type": "text", "text": "a"});
            part.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            of(json!({"role": "user", "content": [part]}), PLAIN)
        };
        assert_eq!(part(json!({"cache_control": {"type": "x"}, "id": null})).unwrap().1, ["content[].cache_control"]);
        let error = part(json!({"weight": 0})).unwrap_err();
        assert_eq!(error, "parts of turns cannot be left unscored, only turns: content[].weight");
    }

    #[test]
    fn tools_of_a_turn_are_not_the_templates_own() {
        let turn = json!({"role": "system", "content": "a", "tools": "[]"});
        let outer = "{% if tools %}{{ tools }}{% endif %}{{ messages[0].content }}";
        let error = of(turn.clone(), outer).unwrap_err();
        assert_eq!(error, "the chat template does not write this part of a turn: tools");
        for field in ["messages[0].tools", "messages[0]['tools']", "messages[0].get(\"tools\")"] {
            assert!(of(turn.clone(), &format!("{{{{ {field} }}}}")).is_ok(), "{field}");
        }
    }

    #[test]
    fn tool_turns_of_both_ways_to_write_them() {
        let call = json!({"type": "function", "function": {"name": "f", "arguments": {"x": 1}}});
        let turn = json!({"role": "assistant", "content": null, "tool_calls": [call]});
        assert_eq!(of(turn.clone(), RICH).unwrap().0, message(turn.clone()));
        assert!(of(turn, PLAIN).unwrap_err().ends_with(": tool_calls"));
        let said = json!({"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": \"{\\\"x\\\": 1}\"}"});
        let expected = json!({"role": "assistant", "content": "", "tool_calls": [call]});
        assert_eq!(of(said.clone(), RICH).unwrap().0, message(expected));
        assert!(of(said, PLAIN).unwrap_err().ends_with(": function_call"));
        // OpenAI writes arguments as text; a template that would quote it gets the object, any other the text.
        let calling = |arguments: Value| {
            json!({"role": "assistant", "content": null, "tool_calls":
                   [{"type": "function", "function": {"name": "f", "arguments": arguments}}]})
        };
        let written =
            "{% for m in messages %}{% for c in m.tool_calls %}{{ c.function.arguments }}{% endfor %}{% endfor %}";
        let quoting = written.replace("arguments", "arguments | tojson");
        let text = calling(json!("{\"x\": 1}"));
        assert_eq!(of(text.clone(), &quoting).unwrap().0, message(calling(json!({"x": 1}))));
        assert_eq!(of(text.clone(), written).unwrap().0, message(text));
        let none = calling(json!("x = 1"));
        assert_eq!(of(none.clone(), &quoting).unwrap().0, message(none));
        let error = of(json!({"from": "function_call", "value": "{}"}), RICH).unwrap_err();
        assert_eq!(error, "function_call must hold {name, arguments} or a list of them, as JSON");
        let seen = of(json!({"from": "observation", "value": "3"}), PLAIN).unwrap().0;
        assert_eq!((seen.role(), seen.content()), ("tool", Some("3")));
        let error = of(json!({"role": "user"}), RICH).unwrap_err();
        assert_eq!(error, "a turn's content must be text or a list of parts, and is nothing: user");
        let error = of(json!({"role": "tool", "content": null}), RICH).unwrap_err();
        assert_eq!(error, "a turn's content must be text or a list of parts, and is null: tool");
        let error = of(json!([]), RICH).unwrap_err();
        assert_eq!(error, "must be a list of {role, content}, and holds a list");
        let error = of(json!({"content": "q"}), RICH).unwrap_err();
        assert_eq!(error, "a turn is {role, content} or {from, value}, and one has: content");
    }

    #[test]
    fn marks_say_whether_a_turn_is_scored() {
        let of = |fields: Value| mark(&message(fields));
        for (fields, expected) in [
            (json!({"weight": 0}), Some(("weight", false))),
            (json!({"train": false}), Some(("train", false))),
            (json!({"loss_weight": 0.0}), Some(("loss_weight", false))),
            (json!({"masked": true}), Some(("masked", false))),
            (json!({"masked": false, "weight": 1}), Some(("masked", true))),
            (json!({"content": "a"}), None),
        ] {
            assert_eq!(of(fields).unwrap(), expected);
        }
        for (field, value) in
            [("is_masked", json!(true)), ("calculate_loss", json!(0)), ("learn", json!(false)), ("ignore", json!(true))]
        {
            let turn = json!({"role": "assistant", "content": "a", (field): value});
            let error = read(&turn, Some(&template(PLAIN))).unwrap_err();
            assert_eq!(error, format!("says of a turn's loss what is not known here: {field}"));
        }
        let error = of(json!({"weight": 0.5})).unwrap_err();
        assert_eq!(error, ("weight", "says neither that a turn is scored nor that it is not: 0.5".to_owned()));
        let error = of(json!({"weight": 0, "train": true})).unwrap_err();
        assert_eq!(error, ("train", "contradicts another field of the turn: weight".to_owned()));
    }
}
