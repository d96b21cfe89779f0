//! The checkpoint: one safetensors file, replaced as a whole, with parameters and moments in f32, and the
//! parameters of the best evaluation where one is kept.
//! Row order and random numbers are functions of seed and step and need no state.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use ftk_adapters::weights::bytes;
use ftk_adapters::{atomic, foreign};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::best::BestKept;
use super::error::{RunIdentity, TrainError};
use super::outer::OuterState;

/// File name in the run folder.
pub(super) const FILE: &str = "checkpoint.safetensors";

/// One parameter with its two moments. `Debug` shows no numbers: an adapter may be secret.
#[derive(Clone, PartialEq)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) value: Vec<f32>,
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} entries", self.name, self.value.len())
    }
}

/// A run after a number of steps.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Checkpoint {
    /// Steps done.
    pub(super) step: usize,
    /// The run it is of.
    pub(super) identity: RunIdentity,
    /// Length of the metrics file at this step.
    pub(super) metrics_bytes: u64,
    /// Length of the transcript at this step, if there is one from the start on.
    pub(super) transcript_bytes: Option<u64>,
    /// Parameters in name order.
    pub(super) slots: Vec<Slot>,
    /// The best evaluation so far.
    pub(super) best: Option<BestKept>,
    /// Of a worker that meets others.
    pub(super) outer: Option<OuterState>,
}

/// Entry of the file's metadata that holds [`About`].
const ENTRY: &str = "ftk";

/// What the file says beside its tensors.
#[derive(Serialize, Deserialize)]
struct About {
    step: usize,
    identity: String,
    /// Missing from what was written when arithmetics had no name.
    #[serde(default)]
    arithmetic: String,
    metrics_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transcript_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    best: Option<AboutBest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rounds: Option<usize>,
}

#[derive(Serialize, Deserialize)]
struct AboutBest {
    step: usize,
    /// Text, because the reader of JSON may miss a number's last bit.
    figure: String,
    waited: usize,
}

const PARTS: [&str; 3] = ["value", "first", "second"];
/// The part of the best evaluation's values.
const BEST: &str = "best";
/// Parts of a worker that meets others.
const OUTER: [&str; 3] = ["outer", "momentum", "brought"];

impl Checkpoint {
    pub(super) fn write(&self, path: &Path) -> Result<(), TrainError> {
        atomic::write(path, &self.bytes(path)?).map_err(|error| TrainError::Io { path: path.to_owned(), error })
    }

    /// Writes it as a kept state, which only its owner may read: it is the adapter on its way.
    pub(super) fn keep(&self, out: &Path) -> Result<(), TrainError> {
        let path = state_file(out, self.step as u64);
        let io = |error| TrainError::Io { path: path.clone(), error };
        std::fs::create_dir_all(out.join(STATES)).map_err(io)?;
        atomic::replace_secret(&path, &self.bytes(&path)?).map_err(io)
    }

    fn bytes(&self, path: &Path) -> Result<Vec<u8>, TrainError> {
        let parts = |slot: &Slot| {
            let values = [&slot.value, &slot.first, &slot.second].map(|values| (values.len(), bytes(values)));
            PARTS.map(|part| format!("{part}/{}", slot.name)).into_iter().zip(values).collect::<Vec<_>>()
        };
        let mut named: Vec<(String, (usize, Vec<u8>))> = self.slots.iter().flat_map(parts).collect();
        let kept = self.best.iter().flat_map(|best| self.slots.iter().zip(&best.values));
        named.extend(kept.map(|(slot, values)| (format!("{BEST}/{}", slot.name), (values.len(), bytes(values)))));
        for (part, of) in
            self.outer.iter().flat_map(|outer| OUTER.into_iter().zip([&outer.values, &outer.momentum, &outer.brought]))
        {
            let values = self.slots.iter().zip(of);
            named.extend(values.map(|(slot, of)| (format!("{part}/{}", slot.name), (of.len(), bytes(of)))));
        }
        let views = named.iter().map(|(name, (length, data))| {
            (name, TensorView::new(Dtype::F32, vec![*length], data).expect("length and bytes come from one vector"))
        });
        // One entry: several would be written in random order.
        let identity = blake3::Hash::from(self.identity.digest).to_hex().to_string();
        let best = self.best.as_ref().map(|best| AboutBest {
            step: best.step,
            figure: format!("{:?}", best.figure),
            waited: best.waited,
        });
        let about = About {
            step: self.step,
            identity,
            arithmetic: self.identity.arithmetic.clone(),
            metrics_bytes: self.metrics_bytes,
            transcript_bytes: self.transcript_bytes,
            best,
            rounds: self.outer.as_ref().map(|outer| outer.rounds),
        };
        let about = serde_json::to_string(&about).expect("numbers and text serialise");
        let about = HashMap::from([(ENTRY.to_owned(), about)]);
        safetensors::serialize(views, Some(about)).map_err(|error| unreadable(path, error))
    }

    /// Refuses it where it is another run's.
    pub(super) fn belongs_to(&self, identity: &RunIdentity, path: &Path) -> Result<(), TrainError> {
        let (found, ours) = (&self.identity.arithmetic, &identity.arithmetic);
        if found != ours {
            let found = if found.is_empty() { "an arithmetic without a name".to_owned() } else { found.clone() };
            return Err(TrainError::Arithmetic { path: path.to_owned(), found, ours: ours.clone() });
        }
        if self.identity.digest != identity.digest {
            return Err(TrainError::Different(path.to_owned()));
        }
        Ok(())
    }

    /// The checkpoint at `path`, if there is one.
    pub(super) fn read(path: &Path) -> Result<Option<Self>, TrainError> {
        match foreign::read(path, foreign::DATA) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(TrainError::Io { path: path.to_owned(), error }),
            Ok(bytes) => Self::parse(path, &bytes).map(Some),
        }
    }

    /// The checkpoint in these bytes; `path` only names them in errors.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, TrainError> {
        let bad = |message: &str| unreadable(path, message);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| unreadable(path, error))?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| unreadable(path, error))?;
        let entry = header.metadata().as_ref().and_then(|metadata| metadata.get(ENTRY));
        let about: About = serde_json::from_str(entry.ok_or_else(|| bad("is no checkpoint"))?)
            .map_err(|error| unreadable(path, error))?;
        let identity = blake3::Hash::from_hex(about.identity).map_err(|error| unreadable(path, error))?;
        let values = |part: &str, name: &str| {
            let view = file.tensor(&format!("{part}/{name}")).map_err(|error| unreadable(path, error))?;
            if view.dtype() != Dtype::F32 {
                return Err(bad("holds values other than f32"));
            }
            Ok(view.data().as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect::<Vec<f32>>())
        };
        let mut names: Vec<&str> = file.names().into_iter().filter_map(|name| name.strip_prefix("value/")).collect();
        names.sort_unstable();
        let slot = |name: &str| {
            let [value, first, second] = PARTS.map(|part| values(part, name));
            let slot = Slot { name: name.to_owned(), value: value?, first: first?, second: second? };
            let whole = slot.value.len() == slot.first.len() && slot.value.len() == slot.second.len();
            if whole { Ok(slot) } else { Err(bad("holds moments of another length than their values")) }
        };
        let slots = names.into_iter().map(slot).collect::<Result<Vec<_>, _>>()?;
        let kept = |AboutBest { step, figure, waited }| {
            let figure = figure.parse().map_err(|_| bad("holds a best figure that is no number"))?;
            let best = slots.iter().map(|slot| match values(BEST, &slot.name)? {
                kept if kept.len() == slot.value.len() => Ok(kept),
                _ => Err(bad("holds best values of another length")),
            });
            Ok::<_, TrainError>(BestKept { step, figure, waited, values: best.collect::<Result<_, _>>()? })
        };
        let best = about.best.map(kept).transpose()?;
        let met = |rounds: usize| {
            let part = |part: &str| {
                let of = |slot: &Slot| match values(part, &slot.name)? {
                    of if of.len() == slot.value.len() => Ok(of),
                    _ => Err(bad("holds values of another length than the parameter's")),
                };
                slots.iter().map(of).collect::<Result<Vec<_>, _>>()
            };
            let [outer, momentum, brought] = OUTER.map(part);
            Ok::<_, TrainError>(OuterState { rounds, values: outer?, momentum: momentum?, brought: brought? })
        };
        let outer = about.rounds.map(met).transpose()?;
        let identity = RunIdentity { digest: *identity.as_bytes(), arithmetic: about.arithmetic };
        let About { step, metrics_bytes, transcript_bytes, .. } = about;
        Ok(Self { step, identity, metrics_bytes, transcript_bytes, slots, best, outer })
    }
}

fn unreadable(path: &Path, message: impl ToString) -> TrainError {
    TrainError::Checkpoint { path: path.to_owned(), message: message.to_string() }
}

/// Folder inside the run folder for the states that are kept.
pub const STATES: &str = "states";

/// The file of the state after a step.
pub(super) fn state_file(out: &Path, step: u64) -> PathBuf {
    out.join(STATES).join(format!("{step}.safetensors"))
}

/// Steps whose state is kept in the run folder, in their order. Only names that this module gives count.
pub(super) fn kept_states(out: &Path) -> Result<Vec<u64>, TrainError> {
    let folder = out.join(STATES);
    let io = |error| TrainError::Io { path: folder.clone(), error };
    let entries = match std::fs::read_dir(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io)?,
    };
    let mut steps = Vec::new();
    for entry in entries {
        let name = entry.map_err(io)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".safetensors"));
        let number = number.and_then(|number| number.parse::<u64>().ok().filter(|step| step.to_string() == number));
        steps.extend(number);
    }
    steps.sort_unstable();
    Ok(steps)
}

/// Deletes states that a run has kept which was ended before its first checkpoint.
pub(super) fn forget_states(out: &Path) -> Result<(), TrainError> {
    for step in kept_states(out)? {
        let path = state_file(out, step);
        std::fs::remove_file(&path).map_err(|error| TrainError::Io { path, error })?;
    }
    Ok(())
}
