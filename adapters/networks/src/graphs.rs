//! The networks of graphs, each written once over [`Ops`].

pub mod bytes;
pub mod leaf;
pub mod merkle;
pub mod messages;
pub mod name;
pub mod neighbourhood;
pub mod opened;
pub mod pairs;
pub mod part;
mod prepare;
pub mod state;
pub mod stream;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ops::graph::{Features, Propagation, Sparse};
use crate::ops::{Bias, Nodes, Ops};
use crate::record::DigestRecord;
use crate::sites::{self, Role, Site, Sites};

/// Most convolutions of a network.
const MOST_CONVOLUTIONS: usize = 64;
/// Site of a linear head.
pub const HEAD: &str = "head";
/// Sites of what views are compared by.
const COMPARER: [&str; 2] = ["comparer.in", "comparer.out"];
/// Sites of what scores a pair: its source, its target, what is known of the pair, the score.
const SCORER: [&str; 4] = ["scorer.source", "scorer.target", "scorer.pair", SCORE];
/// Site that a pair's scores come from.
pub const SCORE: &str = "scorer.out";

/// The numbers a network's forward pass depends on, written down as `config.json` beside a base's weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphNetwork {
    /// Kind of the convolutions.
    pub model_type: GraphNetworkKind,
    /// Features of a node.
    pub inputs: usize,
    /// Features between convolutions, of each head of `gat`.
    pub hidden: usize,
    /// Convolutions.
    pub layers: usize,
    /// Heads of `gat`.
    pub heads: usize,
    /// What it ends in.
    pub head: End,
    /// How a graph's features are prepared for it.
    pub prepare: Prepare,
    /// How much the messages of neighbours weigh.
    #[serde(default, skip_serializing_if = "MessageKind::is_alike")]
    pub messages: MessageKind,
}

/// How much the messages of neighbours weigh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum MessageKind {
    /// All alike, whatever edges carry.
    #[default]
    Alike,
    /// As much as all edges from and to the neighbour together; none may be negative.
    Weighed,
}

impl MessageKind {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_alike(&self) -> bool {
        *self == Self::Alike
    }
}

/// Kinds of networks of graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum GraphNetworkKind {
    /// Graph convolutions (Kipf and Welling 2017).
    Gcn,
    /// GraphSAGE with means (Hamilton et al. 2017).
    Sage,
    /// GraphSAGE with the aggregator that its paper calls GCN: one weight on the mean over a node and its neighbours.
    #[serde(rename = "sage-gcn")]
    SageGcn,
    /// Graph attention (Velickovic et al. 2018).
    Gat,
}

impl GraphNetworkKind {
    /// What configurations call it (`model_type`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Gcn => "gcn",
            Self::Sage => "sage",
            Self::SageGcn => "sage-gcn",
            Self::Gat => "gat",
        }
    }
}

/// What a network of a graph ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Head {
    /// The last convolution gives the logits.
    Convolution,
    /// A linear layer on what the convolutions give.
    Linear,
}

/// How a pair of nodes is scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum PairScorer {
    /// A linear layer each of source, target and what is known of the pair, their sum rectified, and a linear layer on
    /// it: source and target may play different parts.
    #[default]
    Layers,
    /// The product of both ends, feature by feature, each weighed by how positive it is (`x y (s(x) + s(y))` with the
    /// logistic function `s`), and what is known of the pair, each through a linear layer: the order of the ends does
    /// not matter.
    Product,
}

impl PairScorer {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_layers(&self) -> bool {
        *self == Self::Layers
    }
}

/// How features are prepared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prepare {
    /// Those of every node are divided by their sum.
    pub normalise: bool,
    /// They are projected to this width.
    pub project: Option<usize>,
}

/// What a network ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum End {
    /// The last convolution gives so many logits a node.
    Convolution(usize),
    /// A linear layer gives so many logits a node.
    Linear(usize),
    /// Nothing: a base for adapters that bring a head.
    Encoder,
    /// Two linear layers of this width, whose output is compared between views.
    Comparer(usize),
    /// A scorer looks at a pair of nodes.
    Pair {
        /// Features that are known of the pair.
        known: usize,
        /// Numbers it gives.
        outputs: usize,
        /// How it looks.
        #[serde(default, skip_serializing_if = "PairScorer::is_layers")]
        scorer: PairScorer,
    },
}

/// How messages pass in one convolution.
#[derive(Clone, Debug)]
pub struct Hop {
    /// What a node gathers from its neighbours.
    pub gather: Arc<Propagation>,
    /// Which sender each receiver is.
    pub own: Arc<Propagation>,
}

/// Pairs of nodes to be scored.
#[derive(Clone, Debug)]
pub struct Pairs {
    /// Rows of the sources.
    pub sources: Vec<usize>,
    /// Rows of the targets.
    pub targets: Vec<usize>,
    /// What is known of each pair.
    pub known: Arc<Features>,
}

impl GraphNetwork {
    /// Whether a configuration is that of a network of graphs.
    pub fn is_one(config: &Value) -> bool {
        GraphNetworkKind::deserialize(&config["model_type"]).is_ok()
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(config: &[u8]) -> Result<Self, String> {
        let network: Self = serde_json::from_slice(config).map_err(|error| error.to_string())?;
        let most = [network.inputs, network.hidden, network.layers, network.heads].into_iter().max().unwrap_or(0);
        if network.layers == 0 || network.layers > MOST_CONVOLUTIONS || network.heads == 0 || most > 1 << 24 {
            return Err("numbers that no network has".to_owned());
        }
        let alike = network.model_type == GraphNetworkKind::Gat || matches!(network.head, End::Pair { .. });
        if alike && network.messages != MessageKind::Alike {
            return Err("messages that are weighed, of a network that weighs none by edges".to_owned());
        }
        Ok(network)
    }

    /// A network for features of this width; `outputs` are logits, or features that are known of a pair.
    pub fn new(
        kind: GraphNetworkKind,
        [inputs, hidden, layers, heads]: [usize; 4],
        head: Head,
        outputs: usize,
    ) -> Self {
        let head = match head {
            Head::Convolution => End::Convolution(outputs),
            Head::Linear => End::Linear(outputs),
        };
        let heads = if kind == GraphNetworkKind::Gat { heads } else { 1 };
        let (prepare, messages) = (Prepare::default(), MessageKind::default());
        Self { model_type: kind, inputs, hidden, layers, heads, head, prepare, messages }
    }

    /// Features that leave convolution `layer`, from 0, and its heads.
    fn widths(&self, layer: usize) -> (usize, usize) {
        match self.head {
            End::Convolution(outputs) if layer + 1 == self.layers => (outputs, 1),
            _ => (self.hidden * self.heads, self.heads),
        }
    }

    /// Numbers that it gives of a node or pair.
    pub fn outputs(&self) -> usize {
        match self.head {
            End::Convolution(outputs) | End::Linear(outputs) | End::Pair { outputs, .. } => outputs,
            End::Encoder => self.encoded(),
            End::Comparer(width) => width,
        }
    }

    /// Features of what [`GraphNetwork::encode`] gives.
    fn encoded(&self) -> usize {
        self.widths(self.layers - 1).0
    }

    /// Runs the convolutions: `(receivers of the last hop, features)`, or logits where the last one gives them.
    ///
    /// # Errors
    /// Those of the interpretation.
    ///
    /// # Panics
    /// If there are not as many hops as convolutions.
    pub fn encode<O: Ops>(&self, ops: &mut O, features: &Arc<Features>, hops: &[Hop]) -> Result<O::Value, O::Error> {
        assert_eq!(hops.len(), self.layers, "every convolution has a hop");
        let mut x: Option<O::Value> = None;
        for (layer, hop) in hops.iter().enumerate() {
            if let Some(value) = x.take() {
                let value = ops.relu(&value)?;
                x = Some(ops.dropout(&value)?);
            }
            let nodes = x.as_ref().map_or(Nodes::Features(features), Nodes::Value);
            let at = format!("conv{}", layer + 1);
            let (width, heads) = self.widths(layer);
            x = Some(match self.model_type {
                GraphNetworkKind::Gcn | GraphNetworkKind::SageGcn => {
                    ops.convolve(&format!("{at}.lin"), width, Bias::Present, nodes, &hop.gather)?
                }
                GraphNetworkKind::Sage => {
                    let gathered = ops.convolve(&format!("{at}.lin_l"), width, Bias::Present, nodes, &hop.gather)?;
                    let own = ops.convolve(&format!("{at}.lin_r"), width, Bias::Absent, nodes, &hop.own)?;
                    ops.add(&gathered, &own)?
                }
                GraphNetworkKind::Gat => {
                    let value = ops.convolve(&format!("{at}.lin"), width, Bias::Absent, nodes, &hop.own)?;
                    ops.attend_neighbours(&at, &value, heads, &hop.gather)?
                }
            });
        }
        Ok(x.expect("there is a convolution"))
    }

    /// Logits of the given receivers of the last hop: `(rows.len(), classes)`; or what else the network ends in.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn classify<O: Ops>(
        &self,
        ops: &mut O,
        features: &Arc<Features>,
        hops: &[Hop],
        rows: &[usize],
    ) -> Result<O::Value, O::Error> {
        let x = self.encode(ops, features, hops)?;
        let x = ops.select(&x, rows)?;
        match self.head {
            End::Linear(outputs) => {
                let x = ops.relu(&x)?;
                ops.linear(HEAD, outputs, Bias::Present, &x)
            }
            End::Comparer(width) => {
                let x = ops.relu(&x)?;
                let x = ops.linear(COMPARER[0], width, Bias::Present, &x)?;
                let x = ops.relu(&x)?;
                ops.linear(COMPARER[1], width, Bias::Present, &x)
            }
            End::Convolution(_) | End::Encoder | End::Pair { .. } => Ok(x),
        }
    }

    /// Scores of each pair: `(pairs, outputs)`.
    ///
    /// # Errors
    /// Those of the interpretation.
    pub fn score<O: Ops>(
        &self,
        ops: &mut O,
        features: &Arc<Features>,
        hops: &[Hop],
        pairs: &Pairs,
    ) -> Result<O::Value, O::Error> {
        let x = self.encode(ops, features, hops)?;
        let all: Vec<usize> = (0..pairs.known.rows()).collect();
        let each = Arc::new(Propagation::choosing(&all, all.len()));
        let known = Nodes::Features(&pairs.known);
        if matches!(self.head, End::Pair { scorer: PairScorer::Product, .. }) {
            let (source, target) = (ops.select(&x, &pairs.sources)?, ops.select(&x, &pairs.targets)?);
            // Of either end as the gate, so that none is before the other.
            let (one, other) = (ops.swiglu(&source, &target)?, ops.swiglu(&target, &source)?);
            let product = ops.add(&one, &other)?;
            let product = ops.linear(SCORER[3], self.outputs(), Bias::Present, &product)?;
            let known = ops.convolve(SCORER[2], self.outputs(), Bias::Absent, known, &each)?;
            return ops.add(&product, &known);
        }
        let x = ops.relu(&x)?;
        let source = ops.select(&x, &pairs.sources)?;
        let source = ops.linear(SCORER[0], self.hidden, Bias::Present, &source)?;
        let target = ops.select(&x, &pairs.targets)?;
        let target = ops.linear(SCORER[1], self.hidden, Bias::Absent, &target)?;
        let known = ops.convolve(SCORER[2], self.hidden, Bias::Absent, known, &each)?;
        let hidden = ops.add(&source, &target)?;
        let hidden = ops.add(&hidden, &known)?;
        let hidden = ops.relu(&hidden)?;
        ops.linear(SCORER[3], self.outputs(), Bias::Present, &hidden)
    }

    /// Every place where it uses a weight, in its order.
    pub fn sites(&self) -> Vec<Site> {
        let one = || Arc::new(Propagation::choosing(&[0], 1));
        let hops: Vec<Hop> = (0..self.layers).map(|_| Hop { gather: one(), own: one() }).collect();
        let blank = |width| Arc::new(Features::sparse(Sparse::from_rows(width, [[]])));
        let features = blank(self.inputs);
        Sites::of(|ops| match self.head {
            End::Pair { known, .. } => {
                let pairs = Pairs { sources: vec![0], targets: vec![0], known: blank(known) };
                self.score(ops, &features, &hops, &pairs)
            }
            _ => self.classify(ops, &features, &hops, &[0]),
        })
    }

    /// Names of the head's weights, where it is a layer of its own.
    pub fn head_weights(&self) -> Vec<String> {
        match self.head {
            End::Convolution(_) | End::Encoder => Vec::new(),
            End::Linear(_) => vec![format!("{HEAD}.bias"), format!("{HEAD}.weight")],
            End::Comparer(_) | End::Pair { .. } => {
                let own = |name: &String| name.starts_with("comparer.") || name.starts_with("scorer.");
                self.shapes().into_keys().filter(own).collect()
            }
        }
    }

    /// The linear sites but those of the head: what carries adapters.
    pub fn adaptable(&self) -> Vec<Site> {
        let head = |site: &Site| site.name == HEAD || COMPARER.contains(&site.name.as_str());
        self.sites().into_iter().filter(|site| site.role == Role::Linear && !head(site)).collect()
    }

    /// Shape of every weight, by its name.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        sites::shapes(&self.sites())
    }

    /// What `D_base` holds of it ([`crate::digest`]): its kind, with `" weighed"` behind it where messages are; features,
    /// hidden, convolutions, heads; the integer 0 if the last convolution gives the logits, 1 if a linear layer does, 2 if
    /// pairs are scored by layers, 3 if it ends in its convolutions, 4 if views are compared, 5 if pairs are scored by
    /// products, then two integers: the number of logits and 0, what is known of a pair and the number of scores, twice 0,
    /// or a width and 0; one byte 1 if features are divided by their sum, else 0; the integer width they are projected to,
    /// 0 if they are not.
    pub(crate) fn record(&self, record: &mut DigestRecord) {
        let Self { model_type, inputs, hidden, layers, heads, head, prepare, messages } = self;
        let Prepare { normalise, project } = prepare;
        match messages {
            MessageKind::Alike => record.text(model_type.name()),
            MessageKind::Weighed => record.text(&format!("{} weighed", model_type.name())),
        }
        record.ints([*inputs, *hidden, *layers, *heads]);
        let (end, sizes) = match head {
            End::Convolution(outputs) => (0, [*outputs, 0]),
            End::Linear(outputs) => (1, [*outputs, 0]),
            End::Pair { known, outputs, scorer: PairScorer::Layers } => (2, [*known, *outputs]),
            End::Pair { known, outputs, scorer: PairScorer::Product } => (5, [*known, *outputs]),
            End::Encoder => (3, [0, 0]),
            End::Comparer(width) => (4, [*width, 0]),
        };
        record.ints([end]);
        record.ints(sizes);
        record.flag(*normalise);
        record.ints([project.unwrap_or(0)]);
    }

    /// The network that is left behind for others to build on: without what only its own training needs.
    #[must_use]
    pub fn bare(mut self) -> Self {
        if matches!(self.head, End::Comparer(_)) {
            self.head = End::Encoder;
        }
        self
    }

    /// Parameters.
    pub fn parameters(&self) -> usize {
        self.shapes().values().map(|shape| shape.iter().product::<usize>()).sum()
    }
}

/// Number of the convolution, from 1, that a site belongs to, or a weight; `None` if to none.
pub fn convolution(name: &str) -> Option<usize> {
    name.strip_prefix("conv")?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_shapes_of_their_layers() {
        let shapes = |kind, head, outputs| {
            let network = GraphNetwork::new(kind, [5, 4, 2, 3], head, outputs);
            network.shapes().into_iter().map(|(name, shape)| format!("{name} {shape:?}")).collect::<Vec<_>>()
        };
        let gcn = ["conv1.lin.bias [4]", "conv1.lin.weight [4, 5]", "conv2.lin.bias [7]", "conv2.lin.weight [7, 4]"];
        assert_eq!(shapes(GraphNetworkKind::Gcn, Head::Convolution, 7), gcn);
        let sage = shapes(GraphNetworkKind::Sage, Head::Linear, 7);
        assert!(
            sage.contains(&"conv2.lin_r.weight [4, 4]".to_owned()) && sage.contains(&"head.weight [7, 4]".to_owned())
        );
        let gat = shapes(GraphNetworkKind::Gat, Head::Convolution, 7);
        for name in ["conv1.att_src [12]", "conv1.lin.weight [12, 5]", "conv2.lin.weight [7, 12]", "conv2.bias [7]"] {
            assert!(gat.contains(&name.to_owned()), "{name}: {gat:?}");
        }
    }

    #[test]
    fn the_head_is_told_from_what_carries_adapters() {
        let network = GraphNetwork::new(GraphNetworkKind::Sage, [5, 4, 1, 1], Head::Linear, 7);
        let names: Vec<String> = network.adaptable().into_iter().map(|site| site.name).collect();
        assert_eq!(names, ["conv1.lin_l", "conv1.lin_r"]);
        assert_eq!(network.head_weights(), ["head.bias", "head.weight"]);
        let end = |scorer| End::Pair { known: 3, outputs: 1, scorer };
        let pair = GraphNetwork { head: end(PairScorer::Layers), ..network.clone() };
        assert_eq!(pair.head_weights().len(), 6);
        assert_eq!(pair.shapes()["scorer.pair.weight"], [4, 3]);
        let product = GraphNetwork { head: end(PairScorer::Product), ..network };
        assert_eq!(product.head_weights(), ["scorer.out.bias", "scorer.out.weight", "scorer.pair.weight"]);
        assert_eq!(product.shapes()["scorer.pair.weight"], [1, 3]);
        // A base says which of them it was trained with, and what is older stays what it is.
        let told = |network: &GraphNetwork| serde_json::to_string(&network.head).unwrap();
        assert_eq!(told(&pair), r#"{"pair":{"known":3,"outputs":1}}"#);
        assert_eq!(told(&product), r#"{"pair":{"known":3,"outputs":1,"scorer":"product"}}"#);
        let bytes = |network: &GraphNetwork| {
            let mut record = DigestRecord(blake3::Hasher::new());
            network.record(&mut record);
            record.0.finalize()
        };
        assert_ne!(bytes(&pair), bytes(&product));
    }
}
