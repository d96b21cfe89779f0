//! Chat templates: the Jinja programs that turn messages into the text a chat model was trained on.
//!
//! A template is foreign input. It runs within a budget of steps, memory and time and writes a bounded text, sees
//! nothing but the messages, the tools and the special tokens, and has no clock: `strftime_now` gives the day that a
//! recipe or an option names, and is undefined without one, so that templates with a date of their own use that.
//! Whitespace rules, globals, filters, methods and the way values are written are those of transformers'
//! `apply_chat_template`, its `{% generation %}` tag among them, which marks what the assistant says;
//! `tests/reference/templates.py` renders the table that the tests hold them to.

mod date;
mod dumps;
mod methods;
mod python;
mod translate;
mod values;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use minijinja::value::Value;
use minijinja::{Environment, ErrorKind, State, context};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

pub use self::date::Date;
use self::translate::{GENERATED, translate};
use super::error::ModelError;
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

/// The variable that tells [`GENERATED`] to leave marks.
const MARKED: &str = "ftk_marked";

/// What is said where a template is tried: a word of no language.
const PROBE: &str = "ftkprobe";

/// The template's name inside the engine, which appears in its messages.
const NAME: &str = "chat";

/// One turn of a conversation: every field that the template may read, in the order in which they were given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Message(Map<String, Json>);

impl Message {
    /// A turn of text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        let fields = [("role", role.into()), ("content", content.into())];
        Self(fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
    }

    /// A turn of any fields. Without a text under `role` it is nobody's.
    pub fn of(fields: Map<String, Json>) -> Self {
        Self(fields)
    }

    /// `system`, `user` or `assistant`; what else is allowed, the template says.
    pub fn role(&self) -> &str {
        self.text("role").unwrap_or_default()
    }

    /// What is said, where that is one text.
    pub fn content(&self) -> Option<&str> {
        self.text("content")
    }

    /// A field.
    pub fn field(&self, name: &str) -> Option<&Json> {
        self.0.get(name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Json::as_str)
    }
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
    special: BTreeMap<&'static str, String>,
    environment: Arc<Environment<'static>>,
    marked: bool,
    /// Whether content of several parts is read, once that was asked.
    parts: OnceLock<bool>,
    /// Whether arguments of calls that are text are quoted, once that was asked.
    quotes: OnceLock<bool>,
    /// The one for conversations with tools, where that is another one.
    for_tools: Option<Box<Self>>,
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
        python::install(&mut environment);
        environment.add_function("raise_exception", |message: String| -> Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_filter(GENERATED, |state: &State, text: String| match state.lookup(MARKED) {
            Some(marked) if marked.is_true() => format!("{}{text}{}", MARKS[0], MARKS[1]),
            _ => text,
        });
        for (name, text) in special {
            environment.add_global(*name, text.as_str());
        }
        let (translated, marked) = translate(&source);
        environment.add_template_owned(NAME, translated).map_err(failed)?;
        let special = special.clone();
        Ok(Self {
            source,
            special,
            environment: Arc::new(environment),
            marked,
            parts: OnceLock::new(),
            quotes: OnceLock::new(),
            for_tools: None,
        })
    }

    /// Has `strftime_now` give this day.
    pub fn set_date(&mut self, date: Date) {
        let format = move |format: String| {
            date.format(&format).map_err(|wrong| minijinja::Error::new(ErrorKind::InvalidOperation, wrong))
        };
        Arc::make_mut(&mut self.environment).add_function("strftime_now", format);
        if let Some(other) = &mut self.for_tools {
            other.set_date(date);
        }
    }

    /// The same with another template for conversations with tools, as transformers takes the one named `tool_use`.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub(crate) fn with_tools(self, source: Option<String>) -> Result<Self, ModelError> {
        let special = &self.special;
        let for_tools = source.map(|source| Self::new(source, special)).transpose()?.map(Box::new);
        Ok(Self { for_tools, ..self })
    }

    /// The template for conversations with tools, where that is another one.
    pub fn own_for_tools(&self) -> Option<&Self> {
        self.for_tools.as_deref()
    }

    /// The template that renders conversations with tools, or those without.
    pub fn of(&self, tools: bool) -> &Self {
        self.own_for_tools().filter(|_| tools).unwrap_or(self)
    }

    /// Whether what a turn of this role says reaches the text; where the template refuses such turns among others, that
    /// is left to it.
    pub fn writes_role(&self, role: &str) -> bool {
        let (asked, turn) = (Message::new("user", "q"), Message::new(role, PROBE));
        let chats = [vec![turn.clone(), asked.clone()], vec![asked, Message::new("assistant", "a"), turn]];
        let texts: Vec<String> = chats.iter().filter_map(|chat| self.render(chat, &[], false).ok()).collect();
        texts.is_empty() || texts.iter().any(|text| text.contains(PROBE))
    }

    /// Whether nothing of what a turn says reaches the text of its conversation.
    pub fn leaves_out(&self, messages: &[Message], tools: &[Json], turn: usize) -> bool {
        let mut messages = messages.to_vec();
        messages[turn].0.insert("content".to_owned(), PROBE.into());
        self.render(&messages, tools, false).is_ok_and(|text| !text.contains(PROBE))
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Texts of special tokens that the template may use, by their names.
    pub fn special(&self) -> &BTreeMap<&'static str, String> {
        &self.special
    }

    /// Whether a word stands in the template: a field or variable that it does not name cannot reach the text.
    pub fn mentions(&self, word: &str) -> bool {
        let letter = |c: char| c.is_alphanumeric() || c == '_';
        self.source.match_indices(word).any(|(start, _)| {
            let (before, after) = (&self.source[..start], &self.source[start + word.len()..]);
            !before.ends_with(letter) && !after.starts_with(letter)
        })
    }

    /// Whether a word stands in the template as a field of something.
    pub fn mentions_field(&self, word: &str) -> bool {
        let forms = [format!(".{word}"), format!("'{word}'"), format!("\"{word}\"")];
        let letter = |c: char| c.is_alphanumeric() || c == '_';
        let ends = |(start, form): (usize, &str)| !self.source[start + form.len()..].starts_with(letter);
        forms.iter().any(|form| self.source.match_indices(form.as_str()).any(ends))
    }

    /// Whether the template reads content that is a list of parts, `{type: "text", text}`, as it is.
    pub fn takes_parts(&self) -> bool {
        *self.parts.get_or_init(|| {
            let part = json!([{ "type": "text", "text": PROBE }]);
            let fields = [("role".to_owned(), "user".into()), ("content".to_owned(), part)];
            let text = self.render(&[Message(fields.into_iter().collect())], &[], false);
            // A list that is written as a list shows its keys.
            text.is_ok_and(|text| text.contains(PROBE) && !["\"type\"", "'type'"].iter().any(|key| text.contains(key)))
        })
    }

    /// Whether the template writes arguments of calls that are a text already as JSON once more, in quotes: it takes them
    /// for an object.
    pub fn quotes_arguments(&self) -> bool {
        *self.quotes.get_or_init(|| {
            let arguments = json!({ PROBE: 1 }).to_string();
            let quoted = Json::from(arguments.as_str()).to_string();
            // Some templates refuse other ids than those of nine letters and digits.
            let call = json!({ "id": PROBE.to_owned() + "1", "type": "function",
                               "function": { "name": "f", "arguments": arguments } });
            let mut turn = Message::new("assistant", "");
            turn.0.insert("tool_calls".to_owned(), json!([call]));
            self.render(&[Message::new("user", "q"), turn], &[], false).is_ok_and(|text| text.contains(&quoted))
        })
    }

    /// The conversation as text, with the tools that the assistant may call; with `add_generation_prompt` it ends where the assistant's next turn begins.
    ///
    /// # Errors
    /// [`ModelError::Template`]: what the template raises, a mistake in it, or a spent budget.
    pub fn render(
        &self,
        messages: &[Message],
        tools: &[Json],
        add_generation_prompt: bool,
    ) -> Result<String, ModelError> {
        self.of(!tools.is_empty()).write(messages, tools, add_generation_prompt, false)
    }

    /// The conversation as text, with what stands inside `{% generation %}`; `None` where the template has no such tag.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; messages that hold the marks, a template that treats marked text differently.
    pub fn render_marked(&self, messages: &[Message], tools: &[Json]) -> Result<Option<MarkedText>, ModelError> {
        let own = self.of(!tools.is_empty());
        if !own.marked {
            return Ok(None);
        }
        let wrong = |reason: &str| ModelError::Template { reason: reason.to_owned() };
        if messages.iter().flat_map(|message| message.0.values()).chain(tools).any(marks) {
            return Err(wrong("a message holds a noncharacter that marks generated text, U+FDD0 or U+FDD1"));
        }
        let (mut text, mut spans, mut starts) = (String::new(), Vec::new(), Vec::new());
        for piece in own.write(messages, tools, false, true)?.split_inclusive(MARKS) {
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
        if text != self.render(messages, tools, false)? {
            return Err(wrong("changes what stands inside {% generation %} afterwards"));
        }
        Ok(Some(MarkedText { text, spans }))
    }

    fn write(
        &self,
        messages: &[Message],
        tools: &[Json],
        add_generation_prompt: bool,
        ftk_marked: bool,
    ) -> Result<String, ModelError> {
        let none = Value::from(());
        let tools = if tools.is_empty() { none.clone() } else { Value::from_serialize(tools) };
        let context = context! { messages, add_generation_prompt, ftk_marked, tools, documents => none };
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

/// Whether a value holds what marks generated text.
fn marks(value: &Json) -> bool {
    match value {
        Json::String(text) => text.contains(MARKS),
        Json::Array(values) => values.iter().any(marks),
        Json::Object(values) => values.iter().any(|(name, value)| name.contains(MARKS) || marks(value)),
        _ => false,
    }
}

fn failed(error: minijinja::Error) -> ModelError {
    ModelError::Template { reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(role: &str, content: &str) -> Message {
        Message::new(role, content)
    }

    fn template(source: &str) -> Result<ChatTemplate, ModelError> {
        let special = [("bos_token", "<s>".to_owned()), ("eos_token", "</s>".to_owned())];
        ChatTemplate::new(source.to_owned(), &BTreeMap::from(special))
    }

    fn rendered(source: &str, messages: &[Message]) -> String {
        template(source).unwrap().render(messages, &[], true).unwrap()
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
            chatml.render(std::slice::from_ref(&user), &[], true).unwrap(),
            "<|im_start|>system\nYou are helpful<|im_end|>\n\
             <|im_start|>user\nWhat is <b>2</b> & 2?<|im_end|>\n<|im_start|>assistant\n"
        );
        assert_eq!(
            chatml.render(&[say("system", "S"), user, say("assistant", "4")], &[], false).unwrap(),
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
        let error = refuses.render(&[], &[], false).unwrap_err().to_string();
        assert_eq!(error, "chat template: invalid operation: roles must alternate (in chat:1)");
    }

    #[test]
    fn templates_render_as_jinja2_renders_them() {
        /// What the engine takes that jinja2 refuses, or writes otherwise: it has no tuples. Or what is refused for want of
        /// a table of digits.
        const DIFFER: &[&str] = &[
            "{{ messages[2].tool_calls[0].function.arguments.items() | list }}",
            "{{ 'x y z'.rpartition(' ') }}",
            "{{ 'xy'.partition(' ') }}",
            "{{ 'ab'.encode('utf-8') }}",
            "{{ {'a': 1}.items() | list }}",
            "{{ (1, 2) }}",
            "{{ (1,) }}",
            "{{ () }}",
            "{{ '²'.isdigit() }}",
            "{% for m in none %}x{% endfor %}",
            "{% macro f(x) %}{{ kwargs }}{{ varargs }}{% endmacro %}{{ f(1, 2, a=3) }}",
            "{{ {'items': 1, 'keys': 2, 'get': 3, 'values': 4}.items() | list }}",
        ];
        let stored = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/templates.json"));
        let table: Json = serde_json::from_str(stored).unwrap();
        let messages: Vec<Message> = table["context"]["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| Message::of(message.as_object().unwrap().clone()))
            .collect();
        let tools = table["context"]["tools"].as_array().unwrap();
        let mut differ = Vec::new();
        for row in table["rows"].as_array().unwrap() {
            let text = row["template"].as_str().unwrap();
            let rendered = template(text).and_then(|mut template| {
                template.set_date(table["date"].as_str().unwrap().parse().unwrap());
                template.render(&messages, tools, true)
            });
            match (row["output"].as_str(), &rendered) {
                (Some(expected), Ok(found)) if expected == found => {}
                (None, Err(_)) => {}
                _ => differ.push((text, rendered, &row["output"])),
            }
        }
        let found: Vec<&str> = differ.iter().map(|(text, ..)| *text).collect();
        assert_eq!(found, DIFFER, "{differ:#?}");
    }

    #[test]
    fn mistakes_are_found_before_any_message() {
        let error = template("{% for m in messages %}").unwrap_err().to_string();
        assert!(error.starts_with("chat template: syntax error: unexpected end of input"), "{error}");
    }

    #[test]
    fn endless_work_runs_out_of_fuel() {
        let hostile = "{% for a in range(9999) %}{% for b in range(9999) %}{% set c = a %}{% endfor %}{% endfor %}";
        let error = template(hostile).unwrap().render(&[], &[], false).unwrap_err().to_string();
        assert!(error.contains("engine ran out of fuel"), "{error}");
        let recursive = "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}";
        let error = template(recursive).unwrap().render(&[], &[], false).unwrap_err().to_string();
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
        let MarkedText { text, spans } = template(MARKED_CHATML).unwrap().render_marked(&chat, &[]).unwrap().unwrap();
        assert_eq!(text, template(MARKED_CHATML).unwrap().render(&chat, &[], false).unwrap());
        assert!(text.starts_with("<|im_start|>user\né?<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n"), "{text}");
        let spoken: Vec<&str> = spans.into_iter().map(|span| &text[span]).collect();
        assert_eq!(spoken, ["yes<|im_end|>", "é<|im_end|>"]);
        assert_eq!(template(CHATML).unwrap().render_marked(&chat, &[]).unwrap(), None);
        let special = "{{ '{% generation %}' }}{% raw %}{% generation %}{% endraw %}";
        assert_eq!(rendered(special, &[]), "{% generation %}{% generation %}");
        assert_eq!(template(special).unwrap().render_marked(&[], &[]).unwrap(), None);
    }

    #[test]
    fn marks_cannot_be_forged_by_a_row_or_bent_by_a_template() {
        let refused = |source: &str, content: &str| {
            template(source).unwrap().render_marked(&[say("assistant", content)], &[]).unwrap_err().to_string()
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
        let refused = |source: &str| template(source).unwrap().render(&[], &[], false).unwrap_err().to_string();
        let error = refused("{% set a = 'a' * 9000000 %}{% for i in range(99999) %}{{ a }}{% endfor %}");
        assert_eq!(error, "chat template: writes more bytes than 16777216");
        let doubles = "{% set ns = namespace(a='a') %}{% for i in range(99) %}{% set ns.a = ns.a ~ ns.a %}{% endfor %}";
        assert_eq!(refused(doubles), "chat template: takes more bytes of memory than 268435456");
        for squares in ["a | replace('a', a)", "a.replace('a', a)", "a | list | join(a)", "a.join(a | list)"] {
            let error = refused(&format!("{{% set a = 'a' * 99999 %}}{{{{ {squares} }}}}"));
            assert!(error.contains("too long") || error.contains("takes more bytes of memory"), "{squares}: {error}");
        }
        let error = refused("{{ 'a' * 1000000000000 }}");
        assert!(error.contains("repeated string is too large"), "{error}");
    }
}
