//! What templates take from Python: how values are written, and filters and tests by jinja2's definitions where the
//! engine's differ.

use std::sync::Arc;

use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, FormatStyle, format_filter};

use super::dumps::to_json;
use super::methods::method;
use super::values::{LONGEST, centred, replaced, string, wrong};

/// The function that stands for `a ~ b`.
pub(super) const CONCAT: &str = "ftk_concat";
/// The function that stands for `a % b`.
pub(super) const REMAINDER: &str = "ftk_remainder";
/// The function that stands for `a['items']` and its like, which is a method where a map has no such key.
pub(super) const ITEM: &str = "ftk_item";

/// Adds all of it to an environment.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.set_formatter(|out, state, value| {
        let text = match state.auto_escape() {
            AutoEscape::None => string(value),
            _ if value.is_safe() => string(value),
            _ => escaped(value),
        };
        out.write_str(&text).map_err(|_| ErrorKind::WriteFailure.into())
    });
    environment.set_unknown_method_callback(method);
    environment.add_function(CONCAT, |parts: Rest<Value>| parts.iter().map(string).collect::<String>());
    environment.add_function(REMAINDER, remainder);
    environment.add_function(ITEM, |map: Value, name: Value| -> Result<Value, Error> {
        let value = map.get_item(&name)?;
        Ok(if value.is_undefined() && map.kind() == ValueKind::Map { Value::from_object(Method) } else { value })
    });
    environment.add_function("cycler", |items: Rest<Value>| minijinja_contrib::globals::cycler(items.0));
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment.add_filter("string", |value: Value| string(&value));
    environment.add_filter("join", join);
    environment.add_filter("replace", |text: Value, old: Value, new: Value, count: Option<usize>| {
        let (text, old, new) = (string(&text), string(&old), string(&new));
        replaced(&text, &old, &new, count)
    });
    environment.add_filter("tojson", to_json);
    environment
        .add_filter("int", |value: Value, default: Option<Value>| int(&value).or(default).unwrap_or(Value::from(0)));
    environment.add_filter("float", |value: Value, default: Option<Value>| {
        real(&value).map(Value::from).or(default).unwrap_or(Value::from(0.0))
    });
    environment.add_filter("round", round);
    environment.add_filter("wordcount", |text: Value| {
        string(&text).split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).count()
    });
    environment
        .add_filter("center", |text: Value, width: Option<usize>| centred(&string(&text), width.unwrap_or(80), " "));
    environment.add_filter("truncate", truncate);
    environment.add_filter("urlencode", |value: Value| -> Result<String, Error> {
        if value.as_str().is_some() || value.try_iter().is_err() {
            return Ok(percent_encoded(&value, "/"));
        }
        let pair = |key: Value, value: &Value| {
            let [key, value] = [&key, value].map(|part| percent_encoded(part, " ").replace(' ', "+"));
            format!("{key}={value}")
        };
        let parts = value.try_iter()?.map(|item| match value.kind() {
            ValueKind::Map => Ok(pair(item.clone(), &value.get_item(&item)?)),
            _ => Ok(pair(item.get_item_by_index(0)?, &item.get_item_by_index(1)?)),
        });
        Ok(parts.collect::<Result<Vec<String>, Error>>()?.join("&"))
    });
    // The engine's own writes values as Rust does.
    environment.remove_filter("pprint");
    for name in ["e", "escape"] {
        environment.add_filter(name, |text: Value| Value::from_safe_string(escaped(&text)));
    }
    // A map's keys are no attributes.
    environment.add_filter("attr", |value: Value, name: String| match value.kind() {
        ValueKind::Map => Ok(Value::UNDEFINED),
        _ => value.get_attr(&name),
    });
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_test("iterable", |value: Value| match value.kind() {
        ValueKind::None => false,
        ValueKind::Undefined => true,
        _ => value.try_iter().is_ok(),
    });
    // Whatever has a length and items: strings and maps, too.
    environment.add_test("sequence", |value: Value| {
        matches!(value.kind(), ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Map)
            || (value.kind() == ValueKind::Iterable && value.len().is_some())
    });
    environment.add_test("number", |value: Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
}

/// A value as text for HTML.
fn escaped(value: &Value) -> String {
    let text = string(value).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&#34;").replace('\'', "&#39;")
}

/// A value as text for addresses, in which some more characters stay.
fn percent_encoded(value: &Value, stay: &str) -> String {
    let byte = |byte: u8| match char::from(byte) {
        c if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '~') || stay.contains(c) => c.to_string(),
        _ => format!("%{byte:02X}"),
    };
    string(value).bytes().map(byte).collect()
}

/// What Python gives for a method that is not called: something that is true and has nothing in it.
#[derive(Debug)]
struct Method;

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

/// `int(value)`, through a number with a fraction where need be.
fn int(value: &Value) -> Option<Value> {
    let whole = |text: &str| text.trim().replace('_', "").parse::<i64>().ok();
    match value.kind() {
        ValueKind::Bool => Some(Value::from(i64::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => Some(value.clone()),
        _ => value
            .as_str()
            .and_then(whole)
            .or_else(|| {
                let real = real(value)?.trunc();
                (real.abs() < 9e18).then_some(real as i64)
            })
            .map(Value::from),
    }
}

/// `float(value)`.
fn real(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        _ => value.as_str()?.trim().replace('_', "").parse().ok(),
    }
}

fn round(value: Value, places: Option<usize>, method: Option<String>) -> Result<Value, Error> {
    // Whole numbers stay whole.
    if value.is_integer() && method.as_deref().is_none_or(|method| method == "common") {
        return Ok(value);
    }
    rounded(value, places, method).map(Value::from)
}

fn rounded(value: Value, places: Option<usize>, method: Option<String>) -> Result<f64, Error> {
    let (value, places) = (real(&value).ok_or_else(|| wrong("round takes a number"))?, places.unwrap_or(0).min(30));
    let scale = 10f64.powi(i32::try_from(places).unwrap_or(30));
    match method.as_deref() {
        // The decimal digits of a number are exact, and a tie goes to the even one.
        None | Some("common") => format!("{value:.places$}").parse().map_err(|_| wrong("round takes a number")),
        Some("ceil") => Ok((value * scale).ceil() / scale),
        Some("floor") => Ok((value * scale).floor() / scale),
        Some(other) => Err(wrong(format!("method must be common, ceil or floor: {other}"))),
    }
}

/// Shortens a text to so many characters with `end`, if it is more than `leeway` longer.
fn truncate(text: Value, options: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let option = |at: usize, name: &str| match options.get(at) {
        Some(value) => Ok(Some(value.clone())),
        None => named.get::<Option<Value>>(name),
    };
    let number = |value: Option<Value>, default: usize| value.map_or(Ok(default), usize::try_from);
    let (text, length) = (string(&text), number(option(0, "length")?, 255)?);
    let cut = option(1, "killwords")?.is_some_and(|cut| cut.is_true());
    let end = option(2, "end")?.map_or_else(|| "...".to_owned(), |end| string(&end));
    let leeway = number(option(3, "leeway")?, 5)?;
    named.assert_all_used()?;
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let kept: String = text.chars().take(length.saturating_sub(end.chars().count())).collect();
    let kept = if cut { &kept } else { kept.rsplit_once(' ').map_or(kept.as_str(), |(words, _)| words) };
    Ok(kept.to_owned() + &end)
}

/// `a % b`: a text filled as `printf` does, or the remainder, which has the divisor's sign.
/// What stands in round brackets is a `tuple`, which holds the values one by one.
fn remainder(left: Value, right: Value, tuple: Option<bool>) -> Result<Value, Error> {
    if let Some(text) = left.as_str() {
        let values: Vec<Value> = match right.kind() {
            ValueKind::Seq if tuple == Some(true) => right.try_iter()?.collect(),
            _ => vec![right],
        };
        return percent(text, values);
    }
    let numbers = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    if !numbers(&left) || !numbers(&right) {
        return Err(wrong(format!("unsupported operand types for %: {} and {}", left.kind(), right.kind())));
    }
    let whole = |value: &Value| {
        i128::try_from(value.clone()).ok().or(match value.kind() {
            ValueKind::Bool => Some(i128::from(value.is_true())),
            _ => None,
        })
    };
    match (
        whole(&left).filter(|_| left.is_integer() || left.kind() == ValueKind::Bool),
        whole(&right).filter(|_| right.is_integer() || right.kind() == ValueKind::Bool),
    ) {
        (Some(_), Some(0)) => Err(wrong("integer modulo by zero")),
        (Some(a), Some(b)) => {
            let rest = a.checked_rem(b).unwrap_or(0);
            let rest = if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest };
            Ok(i64::try_from(rest).map_or_else(|_| Value::from(rest), Value::from))
        }
        _ => {
            let (a, b) = (f64::try_from(left)?, f64::try_from(right)?);
            if b == 0.0 {
                return Err(wrong("float modulo by zero"));
            }
            let rest = a % b;
            Ok(if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }.into())
        }
    }
}

/// Fills a text; values that Python writes otherwise than the engine are turned to text before.
fn percent(text: &str, values: Vec<Value>) -> Result<Value, Error> {
    let plain = |value: Value| match value.kind() {
        ValueKind::Bool | ValueKind::None | ValueKind::Seq => Value::from(string(&value)),
        _ => value,
    };
    let values: Vec<Value> = values.into_iter().map(plain).collect();
    format_filter(FormatStyle::Printf, text, &values).map(Value::from)
}

fn join(values: Value, joiner: Option<Value>, options: Kwargs) -> Result<String, Error> {
    let attribute: Option<Value> = options.get("attribute")?;
    let joiner = match joiner {
        Some(joiner) => Some(joiner),
        None => options.get("d")?,
    };
    options.assert_all_used()?;
    let joiner = joiner.map(|joiner| string(&joiner)).unwrap_or_default();
    let mut text = String::new();
    for (index, value) in values.try_iter()?.enumerate() {
        if index > 0 {
            text.push_str(&joiner);
        }
        match &attribute {
            None => text.push_str(&string(&value)),
            Some(attribute) => text.push_str(&string(&value.get_item(attribute)?)),
        }
        if text.len() > LONGEST {
            return Err(wrong("text is too long"));
        }
    }
    Ok(text)
}

fn length(value: Value) -> Result<usize, Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(0),
        _ => value.len().ok_or_else(|| wrong(format!("object of type {} has no length", value.kind()))),
    }
}
