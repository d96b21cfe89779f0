//! Chat templates: the Jinja programs that turn messages into the text a chat model was trained on.
//!
//! A template is foreign input. It runs within a budget of steps, memory and time and writes a bounded text, sees
//! nothing but the messages and the special tokens, and has no clock: `strftime_now` is undefined, so templates that
//! date their prompt use their fixed date.
//! Whitespace rules, globals and filters are those of transformers' `apply_chat_template`, its `{% generation %}` tag
//! among them, which marks what the assistant says.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, ErrorKind, State, context};
use serde::{Deserialize, Serialize};

use super::ModelError;
use crate::budget::{Budget, within};

/// Steps of the template engine one rendering may take: some hundred per message are usual.
const FUEL: u64 = 2_000_000;

/// Bytes of the longest text a template may write: more than any context holds, and little memory.
const MAX_TEXT: usize = 1 << 24;

/// What one rendering may ask for besides: a template that gathers its text in a variable copies it at every message.
const BUDGET: Budget = Budget { bytes: 1 << 28, time: Duration::from_secs(60) };

/// What stands around generated text while it is rendered with marks: noncharacters, which Unicode keeps for use inside
/// programs (The Unicode Standard, section 23.7).
const MARKS: [char; 2] = ['\u{FDD0}', '\u{FDD1}'];

/// The filter that `{% generation %}` becomes: the engine has no tags of its own making, but blocks under filters.
const GENERATED: &str = "ftk_generated";

/// The variable that tells [`GENERATED`] to leave marks.
const MARKED: &str = "ftk_marked";

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

/// A conversation as text, with what its template marks as generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkedText {
    /// The text, without marks.
    pub text: String,
    /// Bytes that stand inside `{% generation %}`, in order.
    pub spans: Vec<Range<usize>>,
}

/// A compiled chat template with the special tokens it may use.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    source: String,
    environment: Arc<Environment<'static>>,
    marked: bool,
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
        environment.add_filter(GENERATED, |state: &State, text: String| match state.lookup(MARKED) {
            Some(marked) if marked.is_true() => format!("{}{text}{}", MARKS[0], MARKS[1]),
            _ => text,
        });
        for (name, text) in special {
            environment.add_global(*name, text.as_str());
        }
        let (translated, marked) = translate(&source);
        environment.add_template_owned(NAME, translated).map_err(failed)?;
        Ok(Self { source, environment: Arc::new(environment), marked })
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
        self.write(messages, add_generation_prompt, false)
    }

    /// The conversation as text, with what stands inside `{% generation %}`; `None` where the template has no such tag.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; messages that hold the marks, a template that treats marked text differently.
    pub fn render_marked(&self, messages: &[Message]) -> Result<Option<MarkedText>, ModelError> {
        if !self.marked {
            return Ok(None);
        }
        let wrong = |reason: &str| ModelError::Template { reason: reason.to_owned() };
        if messages.iter().any(|message| message.content.contains(MARKS) || message.role.contains(MARKS)) {
            return Err(wrong("a message holds a noncharacter that marks generated text, U+FDD0 or U+FDD1"));
        }
        let (mut text, mut spans, mut starts) = (String::new(), Vec::new(), Vec::new());
        for piece in self.write(messages, false, true)?.split_inclusive(MARKS) {
            text.push_str(piece.trim_end_matches(MARKS));
            if piece.ends_with(MARKS[0]) {
                starts.push(text.len());
            } else if piece.ends_with(MARKS[1]) {
                let start = starts.pop().ok_or_else(|| wrong("ends generated text that it has not begun"))?;
                // One inside another adds nothing.
                if starts.is_empty() {
                    spans.push(start..text.len());
                }
            }
        }
        if text != self.render(messages, false)? {
            return Err(wrong("changes what stands inside {% generation %} afterwards"));
        }
        Ok(Some(MarkedText { text, spans }))
    }

    fn write(&self, messages: &[Message], add_generation_prompt: bool, ftk_marked: bool) -> Result<String, ModelError> {
        let none = Value::from(());
        let context =
            context! { messages, add_generation_prompt, ftk_marked, tools => none.clone(), documents => none };
        let environment = Arc::clone(&self.environment);
        let rendered = within(BUDGET, move || {
            let mut text = Text::default();
            let template = environment.get_template(NAME).map_err(failed)?;
            match template.render_captured_to(context, &mut text) {
                Ok(_) => Ok(String::from_utf8(text.bytes).expect("templates write text")),
                Err(_) if text.full => {
                    Err(ModelError::Template { reason: format!("writes more bytes than {MAX_TEXT}") })
                }
                Err(error) => Err(failed(error)),
            }
        });
        rendered.unwrap_or_else(|exceeded| Err(ModelError::Template { reason: exceeded.to_string() }))
    }
}

/// A text that takes no more than [`MAX_TEXT`] bytes.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Text {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.full |= self.bytes.len() + part.len() > MAX_TEXT;
        if self.full {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A template with its `{% generation %}` tags turned into blocks under [`GENERATED`], and whether there are any.
/// Comments, strings and raw text are passed over; whitespace control and lines stay.
fn translate(source: &str) -> (String, bool) {
    let (mut result, mut found) = (String::with_capacity(source.len()), false);
    let (mut rest, mut raw) = (source, false);
    while let Some(start) = rest.find('{') {
        let (text, tag) = rest.split_at(start);
        let length = match tag.as_bytes().get(1) {
            Some(b'%') => code(tag, "%}"),
            Some(b'{') if !raw => code(tag, "}}"),
            Some(b'#') if !raw => tag.find("#}").map_or(tag.len(), |end| end + 2),
            _ => 1,
        };
        let (tag, after) = tag.split_at(length);
        let word = tag.strip_prefix("{%").and_then(|tag| tag.strip_suffix("%}"));
        let word = word.map(|word| word.trim_matches(['-', '+']).trim());
        result.push_str(text);
        match word {
            Some("raw") => raw = true,
            Some("endraw") => raw = false,
            _ => {}
        }
        match word {
            Some("generation") if !raw => {
                found = true;
                result.push_str(&tag.replace("generation", &format!("filter {GENERATED}")));
            }
            Some("endgeneration") if !raw => result.push_str(&tag.replace("endgeneration", "endfilter")),
            _ => result.push_str(tag),
        }
        rest = after;
    }
    result.push_str(rest);
    (result, found)
}

/// Bytes of a tag that ends with `end` outside its strings.
fn code(tag: &str, end: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, byte) in tag.bytes().enumerate().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if byte == b'\\' => escaped = true,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if byte == b'"' || byte == b'\'' => quote = Some(byte),
            None if tag.as_bytes()[at..].starts_with(end.as_bytes()) => return at + end.len(),
            None => {}
        }
    }
    tag.len()
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

    /// ChatML that marks what the assistant says, and its end.
    const MARKED_CHATML: &str = "{# {% generation %} #}{% for m in messages %}{% if m.role == 'assistant' %}\n\
        {{- '<|im_start|>assistant\n' }}\n    {%- generation -%}\n    {{ m.content }}{{ '<|im_end|>' }}\n\
        {%- endgeneration %}{{ '\n' }}{% else %}\
        {{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    #[test]
    fn generated_text_is_marked_and_the_text_stays_the_same() {
        let chat = [say("user", "é?"), say("assistant", "yes"), say("user", "{% generation %}"), say("assistant", "é")];
        let MarkedText { text, spans } = template(MARKED_CHATML).unwrap().render_marked(&chat).unwrap().unwrap();
        assert_eq!(text, template(MARKED_CHATML).unwrap().render(&chat, false).unwrap());
        assert!(text.starts_with("<|im_start|>user\né?<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"), "{text}");
        let spoken: Vec<&str> = spans.into_iter().map(|span| &text[span]).collect();
        assert_eq!(spoken, ["yes<|im_end|>", "é<|im_end|>"]);
        assert_eq!(template(CHATML).unwrap().render_marked(&chat).unwrap(), None);
        let special = "{{ '{% generation %}' }}{% raw %}{% generation %}{% endraw %}";
        assert_eq!(rendered(special, &[]), "{% generation %}{% generation %}");
        assert_eq!(template(special).unwrap().render_marked(&[]).unwrap(), None);
    }

    #[test]
    fn marks_cannot_be_forged_by_a_row_or_bent_by_a_template() {
        let refused = |source: &str, content: &str| {
            template(source).unwrap().render_marked(&[say("assistant", content)]).unwrap_err().to_string()
        };
        let error = refused(MARKED_CHATML, "a\u{FDD1}b");
        assert_eq!(error, "chat template: a message holds a noncharacter that marks generated text, U+FDD0 or U+FDD1");
        let bent =
            "{% set x %}{% generation %} {{ messages[0].content }} {% endgeneration %}{% endset %}{{ x | trim }}";
        let error = refused(bent, "a");
        assert_eq!(error, "chat template: changes what stands inside {% generation %} afterwards");
    }

    #[test]
    fn texts_that_would_fill_the_memory_are_refused() {
        let refused = |source: &str| template(source).unwrap().render(&[], false).unwrap_err().to_string();
        let error = refused("{% set a = 'a' * 9000000 %}{% for i in range(99999) %}{{ a }}{% endfor %}");
        assert_eq!(error, "chat template: writes more bytes than 16777216");
        let doubles = "{% set ns = namespace(a='a') %}{% for i in range(99) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}";
        assert_eq!(refused(doubles), "chat template: takes more bytes of memory than 268435456");
        let squares = "{% set a = 'a' * 9999999 %}{{ a | replace('a', a) }}";
        assert_eq!(refused(squares), "chat template: takes more bytes of memory than 268435456");
        let error = refused("{{ 'a' * 1000000000000 }}");
        assert!(error.contains("repeated string is too large"), "{error}");
    }
}
