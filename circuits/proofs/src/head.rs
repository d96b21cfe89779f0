//! Bases of graphs, and heads that were trained beside an adapter: files of safetensors, numbers of 32 bits.

use std::collections::BTreeMap;

use ftk_networks::digest::Texts;
use ftk_networks::graphs::{End, GraphNetwork};
use serde::{Deserialize, Serialize};

use crate::fixed::PassError;
use crate::model::{FixedModel, FloatWeight, Net};

/// Weights by their names: dimensions, outermost first, and entries, row-major.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A network of graphs with its weights.
#[derive(Clone, Debug)]
pub struct GraphBase {
    network: GraphNetwork,
    weights: Tensors,
}

impl GraphBase {
    /// With its weights.
    pub fn new(network: GraphNetwork, weights: Tensors) -> Self {
        Self { network, weights }
    }

    /// The network.
    pub fn network(&self) -> &GraphNetwork {
        &self.network
    }

    /// Its weights.
    pub fn weights(&self) -> &Tensors {
        &self.weights
    }

    /// Its integers.
    ///
    /// # Errors
    /// As [`FixedModel::new`]; a network that has no integer form.
    pub fn fixed(&self) -> Result<FixedModel, PassError> {
        FixedModel::new(Net::Graph(self.network.clone()), Texts::default(), |name| {
            let (shape, values) = self.weights.get(name)?;
            Some(FloatWeight { shape: shape.as_slice().into(), values: values.as_slice().into() })
        })
    }

    /// The same with a head that was trained beside an adapter, which has outputs of its own. Such a head is public: it
    /// is part of what statements call the base.
    ///
    /// # Errors
    /// The name of a weight that is none of the head's, or of another shape, or missing.
    pub fn with_head(&self, head: &Tensors) -> Result<Self, String> {
        let mut with = self.clone();
        if let (End::Linear(_) | End::Encoder, Some((shape, _))) = (with.network.head, head.get("head.weight"))
            && let Some(&outputs) = shape.first()
        {
            with.network.head = End::Linear(outputs);
        }
        if with.network.head == End::Linear(0) {
            return Err("head.weight".to_owned());
        }
        let (names, shapes) = (with.network.head_weights(), with.network.shapes());
        for (name, (shape, values)) in head {
            let whole = shape.iter().try_fold(1usize, |size, side| size.checked_mul(*side)) == Some(values.len());
            if !names.contains(name) || shapes.get(name) != Some(shape) || !whole {
                return Err(name.clone());
            }
            with.weights.insert(name.clone(), (shape.clone(), values.clone()));
        }
        let whole = |name: &&String| !head.is_empty() && !head.contains_key(*name);
        match names.iter().find(whole) {
            Some(missing) => Err(missing.clone()),
            None => Ok(with),
        }
    }

    /// Whether this is the head it has.
    pub fn has_head(&self, head: &Tensors) -> bool {
        head.iter().all(|(name, weight)| self.weights.get(name) == Some(weight))
    }
}

/// What the header of a file says of a tensor.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorHeader {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// Headers are as long as a multiple of this.
const ALIGNED: usize = 8;

/// The weights of a head as a file: the one way to write them, in the order of their names.
pub fn head_bytes(head: &Tensors) -> Vec<u8> {
    let (mut said, mut data) = (Vec::new(), Vec::new());
    for (name, (shape, values)) in head {
        let begin = data.len();
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let tensor = TensorHeader { dtype: "F32".to_owned(), shape: shape.clone(), data_offsets: [begin, data.len()] };
        let [name, tensor] = [serde_json::to_string(name), serde_json::to_string(&tensor)];
        said.push(format!("{}:{}", name.expect("text serialises"), tensor.expect("numbers and text serialise")));
    }
    let mut header = format!("{{{}}}", said.join(",")).into_bytes();
    header.resize(header.len().next_multiple_of(ALIGNED), b' ');
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// Reads [`head_bytes`].
///
/// # Errors
/// What is wrong with them.
pub fn parse_head(bytes: &[u8]) -> Result<Tensors, String> {
    let ends = || "ends too early".to_owned();
    let (&length, rest) = bytes.split_first_chunk().ok_or_else(ends)?;
    let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_| ends())?;
    let (header, data) = rest.split_at_checked(length).ok_or_else(ends)?;
    let said: BTreeMap<String, TensorHeader> = serde_json::from_slice(header).map_err(|error| error.to_string())?;
    let mut head = Tensors::new();
    for (name, TensorHeader { dtype, shape, data_offsets: [begin, end] }) in said {
        let data = data.get(begin..end).ok_or_else(ends)?;
        let (words, odd) = data.as_chunks();
        let values: Vec<f32> = words.iter().map(|&word| f32::from_le_bytes(word)).collect();
        let size = shape.iter().try_fold(1usize, |size, side| size.checked_mul(*side));
        if dtype != "F32" || !odd.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return Err(format!("not finite numbers of 32 bits: {name}"));
        }
        if size != Some(values.len()) {
            return Err(format!("not as many numbers as its shape says: {name}"));
        }
        head.insert(name, (shape, values));
    }
    if head.is_empty() {
        return Err("no weights".to_owned());
    }
    // Another order or a word beside the tensors would be other bytes for the same head.
    if head_bytes(&head) == bytes { Ok(head) } else { Err("not the one way to write these weights".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_and_in_no_other_way() {
        let head = Tensors::from([
            ("head.bias".to_owned(), (vec![2], vec![0.5, -1.0])),
            ("head.weight".to_owned(), (vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        ]);
        let bytes = head_bytes(&head);
        assert_eq!(bytes.len() % ALIGNED, 0);
        assert_eq!(parse_head(&bytes), Ok(head));
        for cut in 0..bytes.len() {
            assert!(parse_head(&bytes[..cut]).is_err());
        }
        let ways = "not the one way to write these weights";
        assert_eq!(parse_head(&[&bytes[..], &[0]].concat()), Err(ways.to_owned()));
        let edited = |from: &str, to: &str| {
            let text = bytes.escape_ascii().to_string();
            assert!(text.contains(&from.replace('"', "\\\"")), "{text}");
            let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
            parse_head(&[&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()).unwrap_err()
        };
        assert_eq!(edited("F32", "F16"), "not finite numbers of 32 bits: head.bias");
        assert_eq!(edited("[2]", "[3]"), "not as many numbers as its shape says: head.bias");
        assert_eq!(edited("[0,8]", "[0,7]"), "not finite numbers of 32 bits: head.bias");
        assert_eq!(edited("[8,32]", "[8,99]"), "ends too early");
        assert_eq!(edited("[8,32]", "[9,33]"), "ends too early");
    }
}
