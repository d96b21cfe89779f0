//! The transcript of a run, as `TRANSCRIPT.md` beside this file defines it: what went into each step and what came out,
//! by digest, each chained to the one before. Here it is written; what a row is the session knows, and recomputing is in
//! `audit`.

mod content;
mod lines;
mod read;
mod tree;

use blake3::{Hash, Hasher};
use ftk_recipes::{Run, Session};

pub(super) use self::content::START;
pub use self::content::{StepRecord, Transcript, TranscriptEnd, TranscriptHead};
pub(super) use self::lines::{Around, Before, Hex};
use self::lines::{EndLine, Line};
pub use self::read::{Malformed, read};
pub use self::tree::Roots;
use self::tree::text;
pub(super) use self::tree::{climb, leaf, path, root, root_of, roots, zeros};

/// File name in the run folder.
pub const TRANSCRIPT: &str = "transcript.jsonl";

const ROWS: &str = "ftk transcript 1 rows";
const FIGURES: &str = "ftk transcript 1 figures";
const SALT: &str = "ftk transcript 1 salt";
const SALTED: &str = "ftk transcript 1 salted row";

/// Who writes a transcript, line by line.
#[derive(Debug)]
pub(super) struct Scribe {
    chain: Hash,
}

impl Scribe {
    /// Begins one; gives its first line.
    pub(super) fn begin(head: &TranscriptHead) -> (Self, String) {
        let chain = head.chain();
        (Self { chain }, written(&Line::Head(head.line(chain))))
    }

    /// Goes on with one that has not ended.
    pub(super) fn resume(transcript: &Transcript) -> Self {
        Self { chain: *transcript.chain.last().expect("a transcript has a head") }
    }

    /// The line of a step.
    pub(super) fn step(&mut self, record: &StepRecord) -> String {
        self.chain = record.chain(&self.chain);
        written(&Line::Step(record.line(self.chain)))
    }

    /// The last line, and the root.
    pub(super) fn end(&mut self, end: TranscriptEnd) -> (String, Hash) {
        self.chain = end.chain(&self.chain);
        let line = Line::End(EndLine { ended: end.ended, result: end.result, chain: Hex(self.chain) });
        (written(&line), self.chain)
    }
}

fn written(line: &Line) -> String {
    let mut text = serde_json::to_string(line).expect("numbers and text serialise");
    text.push('\n');
    text
}

/// The digests of all rows of a session, as a run's transcript has them.
pub(super) fn row_digests(session: &dyn Session, run: &Run) -> Vec<Hash> {
    let digest = |row: usize| match &run.salt {
        None => session.digest(row).into(),
        Some(secret) => salted(&salt(secret, row as u64), &session.digest(row)),
    };
    (0..session.rows()).map(digest).collect()
}

/// What is mixed into the digest of a row, counted from 0, under a run's secret: it tells nothing of other rows'.
pub(super) fn salt(secret: &str, row: u64) -> Hash {
    let mut hash = Hasher::new_derive_key(SALT);
    text(&mut hash, secret);
    hash.update(&row.to_le_bytes()).finalize()
}

/// The digest of a row with its salt.
pub(super) fn salted(salt: &Hash, row: &[u8; 32]) -> Hash {
    Hasher::new_derive_key(SALTED).update(salt.as_bytes()).update(row).finalize()
}

/// The digest of a step's rows, given by number.
pub(super) fn rows(batches: &[Vec<usize>], digests: &[Hash]) -> Hash {
    rows_of(batches.iter().map(|batch| batch.iter().map(|&row| digests[row])))
}

/// The digest of a step's rows, given by their own digests.
pub(super) fn rows_of(batches: impl Iterator<Item = impl ExactSizeIterator<Item = Hash>>) -> Hash {
    let mut hash = Hasher::new_derive_key(ROWS);
    for batch in batches {
        hash.update(&(batch.len() as u64).to_le_bytes());
        for row in batch {
            hash.update(row.as_bytes());
        }
    }
    hash.finalize()
}

/// The digest of a line of the metrics file, which ends with a line feed.
pub(super) fn figures(line: &str) -> Hash {
    Hasher::new_derive_key(FIGURES).update(line.as_bytes()).finalize()
}
