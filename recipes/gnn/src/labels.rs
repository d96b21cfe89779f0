//! Classes of nodes and the split they are in, with the predictors that need nothing else and no network.

use ftk_networks::ops::graph::Features;

use super::baselines;
use super::graph::NodeSplit;
use super::measures::{self, NamedFigures};

/// Classes of nodes, as far as they are known, and which node is for what.
#[derive(Debug)]
pub struct Labels {
    classes: Vec<Option<u32>>,
    parts: Vec<NodeSplit>,
}

impl Labels {
    /// A class and a part for every node; or none of either, where nothing is known.
    pub fn new(classes: Vec<Option<u32>>, parts: Vec<NodeSplit>) -> Self {
        Self { classes, parts }
    }

    /// The part of a node.
    pub fn part(&self, node: usize) -> NodeSplit {
        self.parts.get(node).copied().unwrap_or(NodeSplit::None)
    }

    /// Nodes of a part that have a class, with it.
    pub fn of(&self, part: NodeSplit) -> Vec<(usize, u32)> {
        let row = |(node, label): (usize, &Option<u32>)| Some((node, label.filter(|_| self.part(node) == part)?));
        self.classes.iter().enumerate().filter_map(row).collect()
    }

    /// Nodes with a class to train, validate and test on.
    pub fn counts(&self) -> [usize; 3] {
        [NodeSplit::Train, NodeSplit::Validation, NodeSplit::Test].map(|part| self.of(part).len())
    }

    /// Classes that occur.
    pub fn classes(&self) -> usize {
        self.classes.iter().flatten().max().map_or(0, |&class| class as usize + 1)
    }

    /// What predictors without a network do on the nodes to test on: name, parameters, figures.
    pub fn baselines(&self, features: &Features, lists: &[Vec<u32>]) -> Vec<(&'static str, usize, NamedFigures)> {
        let (train, classes) = (self.of(NodeSplit::Train), self.classes());
        let (nodes, truth): (Vec<usize>, Vec<u32>) = self.of(NodeSplit::Test).into_iter().unzip();
        let mut counts = vec![0usize; classes];
        train.iter().for_each(|(_, label)| counts[*label as usize] += 1);
        let most = (0..classes).fold(0, |best, class| if counts[class] > counts[best] { class } else { best }) as u32;
        let spread = baselines::spread(lists, &train, classes, &nodes);
        let linear = baselines::one_against_rest(features, &train, classes, &nodes);
        let needed: Vec<usize> = train.iter().map(|(node, _)| *node).chain(nodes.iter().copied()).collect();
        let spread_features = baselines::propagated(features, lists, &needed);
        let near = baselines::one_against_rest(&spread_features, &train, classes, &nodes);
        vec![
            ("majority", 0, measures::of_classes(&vec![most; nodes.len()], &truth)),
            ("label propagation", 0, measures::of_classes(&spread, &truth)),
            ("logistic regression", (features.width() + 1) * classes, measures::of_classes(&linear, &truth)),
            ("the same, propagated", (features.width() + 1) * classes, measures::of_classes(&near, &truth)),
        ]
    }
}
