//! What statements take from a row of logits.

use ftk_circuits::fixed::greedy;
use ftk_circuits::fixed::log_prob::log_prob;

use super::fixed::Error;

/// What is wanted of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The most likely id.
    Greedy,
    /// The log-probability of an id.
    LogProb(u32),
    /// All of it.
    Logits,
    /// The most likely of some ids; ties go to the first.
    Choice(Vec<u32>),
}

/// What was found in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// An id.
    Id(u32),
    /// A log-probability at `2^-24` nat.
    LogProb(i64),
    /// Logits at `2^-16`.
    Logits(Vec<i64>),
}

impl Read {
    /// Reads one row.
    ///
    /// # Errors
    /// Ids that are in no vocabulary, logits that are out of range.
    pub(super) fn of(&self, site: &str, logits: &[i64]) -> Result<Reading, Error> {
        Ok(match self {
            Self::Greedy => Reading::Id(greedy(logits).ok_or(Error::Row(0))?),
            Self::LogProb(id) if *id as usize >= logits.len() => return Err(Error::Token(*id)),
            Self::LogProb(id) => Reading::LogProb(log_prob(site, logits, *id)?),
            Self::Logits => Reading::Logits(logits.to_vec()),
            Self::Choice(among) => {
                let logit = |id: &u32| logits.get(*id as usize).copied().ok_or(Error::Token(*id));
                let listed: Vec<i64> = among.iter().map(logit).collect::<Result<_, _>>()?;
                let best = greedy(&listed).ok_or(Error::Row(0))?;
                Reading::Id(among[best as usize])
            }
        })
    }
}
