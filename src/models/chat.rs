//! Chat templates: the Jinja programs that turn messages into the text a chat model was trained on.
//!
//! A template is foreign input. It runs with a step budget (which bounds time, not the size of a text it doubles
//! over and over), sees nothing but the messages and the special tokens, and has no clock: `strftime_now` is undefined, so templates that date their prompt use their fixed date.
//! Whitespace rules, globals and filters are those of transformers' `apply_chat_template`.

use std::collections::BTreeMap;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};

use super::ModelError;

/// Steps of the template engine one rendering may take: some hundred per message are usual.
const FUEL: u64 = 2_000_000;

/// The template's name inside the engine, which appears in its messages.
const NAME: &str = "chat";

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`; what else is allowed, the template says.
    pub role: String,
    /// The text.
    pub content: String,
}

/// A compiled chat template with the special tokens it may use.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Compiles a template. `special` holds texts by their Hugging Face name (`bos_token`, `eos_token`, ...).
    ///
    /// # Errors
    /// [`ModelError::Template`] with the line.
    pub fn new(source: String, special: &BTreeMap<&'static str, String>) -> Result<Self, ModelError> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_filter("tojson", to_json);
        for (name, text) in special {
            environment.add_global(*name, text.as_str());
        }
        environment.add_template_owned(NAME, source.clone()).map_err(failed)?;
        Ok(Self { source, environment })
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The conversation as text; with `add_generation_prompt` it ends where the assistant's next turn begins.
    ///
    /// # Errors
    /// [`ModelError::Template`]: what the template raises, a mistake in it, or a spent budget.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, ModelError> {
        let none = Value::from(());
        let context = context! { messages, add_generation_prompt, tools => none.clone(), documents => none };
        self.environment.get_template(NAME).and_then(|template| template.render(context)).map_err(failed)
    }
}

fn failed(error: minijinja::Error) -> ModelError {
    ModelError::Template { reason: error.to_string() }
}

/// `tojson` as transformers defines it: Python's separators, and no escaping for HTML, unlike the engine's own filter.
fn to_json(value: Value, options: Kwargs) -> Result<String, minijinja::Error> {
    let indent: Option<usize> = options.get("indent")?;
    let _ascii: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let wrong = |error: serde_json::Error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut text = Vec::new();
    match indent {
        Some(width) => {
            let spaces = vec![b' '; width.min(16)];
            let formatter = serde_json::ser::PrettyFormatter::with_indent(&spaces);
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter)).map_err(wrong)?;
        }
        None => value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, OneLine)).map_err(wrong)?,
    }
    Ok(String::from_utf8(text).expect("JSON is UTF-8"))
}

/// JSON on one line with a space after commas and colons, as Python writes it.
struct OneLine;

impl serde_json::ser::Formatter for OneLine {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(role: &str, content: &str) -> Message {
        Message { role: role.to_owned(), content: content.to_owned() }
    }

    fn template(source: &str) -> Result<ChatTemplate, ModelError> {
        let special = [("bos_token", "<s>".to_owned()), ("eos_token", "</s>".to_owned())];
        ChatTemplate::new(source.to_owned(), &BTreeMap::from(special))
    }

    fn rendered(source: &str, messages: &[Message]) -> String {
        template(source).unwrap().render(messages, true).unwrap()
    }

    /// ChatML with a default system turn, line breaks inside the string literals as SmolLM2 writes them.
    const CHATML: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
        {{ '<|im_start|>system\nYou are helpful<|im_end|>\n' }}{% endif %}\
        {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    #[test]
    fn chatml_with_and_without_a_system_turn() {
        let chatml = template(CHATML).unwrap();
        let user = say("user", "What is <b>2</b> & 2?");
        assert_eq!(
            chatml.render(std::slice::from_ref(&user), true).unwrap(),
            "<|im_start|>system\nYou are helpful<|im_end|>\n\
             <|im_start|>user\nWhat is <b>2</b> & 2?<|im_end|>\n<|im_start|>assistant\n"
        );
        assert_eq!(
            chatml.render(&[say("system", "S"), user, say("assistant", "4")], false).unwrap(),
            "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nWhat is <b>2</b> & 2?<|im_end|>\n\
             <|im_start|>assistant\n4<|im_end|>\n"
        );
    }

    #[test]
    fn python_idioms_of_published_templates() {
        let source = "{{ bos_token }}{%- if tools is not none %}T{% endif -%}\n\
            {%- set ns = namespace(n=0) -%}\n\
            {%- for m in messages %}\n    {%- set ns.n = ns.n + 1 %}\n\
            {{- '[' ~ m.role.upper() ~ ']' + m['content'].strip() + m.get('name', '?') }}\n{%- endfor %}\n\
            {{- ns.n }}{{ eos_token if messages[-1].role == 'user' }}";
        assert_eq!(rendered(source, &[say("user", "  hi "), say("user", "ho")]), "<s>[USER]hi?[USER]ho?2</s>");
        assert_eq!(rendered("{% if true %}\n  a\n  {% endif %}\nb\n", &[]), "  a\nb");
        assert_eq!(rendered("{{ 'clock' if strftime_now is defined else 'fixed' }}", &[]), "fixed");
        assert_eq!(rendered("{{ messages | tojson }}", &[say("u", "<é>")]), r#"[{"role": "u", "content": "<é>"}]"#);
        assert_eq!(rendered("{{ [1] | tojson(indent=2) }}", &[]), "[\n  1\n]");
    }

    #[test]
    fn what_a_template_raises_is_the_error() {
        let refuses = template("{{ raise_exception('roles must alternate') }}").unwrap();
        let error = refuses.render(&[], false).unwrap_err().to_string();
        assert_eq!(error, "chat template: invalid operation: roles must alternate (in chat:1)");
    }

    #[test]
    fn mistakes_are_found_before_any_message() {
        let error = template("{% for m in messages %}").unwrap_err().to_string();
        assert!(error.starts_with("chat template: syntax error: unexpected end of input"), "{error}");
    }

    #[test]
    fn endless_work_runs_out_of_fuel() {
        let hostile = "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a %}{% endfor %}{% endfor %}";
        let error = template(hostile).unwrap().render(&[], false).unwrap_err().to_string();
        assert!(error.contains("engine ran out of fuel"), "{error}");
        let recursive = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
        let error = template(recursive).unwrap().render(&[], false).unwrap_err().to_string();
        assert!(error.contains("recursion limit"), "{error}");
    }
}
