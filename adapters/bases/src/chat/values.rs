//! How Python writes values, and what filters and methods do to texts alike.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// Bytes of the longest text that a method may make: more than any context holds.
pub(super) const LONGEST: usize = 1 << 24;

/// A text in the middle of so many characters, as `str.center` puts it.
pub(super) fn centred(text: &str, width: usize, fill: &str) -> Result<String, Error> {
    let missing = width.saturating_sub(text.chars().count());
    if missing > LONGEST / 4 {
        return Err(wrong("text is too long"));
    }
    let before = missing / 2 + (missing & width & 1);
    Ok(fill.repeat(before) + text + &fill.repeat(missing - before))
}

pub(super) fn wrong(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

/// `str(value)`.
pub(super) fn string(value: &Value) -> String {
    match (value.kind(), value.as_str()) {
        (ValueKind::Undefined, _) => String::new(),
        (_, Some(text)) => text.to_owned(),
        _ => repr(value),
    }
}

/// `repr(value)`.
pub(super) fn repr(value: &Value) -> String {
    let mut text = String::new();
    write_repr(&mut text, value);
    text
}

fn write_repr(out: &mut String, value: &Value) {
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number if !value.is_integer() => {
            out.push_str(&f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float));
        }
        ValueKind::String => quote(out, value.as_str().unwrap_or_default()),
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(out, &key);
                out.push_str(": ");
                write_repr(out, &value.get_item(&key).unwrap_or_default());
            }
            out.push('}');
        }
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_repr(out, &item);
            }
            out.push(']');
        }
        _ => out.push_str(&value.to_string()),
    }
}

/// A number with a fraction, in the shortest way that reads back: with an exponent below 1e-4 and from 1e16 on.
pub(super) fn float(number: f64) -> String {
    let exponent = format!("{number:e}");
    match exponent.split_once('e').and_then(|(digits, power)| Some((digits, power.parse::<i32>().ok()?))) {
        None if number.is_nan() => "nan".to_owned(),
        None => exponent,
        Some((digits, power)) if number != 0.0 && !(-4..16).contains(&power) => {
            format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
        }
        _ => format!("{number:?}"),
    }
}

fn quote(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if c == quote => out.extend(['\\', c]),
            // Python writes out what does not print: controls, separators other than the space, and their like.
            _ if c.is_control()
                || (c.is_whitespace() && c != ' ')
                || matches!(c, '\u{AD}' | '\u{FEFF}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}') =>
            {
                let code = u32::from(c);
                out.push_str(&if code < 0x100 { format!("\\x{code:02x}") } else { format!("\\u{code:04x}") });
            }
            _ => out.push(c),
        }
    }
    out.push(quote);
}

pub(super) fn replaced(text: &str, old: &str, new: &str, count: Option<usize>) -> Result<String, Error> {
    let most = text.len().saturating_add(1).min(count.unwrap_or(usize::MAX)).saturating_mul(new.len());
    // The engine's own limits count steps, not bytes of one step.
    if most > LONGEST && text.matches(old).take(count.unwrap_or(usize::MAX)).count().saturating_mul(new.len()) > LONGEST
    {
        return Err(wrong("text is too long"));
    }
    Ok(match count {
        Some(count) => text.replacen(old, new, count),
        None => text.replace(old, new),
    })
}
