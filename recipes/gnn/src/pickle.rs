//! NumPy's arrays by their names as `torch.save` writes them: a pickle of a dictionary of arrays, in a zip archive, or
//! bare behind three other pickles, as PyTorch wrote it before 1.6. A pickle is a program: followed are the instructions
//! that such a dictionary is made of, three names in it are known, all else is refused, and nothing is ever called.
//! (PEP 3154; Python's `pickletools`.)

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::rc::Rc;

use ftk_adapters::foreign;

use super::error::GraphError;
use super::npz::{self, Array};

/// What stands first where there is no archive around it.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Why an instruction finds nothing to work on.
const NOTHING: &str = "takes what is not there";

#[derive(Clone)]
enum PickledValue {
    /// What is of no interest.
    Other,
    Flag(bool),
    Integer(i64),
    Text(Rc<str>),
    Bytes(Rc<[u8]>),
    Tuple(Rc<[PickledValue]>),
    Dictionary(Vec<(Rc<str>, PickledValue)>),
    Global(Rc<str>),
    /// NumPy's kind of numbers, `i8`.
    Kind(Rc<str>),
    /// An array that is yet to be told what it holds.
    Unfilled,
    Array(Rc<Array>),
    Mark,
}

/// Arrays of a file by their names.
///
/// # Errors
/// A file that cannot be read, or holds anything else.
pub fn read(path: &Path) -> Result<BTreeMap<String, Array>, GraphError> {
    let bytes = foreign::read(path, foreign::DATA).map_err(|error| GraphError::io(path, error))?;
    let wrong = |message: String| {
        let error = GraphError::malformed(path, format!("not NumPy's arrays as torch.save writes them: {message}"));
        error.hinted("write the edges of all parts as a table: src,dst,split")
    };
    let value = if bytes.starts_with(b"PK") {
        let files = npz::entries(path, &bytes)?;
        let data = files.iter().find(|(name, _)| name.ends_with("/data.pkl"));
        let (_, data) = data.ok_or_else(|| wrong("holds no data.pkl".to_owned()))?;
        Pickle(data).run()
    } else {
        let mut pickle = Pickle(&bytes);
        if !matches!(pickle.run().map_err(wrong)?, PickledValue::Bytes(magic) if magic[..] == MAGIC) {
            return Err(wrong("begins with another mark".to_owned()));
        }
        // A version, and what system wrote it; arrays say their order of bytes themselves.
        (0..2).try_for_each(|_| pickle.run().map(drop)).and_then(|()| pickle.run())
    };
    let PickledValue::Dictionary(items) = value.map_err(wrong)? else {
        return Err(wrong("is no dictionary".to_owned()));
    };
    let array = |(name, value): (Rc<str>, PickledValue)| match value {
        PickledValue::Array(array) => Ok((name.to_string(), Rc::unwrap_or_clone(array))),
        _ => Err(wrong(format!("is no array: {name}"))),
    };
    items.into_iter().map(array).collect()
}

/// What is left of a file.
struct Pickle<'a>(&'a [u8]);

impl<'a> Pickle<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        let cut = usize::try_from(count).ok().and_then(|count| self.0.split_at_checked(count));
        let (taken, rest) = cut.ok_or("ends too early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self, width: u64) -> Result<u64, String> {
        Ok(self.take(width)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// So many bytes as a number of this width says.
    fn sized(&mut self, width: u64) -> Result<&'a [u8], String> {
        let length = self.number(width)?;
        self.take(length)
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let end = self.0.iter().position(|&byte| byte == b'\n').ok_or("ends too early")?;
        let line = self.take(end as u64 + 1)?;
        text(&line[..end])
    }

    /// Follows the instructions to the end of a pickle.
    fn run(&mut self) -> Result<PickledValue, String> {
        let (mut stack, mut known): (Vec<PickledValue>, HashMap<u64, PickledValue>) = (Vec::new(), HashMap::new());
        loop {
            let instruction = self.number(1)? as u8;
            let value = match instruction {
                // The protocol; the length of what follows.
                0x80 | 0x95 => self.take(if instruction == 0x80 { 1 } else { 8 }).map(|_| None)?,
                b'(' => Some(PickledValue::Mark),
                b'N' => Some(PickledValue::Other),
                0x88 | 0x89 => Some(PickledValue::Flag(instruction == 0x88)),
                b'K' => Some(PickledValue::Integer(self.number(1)? as i64)),
                b'M' => Some(PickledValue::Integer(self.number(2)? as i64)),
                b'J' => Some(PickledValue::Integer(i64::from(self.number(4)? as u32 as i32))),
                0x8a => Some(PickledValue::Bytes(self.sized(1)?.into())),
                b'X' => Some(PickledValue::Text(text(self.sized(4)?)?.into())),
                0x8c => Some(PickledValue::Text(text(self.sized(1)?)?.into())),
                b'C' => Some(PickledValue::Bytes(self.sized(1)?.into())),
                b'B' => Some(PickledValue::Bytes(self.sized(4)?.into())),
                0x8e => Some(PickledValue::Bytes(self.sized(8)?.into())),
                b'}' => Some(PickledValue::Dictionary(Vec::new())),
                b')' => Some(tuple(Vec::new())?),
                0x85..=0x87 => Some(tuple(last(&mut stack, usize::from(instruction - 0x84))?)?),
                b't' => Some(tuple(above(&mut stack)?)?),
                b'c' => Some(PickledValue::Global(format!("{} {}", self.line()?, self.line()?).into())),
                0x93 => match &last(&mut stack, 2)?[..] {
                    [PickledValue::Text(module), PickledValue::Text(name)] => {
                        Some(PickledValue::Global(format!("{module} {name}").into()))
                    }
                    _ => return Err("names something by no text".to_owned()),
                },
                b'q' | b'r' | 0x94 => {
                    let next = known.len() as u64;
                    let place =
                        if instruction == 0x94 { next } else { self.number(if instruction == b'q' { 1 } else { 4 })? };
                    // What is filled later is not to be had again as it was.
                    known.insert(
                        place,
                        match stack.last().ok_or(NOTHING)? {
                            PickledValue::Dictionary(_) | PickledValue::Unfilled => PickledValue::Mark,
                            value => value.clone(),
                        },
                    );
                    None
                }
                b'h' | b'j' => match known.get(&self.number(if instruction == b'h' { 1 } else { 4 })?) {
                    Some(PickledValue::Mark) | None => return Err("comes back to what was left open".to_owned()),
                    again => again.cloned(),
                },
                b's' | b'u' => {
                    let items = if instruction == b's' { last(&mut stack, 2)? } else { above(&mut stack)? };
                    let Some(PickledValue::Dictionary(into)) = stack.last_mut() else { return Err(NOTHING.to_owned()) };
                    for item in items.chunks(2) {
                        let [PickledValue::Text(name), value] = item else {
                            return Err("holds an item without a name".to_owned());
                        };
                        let inner = matches!(value, PickledValue::Dictionary(_));
                        into.push((name.clone(), if inner { PickledValue::Other } else { value.clone() }));
                    }
                    None
                }
                b'R' => match &last(&mut stack, 2)?[..] {
                    [PickledValue::Global(name), PickledValue::Tuple(arguments)] => Some(made(name, arguments)?),
                    _ => return Err("calls what has no name".to_owned()),
                },
                b'b' => match &last(&mut stack, 2)?[..] {
                    [value, PickledValue::Tuple(state)] => Some(filled(value, state)?),
                    _ => return Err("tells a value no state".to_owned()),
                },
                b'.' => return last(&mut stack, 1).map(|mut values| values.remove(0)),
                other => return Err(format!("holds an instruction that is not followed: {other:#04x}")),
            };
            stack.extend(value);
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "holds text that is no UTF-8".to_owned())
}

/// The values that were put there last.
fn last(stack: &mut Vec<PickledValue>, count: usize) -> Result<Vec<PickledValue>, String> {
    let at = stack.len().checked_sub(count).ok_or(NOTHING)?;
    let values = stack.split_off(at);
    if values.iter().any(|value| matches!(value, PickledValue::Mark)) { Err(NOTHING.to_owned()) } else { Ok(values) }
}

/// All that was put there since the last mark, and the mark.
fn above(stack: &mut Vec<PickledValue>) -> Result<Vec<PickledValue>, String> {
    let mark = stack.iter().rposition(|value| matches!(value, PickledValue::Mark)).ok_or(NOTHING)?;
    let values = stack.split_off(mark + 1);
    stack.pop();
    Ok(values)
}

/// A tuple, of tuples of no more tuples: an array is told its shape so.
fn tuple(values: Vec<PickledValue>) -> Result<PickledValue, String> {
    let nests = |value: &PickledValue| matches!(value, PickledValue::Tuple(inner) if inner.iter().any(|it| matches!(it, PickledValue::Tuple(_))));
    let deep = values.iter().any(|value| nests(value) || matches!(value, PickledValue::Dictionary(_)));
    if deep { Err("is nested too deeply".to_owned()) } else { Ok(PickledValue::Tuple(values.into())) }
}

/// What a function of a known name makes.
fn made(name: &str, arguments: &[PickledValue]) -> Result<PickledValue, String> {
    match (name, arguments) {
        ("numpy.core.multiarray _reconstruct" | "numpy._core.multiarray _reconstruct", [_, _, _]) => {
            Ok(PickledValue::Unfilled)
        }
        ("numpy dtype", [PickledValue::Text(kind), ..]) => Ok(PickledValue::Kind(kind.clone())),
        // Bytes, in a protocol that has none: every byte a character.
        ("_codecs encode", [PickledValue::Text(text), PickledValue::Text(how)]) if &**how == "latin1" => {
            let bytes: Result<Rc<[u8]>, _> = text.chars().map(u8::try_from).collect();
            bytes.map(PickledValue::Bytes).map_err(|_| "holds a byte that is none".to_owned())
        }
        _ => Err(format!("calls what is not known: {name}")),
    }
}

/// A value that is told its state.
fn filled(value: &PickledValue, state: &[PickledValue]) -> Result<PickledValue, String> {
    match (value, state) {
        (PickledValue::Kind(_), [_, PickledValue::Text(order), ..]) if matches!(&**order, "<" | "|") => {
            Ok(value.clone())
        }
        (PickledValue::Kind(_), [_, PickledValue::Text(order), ..]) => {
            Err(format!("its order of bytes is not read: {order}"))
        }
        (
            PickledValue::Unfilled,
            [
                _,
                PickledValue::Tuple(shape),
                PickledValue::Kind(kind),
                PickledValue::Flag(by_columns),
                PickledValue::Bytes(data),
            ],
        ) => {
            let length = |value: &PickledValue| match value {
                PickledValue::Integer(length) => usize::try_from(*length).ok(),
                _ => None,
            };
            let shape: Option<Vec<usize>> = shape.iter().map(length).collect();
            let order = if matches!(&**kind, "i1" | "u1" | "b1") { '|' } else { '<' };
            let shape = shape.ok_or("has an axis of no length")?;
            let array = npz::filled(&format!("{order}{kind}"), shape, *by_columns, data)?;
            Ok(PickledValue::Array(Rc::new(array)))
        }
        _ => Err("tells a value a state that is not understood".to_owned()),
    }
}
