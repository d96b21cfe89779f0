//! `json.dumps`.

use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::values::{LONGEST, float, string, wrong};

/// `tojson` as transformers defines it: `json.dumps` without escaping for HTML.
pub(super) fn to_json(value: Value, arguments: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let option = |at: usize, name: &str| match arguments.get(at) {
        Some(value) => Ok(Some(value.clone())),
        None => options.get::<Option<Value>>(name),
    };
    let ascii = option(0, "ensure_ascii")?.is_some_and(|ascii| ascii.is_true());
    let indent = match option(1, "indent")?.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(i64::try_from(indent)?.max(0)).unwrap_or(0).min(64)),
        }),
    };
    let separators = match option(2, "separators")?.filter(|separators| !separators.is_none()) {
        None => [if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()],
        Some(pair) => {
            let parts: Vec<Value> = pair.try_iter()?.collect();
            let [item, key] = parts.as_slice() else { return Err(wrong("separators are two strings")) };
            [string(item), string(key)]
        }
    };
    let sorted = option(3, "sort_keys")?.is_some_and(|sorted| sorted.is_true());
    options.assert_all_used()?;
    let mut writer = JsonDumps { ascii, indent, separators, sorted, text: String::new() };
    writer.write(&value, 0)?;
    Ok(writer.text)
}

/// `json.dumps` under way.
struct JsonDumps {
    ascii: bool,
    indent: Option<String>,
    separators: [String; 2],
    sorted: bool,
    text: String,
}

impl JsonDumps {
    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.text.push('\n');
            self.text.push_str(&indent.repeat(depth));
        }
    }

    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if self.text.len() > LONGEST {
            return Err(wrong("text is too long"));
        }
        let list = match value.kind() {
            ValueKind::None => return self.word("null"),
            ValueKind::Bool => return self.word(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => return self.word(&value.to_string()),
            ValueKind::Number => return self.word(&number(f64::try_from(value.clone())?)),
            ValueKind::String => {
                self.quote(value.as_str().unwrap_or_default());
                return Ok(());
            }
            ValueKind::Map => false,
            ValueKind::Seq | ValueKind::Iterable => true,
            kind => {
                let message = format!("object of type {kind} cannot be written as JSON");
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
        };
        let mut items: Vec<Value> = value.try_iter()?.collect();
        if self.sorted && !list {
            items.sort();
        }
        self.text.push(if list { '[' } else { '{' });
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.text.push_str(&self.separators[0].clone());
            }
            self.line(depth + 1);
            if list {
                self.write(item, depth + 1)?;
            } else {
                match item.kind() {
                    ValueKind::None => self.quote("null"),
                    ValueKind::Bool => self.quote(if item.is_true() { "true" } else { "false" }),
                    _ => self.quote(&string(item)),
                }
                self.text.push_str(&self.separators[1].clone());
                self.write(&value.get_item(item)?, depth + 1)?;
            }
        }
        if !items.is_empty() {
            self.line(depth);
        }
        self.text.push(if list { ']' } else { '}' });
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Error> {
        self.text.push_str(word);
        Ok(())
    }

    fn quote(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                _ if u32::from(c) < 0x20 || (self.ascii && !c.is_ascii()) => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        self.text.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                _ => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

/// A number as `json.dumps` writes it.
fn number(number: f64) -> String {
    match number {
        _ if number.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ => float(number),
    }
}
