//! Methods of Python's strings, lists and maps.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use super::values::{LONGEST, centred, replaced, repr, wrong};

/// What stands in front of a method that a key of the same name must not hide.
pub(super) const METHOD: &str = "ftk_method_";

/// Methods of Python's types that templates may call on values, which they cannot change.
pub(super) fn method(state: &State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let name = name.strip_prefix(METHOD).unwrap_or(name);
    match (value.kind(), value.as_str()) {
        (_, Some(text)) => text_method(state, value, text, name, arguments),
        (ValueKind::Seq | ValueKind::Iterable, _) => match (name, arguments) {
            ("index", [wanted]) => match value.try_iter()?.position(|item| item == *wanted) {
                Some(index) => Ok(index.into()),
                None => Err(wrong(format!("not in list: {}", repr(wanted)))),
            },
            ("count", [wanted]) => Ok(value.try_iter()?.filter(|item| item == wanted).count().into()),
            ("copy", []) => Ok(value.clone()),
            _ => Err(ErrorKind::UnknownMethod.into()),
        },
        (ValueKind::Map, _) => match (name, arguments) {
            ("copy", []) => Ok(value.clone()),
            ("get", [key]) => found(value, key, Value::from(())),
            ("get", [key, default]) => found(value, key, default.clone()),
            ("keys", []) => Ok(value.try_iter()?.collect()),
            ("values", []) => value.try_iter()?.map(|key| value.get_item(&key)).collect(),
            ("items", []) => {
                value.try_iter()?.map(|key| Ok(Value::from(vec![key.clone(), value.get_item(&key)?]))).collect()
            }
            _ => Err(ErrorKind::UnknownMethod.into()),
        },
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

fn found(map: &Value, key: &Value, default: Value) -> Result<Value, Error> {
    let value = map.get_item(key)?;
    Ok(if value.is_undefined() { default } else { value })
}

/// What Python's `str` takes for white space: Unicode's, and the four separators among the controls.
fn space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1C}'..='\u{1F}')
}

fn text_method(state: &State, value: &Value, text: &str, name: &str, all: &[Value]) -> Result<Value, Error> {
    let (arguments, options) = minijinja::value::from_args::<(&[Value], Kwargs)>(all)?;
    let argument = |at: usize, name: &str| -> Result<Option<Value>, Error> {
        let given = match arguments.get(at) {
            Some(value) => Some(value.clone()),
            None if options.has(name) => options.get::<Option<Value>>(name)?,
            None => None,
        };
        Ok(given.filter(|value| !value.is_none()))
    };
    let texts = |value: Option<Value>| match value {
        None => Ok(None),
        Some(value) => match value.as_str() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(wrong(format!("{name} takes a string, not: {}", value.kind()))),
        },
    };
    let needed = |at: usize| texts(argument(at, "")?)?.ok_or_else(|| wrong(format!("{name} takes more arguments")));
    let number = |value: Option<Value>| value.map(i64::try_from).transpose();
    let most = |at: usize, name: &str| {
        Ok::<_, Error>(number(argument(at, name)?)?.and_then(|count| usize::try_from(count).ok()))
    };
    let pad = |left: fn(usize) -> usize| -> Result<Value, Error> {
        let width = number(argument(0, "")?)?.and_then(|width| usize::try_from(width).ok()).unwrap_or(0);
        let fill = texts(argument(1, "")?)?.unwrap_or_else(|| " ".to_owned());
        let missing = width.saturating_sub(text.chars().count());
        if missing > LONGEST / 4 || fill.chars().count() != 1 {
            return Err(wrong(format!("{name} takes a width and one character")));
        }
        let before = left(missing);
        Ok((fill.repeat(before) + text + &fill.repeat(missing - before)).into())
    };
    let value_of = match name {
        "strip" | "lstrip" | "rstrip" => {
            let chars: Option<Vec<char>> = texts(argument(0, "")?)?.map(|chars| chars.chars().collect());
            let taken = |c: char| chars.as_ref().map_or_else(|| space(c), |chars| chars.contains(&c));
            let text = if name == "rstrip" { text } else { text.trim_start_matches(taken) };
            Value::from(if name == "lstrip" { text } else { text.trim_end_matches(taken) })
        }
        "replace" => replaced(text, &needed(0)?, &needed(1)?, most(2, "count")?)?.into(),
        "split" | "rsplit" => {
            let (separator, limit) = (texts(argument(0, "sep")?)?, most(1, "maxsplit")?);
            split(text, separator.as_deref(), limit, name == "rsplit")?.into()
        }
        "splitlines" => lines(text, argument(0, "keepends")?.is_some_and(|keep| keep.is_true())).into(),
        "partition" | "rpartition" => {
            let separator = needed(0)?;
            let found = if name == "partition" { text.split_once(&*separator) } else { text.rsplit_once(&*separator) };
            let parts = match found {
                Some((before, after)) => [before, &separator, after],
                None if name == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            parts.map(Value::from).to_vec().into()
        }
        "removeprefix" => text.strip_prefix(&*needed(0)?).unwrap_or(text).into(),
        "removesuffix" => text.strip_suffix(&*needed(0)?).unwrap_or(text).into(),
        "find" | "rfind" | "index" | "rindex" => {
            let wanted = needed(0)?;
            // Positions are those of characters; a range to look in counts them, too.
            let (start, end) = range(text, number(argument(1, "")?)?, number(argument(2, "")?)?);
            let part = text.get(start..end).unwrap_or_default();
            let at = if name.starts_with('r') { part.rfind(&*wanted) } else { part.find(&*wanted) };
            match at {
                Some(at) => text[..start + at].chars().count().into(),
                None if name.ends_with("index") => return Err(wrong("substring not found")),
                None => Value::from(-1),
            }
        }
        "count" => {
            let wanted = needed(0)?;
            if wanted.is_empty() { (text.chars().count() + 1).into() } else { text.matches(&*wanted).count().into() }
        }
        "center" => {
            let (width, fill) = (most(0, "")?.unwrap_or(0), texts(argument(1, "")?)?.unwrap_or_else(|| " ".to_owned()));
            centred(text, width, &fill)?.into()
        }
        "ljust" => pad(|_| 0)?,
        "rjust" => pad(|missing| missing)?,
        "zfill" => {
            let width = most(0, "")?.unwrap_or(0);
            let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
            let missing = width.saturating_sub(text.chars().count());
            if missing > LONGEST {
                return Err(wrong("text is too long"));
            }
            format!("{sign}{}{digits}", "0".repeat(missing)).into()
        }
        "swapcase" => {
            let swap =
                |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
            text.chars().map(swap).collect::<String>().into()
        }
        "casefold" => text.to_lowercase().into(),
        "expandtabs" => {
            let width = most(0, "tabsize")?.unwrap_or(8).min(64);
            let (mut expanded, mut column) = (String::new(), 0);
            for c in text.chars() {
                match c {
                    '\t' => {
                        let spaces = if width == 0 { 0 } else { width - column % width };
                        expanded.push_str(&" ".repeat(spaces));
                        column += spaces;
                    }
                    _ => {
                        expanded.push(c);
                        column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                    }
                }
            }
            expanded.into()
        }
        "join" => {
            let values = argument(0, "")?.ok_or_else(|| wrong("join takes a list"))?;
            let mut joined = String::new();
            for (index, value) in values.try_iter()?.enumerate() {
                let part = value.as_str().ok_or_else(|| wrong(format!("join takes strings, not: {}", value.kind())))?;
                joined.push_str(if index > 0 { text } else { "" });
                joined.push_str(part);
                if joined.len() > LONGEST {
                    return Err(wrong("text is too long"));
                }
            }
            joined.into()
        }
        "islower" => cased(text, char::is_lowercase, char::is_uppercase).into(),
        "isupper" => cased(text, char::is_uppercase, char::is_lowercase).into(),
        "isspace" => (!text.is_empty() && text.chars().all(space)).into(),
        "isnumeric" => (!text.is_empty() && text.chars().all(char::is_numeric)).into(),
        "isdigit" | "isdecimal" => {
            // Which of the others are digits is in no table here.
            if let Some(other) = text.chars().find(|c| c.is_numeric() && !c.is_ascii_digit()) {
                return Err(wrong(format!("{name} is not known of: {other}")));
            }
            (!text.is_empty() && text.chars().all(|c| c.is_ascii_digit())).into()
        }
        "istitle" => titled(text).into(),
        "startswith" | "endswith" => {
            let (start, end) = range(text, number(argument(1, "")?)?, number(argument(2, "")?)?);
            let part = text.get(start..end).unwrap_or_default();
            let affixes = argument(0, "")?.ok_or_else(|| wrong(format!("{name} takes more arguments")))?;
            let affixes: Vec<Value> = match affixes.as_str() {
                Some(_) => vec![affixes],
                None => affixes.try_iter()?.collect(),
            };
            let mut found = false;
            for affix in affixes {
                let affix = affix.as_str().ok_or_else(|| wrong(format!("{name} takes strings")))?;
                found |= if name == "startswith" { part.starts_with(affix) } else { part.ends_with(affix) };
            }
            found.into()
        }
        "isalnum" => (!text.is_empty() && text.chars().all(char::is_alphanumeric)).into(),
        "isalpha" => (!text.is_empty() && text.chars().all(char::is_alphabetic)).into(),
        "isidentifier" => {
            let first = text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
            (first && text.chars().all(|c| c.is_alphanumeric() || c == '_')).into()
        }
        _ => return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, all),
    };
    options.assert_all_used()?;
    Ok(value_of)
}

/// Whether there are letters of one case and none of the other.
fn cased(text: &str, wanted: fn(char) -> bool, other: fn(char) -> bool) -> bool {
    text.chars().any(wanted) && !text.chars().any(other)
}

/// Whether every word begins with a capital and goes on without one, and there is one.
fn titled(text: &str) -> bool {
    let (mut inside, mut any) = (false, false);
    for c in text.chars() {
        match (c.is_uppercase(), c.is_lowercase()) {
            (true, _) if inside => return false,
            (_, true) if !inside => return false,
            (upper, lower) => {
                inside = upper || lower;
                any |= inside;
            }
        }
    }
    any
}

/// Bytes between two positions of characters, as Python's slices count them.
fn range(text: &str, start: Option<i64>, end: Option<i64>) -> (usize, usize) {
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let place = |position: i64| {
        let position = if position < 0 { position + length } else { position }.clamp(0, length);
        let at = usize::try_from(position).unwrap_or(0);
        text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte)
    };
    (start.map_or(0, place), end.map_or(text.len(), place))
}

fn split(text: &str, separator: Option<&str>, limit: Option<usize>, from_end: bool) -> Result<Vec<Value>, Error> {
    let owned = |parts: Vec<&str>| parts.into_iter().map(Value::from).collect::<Vec<Value>>();
    let most = limit.map_or(usize::MAX, |limit| limit.saturating_add(1));
    match (separator, from_end) {
        (Some(""), _) => Err(wrong("empty separator")),
        (Some(separator), false) => Ok(owned(text.splitn(most, separator).collect())),
        (Some(separator), true) => {
            let mut parts: Vec<&str> = text.rsplitn(most, separator).collect();
            parts.reverse();
            Ok(owned(parts))
        }
        // Runs of white space part words, of which the last keeps what the limit leaves together.
        (None, from_end) => {
            let trim = |text| {
                if from_end {
                    str::trim_end_matches::<fn(char) -> bool>(text, space)
                } else {
                    text.trim_start_matches(space)
                }
            };
            let (mut parts, mut rest) = (Vec::new(), trim(text));
            while !rest.is_empty() {
                if parts.len() + 1 == most {
                    parts.push(rest);
                    break;
                }
                let (part, after) = match from_end {
                    false => rest.find(space).map_or((rest, ""), |at| rest.split_at(at)),
                    true => {
                        let at =
                            rest.char_indices().rev().find(|(_, c)| space(*c)).map_or(0, |(at, c)| at + c.len_utf8());
                        (&rest[at..], &rest[..at])
                    }
                };
                parts.push(part);
                rest = trim(after);
            }
            if from_end {
                parts.reverse();
            }
            Ok(owned(parts))
        }
    }
}

/// Lines by every line end that Python's `str` knows.
fn lines(text: &str, keep: bool) -> Vec<Value> {
    let (mut lines, mut rest) = (Vec::new(), text);
    let end = |c: char| {
        matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
    };
    while !rest.is_empty() {
        let at = rest.find(end).unwrap_or(rest.len());
        let break_at =
            rest[at..].chars().next().map_or(0, |c| if rest[at..].starts_with("\r\n") { 2 } else { c.len_utf8() });
        lines.push(Value::from(&rest[..if keep { at + break_at } else { at }]));
        rest = &rest[at + break_at..];
    }
    lines
}
