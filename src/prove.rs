//! Where the float world meets the field world: the only place that may name both candle and the
//! circuits. Commitments, bundles and verdicts about what a base with an adapter gives for inputs.

pub mod bundle;
pub mod cases;
pub mod cost;
pub mod figures;
pub mod fixed;
pub mod keys;
pub mod limits;
pub mod opening;
pub mod read;
pub mod rounding;
pub mod verdict;
pub mod verifier;

use ftk_adapters::lora::Adapter;
use ftk_adapters::sites::Role;
use ftk_adapters::weights::Weights;
use ftk_circuits::{Digest, ModelSite, SiteFactors, SiteShape};

use self::fixed::{FixedAdapter, FixedBase};
use crate::models::{ModelError, Network, Source};

/// A base model as statements are about it: exact integers, named by digest.
#[derive(Debug)]
pub struct FixedModel {
    network: Network,
    base: FixedBase,
    digest: Digest,
    sites: Vec<ModelSite>,
}

/// Why a base has no exact-integer form.
#[derive(Debug, thiserror::Error)]
pub enum FixedModelError {
    /// The digest could not be computed.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The integers could not.
    #[error(transparent)]
    Fixed(#[from] fixed::Error),
}

impl FixedModel {
    /// The integer form of a loaded base.
    ///
    /// # Errors
    /// A weight that does not fit its grid; see [`FixedBase::new`].
    pub fn new(source: &Source, weights: &Weights) -> Result<Self, FixedModelError> {
        let network = source.network().clone();
        let all = network.sites();
        let base = FixedBase::new(weights, &all)?;
        let shapes = network.shapes();
        let adaptable = all.into_iter().filter(|site| matches!(site.role, Role::Linear | Role::Head));
        let sites = adaptable.map(|site| {
            let shape = &shapes[&format!("{}.weight", site.weight)];
            ModelSite { name: site.name, d_in: shape[1] as u32, d_out: shape[0] as u32 }
        });
        Ok(Self { sites: sites.collect(), base, digest: Digest(source.digest(weights)?.0), network })
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The integers.
    pub fn base(&self) -> &FixedBase {
        &self.base
    }

    /// `D_base`.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Every site an adapter may have, in canonical order.
    pub fn sites(&self) -> &[ModelSite] {
        &self.sites
    }

    /// An exported adapter's factors as they are committed: integers, in canonical order.
    ///
    /// # Errors
    /// Values off the grid, a scale other than one.
    pub fn factors(&self, adapter: &Adapter) -> Result<(FixedAdapter, Vec<SiteFactors>), fixed::Error> {
        let fixed = FixedAdapter::new(adapter)?;
        let factors = site_factors(&fixed, self.sites.iter().map(|site| site.name.as_str()));
        Ok((fixed, factors))
    }
}

/// An adapter's factors as they are committed, those of the named sites that it has, in this order.
pub fn site_factors<'a>(adapter: &FixedAdapter, order: impl Iterator<Item = &'a str>) -> Vec<SiteFactors> {
    let ordered = order.filter_map(|name| adapter.sites.get_key_value(name));
    let factors = ordered.map(|(name, factors)| {
        let [shift_a, shift_b] = factors.shifts();
        let shape = SiteShape {
            name: name.clone(),
            rank: factors.rank() as u32,
            d_in: factors.d_in() as u32,
            d_out: factors.d_out() as u32,
            shift_a,
            shift_b,
        };
        SiteFactors { shape, a: factors.a().to_vec(), b: factors.b().to_vec() }
    });
    factors.collect()
}
