//! A base as exact integers: what statements are about.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use ftk_circuits::{Digest, ModelSite, SiteFactors, SiteShape};
use ftk_networks::Network;
use ftk_networks::digest::{Digesting, Texts};
use ftk_networks::graphs::{End, pairs};
use ftk_networks::sites::{Role, Site};

use crate::fixed::base::Uses;
use crate::fixed::{FixedAdapter, FixedBase, PassError};

/// A network that statements can be about.
#[derive(Clone, Debug)]
pub enum Net {
    /// Of tokens.
    Tokens(Network),
    /// Of graphs.
    Graph(ftk_networks::graphs::GraphNetwork),
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

    /// What statements about it are about.
    pub(crate) fn takes(&self) -> &'static str {
        match self {
            Self::Tokens(_) => "tokens",
            Self::Graph(network) if pairs::takes_pairs(network) => "pairs",
            Self::Graph(network) if matches!(network.head, End::Pair { .. }) => "pairs of a whole graph",
            Self::Graph(_) => "nodes",
        }
    }

    /// Its digest in the making.
    fn digesting(&self, texts: Texts) -> Digesting {
        match self {
            Self::Tokens(network) => Digesting::new(network, texts),
            Self::Graph(network) => Digesting::of_graphs(network),
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
    stop: BTreeSet<u32>,
}

/// A weight in floating point.
#[derive(Clone, Debug)]
pub struct FloatWeight<'a> {
    /// Dimensions, outermost first.
    pub shape: Cow<'a, [usize]>,
    /// Entries, row-major.
    pub values: Cow<'a, [f32]>,
}

impl FixedModel {
    /// The integer form of a base whose weights are asked for one after another, in ascending order of names, each once.
    /// `texts` is what turns text into its ids and ends an answer; of a network of graphs, nothing.
    ///
    /// # Errors
    /// A missing weight, one of another shape, or a value that does not fit its grid.
    pub fn new<'a>(
        net: Net,
        texts: Texts,
        mut weight: impl FnMut(&str) -> Option<FloatWeight<'a>>,
    ) -> Result<Self, PassError> {
        let stop = texts.stop.clone();
        let mut digesting = net.digesting(texts);
        let sites = net.sites();
        let (uses, mut quantised) = (Uses::of(&sites), BTreeMap::new());
        for (name, wanted) in net.shapes() {
            let FloatWeight { shape, values } = weight(&name).ok_or_else(|| PassError::MissingWeight(name.clone()))?;
            if *shape != *wanted {
                return Err(PassError::Shape { name, shape: shape.into_owned() });
            }
            // Which refuses entries that are not as many as the shape says.
            quantised.insert(name.clone(), uses.quantise(&name, &shape, &values)?);
            digesting.tensor(&name, &shape, &values);
        }
        let base = uses.assemble(quantised)?;
        Ok(Self::assembled(net, base, Digest(digesting.finish().0), stop))
    }

    /// The same of parts that were made side by side. The digest must be that of the weights that the integers were made
    /// of, and of the stop ids: here nobody can know.
    pub fn assembled(net: Net, base: FixedBase, digest: Digest, stop: BTreeSet<u32>) -> Self {
        let (all, shapes) = (net.sites(), net.shapes());
        let adaptable = all.iter().filter(|site| matches!(site.role, Role::Linear | Role::Head));
        let sites = adaptable.map(|site| {
            let shape = &shapes[&format!("{}.weight", site.weight)];
            ModelSite { name: site.name.clone(), d_in: shape[1] as u32, d_out: shape[0] as u32 }
        });
        Self { sites: sites.collect(), base, digest, net, stop }
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

    /// Ids at which generation stops.
    pub fn stop_ids(&self) -> &BTreeSet<u32> {
        &self.stop
    }

    /// An adapter's factors as they are committed: in canonical order.
    pub fn factors(&self, adapter: &FixedAdapter) -> Vec<SiteFactors> {
        site_factors(adapter, self.sites.iter().map(|site| site.name.as_str()))
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
