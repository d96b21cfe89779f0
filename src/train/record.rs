//! The record of one step: every operation with the digests of what it was computed from and of what it gave, between the
//! state before the step and the state after it. Two who disagree about a step compare their records; what of them a
//! third party can judge is in `referee`. `TRANSCRIPT.md` beside this file has the format.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use blake3::Hash;
use candle_core::{Device, Tensor};
use ftk_adapters::train::operation::{self, Operation};
use ftk_adapters::train::trace::{self, TracedOperation};
use serde::{Deserialize, Serialize};

use super::checkpoint::Slot;
use super::error::TrainError;
use super::stepper::Stepper;
use super::transcript::{self, Around, Hex, Transcript};

/// The version of the format.
pub(super) const VERSION: u32 = 1;

/// What a record begins with.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct First {
    pub(super) record: u32,
    /// The step in the transcript of whoever recorded it.
    pub(super) claim: Around,
}

/// Which numbers of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Itself.
    Value,
    /// Its first moment.
    First,
    /// Its second moment.
    Second,
    /// Its gradient.
    Gradient,
}

/// A line of a record behind the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Entry {
    Leaf(Leaf),
    Given(Given),
    Done(Done),
}

/// Numbers of the state, by their digest among operations and by that in the transcript's trees.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Leaf {
    pub(super) leaf: Hex,
    pub(super) name: String,
    pub(super) part: Part,
    /// Of the tensor: the leaf is of its numbers alone.
    pub(super) shape: Vec<u64>,
    pub(super) tensor: Hex,
}

/// What comes from outside: the base's, the row's, what the loss says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    pub(super) given: String,
    pub(super) tensor: Hex,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Done {
    pub(super) operation: Operation,
    pub(super) inputs: Vec<Hex>,
    pub(super) outputs: Vec<Hex>,
}

/// A record, and the inputs of the entry that was asked for, if there is such an entry.
#[derive(Debug)]
pub struct Recorded {
    /// Its lines.
    pub text: String,
    /// What that entry was computed from.
    pub inputs: Option<Vec<Tensor>>,
}

/// Numbers of a parameter of one kind.
type Numbers = fn(&Slot) -> &[f32];

/// Who writes a record.
struct Recorder {
    text: String,
    entries: usize,
    known: HashSet<Hash>,
    keep: Option<usize>,
    kept: Option<Vec<Tensor>>,
}

impl Recorder {
    fn push(&mut self, entry: &Entry, inputs: &[Tensor]) -> candle_core::Result<()> {
        if self.keep == Some(self.entries) {
            // Copies: the step goes on to write over parameters and logits.
            self.kept = Some(inputs.iter().map(Tensor::copy).collect::<Result<_, _>>()?);
        }
        self.entries += 1;
        self.text += &(serde_json::to_string(entry).expect("numbers and text serialise") + "\n");
        Ok(())
    }

    fn see(&mut self, seen: &TracedOperation) -> candle_core::Result<()> {
        let names = seen.operation.inputs();
        let mut inputs = Vec::new();
        for (at, input) in seen.inputs.iter().enumerate() {
            let (name, tensor) = (names[at.min(names.len() - 1)], operation::digest(input)?);
            if self.known.insert(tensor) {
                if !Operation::is_given(name) {
                    candle_core::bail!(
                        "{:?} was computed from what no operation before it gave: {name}",
                        seen.operation
                    );
                }
                self.push(
                    &Entry::Given(Given { given: name.to_owned(), tensor: Hex(tensor) }),
                    std::slice::from_ref(input),
                )?;
            }
            inputs.push(Hex(tensor));
        }
        let mut outputs = Vec::new();
        for output in &seen.outputs {
            let tensor = operation::digest(output)?;
            self.known.insert(tensor);
            outputs.push(Hex(tensor));
        }
        let operation = seen.operation.clone();
        self.push(&Entry::Done(Done { operation, inputs, outputs }), &seen.inputs)
    }

    fn leaf(&mut self, name: &str, part: Part, numbers: &[f32], like: &Tensor) -> candle_core::Result<()> {
        let values = Tensor::from_slice(numbers, like.shape(), &Device::Cpu)?;
        let tensor = operation::digest(&values)?;
        self.known.insert(tensor);
        let leaf = Hex(transcript::leaf(name, numbers));
        let shape = like.dims().iter().map(|&length| length as u64).collect();
        let entry = Leaf { leaf, name: name.to_owned(), part, shape, tensor: Hex(tensor) };
        self.push(&Entry::Leaf(entry), &[values])
    }

    fn state(&mut self, slots: &[Slot], parameters: &[(String, Tensor)]) -> candle_core::Result<()> {
        let parts: [(Part, Numbers); 3] =
            [(Part::Value, |slot| &slot.value), (Part::First, |slot| &slot.first), (Part::Second, |slot| &slot.second)];
        for (part, of) in parts {
            for (slot, (_, like)) in slots.iter().zip(parameters) {
                self.leaf(&slot.name, part, of(slot), like)?;
            }
        }
        Ok(())
    }
}

/// Does the next step, counted from 1, and records it; `keep` is the entry, counted from 0, whose inputs are wanted, and
/// `meddle` may change what an operation gave, as a test does it.
///
/// # Errors
/// Those of the step; an operation that cannot be recorded.
pub(super) fn record(
    stepper: &mut Stepper<'_>,
    transcript: &Transcript,
    step: u64,
    keep: Option<usize>,
    mut meddle: impl FnMut(&mut TracedOperation) + 'static,
) -> Result<Recorded, TrainError> {
    let first = First { record: VERSION, claim: Around::of(transcript, step) };
    let text = serde_json::to_string(&first).expect("numbers and text serialise") + "\n";
    let mut recorder = Recorder { text, entries: 0, known: HashSet::new(), keep, kept: None };
    recorder.state(stepper.optimiser.slots(), stepper.parameters())?;
    let recorder = Rc::new(RefCell::new(recorder));
    let writes = Rc::clone(&recorder);
    let see = move |seen: &mut TracedOperation| {
        meddle(seen);
        writes.borrow_mut().see(seen)
    };
    let stepped = trace::during(see, || stepper.step(step as usize - 1))?;
    let mut recorder = recorder.borrow_mut();
    for ((name, like), gradient) in stepper.parameters().iter().zip(&stepped.gradients) {
        recorder.leaf(name, Part::Gradient, gradient, like)?;
    }
    recorder.state(stepper.optimiser.slots(), stepper.parameters())?;
    Ok(Recorded { text: std::mem::take(&mut recorder.text), inputs: recorder.kept.take() })
}

#[cfg(test)]
mod tests;
