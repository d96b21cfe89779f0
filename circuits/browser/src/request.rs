//! What the page hands over: four bytes with the length of a header (little-endian), the header, which is JSON, and the
//! bytes of the files that it names, one behind another.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::asked::TypedExpectations;

/// Files by their names.
pub(crate) type NamedFiles<'a> = BTreeMap<String, &'a [u8]>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageHeader {
    asked: TypedExpectations,
    base: Vec<(String, usize)>,
    bundle: Vec<(String, usize)>,
}

/// A request, with files that stand where they came.
pub(crate) struct PageRequest<'a> {
    pub(crate) asked: TypedExpectations,
    pub(crate) base: NamedFiles<'a>,
    pub(crate) bundle: NamedFiles<'a>,
}

impl<'a> PageRequest<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let ends = || "the request ends too early".to_owned();
        let (&length, rest) = bytes.split_first_chunk().ok_or_else(ends)?;
        let (header, mut rest) = rest.split_at_checked(u32::from_le_bytes(length) as usize).ok_or_else(ends)?;
        let PageHeader { asked, base, bundle } = serde_json::from_slice(header).map_err(|error| error.to_string())?;
        let mut take = |named: Vec<(String, usize)>| {
            let mut files = NamedFiles::new();
            for (name, length) in named {
                let (file, behind) = rest.split_at_checked(length).ok_or_else(ends)?;
                rest = behind;
                if files.insert(name.clone(), file).is_some() {
                    return Err(format!("given twice: {name}"));
                }
            }
            Ok(files)
        };
        let (base, bundle) = (take(base)?, take(bundle)?);
        if rest.is_empty() {
            Ok(Self { asked, base, bundle })
        } else {
            Err("the request goes on behind its files".to_owned())
        }
    }
}
