//! What is claimed to come out: one file for each kind, listed once.

mod output_kind;

#[cfg(test)]
use ftk_circuits::{EncodingError, Reader};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::output_kind::OutputKind;
use crate::bounds::CaseError;
use crate::read::{LogitsRow, RowError};
use crate::words::Words;

pub use self::preference::{Preferences, ScoredContinuation};
pub use self::top::{Likely, MAX_TOP};

macro_rules! outputs {
    ($($(#[$doc:meta])* $file:ident::$name:ident,)*) => {
        $(mod $file;)*
        $(pub use self::$file::$name;)*

        /// What is claimed to come out; the first byte of its encoding is its kind.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "lowercase")]
        pub enum Output {
            $($(#[$doc])* $name($name),)*
        }

        /// What may be asked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $($(#[$doc])* $name,)*
        }

        impl Kind {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in commands.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $name::NAME,)* }
            }
        }

        impl Output {
            /// What is asked.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$name(_) => Kind::$name,)* }
            }

            pub(crate) fn put(&self, bytes: &mut Vec<u8>) {
                match self { $(Self::$name(output) => output.put(bytes),)* }
            }

            #[cfg(test)]
            pub(crate) fn take(reader: &mut Reader<'_>) -> Result<Self, EncodingError> {
                let kind = reader.u8()?;
                $(if $name::KINDS.contains(&kind) {
                    return $name::take(kind, reader).map(Self::$name);
                })*
                Err(EncodingError::Bounds { what: "kind of output", value: kind.into() })
            }

            /// Kinds of all outputs, in their order.
            #[cfg(test)]
            fn all_kinds() -> Vec<u8> {
                [$($name::KINDS),*].concat()
            }

            pub(crate) fn check(&self) -> Result<(), CaseError> {
                match self { $(Self::$name(output) => output.check(),)* }
            }

            /// Continuations of the input that it is about; none where it is about the input's last position alone.
            pub fn continuations(&self) -> Vec<&[u32]> {
                match self { $(Self::$name(output) => output.continuations(),)* }
            }

            /// The same without what the network and the stop rule have to say.
            #[must_use]
            pub fn question(&self) -> Self {
                match self { $(Self::$name(output) => Self::$name(output.question()),)* }
            }

            /// Whether it asks more than its kind says.
            pub fn asks_more(&self) -> bool {
                match self { $(Self::$name(output) => output.asks_more(),)* }
            }

            /// Whether what was asked for holds, where that is asked.
            pub fn is_yes(&self) -> bool {
                match self { $(Self::$name(output) => output.is_yes(),)* }
            }

            /// Puts what a row of logits yields in the place of what is stated, at a step of one of its sequences.
            /// Rows come in the order of sequences and steps.
            ///
            /// # Errors
            /// Ids that are in no vocabulary, logits that are out of range.
            pub fn read(&mut self, sequence: usize, step: usize, row: LogitsRow<'_>) -> Result<(), RowError> {
                match self { $(Self::$name(output) => output.read(sequence, step, row),)* }
            }

            /// Whether it states what the base alone yields, too.
            pub fn is_compared(&self) -> bool {
                match self { $(Self::$name(output) => output.is_compared(),)* }
            }

            /// Puts in what the base alone yields, where that is stated.
            pub fn compare(&mut self, alone: &Self) {
                match (self, alone) {
                    $((Self::$name(output), Self::$name(alone)) => output.compare(alone),)*
                    _ => {}
                }
            }

            /// The same question with some answer, of at most so many ids where their number is open, by a network with
            /// so many outputs: which answer it is does not matter to what a proof takes.
            #[must_use]
            pub fn supposed(self, ids: usize, outputs: usize) -> Self {
                match self { $(Self::$name(output) => Self::$name(output.supposed(ids, outputs)),)* }
            }

            /// Whether it answers with ids alone: an id tells a few bits, a logit an equation.
            pub fn is_ids(&self) -> bool {
                match self { $(Self::$name(output) => output.is_ids(),)* }
            }

            /// Where the network yields something else than is stated.
            pub fn difference(&self, yields: &Self) -> Option<String> {
                if self == yields {
                    return None;
                }
                Some(match (self, yields) {
                    $((Self::$name(stated), Self::$name(yields)) => stated.difference(yields),)*
                    _ => "something of another kind".to_owned(),
                })
            }

            /// What it says, as the end of the sentence "the adapter, applied to the base, ...".
            pub fn claim(&self, input: &str, words: &Words<'_>) -> String {
                match self { $(Self::$name(output) => output.claim(input, words),)* }
            }

            /// The same of a node.
            pub fn node_claim(&self, node: &str) -> String {
                match self { $(Self::$name(output) => output.node_claim(node),)* }
            }

            /// Ids, exact integers, and what they are in nat.
            pub fn json(&self, words: &Words<'_>) -> Value {
                match self { $(Self::$name(output) => output.json(words),)* }
            }
        }

        $(impl From<$name> for Output {
            fn from(output: $name) -> Self {
                Self::$name(output)
            }
        })*
    };
}

outputs! {
    /// Greedy continuation of the input; ties go to the lowest id.
    completion::Completion,
    /// The logits at the last position.
    logits::Logits,
    /// How likely a continuation is.
    log_prob::LogProb,
    /// How likely each of two continuations is, with the adapter and without it.
    preference::Preference,
    /// The id with the largest logit at the last position, of those listed.
    choice::Choice,
    /// Whether an id is at least so likely at the last position.
    at_least::AtLeast,
    /// The likeliest ids at the last position with their log-probabilities.
    top::Top,
}

impl Output {
    /// What it says of a pair of users, of which logits are stated, as the end of the same sentence; no rating is known of
    /// strangers.
    pub fn pair_claim(&self, source: &str, target: &str, strangers: &[&str]) -> String {
        let claim = match self {
            Self::Logits(logits) => logits.pair_claim(source, target),
            other => other.node_claim(&format!("{source:?} to {target:?}")),
        };
        match strangers {
            [] => claim,
            [one] => format!("{claim}, where no rating by or of {one:?} is known"),
            [one, other, ..] => format!("{claim}, where no rating by or of {one:?} or {other:?} is known"),
        }
    }

    /// Exact integers of a pair, with the rating and the log-odds that they are.
    pub fn pair_json(&self, words: &Words<'_>) -> Value {
        let mut json = self.json(words);
        if let (Self::Logits(logits), Some(object)) = (self, json.as_object_mut())
            && let Some([rating, log_odds]) = logits.of_pair()
        {
            object.extend([("rating".to_owned(), rating.into()), ("log_odds".to_owned(), log_odds.into())]);
        }
        json
    }
}

impl Kind {
    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_kinds_share_a_name_or_a_byte() {
        let mut names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
        assert!(Kind::ALL.iter().all(|kind| Kind::named(kind.name()) == Some(*kind)));
        let bytes = Output::all_kinds();
        assert!((0..bytes.len()).all(|byte| bytes[byte] as usize == byte), "{bytes:?}");
    }
}
