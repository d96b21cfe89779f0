//! Lists and numbers in the canonical bytes of a statement (`STATEMENT.md`, section 7).

#[cfg(test)]
use ftk_circuits::{EncodingError, Reader};

#[cfg(test)]
use crate::bounds::MAX_NAME;

pub(crate) fn put_ids(bytes: &mut Vec<u8>, ids: &[u32]) {
    bytes.extend((ids.len() as u32).to_le_bytes());
    bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
}

#[cfg(test)]
pub(crate) fn take_ids(reader: &mut Reader<'_>, what: &'static str, max: u32) -> Result<Vec<u32>, EncodingError> {
    let count = reader.count(what, max, 4)?;
    (0..count).map(|_| reader.u32()).collect()
}

#[cfg(test)]
pub(crate) fn take_i64(reader: &mut Reader<'_>) -> Result<i64, EncodingError> {
    reader.array().map(i64::from_le_bytes)
}

pub(crate) fn put_name(bytes: &mut Vec<u8>, name: &str) {
    bytes.extend((name.len() as u32).to_le_bytes());
    bytes.extend(name.as_bytes());
}

#[cfg(test)]
pub(crate) fn take_name(reader: &mut Reader<'_>) -> Result<String, EncodingError> {
    let count = reader.count("name", MAX_NAME, 1)?;
    let bytes = (0..count).map(|_| reader.u8()).collect::<Result<_, _>>()?;
    Ok(String::from_utf8(bytes).expect("a name is text"))
}
