//! The interpretation that computes nothing: it walks a network and records its sites.

use std::convert::Infallible;
use std::sync::Arc;

use crate::ops::graph::Propagation;
use crate::ops::{Bias, Heads, Nodes, Ops, Rope, Tokens};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Module path without `.weight`.
    pub name: String,
    /// Module path of the weight it uses: `name`, except for a tied head.
    pub weight: String,
    /// What happens there.
    pub role: Role,
    /// Whether there is a bias beside the weight, at `<name>.bias`.
    pub bias: bool,
}

/// Records every site in the order the network visits it: the canonical order of sites.
#[derive(Debug, Default)]
pub struct Sites(Vec<Site>);

impl Sites {
    /// The sites of `network`, a closure that runs the network's forward pass on this interpretation.
    pub fn of(network: impl FnOnce(&mut Self) -> Result<(), Infallible>) -> Vec<Site> {
        let mut sites = Self::default();
        match network(&mut sites) {
            Ok(()) => sites.0,
        }
    }

    fn visit(&mut self, name: &str, weight: &str, role: Role, bias: Bias) -> Result<(), Infallible> {
        let bias = bias == Bias::Present;
        self.0.push(Site { name: name.to_owned(), weight: weight.to_owned(), role, bias });
        Ok(())
    }
}

impl Ops for Sites {
    type Value = ();
    type Error = Infallible;

    fn embed(&mut self, site: &str, _: &Tokens) -> Result<(), Infallible> {
        self.visit(site, site, Role::Embedding, Bias::Absent)
    }

    fn add_positions(&mut self, site: &str, (): &()) -> Result<(), Infallible> {
        self.visit(site, site, Role::Positions, Bias::Absent)
    }

    fn linear(&mut self, site: &str, bias: Bias, (): &()) -> Result<(), Infallible> {
        self.visit(site, site, Role::Linear, bias)
    }

    fn linear_rope(&mut self, site: &str, bias: Bias, (): &(), _: &Rope) -> Result<(), Infallible> {
        self.visit(site, site, Role::Linear, bias)
    }

    fn rms_norm(&mut self, site: &str, (): &(), _: f64) -> Result<(), Infallible> {
        self.visit(site, site, Role::Norm, Bias::Absent)
    }

    fn norm_rope(&mut self, site: &str, (): &(), _: f64, _: &Rope) -> Result<(), Infallible> {
        self.visit(site, site, Role::Norm, Bias::Absent)
    }

    fn layer_norm(&mut self, site: &str, (): &(), _: f64) -> Result<(), Infallible> {
        self.visit(site, site, Role::Norm, Bias::Present)
    }

    fn part(&mut self, (): &(), _: usize, _: usize) -> Result<(), Infallible> {
        Ok(())
    }

    fn attention(&mut self, _: &str, (): &(), (): &(), (): &(), _: Heads) -> Result<(), Infallible> {
        Ok(())
    }

    fn gelu(&mut self, (): &()) -> Result<(), Infallible> {
        Ok(())
    }

    fn swiglu(&mut self, (): &(), (): &()) -> Result<(), Infallible> {
        Ok(())
    }

    fn add(&mut self, (): &(), (): &()) -> Result<(), Infallible> {
        Ok(())
    }

    fn select(&mut self, (): &(), _: &[usize]) -> Result<(), Infallible> {
        Ok(())
    }

    fn convolve(&mut self, site: &str, bias: Bias, _: Nodes<'_, ()>, _: &Arc<Propagation>) -> Result<(), Infallible> {
        self.visit(site, site, Role::Linear, bias)
    }

    fn attend_neighbours(&mut self, site: &str, (): &(), _: usize, _: &Arc<Propagation>) -> Result<(), Infallible> {
        self.visit(site, site, Role::Neighbours, Bias::Present)
    }

    fn relu(&mut self, (): &()) -> Result<(), Infallible> {
        Ok(())
    }

    fn dropout(&mut self, (): &()) -> Result<(), Infallible> {
        Ok(())
    }

    fn head(&mut self, site: &str, weight: &str, (): &()) -> Result<(), Infallible> {
        self.visit(site, weight, Role::Head, Bias::Absent)
    }
}
