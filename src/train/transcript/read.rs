//! Reading a transcript, which may be anybody's.

use std::io::{BufRead, BufReader, Read};

use blake3::Hash;

use super::content::{StepRecord, Transcript, TranscriptEnd, TranscriptHead};
use super::lines::{Line, VERSION};

/// Bytes of a line, at most: the longest there is has some 700.
const LINE: u64 = 4096;

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
