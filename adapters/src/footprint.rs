//! The interpretation that computes nothing and adds up what a recorded pass keeps for its way back,
//! as [`crate::train`] keeps it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use ftk_networks::ops::graph::Propagation;
use ftk_networks::ops::{Bias, Heads, Nodes, Ops, Rope, TableShape, Tokens};

use crate::lora::Adapter;

/// Numbers a token that a pass keeps.
#[derive(Debug)]
pub struct Footprint<'a> {
    adapter: Option<&'a Adapter>,
    kept: BTreeSet<usize>,
    numbers: usize,
    widest: usize,
    made: usize,
}

/// A value of so many features.
#[derive(Clone, Copy, Debug)]
pub struct Width {
    id: usize,
    features: usize,
}

impl<'a> Footprint<'a> {
    /// For a network with this adapter if any.
    pub fn new(adapter: Option<&'a Adapter>) -> Self {
        Self { adapter, kept: BTreeSet::new(), numbers: 0, widest: 0, made: 0 }
    }

    /// f32 numbers kept a token so far.
    pub fn numbers(&self) -> usize {
        self.numbers
    }

    /// Features of the widest value so far.
    pub fn widest(&self) -> usize {
        self.widest
    }

    /// A value that nothing here has made.
    pub fn value(&mut self, features: usize) -> Width {
        self.made += 1;
        self.widest = self.widest.max(features);
        Width { id: self.made, features }
    }

    fn keep(&mut self, values: &[&Width]) {
        for value in values {
            if self.kept.insert(value.id) {
                self.numbers += value.features;
            }
        }
    }

    fn product(&mut self, site: &str, features: usize, x: &Width) -> Width {
        self.keep(&[x]);
        self.numbers += self.adapter.and_then(|adapter| adapter.sites.get(site)).map_or(0, |factors| factors.rank);
        self.value(features)
    }
}

impl Ops for Footprint<'_> {
    type Value = Width;
    type Error = Infallible;

    fn embed(&mut self, _: &str, table: TableShape, _: &Tokens) -> Result<Width, Infallible> {
        Ok(self.value(table.features))
    }

    fn add_positions(&mut self, _: &str, _: usize, x: &Width) -> Result<Width, Infallible> {
        Ok(self.value(x.features))
    }

    fn linear(&mut self, site: &str, d_out: usize, _: Bias, x: &Width) -> Result<Width, Infallible> {
        Ok(self.product(site, d_out, x))
    }

    fn linear_rope(&mut self, site: &str, d_out: usize, _: Bias, x: &Width, _: &Rope) -> Result<Width, Infallible> {
        Ok(self.product(site, d_out, x))
    }

    fn rms_norm(&mut self, _: &str, x: &Width, _: f64) -> Result<Width, Infallible> {
        self.keep(&[x]);
        Ok(self.value(x.features))
    }

    fn norm_rope(&mut self, _: &str, x: &Width, _: f64, _: &Rope) -> Result<Width, Infallible> {
        self.keep(&[x]);
        Ok(self.value(x.features))
    }

    fn layer_norm(&mut self, _: &str, x: &Width, _: f64) -> Result<Width, Infallible> {
        self.keep(&[x]);
        Ok(self.value(x.features))
    }

    fn part(&mut self, _: &Width, features: Range<usize>) -> Result<Width, Infallible> {
        Ok(self.value(features.len()))
    }

    fn rope(&mut self, x: &Width, _: &Rope) -> Result<Width, Infallible> {
        Ok(self.value(x.features))
    }

    fn geglu(&mut self, gate: &Width, up: &Width) -> Result<Width, Infallible> {
        self.keep(&[gate, up]);
        Ok(self.value(gate.features))
    }

    fn attention(
        &mut self,
        _: &str,
        q: &Width,
        k: &Width,
        v: &Width,
        _: Heads,
        _: Option<usize>,
    ) -> Result<Width, Infallible> {
        self.keep(&[q, k, v]);
        Ok(self.value(q.features))
    }

    fn swiglu(&mut self, gate: &Width, up: &Width) -> Result<Width, Infallible> {
        self.keep(&[gate, up]);
        Ok(self.value(gate.features))
    }

    fn gelu(&mut self, x: &Width) -> Result<Width, Infallible> {
        self.keep(&[x]);
        Ok(self.value(x.features))
    }

    fn add(&mut self, x: &Width, _: &Width) -> Result<Width, Infallible> {
        Ok(self.value(x.features))
    }

    fn select(&mut self, x: &Width, _: &[usize]) -> Result<Width, Infallible> {
        self.keep(&[x]);
        Ok(self.value(x.features))
    }

    fn convolve(
        &mut self,
        site: &str,
        d_out: usize,
        _: Bias,
        x: Nodes<'_, Width>,
        _: &Arc<Propagation>,
    ) -> Result<Width, Infallible> {
        Ok(match x {
            Nodes::Value(x) => self.product(site, d_out, x),
            // Features belong to the data, which is there without a pass.
            Nodes::Features(_) => {
                let rank = self.adapter.and_then(|adapter| adapter.sites.get(site)).map_or(0, |factors| factors.rank);
                self.numbers += rank;
                self.value(d_out)
            }
        })
    }

    fn attend_neighbours(
        &mut self,
        _: &str,
        x: &Width,
        heads: usize,
        over: &Arc<Propagation>,
    ) -> Result<Width, Infallible> {
        self.keep(&[x]);
        // A share of every edge and head.
        self.numbers += (over.coefficients().entries() * heads).div_ceil(over.rows().max(1));
        Ok(self.value(x.features))
    }

    fn relu(&mut self, x: &Width) -> Result<Width, Infallible> {
        let value = self.value(x.features);
        self.keep(&[&value]);
        Ok(value)
    }

    fn dropout(&mut self, x: &Width) -> Result<Width, Infallible> {
        // What is dropped is found again from a key.
        Ok(self.value(x.features))
    }

    fn head(&mut self, site: &str, _: &str, vocab: usize, x: &Width) -> Result<Width, Infallible> {
        // The logits of a few rows at a time, counted by whoever knows how many.
        let widest = self.widest;
        let logits = self.product(site, vocab, x);
        self.widest = widest;
        Ok(logits)
    }
}
