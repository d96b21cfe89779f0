//! What is asked of nodes of a graph in a proof: cases without their answers, and the part of the graph that reaches them.

use anyhow::Result;
use ftk_circuits::{Case, Digest, Input, Logits, MAX_CHOICES, Output};
use ftk_networks::graphs::{End, Network};
use ftk_recipes::gnn::import::{Origin, import};
use ftk_recipes::gnn::neighbourhood::Neighbourhood;
use ftk_recipes::gnn::score;

use super::questions::{Asked, Task};
use super::{Advice, Likely};

/// The cases, with nothing where answers will stand, and what reaches the nodes they are about.
///
/// # Errors
/// A graph that cannot be read or does not fit, names that it has not, a task that is not about nodes.
pub fn cases(task: &Task, asked: &Asked, network: &Network) -> Result<(Vec<Case>, Neighbourhood)> {
    let Asked::Nodes { graph: path, names, file } = asked else {
        return Err(Advice::new("the base is one of graphs", "give --graph and --node, or --nodes").into());
    };
    let (graph, _) = import(&Origin::Path(path.clone()))?;
    let mut all = names.clone();
    if let Some(file) = file {
        all.extend(score::names(file)?);
    }
    let numbers = graph.numbers();
    let number = |name: &String| {
        let missing = || Advice::new(format!("{}: has no node {name}", path.display()), "`ftk gnn score` names them");
        Ok(*numbers.get(name).ok_or_else(missing)?)
    };
    let nodes: Vec<u32> = all.iter().map(number).collect::<Result<_>>()?;
    let opened = Neighbourhood::of(&graph, &nodes, network.layers)?;
    opened.fits(network)?;
    let question = Question::of(task)
        .ok_or_else(|| Advice::new("a node has no continuation", "--task logits, choice or at-least is about nodes"))?;
    let root = Digest(*graph.root().as_bytes());
    Ok((nodes.iter().map(|&node| question.about(root, node, network)).collect(), opened))
}

/// What may be asked of a node.
#[derive(Clone, Debug)]
pub enum Question {
    /// Its logits.
    Logits,
    /// Its class among these, or among all if there are none.
    Choice(Vec<u32>),
    /// Whether a class is at least so likely.
    AtLeast(Likely),
}

impl Question {
    fn of(task: &Task) -> Option<Self> {
        match task {
            Task::Logits => Some(Self::Logits),
            Task::Choice { among } => Some(Self::Choice(among.clone())),
            Task::AtLeast(likely) => Some(Self::AtLeast(*likely)),
            Task::Completion { .. } | Task::LogProb | Task::Preference => None,
        }
    }

    /// The case of a node.
    pub fn about(&self, graph: Digest, node: u32, network: &Network) -> Case {
        let output = match self {
            Self::Logits => Output::Logits(Logits::Values(Vec::new())),
            Self::AtLeast(likely) => likely.output(),
            Self::Choice(among) => {
                let mut among = match among.is_empty() {
                    true => (0..classes(network)).collect(),
                    false => among.clone(),
                };
                among.sort_unstable();
                among.dedup();
                Output::Choice { among, chosen: 0 }
            }
        };
        Case { input: Input::Node { graph, node }, output }
    }
}

/// Classes that a network tells apart, as far as there can be a choice among them.
fn classes(network: &Network) -> u32 {
    match network.head {
        End::Convolution(outputs) | End::Linear(outputs) => u32::try_from(outputs).unwrap_or(u32::MAX).min(MAX_CHOICES),
        End::Encoder | End::Comparer(_) | End::Pair { .. } => 0,
    }
}
