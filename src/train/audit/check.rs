//! The checks of `TRANSCRIPT.md` by their names, and what is said of one that fails.

use std::fmt;

use crate::train::error::TrainError;

/// A check of `TRANSCRIPT.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TranscriptCheck {
    /// Every line is what is due there.
    Form,
    /// Every line follows from the one before.
    Chain,
    /// Steps are numbered one after another.
    Steps,
    /// The root is the one that is known.
    Root,
    /// Arithmetic, recipe, rows and base are those at hand.
    Run,
    /// The seed is the recipe's.
    Seed,
    /// The number of steps is the recipe's.
    Length,
    /// The rows are those at hand.
    Data,
    /// The first values are those of recipe and seed.
    Start,
    /// A step learnt from the rows that were its turn.
    Rows,
    /// At the learning rate of the schedule.
    Rate,
    /// Its figures are those that were written down.
    Figures,
    /// The end and the result follow from the figures.
    End,
    /// A kept state is that of its step.
    State,
    /// A kept state can be reached from the one before.
    Bound,
    /// The gradients are those that are computed again.
    Gradients,
    /// The parameters after a step are.
    Values,
    /// Their first moments are.
    First,
    /// Their second moments are.
    Second,
    /// The result's files are what its state is exported to.
    Result,
}

impl TranscriptCheck {
    /// All, in the order of `TRANSCRIPT.md`.
    #[cfg(test)]
    pub(super) const ALL: [Self; 20] = [
        Self::Form,
        Self::Chain,
        Self::Steps,
        Self::Root,
        Self::Run,
        Self::Seed,
        Self::Length,
        Self::Data,
        Self::Start,
        Self::Rows,
        Self::Rate,
        Self::Figures,
        Self::End,
        Self::State,
        Self::Bound,
        Self::Gradients,
        Self::Values,
        Self::First,
        Self::Second,
        Self::Result,
    ];

    /// Its name in `TRANSCRIPT.md`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Chain => "chain",
            Self::Steps => "steps",
            Self::Root => "root",
            Self::Run => "run",
            Self::Seed => "seed",
            Self::Length => "length",
            Self::Data => "data",
            Self::Start => "start",
            Self::Rows => "rows",
            Self::Rate => "rate",
            Self::Figures => "figures",
            Self::End => "end",
            Self::State => "state",
            Self::Bound => "bound",
            Self::Gradients => "gradients",
            Self::Values => "values",
            Self::First => "first",
            Self::Second => "second",
            Self::Result => "result",
        }
    }
}

/// What does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The check.
    pub check: TranscriptCheck,
    /// At which step, if it is about one.
    pub step: Option<u64>,
    /// In words.
    pub what: String,
    /// Whether something was computed for it: another arithmetic may then say otherwise.
    pub computed: bool,
}

impl Refused {
    /// One that is about no step.
    pub fn new(check: TranscriptCheck, what: impl Into<String>) -> Self {
        Self { check, step: None, what: what.into(), computed: false }
    }

    /// One that is about a step.
    pub fn at(check: TranscriptCheck, step: u64, what: impl Into<String>) -> Self {
        Self { step: Some(step), ..Self::new(check, what) }
    }

    /// The same, found by computing.
    pub(super) fn computed(self) -> Self {
        Self { computed: true, ..self }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, step, what, .. } = self;
        if let Some(step) = step {
            write!(f, "step {step}: ")?;
        }
        write!(f, "{}: {what}", check.name())
    }
}

/// Why a run is not found to follow.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// It does not.
    #[error("{0}")]
    Refused(Refused),
    /// It cannot be told.
    #[error(transparent)]
    Undecided(#[from] TrainError),
}

impl From<Refused> for AuditError {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}
