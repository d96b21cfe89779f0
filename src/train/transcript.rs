//! The transcript of a run, as `TRANSCRIPT.md` beside this file defines it: what went into each step and what came out,
//! by digest, each chained to the one before. What a row is the session knows; recomputing is in `audit`.

use std::io::{BufRead, BufReader, Read};

use blake3::{Hash, Hasher};
use ftk_recipes::Session;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::checkpoint::Slot;
use super::error::RunIdentity;

/// File name in the run folder.
pub const TRANSCRIPT: &str = "transcript.jsonl";

/// The version of the format, which is in the context of every digest too.
const VERSION: u32 = 1;
const LEAF: &str = "ftk transcript 1 leaf";
const NODE: &str = "ftk transcript 1 node";
const ROOT: &str = "ftk transcript 1 root";
const ROWS: &str = "ftk transcript 1 rows";
const FIGURES: &str = "ftk transcript 1 figures";
const HEAD: &str = "ftk transcript 1 head";
const STEP: &str = "ftk transcript 1 step";
const END: &str = "ftk transcript 1 end";

/// What a difference of the first values is called.
pub(super) const START: &str = "start";
/// Bytes of a line, at most: the longest there is has some 700.
const LINE: u64 = 4096;
/// Numbers that are put into bytes at a time.
const NUMBERS: usize = 1 << 12;

/// What a transcript begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranscriptHead {
    /// The run.
    pub identity: RunIdentity,
    /// The recipe's seed.
    pub seed: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Root over the rows.
    pub data: Hash,
    /// Root over the first values.
    pub values: Hash,
}

/// What a step was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRecord {
    /// Its number, from 1.
    pub step: u64,
    /// The rows it learnt from, by batches.
    pub rows: Hash,
    /// The learning rate, as the bits of its binary64.
    pub rate: u64,
    /// The line of the metrics file.
    pub figures: Hash,
    /// Root over the gradients.
    pub gradients: Hash,
    /// Roots over the state after it.
    pub after: Roots,
}

/// Roots over a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Over the parameters.
    pub values: Hash,
    /// Over their first moments.
    pub first: Hash,
    /// Over their second moments.
    pub second: Hash,
}

/// What a transcript ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TranscriptEnd {
    /// The last step.
    pub ended: u64,
    /// The step whose state is the result.
    pub result: u64,
}

impl TranscriptHead {
    /// What of another one is different, by name.
    pub(super) fn differences(&self, other: &Self) -> Vec<&'static str> {
        named([
            ("arithmetic", self.identity.arithmetic == other.identity.arithmetic),
            ("run", self.identity.digest == other.identity.digest),
            ("seed", self.seed == other.seed),
            ("length", self.steps == other.steps),
            ("data", self.data == other.data),
            (START, self.values == other.values),
        ])
    }

    fn chain(&self) -> Hash {
        let mut hash = Hasher::new_derive_key(HEAD);
        text(&mut hash, &self.identity.arithmetic);
        hash.update(&self.identity.digest).update(&self.seed.to_le_bytes()).update(&self.steps.to_le_bytes());
        hash.update(self.data.as_bytes()).update(self.values.as_bytes()).finalize()
    }
}

/// Names of what is not the same.
fn named<const N: usize>(same: [(&'static str, bool); N]) -> Vec<&'static str> {
    same.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

impl StepRecord {
    /// What of another one is different, by name.
    pub(super) fn differences(&self, other: &Self) -> Vec<&'static str> {
        named([
            ("rows", self.rows == other.rows),
            ("rate", self.rate == other.rate),
            ("gradients", self.gradients == other.gradients),
            ("first", self.after.first == other.after.first),
            ("second", self.after.second == other.after.second),
            ("values", self.after.values == other.after.values),
            ("figures", self.figures == other.figures),
        ])
    }

    fn chain(&self, before: &Hash) -> Hash {
        let Self { step, rows, rate, figures, gradients, after: Roots { values, first, second } } = self;
        let mut hash = Hasher::new_derive_key(STEP);
        hash.update(before.as_bytes()).update(&step.to_le_bytes()).update(rows.as_bytes());
        hash.update(&rate.to_le_bytes());
        for digest in [figures, gradients, values, first, second] {
            hash.update(digest.as_bytes());
        }
        hash.finalize()
    }
}

impl TranscriptEnd {
    fn chain(&self, before: &Hash) -> Hash {
        let mut hash = Hasher::new_derive_key(END);
        hash.update(before.as_bytes()).update(&self.ended.to_le_bytes()).update(&self.result.to_le_bytes()).finalize()
    }
}

/// A whole transcript, whose chain holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// What it begins with.
    pub head: TranscriptHead,
    /// Its steps.
    pub steps: Vec<StepRecord>,
    /// What it ends with; `None` of a run that has not ended.
    pub end: Option<TranscriptEnd>,
    /// The chain of the head, of each step and, where there is one, of the end.
    pub chain: Vec<Hash>,
}

impl Transcript {
    /// The root; `None` of a run that has not ended.
    pub fn root(&self) -> Option<Hash> {
        self.end.and(self.chain.last().copied())
    }
}

/// A transcript that cannot be one.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A line is not what is due there.
    #[error("line {line}: {message}")]
    Form {
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A line's chain is not the digest of what it says and of the chain before.
    #[error("line {line} does not follow from what it says and the line before")]
    Chain {
        /// Line, from 1.
        line: usize,
    },
    /// Steps are not numbered one after another.
    #[error("line {line}: step {found} where {due} is due")]
    Steps {
        /// Line, from 1.
        line: usize,
        /// The step that is due.
        due: u64,
        /// The one that is there.
        found: u64,
    },
    /// The end is not behind the last step.
    #[error("line {line}: the end is said to be after step {ended}, and there are {steps}")]
    End {
        /// Line, from 1.
        line: usize,
        /// Steps that are there.
        steps: u64,
        /// The last one by the end.
        ended: u64,
    },
    /// The result is none of the steps.
    #[error("line {line}: the result is said to be the state after step {result}, and there are {steps}")]
    Result {
        /// Line, from 1.
        line: usize,
        /// Steps that are there.
        steps: u64,
        /// That of the result.
        result: u64,
    },
    /// There are more steps than the head has.
    #[error("line {line}: the head says {steps} steps, and there are {found}")]
    Beyond {
        /// The first line too many, from 1.
        line: usize,
        /// Steps by the head.
        steps: u64,
        /// Steps that are there.
        found: u64,
    },
}

/// A line as it stands in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum Line {
    Head(HeadLine),
    Step(StepLine),
    End(EndLine),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeadLine {
    transcript: u32,
    arithmetic: String,
    run: Hex,
    seed: u64,
    steps: u64,
    data: Hex,
    values: Hex,
    chain: Hex,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepLine {
    step: u64,
    rows: Hex,
    rate: HexBits,
    figures: Hex,
    gradients: Hex,
    values: Hex,
    first: Hex,
    second: Hex,
    chain: Hex,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndLine {
    ended: u64,
    result: u64,
    chain: Hex,
}

/// A digest in lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Hex(pub(super) Hash);

impl From<Hex> for String {
    fn from(Hex(hash): Hex) -> Self {
        hash.to_hex().to_string()
    }
}

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let hash = Hash::from_hex(&text).ok().filter(|hash| hash.to_hex().as_str() == text);
        hash.map(Self).ok_or_else(|| format!("is no digest of 64 lower-case hexadecimal digits: {text}"))
    }
}

/// The bits of a binary64 in lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct HexBits(u64);

impl From<HexBits> for String {
    fn from(HexBits(bits): HexBits) -> Self {
        format!("{bits:016x}")
    }
}

impl TryFrom<String> for HexBits {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bits = u64::from_str_radix(&text, 16).ok().filter(|&bits| String::from(Self(bits)) == text);
        bits.map(Self).ok_or_else(|| format!("are no 16 lower-case hexadecimal digits: {text}"))
    }
}

/// Reads a transcript and follows its chain. A file may say anything: no more is kept than its lines.
///
/// # Errors
/// [`Malformed`], the first thing that is wrong.
pub fn read(from: impl Read) -> Result<Transcript, Malformed> {
    let mut from = BufReader::new(from);
    let (mut head, mut steps, mut end, mut chain) = (None, Vec::new(), None, Vec::<Hash>::new());
    let mut bytes = Vec::new();
    for number in 1.. {
        let wrong = |message: &str| Malformed::Form { line: number, message: message.to_owned() };
        bytes.clear();
        if from.by_ref().take(LINE).read_until(b'\n', &mut bytes)? == 0 {
            break;
        }
        if bytes.pop() != Some(b'\n') {
            return Err(wrong("has no line feed within what a line may have"));
        }
        let line: Line = match serde_json::from_slice(&bytes) {
            Ok(line) => line,
            Err(_) => return Err(wrong("is neither head nor step nor end of a transcript")),
        };
        let (own, said) = match (line, chain.last()) {
            (Line::Head(line), None) => {
                if line.transcript != VERSION {
                    return Err(wrong(&format!("is of another version: {}", line.transcript)));
                }
                let head = head.insert(TranscriptHead::from(&line));
                (head.chain(), line.chain)
            }
            (Line::Step(line), Some(before)) if end.is_none() => {
                let due = steps.len() as u64 + 1;
                let record = StepRecord::from(&line);
                let own = record.chain(before);
                if own == line.chain.0 && line.step != due {
                    return Err(Malformed::Steps { line: number, due, found: line.step });
                }
                steps.push(record);
                (own, line.chain)
            }
            (Line::End(line), Some(before)) if end.is_none() => {
                let found = TranscriptEnd { ended: line.ended, result: line.result };
                let own = found.chain(before);
                let due = steps.len() as u64;
                if own == line.chain.0 {
                    let (line, steps, TranscriptEnd { ended, result }) = (number, due, found);
                    if ended != steps {
                        return Err(Malformed::End { line, steps, ended });
                    }
                    if !(1..=steps).contains(&result) {
                        return Err(Malformed::Result { line, steps, result });
                    }
                }
                end = Some(found);
                (own, line.chain)
            }
            _ => return Err(wrong("is not what is due there: a head, then steps, then an end")),
        };
        if own != said.0 {
            return Err(Malformed::Chain { line: number });
        }
        chain.push(own);
    }
    let head = head.ok_or_else(|| Malformed::Form { line: 1, message: "there is no head".to_owned() })?;
    if steps.len() as u64 > head.steps {
        let (line, found) = (head.steps as usize + 2, steps.len() as u64);
        return Err(Malformed::Beyond { line, steps: head.steps, found });
    }
    Ok(Transcript { head, steps, end, chain })
}

impl TranscriptHead {
    fn line(&self, chain: Hash) -> HeadLine {
        HeadLine {
            transcript: VERSION,
            arithmetic: self.identity.arithmetic.clone(),
            run: Hex(self.identity.digest.into()),
            seed: self.seed,
            steps: self.steps,
            data: Hex(self.data),
            values: Hex(self.values),
            chain: Hex(chain),
        }
    }
}

impl From<&HeadLine> for TranscriptHead {
    fn from(line: &HeadLine) -> Self {
        let identity = RunIdentity { digest: *line.run.0.as_bytes(), arithmetic: line.arithmetic.clone() };
        Self { identity, seed: line.seed, steps: line.steps, data: line.data.0, values: line.values.0 }
    }
}

impl StepRecord {
    fn line(&self, chain: Hash) -> StepLine {
        let Self { step, rows, rate, figures, gradients, after: Roots { values, first, second } } = *self;
        StepLine {
            step,
            rows: Hex(rows),
            rate: HexBits(rate),
            figures: Hex(figures),
            gradients: Hex(gradients),
            values: Hex(values),
            first: Hex(first),
            second: Hex(second),
            chain: Hex(chain),
        }
    }
}

impl From<&StepLine> for StepRecord {
    fn from(line: &StepLine) -> Self {
        Self {
            step: line.step,
            rows: line.rows.0,
            rate: line.rate.0,
            figures: line.figures.0,
            gradients: line.gradients.0,
            after: Roots { values: line.values.0, first: line.first.0, second: line.second.0 },
        }
    }
}

/// A step's line between the one before it and what that one follows from: as much of a transcript as shows that the
/// step leads from one state to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Around {
    /// The chain that the line before follows from; none before the head.
    chain: Option<Hex>,
    before: Line,
    step: StepLine,
}

/// Roots over a state; no moments before the first step, where all are zero.
pub(super) struct Before {
    pub(super) values: Hash,
    pub(super) first: Option<Hash>,
    pub(super) second: Option<Hash>,
}

impl Around {
    /// Of a step, counted from 1, that a transcript has.
    pub(super) fn of(transcript: &Transcript, step: u64) -> Self {
        let at = step as usize;
        let line = |at: usize| transcript.steps[at - 1].line(transcript.chain[at]);
        match at.checked_sub(2) {
            None => {
                let before = Line::Head(transcript.head.line(transcript.chain[0]));
                Self { chain: None, before, step: line(at) }
            }
            Some(chain) => {
                Self { chain: Some(Hex(transcript.chain[chain])), before: Line::Step(line(at - 1)), step: line(at) }
            }
        }
    }

    /// Its number.
    pub(super) fn number(&self) -> u64 {
        self.step.step
    }

    /// The chain of its line.
    pub(super) fn link(&self) -> Hash {
        self.step.chain.0
    }

    /// Whether another one has the same before it.
    pub(super) fn same_before(&self, other: &Self) -> bool {
        (self.chain, &self.before) == (other.chain, &other.before)
    }

    /// The state before, and what is said of the step, if the lines follow from each other.
    pub(super) fn follows(&self) -> Option<(Before, StepRecord)> {
        let (before, number, chain) = match (&self.before, &self.chain) {
            (Line::Head(line), None) => {
                let head = TranscriptHead::from(line);
                let holds = line.transcript == VERSION && head.chain() == line.chain.0;
                let before = Before { values: head.values, first: None, second: None };
                (holds.then_some(before)?, 0, line.chain.0)
            }
            (Line::Step(line), Some(chain)) => {
                let record = StepRecord::from(line);
                let Roots { values, first, second } = record.after;
                let holds = record.chain(&chain.0) == line.chain.0;
                let before = Before { values, first: Some(first), second: Some(second) };
                (holds.then_some(before)?, record.step, line.chain.0)
            }
            _ => return None,
        };
        let record = StepRecord::from(&self.step);
        let holds = number.checked_add(1) == Some(record.step) && record.chain(&chain) == self.step.chain.0;
        holds.then_some((before, record))
    }
}

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

/// The digests of all rows of a session.
pub(super) fn row_digests(session: &dyn Session) -> Vec<Hash> {
    (0..session.rows()).map(|row| session.digest(row).into()).collect()
}

/// The digest of a step's rows, given by number.
pub(super) fn rows(batches: &[Vec<usize>], digests: &[Hash]) -> Hash {
    let mut hash = Hasher::new_derive_key(ROWS);
    for batch in batches {
        hash.update(&(batch.len() as u64).to_le_bytes());
        for &row in batch {
            hash.update(digests[row].as_bytes());
        }
    }
    hash.finalize()
}

/// The digest of a line of the metrics file, which ends with a line feed.
pub(super) fn figures(line: &str) -> Hash {
    Hasher::new_derive_key(FIGURES).update(line.as_bytes()).finalize()
}

/// Roots over the state that slots hold.
pub(super) fn roots(slots: &[Slot]) -> Roots {
    let of = |part: fn(&Slot) -> &[f32]| named_root(slots, |slot| (&slot.name, part(slot)));
    Roots { values: of(|slot| &slot.value), first: of(|slot| &slot.first), second: of(|slot| &slot.second) }
}

/// Root over numbers of the same parameters as the slots, in their order.
pub(super) fn root_of(slots: &[Slot], numbers: &[Vec<f32>]) -> Hash {
    let named: Vec<(&Slot, &Vec<f32>)> = slots.iter().zip(numbers).collect();
    named_root(&named, |(slot, numbers)| (&slot.name, numbers))
}

fn named_root<T: Sync>(all: &[T], named: impl Fn(&T) -> (&str, &[f32]) + Sync) -> Hash {
    let leaves = all.par_iter().map(|one| {
        let (name, numbers) = named(one);
        leaf(name, numbers)
    });
    root(leaves.collect())
}

/// The leaf of a parameter's zeros, of so many; none of more than a parameter has.
pub(super) fn zeros(name: &str, entries: u64) -> Option<Hash> {
    (entries <= 1 << 32).then(|| {
        let mut hash = Hasher::new_derive_key(LEAF);
        text(&mut hash, name);
        hash.update(&entries.to_le_bytes());
        let zeros = [0; 4 * NUMBERS];
        let mut left = 4 * entries as usize;
        while left > 0 {
            let some = left.min(zeros.len());
            hash.update(&zeros[..some]);
            left -= some;
        }
        hash.finalize()
    })
}

/// The leaf of a parameter.
pub(super) fn leaf(name: &str, numbers: &[f32]) -> Hash {
    let mut hash = Hasher::new_derive_key(LEAF);
    text(&mut hash, name);
    hash.update(&(numbers.len() as u64).to_le_bytes());
    let mut bytes = [0; 4 * NUMBERS];
    for numbers in numbers.chunks(NUMBERS) {
        for (to, number) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *to = number.to_le_bytes();
        }
        hash.update(&bytes[..4 * numbers.len()]);
    }
    hash.finalize()
}

/// Root over leaves in their order.
pub(super) fn root(leaves: Vec<Hash>) -> Hash {
    let mut hash = Hasher::new_derive_key(ROOT);
    hash.update(&(leaves.len() as u64).to_le_bytes());
    let mut level = leaves;
    while level.len() > 1 {
        let join = |pair: &[Hash]| match pair {
            [left, right] => Hasher::new_derive_key(NODE).update(left.as_bytes()).update(right.as_bytes()).finalize(),
            alone => alone[0],
        };
        level = level.chunks(2).map(join).collect();
    }
    if let [top] = level.as_slice() {
        hash.update(top.as_bytes());
    }
    hash.finalize()
}

fn text(hash: &mut Hasher, text: &str) {
    hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
}
