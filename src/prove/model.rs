//! A base as exact integers: what statements are about.

use std::collections::BTreeMap;

use candle_core::Tensor;
use ftk_adapters::lora::Adapter;
use ftk_adapters::weights::Weights;
use ftk_circuits::{Digest, ModelSite, SiteFactors, SiteShape};
use ftk_networks::Network;
use ftk_networks::digest::Digesting;
use ftk_networks::sites::{Role, Site};
use rayon::prelude::*;

use super::fixed::base::Uses;
use super::fixed::{self, FixedAdapter, FixedBase};
use super::graph_base::GraphBase;
use crate::models::digest;
use crate::models::{ModelError, Source};

/// A network that statements can be about.
#[derive(Clone, Debug)]
pub enum Net {
    /// Of tokens.
    Tokens(Network),
    /// Of graphs.
    Graph(ftk_networks::graphs::Network),
}

impl Net {
    /// Every place where it uses a weight, in its order.
    pub fn sites(&self) -> Vec<Site> {
        match self {
            Self::Tokens(network) => network.sites(),
            Self::Graph(network) => network.sites(),
        }
    }

    /// Shape of every weight, by its name.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        match self {
            Self::Tokens(network) => network.shapes(),
            Self::Graph(network) => network.shapes(),
        }
    }

    /// Positions it was made for; of a network of graphs, which has none, as many as there may be.
    pub fn context(&self) -> usize {
        match self {
            Self::Tokens(network) => network.context(),
            Self::Graph(_) => usize::MAX,
        }
    }
}

/// A base model as statements are about it: exact integers, named by digest.
#[derive(Debug)]
pub struct FixedModel {
    net: Net,
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

/// Values of weights read ahead while others are hashed: enough to occupy all cores, little beside the base.
const READ_AHEAD: usize = 8 << 20;

impl FixedModel {
    /// The integer form of a loaded base.
    ///
    /// # Errors
    /// A weight that does not fit its grid; see [`FixedBase::new`].
    pub fn new(source: &Source, weights: &Weights) -> Result<Self, FixedModelError> {
        Self::build(source, |name| Ok(weights.get(name).map_err(fixed::Error::from)?))
    }

    /// The integer form of a base whose weights are read one after another: there is never a copy of all of them in
    /// floats.
    ///
    /// # Errors
    /// As [`FixedModel::new`], and those of [`Source::weights`].
    pub fn read(source: &Source) -> Result<Self, FixedModelError> {
        Self::build(source, |name| Ok(source.weight(name)?))
    }

    /// The integer form of a network of graphs.
    ///
    /// # Errors
    /// As [`FixedModel::new`]; a network that has no integer form.
    pub fn of_graphs(base: &GraphBase) -> Result<Self, FixedModelError> {
        let net = Net::Graph(base.network().clone());
        let (mut digesting, weights) = (Digesting::of_graphs(base.network()), base.weights());
        for name in net.shapes().keys() {
            digest::add(&mut digesting, name, &weights.get(name).map_err(fixed::Error::from)?)?;
        }
        let fixed = FixedBase::new(weights, &net.sites())?;
        Ok(Self::assembled(net, fixed, Digest(digesting.finish().0)))
    }

    fn build(
        source: &Source,
        weight: impl Fn(&str) -> Result<Tensor, FixedModelError> + Sync,
    ) -> Result<Self, FixedModelError> {
        let network = source.network().clone();
        let (all, shapes) = (network.sites(), network.shapes());
        let uses = Uses::of(&all);
        let read = |(name, _): &(String, usize)| {
            let tensor = weight(name)?;
            let quantised = uses.quantise(name, &tensor)?;
            Ok::<_, FixedModelError>((name.clone(), tensor, quantised))
        };
        let mut digesting = source.digesting();
        let mut hash = |tensors: Vec<(String, Tensor)>| {
            tensors.iter().try_for_each(|(name, tensor)| digest::add(&mut digesting, name, tensor))
        };
        // The digest takes tensors in order, one at a time; the next ones are read meanwhile.
        let sized: Vec<_> = shapes.iter().map(|(name, shape)| (name.clone(), shape.iter().product())).collect();
        let (mut waiting, mut quantised) = (Vec::new(), BTreeMap::new());
        for window in windows(&sized) {
            let (hashed, tensors) =
                rayon::join(|| hash(std::mem::take(&mut waiting)), || window.par_iter().map(read).collect::<Vec<_>>());
            hashed?;
            for tensor in tensors {
                let (name, tensor, integers) = tensor?;
                quantised.insert(name.clone(), integers);
                waiting.push((name, tensor));
            }
        }
        hash(waiting)?;
        let base = uses.assemble(quantised)?;
        Ok(Self::assembled(Net::Tokens(network), base, Digest(digesting.finish().0)))
    }

    fn assembled(net: Net, base: FixedBase, digest: Digest) -> Self {
        let (all, shapes) = (net.sites(), net.shapes());
        let adaptable = all.iter().filter(|site| matches!(site.role, Role::Linear | Role::Head));
        let sites = adaptable.map(|site| {
            let shape = &shapes[&format!("{}.weight", site.weight)];
            ModelSite { name: site.name.clone(), d_in: shape[1] as u32, d_out: shape[0] as u32 }
        });
        Self { sites: sites.collect(), base, digest, net }
    }

    /// The network.
    pub fn net(&self) -> &Net {
        &self.net
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

/// Consecutive tensors, by name and number of values, of at most [`READ_AHEAD`] values together, or one that has more.
fn windows(mut sized: &[(String, usize)]) -> Vec<&[(String, usize)]> {
    let mut windows = Vec::new();
    while !sized.is_empty() {
        let mut total = 0;
        let fits = |(_, values): &&(String, usize)| {
            total += values;
            total <= READ_AHEAD
        };
        let (window, rest) = sized.split_at(sized.iter().take_while(fits).count().max(1));
        windows.push(window);
        sized = rest;
    }
    windows
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use candle_core::Device;

    use super::*;

    #[test]
    fn a_base_read_piece_by_piece_is_the_loaded_one() {
        let source = Source::open(Path::new("village")).unwrap();
        let weights = source.weights(&Device::Cpu).unwrap();
        let read = FixedModel::read(&source).unwrap();
        let loaded = FixedModel::new(&source, &weights).unwrap();
        assert_eq!(read.digest().0, source.digest(&weights).unwrap().0);
        assert_eq!((read.digest(), read.sites()), (loaded.digest(), loaded.sites()));
        assert_eq!(read.base(), loaded.base());
        assert_eq!(read.base(), &FixedBase::new(&weights, &source.network().sites()).unwrap());
    }

    #[test]
    fn windows_are_all_tensors_in_order() {
        let sized = |sizes: &[usize]| sizes.iter().map(|&size| (size.to_string(), size)).collect::<Vec<_>>();
        let all = sized(&[1, READ_AHEAD - 1, 1, 2 * READ_AHEAD, 5, 6]);
        let sizes: Vec<usize> = windows(&all).iter().map(|window| window.len()).collect();
        assert_eq!(sizes, [2, 1, 1, 2]);
        assert_eq!(windows(&all).concat(), all);
        assert!(windows(&[]).is_empty());
    }
}
