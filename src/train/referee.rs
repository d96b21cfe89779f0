//! Judges between two records of one step, without recipe, rows or base: whether each is what its transcript claims, and
//! which of two results of the first operation that differs is right, which is computed again from inputs that both name.

use std::collections::HashSet;
use std::path::Path;

use blake3::Hash;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};
use ftk_adapters::foreign;
use ftk_adapters::train::operation::{self, Operation};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::TrainError;
use super::record::{Done, Entry, First, Given, Leaf, Part, VERSION};
use super::transcript::{self, Before, Hex};

/// What there is to say of a party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// What it says was computed again.
    Right,
    /// What it says was computed again, and is otherwise.
    Wrong,
    /// Its record does not show what its transcript claims.
    NotShown(String),
    /// Nothing speaks against it.
    Unrefuted,
}

/// What a referee finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruling {
    /// The step, where the records are about one.
    pub step: Option<u64>,
    /// The line of the records where they part, counted from 1, and what stands there.
    pub parts: Option<(usize, String)>,
    /// Of each party.
    pub findings: [Finding; 2],
    /// The chain of the step in the transcript that each claims.
    pub chains: [Option<Hash>; 2],
    /// Why nobody is right, where that is so.
    pub reason: Option<String>,
}

impl Ruling {
    /// The party that is right, where it is one alone.
    pub fn stands(&self) -> Option<usize> {
        let holds = |finding: &Finding| matches!(finding, Finding::Right | Finding::Unrefuted);
        match self.findings.each_ref().map(holds) {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }

    /// Whether both are wrong or show nothing.
    pub fn falls(&self) -> bool {
        self.findings.iter().all(|finding| matches!(finding, Finding::Wrong | Finding::NotShown(_)))
    }
}

/// Computes losses of tasks, by the rules that records name.
pub type Losses<'a> = &'a dyn Fn(&Value, &[Tensor]) -> candle_core::Result<Vec<Tensor>>;

/// The most numbers of a state, all parameters together.
const NUMBERS: u64 = 1 << 32;

/// A record that shows what its transcript claims.
struct ShownRecord {
    first: First,
    entries: Vec<Entry>,
}

/// Follows a record from the state before its step to that after it.
fn shown(text: &str) -> Result<ShownRecord, String> {
    let mut lines = text.split_inclusive('\n');
    let first = lines.next().ok_or("is empty")?;
    let first: First = written(first).ok_or("line 1 is no beginning of a record")?;
    if first.record != VERSION {
        return Err(format!("is of another version: {}", first.record));
    }
    let (before, claim) = first.claim.follows().ok_or("line 1 does not follow from the transcript's line before")?;
    let mut entries = Vec::new();
    for (at, line) in lines.enumerate() {
        let entry = written(line).ok_or_else(|| format!("line {} is no line of a record", at + 2))?;
        entries.push(entry);
    }
    let begin = entries.iter().take_while(|entry| matches!(entry, Entry::Leaf(_))).count();
    let end = entries.iter().rev().take_while(|entry| matches!(entry, Entry::Leaf(_))).count();
    if begin == entries.len() {
        return Err("has no operation".to_owned());
    }
    let (begins, middle) = entries.split_at(begin);
    let (middle, ends) = middle.split_at(middle.len() - end);
    let parameters = begun(begins, &before)?;
    let after = [
        (Part::Gradient, claim.gradients),
        (Part::Value, claim.after.values),
        (Part::First, claim.after.first),
        (Part::Second, claim.after.second),
    ];
    for (part, due) in after {
        if root(ends, part) != due || names(ends, part) != parameters {
            return Err("does not end with the gradients and the state that its transcript claims".to_owned());
        }
    }
    linked(begins, middle, claim.rate)?;
    optimised(&entries, parameters.len(), claim.step)?;
    Ok(ShownRecord { first, entries })
}

/// Parameters by name, with their shapes.
type NamedShapes = Vec<(String, Vec<u64>)>;

fn leaves_of(of: &[Entry], part: Part) -> impl Iterator<Item = &Leaf> {
    of.iter().filter_map(move |entry| match entry {
        Entry::Leaf(leaf) if leaf.part == part => Some(leaf),
        _ => None,
    })
}

/// The root over what entries hold of a part of the state.
fn root(of: &[Entry], part: Part) -> Hash {
    transcript::root(leaves_of(of, part).map(|leaf| leaf.leaf.0).collect())
}

fn names(of: &[Entry], part: Part) -> NamedShapes {
    leaves_of(of, part).map(|leaf| (leaf.name.clone(), leaf.shape.clone())).collect()
}

/// The parameters of the state before the step, which a record begins with.
fn begun(begins: &[Entry], before: &Before) -> Result<NamedShapes, String> {
    let parameters = names(begins, Part::Value);
    let counts: Option<Vec<u64>> = parameters.iter().map(|(_, shape)| numbers(shape)).collect();
    let all = counts.as_ref().and_then(|counts| counts.iter().try_fold(0u64, |all, &count| all.checked_add(count)));
    let Some(counts) = counts.filter(|_| all.is_some_and(|all| all <= NUMBERS)) else {
        return Err("has parameters of too many numbers".to_owned());
    };
    // Before the first step, moments are zero.
    let zeros = match (before.first, before.second) {
        (Some(_), Some(_)) => None,
        _ => {
            let zeros = parameters.iter().zip(&counts).map(|((name, _), &count)| transcript::zeros(name, count));
            Some(transcript::root(zeros.collect()))
        }
    };
    for (part, due) in [(Part::Value, Some(before.values)), (Part::First, before.first), (Part::Second, before.second)]
    {
        if Some(root(begins, part)) != due.or(zeros) || names(begins, part) != parameters {
            return Err("does not begin with the state before the step".to_owned());
        }
    }
    Ok(parameters)
}

/// Follows the operations between the two states: each has inputs that are there, and the optimiser's have this rate.
fn linked(begins: &[Entry], operations: &[Entry], rate: u64) -> Result<(), String> {
    let tensor = |entry: &Entry| match entry {
        Entry::Leaf(leaf) => Some(leaf.tensor.0),
        _ => None,
    };
    let mut known: HashSet<Hash> = begins.iter().filter_map(tensor).collect();
    for (at, entry) in operations.iter().enumerate() {
        let line = begins.len() + at + 2;
        match entry {
            Entry::Leaf(_) => return Err(format!("line {line}: a part of the state stands between operations")),
            Entry::Given(Given { given, tensor }) => {
                if !Operation::is_given(given) {
                    return Err(format!("line {line}: cannot be given: {given}"));
                }
                known.insert(tensor.0);
            }
            Entry::Done(Done { operation, inputs, outputs }) => {
                if inputs.iter().any(|input| !known.contains(&input.0)) {
                    return Err(format!("line {line}: an input is no result of the lines before"));
                }
                if let Operation::AdamW { rate: own, .. } = operation
                    && f64::from(*own).to_bits() != rate
                {
                    return Err(format!("line {line}: the learning rate is not the one that its transcript claims"));
                }
                known.extend(outputs.iter().map(|output| output.0));
            }
        }
    }
    Ok(())
}

/// Follows the gradients and the state through the optimiser, whose operations are known without the recipe: a mean for
/// each parameter, the norm of all, an update for each.
fn optimised(entries: &[Entry], parameters: usize, step: u64) -> Result<(), String> {
    let leaves = |of: &mut dyn Iterator<Item = &Entry>, part: Part| -> Vec<Hex> {
        let leaves = of.take_while(|entry| matches!(entry, Entry::Leaf(_))).filter_map(|entry| match entry {
            Entry::Leaf(leaf) if leaf.part == part => Some(leaf.tensor),
            _ => None,
        });
        leaves.collect()
    };
    let begin = |part| leaves(&mut entries.iter(), part);
    let end = |part| {
        let mut tensors = leaves(&mut entries.iter().rev(), part);
        tensors.reverse();
        tensors
    };
    let done = |is: fn(&Operation) -> bool| -> Vec<&Done> {
        let done = entries.iter().filter_map(|entry| match entry {
            Entry::Done(done) if is(&done.operation) => Some(done),
            _ => None,
        });
        done.collect()
    };
    let means = done(|operation| matches!(operation, Operation::Mean { .. }));
    let norms = done(|operation| matches!(operation, Operation::Norm {}));
    let updates = done(|operation| matches!(operation, Operation::AdamW { .. }));
    let gradients = end(Part::Gradient);
    let wrong = |what: &str| Err(format!("{what} are not those of a step"));
    if means.len() != parameters || means.iter().zip(&gradients).any(|(mean, g)| mean.outputs != [*g]) {
        return wrong("means of gradients");
    }
    let [norm] = norms.as_slice() else { return wrong("norms of gradients") };
    if norm.inputs != gradients || norm.outputs.len() != 1 {
        return wrong("norms of gradients");
    }
    let (before, after) =
        ([Part::Value, Part::First, Part::Second].map(begin), [Part::Value, Part::First, Part::Second].map(end));
    let due = |at: usize| {
        let inputs = before.each_ref().map(|part| part[at]).into_iter().chain([gradients[at], norm.outputs[0]]);
        (inputs.collect::<Vec<Hex>>(), after.each_ref().map(|part| part[at]).to_vec())
    };
    let fits = |(at, done): (usize, &&Done)| {
        let counted = matches!(done.operation, Operation::AdamW { updates, .. } if u64::from(updates) == step);
        counted && (done.inputs.clone(), done.outputs.clone()) == due(at)
    };
    if updates.len() != parameters || !updates.iter().enumerate().all(fits) {
        return wrong("updates");
    }
    Ok(())
}

/// How many numbers a tensor of a shape has; `None` if its strides, those of one without rows as well, are beyond counting.
fn numbers(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1u64, |all, &length| all.checked_mul(length.max(1)))?;
    Some(shape.iter().product())
}

/// A line as a record has it: everything in one way alone, so that two who say the same have the same bytes.
fn written<T: Serialize + DeserializeOwned>(line: &str) -> Option<T> {
    let line = line.strip_suffix('\n')?;
    let read: T = serde_json::from_str(line).ok()?;
    serde_json::to_string(&read).is_ok_and(|own| own == line).then_some(read)
}

/// What stands in a line, in a few words.
fn named(entry: &Entry) -> String {
    match entry {
        Entry::Leaf(Leaf { name, part, .. }) => format!("state: {part:?} of {name}").to_lowercase(),
        Entry::Given(Given { given, .. }) => format!("given: {given}"),
        Entry::Done(Done { operation, .. }) => operation.name(),
    }
}

/// The first entry, counted from 0, in which two records differ.
pub fn parting(records: [&str; 2]) -> Option<usize> {
    let [mut ours, mut theirs] = records.map(|text| text.split_inclusive('\n').skip(1));
    for at in 0.. {
        match (ours.next(), theirs.next()) {
            (None, None) => return None,
            (Some(ours), Some(theirs)) if ours == theirs => {}
            _ => return Some(at),
        }
    }
    None
}

/// Judges between two records; `inputs` are those of the entry in which they differ first.
pub fn judge(records: [&str; 2], inputs: &[Tensor], losses: Losses<'_>) -> Ruling {
    let read = records.map(shown);
    let findings = read.each_ref().map(|read| match read {
        Ok(_) => Finding::Unrefuted,
        Err(reason) => Finding::NotShown(reason.clone()),
    });
    let chains = read.each_ref().map(|read| read.as_ref().ok().map(|shown| shown.first.claim.link()));
    let mut verdict = Ruling { step: None, parts: None, findings, chains, reason: None };
    let [Ok(one), Ok(other)] = &read else { return verdict };
    let undecided = |verdict: Ruling, reason: &str| Ruling { reason: Some(reason.to_owned()), ..verdict };
    if !one.first.claim.same_before(&other.first.claim) {
        return undecided(verdict, "the records are not about the same step after the same state");
    }
    verdict.step = Some(one.first.claim.number());
    let at = one.entries.iter().zip(&other.entries).position(|(one, other)| one != other);
    let at =
        at.or_else(|| (one.entries.len() != other.entries.len()).then(|| one.entries.len().min(other.entries.len())));
    let Some(at) = at else {
        return undecided(verdict, "the records are the same: there is no dispute about an operation");
    };
    let (Some(a), Some(b)) = (one.entries.get(at), other.entries.get(at)) else {
        return undecided(verdict, "one record goes on where the other has ended: who has the recipe can tell");
    };
    verdict.parts = Some((at + 2, named(a)));
    let outcome = match (a, b) {
        (Entry::Done(a), Entry::Done(b)) if (&a.operation, &a.inputs) == (&b.operation, &b.inputs) => {
            computed(&a.operation, &a.inputs, inputs, losses).map(|outputs| [a, b].map(|said| said.outputs == outputs))
        }
        (Entry::Leaf(a), Entry::Leaf(b)) if (&a.name, a.part, &a.shape) == (&b.name, b.part, &b.shape) => {
            state([a, b], inputs)
        }
        _ => {
            return undecided(
                verdict,
                "the records differ in which operation is due or what it is given: who has the recipe can tell",
            );
        }
    };
    match outcome {
        Ok(right) => {
            verdict.findings = right.map(|right| if right { Finding::Right } else { Finding::Wrong });
            verdict
        }
        Err(reason) => {
            verdict.findings = [(); 2].map(|()| Finding::NotShown(reason.clone()));
            verdict
        }
    }
}

/// Digests of what an operation gives of inputs that have these digests.
fn computed(operation: &Operation, said: &[Hex], inputs: &[Tensor], losses: Losses<'_>) -> Result<Vec<Hex>, String> {
    let digest = |tensor: &Tensor| operation::digest(tensor).map(Hex).map_err(|error| error.to_string());
    let own = inputs.iter().map(digest).collect::<Result<Vec<_>, _>>()?;
    if own != said {
        return Err("the file does not hold the inputs that both records name".to_owned());
    }
    let outputs = match operation {
        Operation::Task { rule } => losses(rule, inputs),
        operation => operation.compute(inputs),
    };
    let outputs = outputs.map_err(|error| error.to_string())?;
    outputs.iter().map(digest).collect()
}

/// Which of two lines about a part of the state are those of the numbers in the file.
fn state(said: [&Leaf; 2], inputs: &[Tensor]) -> Result<[bool; 2], String> {
    let missing = || "the file does not hold that part of the state".to_owned();
    let [tensor] = inputs else { return Err(missing()) };
    let numbers = tensor.flatten_all().and_then(|numbers| numbers.to_vec1::<f32>());
    let numbers = numbers.map_err(|error| error.to_string())?;
    // In the shape that both say, whatever that of the file is: the transcript knows of none.
    let shape: Vec<usize> = said[0].shape.iter().map(|&length| length as usize).collect();
    let shaped = tensor.reshape(shape).map_err(|_| missing())?;
    let digest = Hex(operation::digest(&shaped).map_err(|error| error.to_string())?);
    let right = said.map(|said| (said.tensor, said.leaf.0) == (digest, transcript::leaf(&said.name, &numbers)));
    // Numbers that are neither's show nothing.
    if right == [false; 2] { Err(missing()) } else { Ok(right) }
}

/// Two records, and the inputs of the entry in which they differ first.
pub type Dispute = ([String; 2], Vec<Tensor>);

const RECORDS: [&str; 2] = ["record/0", "record/1"];

/// Writes what a referee needs: both records, and the inputs of the entry in which they differ first.
///
/// # Errors
/// The file system's.
pub fn write(path: &Path, records: [&str; 2], inputs: &[Tensor]) -> Result<(), TrainError> {
    let mut named: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, text) in RECORDS.iter().zip(records) {
        named.push(((*name).to_owned(), Dtype::U8, vec![text.len()], text.as_bytes().to_vec()));
    }
    for (at, input) in inputs.iter().enumerate() {
        let (kind, bytes) = raw(input)?;
        named.push((format!("input/{at}"), kind, input.dims().to_vec(), bytes));
    }
    let unwritten = |message: String| TrainError::Checkpoint { path: path.to_owned(), message };
    let views =
        named.iter().map(|(name, kind, shape, bytes)| Ok((name, TensorView::new(*kind, shape.clone(), bytes)?)));
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
    let file =
        views.and_then(|views| safetensors::serialize(views, None)).map_err(|error| unwritten(error.to_string()))?;
    ftk_adapters::atomic::replace_secret(path, &file).map_err(|error| TrainError::Io { path: path.to_owned(), error })
}

fn raw(tensor: &Tensor) -> candle_core::Result<(Dtype, Vec<u8>)> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let of = layout.start_offset()..layout.start_offset() + layout.shape().elem_count();
    Ok(match &*storage {
        Storage::Cpu(CpuStorage::F32(v)) => (Dtype::F32, v[of].iter().flat_map(|v| v.to_le_bytes()).collect()),
        Storage::Cpu(CpuStorage::F64(v)) => (Dtype::F64, v[of].iter().flat_map(|v| v.to_le_bytes()).collect()),
        Storage::Cpu(CpuStorage::U32(v)) => (Dtype::U32, v[of].iter().flat_map(|v| v.to_le_bytes()).collect()),
        Storage::Cpu(CpuStorage::I64(v)) => (Dtype::I64, v[of].iter().flat_map(|v| v.to_le_bytes()).collect()),
        Storage::Cpu(CpuStorage::BF16(v)) => (Dtype::BF16, v[of].iter().flat_map(|v| v.to_le_bytes()).collect()),
        _ => candle_core::bail!("only numbers in host memory are recorded"),
    })
}

/// Reads what a referee needs from a file that may say anything: both records, and inputs.
///
/// # Errors
/// What is no such file.
pub fn read(bytes: &[u8]) -> Result<Dispute, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let text = |name: &str| {
        let view = file.tensor(name).map_err(|_| format!("holds no {name}"))?;
        String::from_utf8(view.data().to_vec()).map_err(|_| format!("{name} is no text"))
    };
    let records = [text(RECORDS[0])?, text(RECORDS[1])?];
    let mut inputs = Vec::new();
    while let Ok(view) = file.tensor(&format!("input/{}", inputs.len())) {
        let kind = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::U32 => DType::U32,
            Dtype::I64 => DType::I64,
            Dtype::BF16 => DType::BF16,
            other => return Err(format!("holds an input of a type that no operation has: {other:?}")),
        };
        let tensor = Tensor::from_raw_buffer(view.data(), kind, view.shape(), &Device::Cpu);
        inputs.push(tensor.map_err(|error| error.to_string())?);
    }
    Ok((records, inputs))
}

/// [`read`] from a file, or why it is none.
///
/// # Errors
/// The file system's.
pub fn open(path: &Path) -> Result<Result<Dispute, String>, TrainError> {
    let bytes = foreign::read(path, foreign::DATA).map_err(|error| TrainError::Io { path: path.to_owned(), error })?;
    Ok(read(&bytes))
}
