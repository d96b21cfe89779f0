//! What a task learns from: rows as token ids, and what of each a loss looks at.

use super::encode::{Pair, ScoredSequence, Unpaired};
use super::opened::OpenedRow;

/// Rows of one task.
#[derive(Clone, Debug)]
pub enum Examples {
    /// Supervised fine-tuning.
    Sft(Vec<ScoredSequence>),
    /// Preference optimisation: choices, of one pair or of several that share prompt and chosen completion.
    Dpo(Vec<Vec<Pair>>),
    /// Preference optimisation on completions alone.
    Unpaired(Vec<Alone>),
}

/// A completion alone, with one that its prompt has nothing to do with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alone {
    /// As chosen, the prompt with its completion; as rejected, the prompt with the completion of another row.
    pub pair: Pair,
    /// Whether its completion is wanted.
    pub wanted: bool,
}

impl Alone {
    /// Gives each of the rows the completion of the row before it, and the first the last one's, among so many rows that
    /// are a step where they are taken in order; a row that would be alone in that takes the one before. Of prompt and
    /// completion no more than `longest` ids are kept.
    pub fn mismatched(rows: Vec<Unpaired>, step: usize, longest: usize) -> Vec<Self> {
        let other = |at: usize| match (at % step, rows.len().min(at - at % step + step) - 1) {
            (0, last) if last > at => last,
            _ => at.checked_sub(1).unwrap_or(at),
        };
        let others: Vec<Vec<u32>> = (0..rows.len())
            .map(|at| {
                let (own, other) = (&rows[at], &rows[other(at)]);
                [&own.own.ids[..own.prompt], &other.own.ids[other.prompt..]].concat()
            })
            .collect();
        let alone = |(Unpaired { prompt, own, wanted }, mut ids): (Unpaired, Vec<u32>)| {
            ids.truncate(longest);
            let rejected = ScoredSequence::new(ids, |position| position >= prompt);
            Self { pair: Pair { prompt, chosen: own, rejected }, wanted }
        };
        rows.into_iter().zip(others).map(alone).collect()
    }
}

impl Examples {
    /// Pairs, each a choice of its own.
    pub fn pairs(pairs: Vec<Pair>) -> Self {
        Self::Dpo(pairs.into_iter().map(|pair| vec![pair]).collect())
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Sft(rows) => rows.len(),
            Self::Dpo(rows) => rows.len(),
            Self::Unpaired(rows) => rows.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the loss is a mean over: scored ids, or one for a choice of which all completions keep an id.
    pub fn items(&self, row: usize) -> usize {
        match self {
            Self::Sft(rows) => rows[row].items(),
            Self::Dpo(rows) => usize::from(rows[row].iter().all(Pair::both)),
            Self::Unpaired(rows) => usize::from(rows[row].pair.both()),
        }
    }

    /// What a reference has figures of: the pairs of each row; none of another task.
    pub(super) fn compared(&self) -> Vec<&[Pair]> {
        match self {
            Self::Sft(_) => Vec::new(),
            Self::Dpo(choices) => choices.iter().map(Vec::as_slice).collect(),
            Self::Unpaired(rows) => rows.iter().map(|row| std::slice::from_ref(&row.pair)).collect(),
        }
    }

    /// Ids a supervised loss looks at: the scored ones, of a pair those of the chosen completion.
    pub(super) fn supervised(&self, row: usize) -> usize {
        match self {
            Self::Sft(rows) => rows[row].items(),
            Self::Dpo(rows) => rows[row][0].chosen.items(),
            Self::Unpaired(rows) => rows[row].pair.chosen.items(),
        }
    }

    /// A row as whoever it is opened to gets it: the ids and scored positions of its texts.
    pub fn opened(&self, row: usize) -> OpenedRow {
        let sequence = |sequence: &ScoredSequence| -> Vec<Vec<(u32, bool)>> {
            let text = |(ids, scored): (&[u32], &[bool])| ids.iter().copied().zip(scored.iter().copied()).collect();
            sequence.texts().map(text).collect()
        };
        match self {
            Self::Sft(rows) => OpenedRow { sequences: vec![sequence(&rows[row])], wanted: None },
            Self::Dpo(rows) => OpenedRow { sequences: completions(&rows[row]).map(sequence).collect(), wanted: None },
            Self::Unpaired(rows) => {
                let Alone { pair, wanted } = &rows[row];
                let sequences = [&pair.chosen, &pair.rejected].into_iter().map(sequence).collect();
                OpenedRow { sequences, wanted: Some(*wanted) }
            }
        }
    }

    /// Ids in a row.
    pub fn tokens(&self, row: usize) -> usize {
        match self {
            Self::Sft(rows) => rows[row].ids.len(),
            Self::Dpo(rows) => completions(&rows[row]).map(|sequence| sequence.ids.len()).sum(),
            Self::Unpaired(rows) => rows[row].pair.chosen.ids.len(),
        }
    }
}

/// The chosen completion of a choice, then each rejected one.
pub(super) fn completions(choice: &[Pair]) -> impl Iterator<Item = &ScoredSequence> {
    choice.first().map(|pair| &pair.chosen).into_iter().chain(choice.iter().map(|pair| &pair.rejected))
}

impl Pair {
    /// Whether both completions keep a scored id.
    pub(super) fn both(&self) -> bool {
        self.chosen.items() > 0 && self.rejected.items() > 0
    }
}
