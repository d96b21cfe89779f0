//! What became of the rows of a file, for people and for programs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};

/// What became of the rows of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowCounts {
    /// The file.
    pub path: PathBuf,
    /// Rows in the file.
    pub rows: usize,
    /// Tokens of the rows that are kept, after cutting.
    pub tokens: usize,
    /// Tokens of these that are scored.
    pub scored: usize,
    /// Rows that lost their end.
    pub cut: usize,
    /// Rows left out because nothing scored was left after cutting: their prompt alone is too long.
    pub dropped: usize,
    /// Rows left out because nothing in them is scored.
    pub unscored: usize,
    /// Tokens of the longest row before cutting (of a pair, of its longer half).
    pub longest: usize,
    /// Most tokens a row may keep.
    pub max_length: usize,
    /// Rows after packing, if they are packed.
    pub packed: Option<usize>,
    /// Choices that pairs come to, where several pairs are one.
    pub choices: Option<usize>,
    /// Names in double braces that stand in the rows as they are.
    pub open: Vec<String>,
    /// Columns and fields of turns that nothing reads, with the rows that have them.
    pub unread: BTreeMap<String, usize>,
    /// Rows that are scored from before their prompt's end ([`Encoder::parted`](super::encode::Encoder::parted)).
    pub parted: usize,
    /// Rows that begin with the token that the tokenizer puts there ([`Encoder::begun`](super::encode::Encoder::begun)).
    pub begun: usize,
    /// Rows with an answer of nothing but white space ([`Encoder::blank`](super::encode::Encoder::blank)).
    pub blank: usize,
    /// Rows of which the template leaves a part of what the assistant says out
    /// ([`Encoder::shortened`](super::encode::Encoder::shortened)).
    pub shortened: usize,
    /// Characters that the assistant says, and that others say, in conversations that are scored as a whole
    /// ([`Encoder::said`](super::encode::Encoder::said)).
    pub said: (usize, usize),
    /// Pairs of two equal completions.
    pub equal: usize,
    /// Rows that are longer than the base's context after cutting, and that context.
    pub beyond: (usize, usize),
}

impl RowCounts {
    /// For a person: what there is, and what was taken away.
    pub fn notes(&self) -> Vec<String> {
        let name = self.path.display();
        let kept = self.rows - self.dropped - self.unscored;
        let mut notes = vec![format!(
            "{name}: {kept} rows, {} tokens, {} of them scored, longest row {}",
            self.tokens, self.scored, self.longest
        )];
        let max = self.max_length;
        if self.cut > 0 {
            notes.push(format!("{name}: rows cut to {max} tokens: {}", self.cut));
        }
        if self.dropped > 0 {
            notes.push(format!("{name}: rows left out, their prompts alone fill {max} tokens: {}", self.dropped));
        }
        if self.unscored > 0 {
            notes.push(format!("{name}: rows left out, nothing in them is scored: {}", self.unscored));
        }
        if let Some(packed) = self.packed {
            let full = self.tokens as f64 / (packed * max) as f64;
            notes.push(format!(
                "{name}: packed into rows of {max} tokens, {:.1} % of them filled: {packed}",
                100.0 * full
            ));
        }
        if let Some(choices) = self.choices {
            notes.push(format!(
                "{name}: pairs of one prompt and one chosen completion taken together: {choices} choices"
            ));
        }
        if !self.unread.is_empty() {
            let names: Vec<String> = self.unread.iter().map(|(name, rows)| format!("{name} ({rows})")).collect();
            notes.push(format!("{name}: columns or fields that are not read (rows with them): {}", names.join(", ")));
        }
        if self.parted > 0 {
            notes.push(format!(
                "{name}: rows whose prompt alone ends with other tokens than before its answer, scored from the last \
                 token that both have: {}",
                self.parted
            ));
        }
        if self.begun > 0 {
            notes.push(format!(
                "{name}: rows that begin with the token which the tokenizer puts there, not doubled: {}",
                self.begun
            ));
        }
        if self.blank > 0 {
            notes.push(format!("{name}: rows with an answer of nothing but white space: {}", self.blank));
        }
        if self.shortened > 0 {
            notes.push(format!(
                "{name}: rows of which the chat template leaves a part of an answer out, such as thoughts: {}",
                self.shortened
            ));
        }
        let (own, others) = self.said;
        if others > own {
            let share = 100.0 * others as f64 / (own + others) as f64;
            notes.push(format!(
                "{name}: conversations are scored as a whole, and {share:.0} % of what is said in them is not the \
                 assistant's: data.loss = \"assistant\" scores its turns alone"
            ));
        }
        if self.equal > 0 {
            notes.push(format!("{name}: pairs whose chosen and rejected completions are the same: {}", self.equal));
        }
        let (beyond, context) = self.beyond;
        if beyond > 0 {
            notes
                .push(format!("{name}: rows longer than the {context} tokens that the base was trained for: {beyond}"));
        }
        if !self.open.is_empty() {
            let slots: Vec<String> = self.open.iter().map(|name| format!("{{{{{name}}}}}")).collect();
            notes.push(format!("{name}: not replaced (see data.replace): {}", slots.join(", ")));
        }
        notes
    }

    /// The same for a program.
    pub fn json(&self) -> Value {
        json!({
            "file": self.path,
            "rows": self.rows,
            "tokens": self.tokens,
            "scored": self.scored,
            "cut": self.cut,
            "dropped": self.dropped,
            "unscored": self.unscored,
            "longest": self.longest,
            "packed": self.packed,
            "choices": self.choices,
            "unread": self.unread,
            "parted": self.parted,
            "begun": self.begun,
            "blank": self.blank,
            "shortened": self.shortened,
            "said": { "assistant": self.said.0, "others": self.said.1 },
            "equal": self.equal,
            "beyond": self.beyond.0,
        })
    }
}
