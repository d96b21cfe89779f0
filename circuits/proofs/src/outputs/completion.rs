//! The greedy continuation of an input; ties go to the lowest id.

#[cfg(test)]
use ftk_circuits::{EncodingError, Reader};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::output_kind::{OutputKind, another};
use crate::bounds::{CaseError, MAX_STOP_IDS, ascending, continuation};
use crate::encoding::put_ids;
#[cfg(test)]
use crate::encoding::take_ids;
use crate::read::{LogitsRow, RowError};
use crate::words::Words;

/// The greedy continuation of an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Completion {
    /// The generated ids, a final stop id included.
    pub ids: Vec<u32>,
    /// Generation ends after this many ids.
    pub max_tokens: u32,
    /// Generation ends after one of these; strictly ascending.
    pub stop_ids: Vec<u32>,
}

impl Completion {
    /// How many more ids there may be; none behind a stop id.
    pub fn left(&self) -> usize {
        let ended = self.ids.last().is_some_and(|id| self.stop_ids.contains(id));
        if ended { 0 } else { (self.max_tokens as usize).saturating_sub(self.ids.len()) }
    }

    /// Ends a proposed continuation with the first id that is another one in what the network yields for it; says
    /// whether there is none.
    pub fn agrees(&mut self, exact: &Self) -> bool {
        match exact.ids.iter().zip(&self.ids).position(|(exact, proposed)| exact != proposed) {
            None => true,
            Some(first) => {
                self.ids.truncate(first);
                self.ids.push(exact.ids[first]);
                false
            }
        }
    }
}

impl OutputKind for Completion {
    const NAME: &'static str = "completion";
    const KINDS: &'static [u8] = &[0];

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.push(Self::KINDS[0]);
        put_ids(bytes, &self.ids);
        bytes.extend(self.max_tokens.to_le_bytes());
        put_ids(bytes, &self.stop_ids);
    }

    #[cfg(test)]
    fn take(_: u8, reader: &mut Reader<'_>) -> Result<Self, EncodingError> {
        Ok(Self {
            ids: take_ids(reader, "completion", crate::bounds::MAX_TOKENS)?,
            max_tokens: reader.u32()?,
            stop_ids: take_ids(reader, "stop ids", MAX_STOP_IDS)?,
        })
    }

    fn check(&self) -> Result<(), CaseError> {
        let Self { ids, max_tokens, stop_ids } = self;
        ascending("stop ids", stop_ids, MAX_STOP_IDS)?;
        continuation("completion", ids)?;
        if ids.len() > *max_tokens as usize {
            return Err(CaseError::TooLong(ids.len()));
        }
        match ids.iter().position(|id| stop_ids.binary_search(id).is_ok()) {
            Some(position) if position + 1 < ids.len() => Err(CaseError::AfterStop(position)),
            None if ids.len() < *max_tokens as usize => Err(CaseError::EndsEarly(ids.len())),
            _ => Ok(()),
        }
    }

    fn continuations(&self) -> Vec<&[u32]> {
        vec![&self.ids]
    }

    fn question(&self) -> Self {
        Self { ids: Vec::new(), max_tokens: 0, stop_ids: Vec::new() }
    }

    fn asks_more(&self) -> bool {
        false
    }

    fn read(&mut self, _: usize, step: usize, row: LogitsRow<'_>) -> Result<(), RowError> {
        *self.ids.get_mut(step).ok_or(RowError::Empty)? = row.greedy()?;
        Ok(())
    }

    fn supposed(self, ids: usize, _: usize) -> Self {
        Self { ids: vec![0; ids.min(self.max_tokens as usize)], ..self }
    }

    fn is_ids(&self) -> bool {
        true
    }

    fn difference(&self, yields: &Self) -> String {
        let mut pairs = self.ids.iter().zip(&yields.ids).enumerate();
        match pairs.find(|(_, (stated, yields))| stated != yields) {
            Some((position, (stated, yields))) => format!("position {position} yields {yields}, not {stated}"),
            None => another(),
        }
    }

    fn claim(&self, input: &str, words: &Words<'_>) -> String {
        let Self { ids, max_tokens, .. } = self;
        format!("continues {input} greedily with {} (at most {max_tokens} tokens)", words.words(ids))
    }

    fn json(&self, words: &Words<'_>) -> Value {
        let Self { ids, max_tokens, stop_ids } = self;
        json!({
            "kind": Self::NAME, "ids": ids, "text": words.text(ids), "max_tokens": max_tokens, "stop_ids": stop_ids,
        })
    }
}
