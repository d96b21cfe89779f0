//! The id with the largest logit at the last position, of those listed; ties go to the lowest id.

use ftk_circuits::fixed::greedy;
#[cfg(test)]
use ftk_circuits::{EncodingError, Reader};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::output_kind::OutputKind;
use crate::bounds::{CaseError, MAX_CHOICES, ascending};
use crate::encoding::put_ids;
#[cfg(test)]
use crate::encoding::take_ids;
use crate::read::{LogitsRow, RowError};
use crate::words::Words;

/// The id with the largest logit of those listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// What there is to choose from; strictly ascending.
    pub among: Vec<u32>,
    /// The best of them.
    pub chosen: u32,
}

impl Choice {
    /// The question which of these ids it is, given in any order.
    pub fn among(mut among: Vec<u32>) -> Self {
        among.sort_unstable();
        among.dedup();
        Self { among, chosen: 0 }
    }
}

impl OutputKind for Choice {
    const NAME: &'static str = "choice";
    const KINDS: &'static [u8] = &[5];

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.push(Self::KINDS[0]);
        put_ids(bytes, &self.among);
        bytes.extend(self.chosen.to_le_bytes());
    }

    #[cfg(test)]
    fn take(_: u8, reader: &mut Reader<'_>) -> Result<Self, EncodingError> {
        Ok(Self { among: take_ids(reader, "ids to choose from", MAX_CHOICES)?, chosen: reader.u32()? })
    }

    fn check(&self) -> Result<(), CaseError> {
        ascending("ids to choose from", &self.among, MAX_CHOICES)?;
        self.among.binary_search(&self.chosen).map(|_| ()).map_err(|_| CaseError::Choice(self.chosen))
    }

    fn question(&self) -> Self {
        Self { among: self.among.clone(), chosen: 0 }
    }

    fn read(&mut self, _: usize, _: usize, row: LogitsRow<'_>) -> Result<(), RowError> {
        let listed: Vec<i64> = self.among.iter().map(|id| row.logit(*id)).collect::<Result<_, _>>()?;
        self.chosen = self.among[greedy(&listed).ok_or(RowError::Empty)? as usize];
        Ok(())
    }

    fn supposed(self, _: usize, _: usize) -> Self {
        Self { chosen: self.among.first().copied().unwrap_or_default(), ..self }
    }

    fn is_ids(&self) -> bool {
        true
    }

    fn difference(&self, yields: &Self) -> String {
        format!("the choice is {}, not {}", yields.chosen, self.chosen)
    }

    fn claim(&self, input: &str, words: &Words<'_>) -> String {
        format!("chooses after {input} {} among {:?}", words.words(&[self.chosen]), self.among)
    }

    fn node_claim(&self, node: &str) -> String {
        format!("puts node {node} into class {} of {:?}", self.chosen, self.among)
    }

    fn json(&self, _: &Words<'_>) -> Value {
        json!({ "kind": Self::NAME, "among": self.among, "id": self.chosen })
    }
}
