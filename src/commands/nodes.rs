//! What is asked of nodes of a graph in a proof: cases without their answers, and the part of the graph that reaches them.

use anyhow::Result;
use ftk_circuits::Digest;
use ftk_gnn::import::{Origin, import};
use ftk_gnn::score;
use ftk_networks::graphs::neighbourhood::Neighbourhood;
use ftk_networks::graphs::{End, GraphNetwork};
use ftk_proofs::{Case, Choice, Input, Kind, Logits, MAX_CHOICES, Output};

use super::Advice;
use super::questions::{AskedOutput, InputSource};

/// The cases, with nothing where answers will stand, and what reaches the nodes they are about.
///
/// # Errors
/// A graph that cannot be read or does not fit, names that it has not, a task that is not about nodes.
pub fn cases(claim: &AskedOutput, inputs: &InputSource, network: &GraphNetwork) -> Result<(Vec<Case>, Neighbourhood)> {
    let InputSource::Nodes { graph: path, names, file } = inputs else {
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
    let opened = graph.neighbourhood(&nodes, network.layers)?;
    opened.fits(network)?;
    let AskedOutput::Same(question) = claim else {
        let message = "a node has no continuation";
        return Err(Advice::new(message, "--task logits, choice, at-least or top is about nodes").into());
    };
    let root = Digest(*graph.root().as_bytes());
    Ok((nodes.iter().map(|&node| about(question, root, node, network)).collect(), opened))
}

/// The question of a kind that can be asked of a node without saying more.
pub fn usual(kind: Kind) -> Option<Output> {
    match kind {
        Kind::Choice => Some(Choice::among(Vec::new()).into()),
        Kind::AtLeast | Kind::Top => None,
        _ => Some(Logits::asked().into()),
    }
}

/// The case of a node. A choice among no classes is one among all.
pub fn about(question: &Output, graph: Digest, node: u32, network: &GraphNetwork) -> Case {
    let output = match question {
        Output::Choice(choice) if choice.among.is_empty() => Choice::among((0..classes(network)).collect()).into(),
        question => question.clone(),
    };
    Case { input: Input::Node { graph, node }, output }
}

/// Classes that a network tells apart, as far as there can be a choice among them.
fn classes(network: &GraphNetwork) -> u32 {
    match network.head {
        End::Convolution(outputs) | End::Linear(outputs) => u32::try_from(outputs).unwrap_or(u32::MAX).min(MAX_CHOICES),
        End::Encoder | End::Comparer(_) | End::Pair { .. } => 0,
    }
}
