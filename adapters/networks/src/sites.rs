//! The interpretation that computes nothing: it walks a network and records its sites, with the shapes of their weights.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use crate::ops::graph::Propagation;
use crate::ops::{Bias, Heads, Nodes, Ops, Rope, TableShape, Tokens};

/// What a network does at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Table look-up.
    Embedding,
    /// Table of learned positions.
    Positions,
    /// Matrix product that may carry an adapter.
    Linear,
    /// Matrix product to the vocabulary; may carry an adapter only when one names it.
    Head,
    /// Normalisation weight.
    Norm,
    /// The two vectors of attention over neighbours, `<name>.att_src` and `<name>.att_dst`; no `<name>.weight`.
    Neighbours,
}

/// One place where a network uses a weight.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Module path without `.weight`.
    pub name: String,
    /// Module path of the weight it uses: `name`, except for a tied head.
    pub weight: String,
    /// What happens there.
    pub role: Role,
    /// Shape of the weight: `(d_out, d_in)` for matrices, `(rows, features)` for tables, `(features)` for norms and the
    /// vectors of attention over neighbours.
    pub shape: Vec<usize>,
    /// Whether there is a bias beside the weight, at `<name>.bias`.
    pub bias: bool,
    /// What the entries of a table are multiplied by where they are looked up.
    pub scale: f32,
}

impl Site {
    /// Every tensor it uses by its Hugging Face name (`model.norm.weight`), with its shape.
    pub fn tensors(&self) -> impl Iterator<Item = (String, Vec<usize>)> {
        let weights = match self.role {
            Role::Neighbours => ["att_src", "att_dst"].map(|kind| Some(format!("{}.{kind}", self.name))),
            _ => [Some(format!("{}.weight", self.weight)), None],
        };
        let weights = weights.into_iter().flatten().map(|name| (name, self.shape.clone()));
        let bias = self.bias.then(|| (format!("{}.bias", self.name), vec![self.shape[0]]));
        weights.chain(bias)
    }
}

/// Every tensor that sites use, by name, with its shape.
pub fn shapes(sites: &[Site]) -> BTreeMap<String, Vec<usize>> {
    sites.iter().flat_map(Site::tensors).collect()
}

/// Records every site in the order the network visits it: the canonical order of sites. A value is its features.
#[derive(Debug, Default)]
pub struct Sites(Vec<Site>);

impl Sites {
    /// The sites of `network`, a closure that runs the network's forward pass on this interpretation.
    pub fn of(network: impl FnOnce(&mut Self) -> Result<usize, Infallible>) -> Vec<Site> {
        let mut sites = Self::default();
        match network(&mut sites) {
            Ok(_) => sites.0,
        }
    }

    fn visit(&mut self, name: &str, role: Role, bias: Bias, shape: Vec<usize>) {
        self.visit_with(name, name, role, bias, shape);
    }

    fn visit_with(&mut self, name: &str, weight: &str, role: Role, bias: Bias, shape: Vec<usize>) {
        let bias = bias == Bias::Present;
        self.0.push(Site { name: name.to_owned(), weight: weight.to_owned(), role, shape, bias, scale: 1.0 });
    }
}

impl Ops for Sites {
    type Value = usize;
    type Error = Infallible;

    fn embed(&mut self, site: &str, table: TableShape, _: &Tokens) -> Result<usize, Infallible> {
        let TableShape { rows, features, scale } = table;
        self.visit(site, Role::Embedding, Bias::Absent, vec![rows, features]);
        if let Some(site) = self.0.last_mut() {
            site.scale = scale;
        }
        Ok(features)
    }

    fn add_positions(&mut self, site: &str, rows: usize, x: &usize) -> Result<usize, Infallible> {
        self.visit(site, Role::Positions, Bias::Absent, vec![rows, *x]);
        Ok(*x)
    }

    fn linear(&mut self, site: &str, d_out: usize, bias: Bias, x: &usize) -> Result<usize, Infallible> {
        self.visit(site, Role::Linear, bias, vec![d_out, *x]);
        Ok(d_out)
    }

    fn linear_rope(&mut self, site: &str, d_out: usize, bias: Bias, x: &usize, _: &Rope) -> Result<usize, Infallible> {
        self.linear(site, d_out, bias, x)
    }

    fn rms_norm(&mut self, site: &str, x: &usize, _: f64) -> Result<usize, Infallible> {
        self.visit(site, Role::Norm, Bias::Absent, vec![*x]);
        Ok(*x)
    }

    fn norm_rope(&mut self, site: &str, x: &usize, _: f64, rope: &Rope) -> Result<usize, Infallible> {
        self.visit(site, Role::Norm, Bias::Absent, vec![rope.dim]);
        Ok(*x)
    }

    fn layer_norm(&mut self, site: &str, x: &usize, _: f64) -> Result<usize, Infallible> {
        self.visit(site, Role::Norm, Bias::Present, vec![*x]);
        Ok(*x)
    }

    fn part(&mut self, _: &usize, features: Range<usize>) -> Result<usize, Infallible> {
        Ok(features.len())
    }

    fn rope(&mut self, x: &usize, _: &Rope) -> Result<usize, Infallible> {
        Ok(*x)
    }

    fn attention(
        &mut self,
        _: &str,
        q: &usize,
        _: &usize,
        _: &usize,
        _: Heads,
        _: Option<usize>,
    ) -> Result<usize, Infallible> {
        Ok(*q)
    }

    fn geglu(&mut self, gate: &usize, _: &usize) -> Result<usize, Infallible> {
        Ok(*gate)
    }

    fn gelu(&mut self, x: &usize) -> Result<usize, Infallible> {
        Ok(*x)
    }

    fn swiglu(&mut self, gate: &usize, _: &usize) -> Result<usize, Infallible> {
        Ok(*gate)
    }

    fn add(&mut self, x: &usize, _: &usize) -> Result<usize, Infallible> {
        Ok(*x)
    }

    fn select(&mut self, x: &usize, _: &[usize]) -> Result<usize, Infallible> {
        Ok(*x)
    }

    fn convolve(
        &mut self,
        site: &str,
        d_out: usize,
        bias: Bias,
        x: Nodes<'_, usize>,
        _: &Arc<Propagation>,
    ) -> Result<usize, Infallible> {
        let d_in = match x {
            Nodes::Features(features) => features.width(),
            Nodes::Value(x) => *x,
        };
        self.linear(site, d_out, bias, &d_in)
    }

    fn attend_neighbours(
        &mut self,
        site: &str,
        x: &usize,
        _: usize,
        _: &Arc<Propagation>,
    ) -> Result<usize, Infallible> {
        self.visit(site, Role::Neighbours, Bias::Present, vec![*x]);
        Ok(*x)
    }

    fn relu(&mut self, x: &usize) -> Result<usize, Infallible> {
        Ok(*x)
    }

    fn dropout(&mut self, x: &usize) -> Result<usize, Infallible> {
        Ok(*x)
    }

    fn head(&mut self, site: &str, weight: &str, vocab: usize, x: &usize) -> Result<usize, Infallible> {
        self.visit_with(site, weight, Role::Head, Bias::Absent, vec![vocab, *x]);
        Ok(vocab)
    }
}
