//! The interpretation that computes nothing: it walks a network and records its sites.

use std::convert::Infallible;

use crate::ops::{Heads, Ops, Rope, Tokens};

/// What a network does at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Table look-up.
    Embedding,
    /// Matrix product that may carry an adapter.
    Linear,
    /// Matrix product to the vocabulary; may carry an adapter only when one names it.
    Head,
    /// Normalisation weight.
    Norm,
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

    fn visit(&mut self, name: &str, weight: &str, role: Role) -> Result<(), Infallible> {
        self.0.push(Site { name: name.to_owned(), weight: weight.to_owned(), role });
        Ok(())
    }
}

impl Ops for Sites {
    type Value = ();
    type Error = Infallible;

    fn embed(&mut self, site: &str, _: &Tokens) -> Result<(), Infallible> {
        self.visit(site, site, Role::Embedding)
    }

    fn linear(&mut self, site: &str, (): &()) -> Result<(), Infallible> {
        self.visit(site, site, Role::Linear)
    }

    fn linear_rope(&mut self, site: &str, (): &(), _: &Rope) -> Result<(), Infallible> {
        self.visit(site, site, Role::Linear)
    }

    fn rms_norm(&mut self, site: &str, (): &(), _: f64) -> Result<(), Infallible> {
        self.visit(site, site, Role::Norm)
    }

    fn attention(&mut self, _: &str, (): &(), (): &(), (): &(), _: Heads) -> Result<(), Infallible> {
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

    fn head(&mut self, site: &str, weight: &str, (): &()) -> Result<(), Infallible> {
        self.visit(site, weight, Role::Head)
    }
}
