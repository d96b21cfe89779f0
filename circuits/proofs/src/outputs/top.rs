//! The likeliest ids at the last position with their log-probabilities; ties go to the lowest id.

use std::cmp::Reverse;

use ftk_circuits::fixed::ACTIVATION_BITS;
use ftk_circuits::fixed::log_prob::LOG_PROB_BITS;
#[cfg(test)]
use ftk_circuits::{EncodingError, Reader};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::output_kind::{OutputKind, another, log_prob_differs};
use crate::bounds::{CaseError, bounded};
#[cfg(test)]
use crate::encoding::take_i64;
use crate::read::{LogitsRow, RowError};
use crate::words::{Words, nat};

/// Most ids: more than anybody reads.
pub const MAX_TOP: u32 = 1 << 8;

/// The likeliest ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Top {
    /// As many as were asked for, the likeliest first.
    pub likeliest: Vec<Likely>,
}

/// An id and how likely it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Likely {
    /// The id.
    pub id: u32,
    /// Its log-probability at `2^-24` nat.
    pub log_prob: i64,
}

impl Top {
    /// The question which are the likeliest ids, so many.
    pub fn of(count: u32) -> Self {
        Self { likeliest: vec![Likely::default(); count as usize] }
    }

    /// As a list in words.
    fn said(&self, name: impl Fn(u32) -> String) -> String {
        let each = |likely: &Likely| format!("{} ({:.6})", name(likely.id), nat(likely.log_prob.into()));
        self.likeliest.iter().map(each).collect::<Vec<_>>().join(", ")
    }
}

impl OutputKind for Top {
    const NAME: &'static str = "top";
    const KINDS: &'static [u8] = &[7];

    fn put(&self, bytes: &mut Vec<u8>) {
        bytes.push(Self::KINDS[0]);
        bytes.extend((self.likeliest.len() as u32).to_le_bytes());
        for Likely { id, log_prob } in &self.likeliest {
            bytes.extend(id.to_le_bytes());
            bytes.extend(log_prob.to_le_bytes());
        }
    }

    #[cfg(test)]
    fn take(_: u8, reader: &mut Reader<'_>) -> Result<Self, EncodingError> {
        let count = reader.count("likeliest ids", MAX_TOP, 12)?;
        let likely = |_| Ok(Likely { id: reader.u32()?, log_prob: take_i64(reader)? });
        Ok(Self { likeliest: (0..count).map(likely).collect::<Result<_, _>>()? })
    }

    // Log-probabilities are equal where logits are: their order is that of the logits.
    fn check(&self) -> Result<(), CaseError> {
        bounded("likeliest ids", self.likeliest.len(), MAX_TOP)?;
        if self.likeliest.is_empty() {
            return Err(CaseError::Empty("list of likeliest ids"));
        }
        let rank = |likely: &Likely| (Reverse(likely.log_prob), likely.id);
        if self.likeliest.is_sorted_by(|a, b| rank(a) < rank(b)) { Ok(()) } else { Err(CaseError::Likelihood) }
    }

    fn question(&self) -> Self {
        Self::of(self.likeliest.len() as u32)
    }

    fn read(&mut self, _: usize, _: usize, row: LogitsRow<'_>) -> Result<(), RowError> {
        let (count, vocabulary) = (self.likeliest.len(), row.logits.len());
        if count == 0 || count > vocabulary {
            return Err(RowError::Few { vocabulary, wanted: count });
        }
        let rank = |id: &u32| (Reverse(row.logits[*id as usize]), *id);
        let mut ids: Vec<u32> = (0..vocabulary as u32).collect();
        ids.select_nth_unstable_by_key(count - 1, rank);
        ids.truncate(count);
        ids.sort_unstable_by_key(rank);
        // One normaliser for all: log-probabilities differ by what logits do.
        let (best, largest) = (row.log_prob(ids[0])?, row.logit(ids[0])?);
        let likely = |id: u32| {
            let below = largest - row.logits[id as usize];
            Likely { id, log_prob: best - (below << (LOG_PROB_BITS - ACTIVATION_BITS)) }
        };
        self.likeliest = ids.into_iter().map(likely).collect();
        Ok(())
    }

    fn supposed(self, _: usize, _: usize) -> Self {
        Self { likeliest: (0..).zip(self.likeliest).map(|(id, likely)| Likely { id, ..likely }).collect() }
    }

    fn difference(&self, yields: &Self) -> String {
        let mut pairs = self.likeliest.iter().zip(&yields.likeliest).enumerate();
        let other = pairs.find_map(|(rank, (stated, yields))| {
            if stated.id != yields.id {
                return Some(format!("number {} of the likeliest ids is {}, not {}", rank + 1, yields.id, stated.id));
            }
            log_prob_differs(&format!("log-probability of id {}", stated.id), stated.log_prob, yields.log_prob)
        });
        other.unwrap_or_else(another)
    }

    fn claim(&self, input: &str, words: &Words<'_>) -> String {
        format!("gives after {input} as likeliest, with log-probabilities, {}", self.said(|id| words.words(&[id])))
    }

    fn node_claim(&self, node: &str) -> String {
        format!("gives node {node} as likeliest classes, with log-probabilities, {}", self.said(|id| id.to_string()))
    }

    fn json(&self, words: &Words<'_>) -> Value {
        let each = |Likely { id, log_prob }: &Likely| {
            json!({
                "id": id, "text": words.text(&[*id]), "log_prob": nat((*log_prob).into()), "log_prob_24": log_prob,
            })
        };
        json!({ "kind": Self::NAME, "likeliest": self.likeliest.iter().map(each).collect::<Vec<_>>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(count: u32, logits: &[i64]) -> Result<Vec<Likely>, RowError> {
        let mut top = Top::of(count);
        top.read(0, 0, LogitsRow { site: "head", logits })?;
        assert_eq!(top.check(), Ok(()));
        Ok(top.likeliest)
    }

    #[test]
    fn the_likeliest_are_those_of_a_full_sort_and_ties_go_to_the_lowest_id() {
        let mut state = 1u32;
        let mut draw = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            i64::from(state >> 27) << 14
        };
        for vocabulary in [1u32, 2, 7, 300] {
            let logits: Vec<i64> = (0..vocabulary).map(|_| draw()).collect();
            let row = LogitsRow { site: "head", logits: &logits };
            let mut all: Vec<u32> = (0..vocabulary).collect();
            all.sort_by_key(|id| (Reverse(logits[*id as usize]), *id));
            for count in [1, vocabulary.div_ceil(2), vocabulary.min(MAX_TOP)] {
                let expected = all[..count as usize].iter().map(|&id| Likely { id, log_prob: row.log_prob(id).unwrap() });
                assert_eq!(read(count, &logits).unwrap(), expected.collect::<Vec<_>>(), "{count} of {vocabulary}");
            }
        }
        let ids: Vec<u32> = read(3, &[5, 9, 9, 5]).unwrap().iter().map(|likely| likely.id).collect();
        assert_eq!(ids, [1, 2, 0]);
    }

    #[test]
    fn more_than_there_are_cannot_be_asked_for() {
        assert!(matches!(read(3, &[1, 2]), Err(RowError::Few { vocabulary: 2, wanted: 3 })));
        assert!(matches!(read(1, &[]), Err(RowError::Few { vocabulary: 0, wanted: 1 })));
    }

    #[test]
    fn an_order_that_no_logits_have_states_nothing() {
        let check = |likeliest: &[(u32, i64)]| {
            let likeliest = likeliest.iter().map(|&(id, log_prob)| Likely { id, log_prob }).collect();
            Top { likeliest }.check()
        };
        assert_eq!(check(&[(7, -1), (3, -2), (5, -2)]), Ok(()));
        assert_eq!(check(&[(3, -2), (7, -1)]), Err(CaseError::Likelihood));
        assert_eq!(check(&[(5, -2), (3, -2)]), Err(CaseError::Likelihood));
        assert_eq!(check(&[(5, -2), (5, -2)]), Err(CaseError::Likelihood));
        assert_eq!(check(&[]), Err(CaseError::Empty("list of likeliest ids")));
        assert_eq!(Top::of(257).check(), Err(CaseError::Length { what: "likeliest ids", len: 257 }));
    }
}
