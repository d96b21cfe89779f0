//! Named weights of a network, as candle tensors on one device.

use std::collections::BTreeMap;

use candle_core::Tensor;

use crate::Error;

/// Weights by their full Hugging Face name (`model.norm.weight`), in name order.
#[derive(Clone, Debug, Default)]
pub struct Weights(BTreeMap<String, Tensor>);

impl Weights {
    /// The weight of that name.
    ///
    /// # Errors
    /// [`Error::MissingWeight`].
    pub fn get(&self, name: &str) -> Result<&Tensor, Error> {
        self.0.get(name).ok_or_else(|| Error::MissingWeight(name.to_owned()))
    }

    /// Adds or replaces a weight.
    pub fn insert(&mut self, name: String, value: Tensor) {
        self.0.insert(name, value);
    }

    /// All weights in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Number of weights (tensors).
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, Tensor)> for Weights {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(items: I) -> Self {
        Self(items.into_iter().collect())
    }
}
