//! What is asked of nodes of a graph, or of pairs of users by their ratings, in a proof: cases without their answers, and
//! the part of the graph or state that reaches them.

use std::path::Path;

use anyhow::Result;
use ftk_circuits::Digest;
use ftk_gnn::graph::Graph;
use ftk_gnn::import::{Origin, import};
use ftk_gnn::score;
use ftk_networks::graphs::name::spelt;
use ftk_networks::graphs::opened::OpenedPart;
use ftk_networks::graphs::pairs::takes_pairs;
use ftk_networks::graphs::{End, GraphNetwork};
use ftk_proofs::{Case, Choice, Input, Kind, Logits, MAX_CHOICES, Output};

use super::Advice;
use super::questions::{AskedOutput, InputSource};

/// The cases, with nothing where answers will stand, and what reaches the nodes or pairs that they are about.
///
/// # Errors
/// A graph that cannot be read or does not fit, names that it has not, a task that is not about nodes or pairs.
pub fn cases(claim: &AskedOutput, inputs: &InputSource, network: &GraphNetwork) -> Result<(Vec<Case>, OpenedPart)> {
    match (inputs, takes_pairs(network)) {
        (InputSource::Nodes { graph, names, file, before }, false) => {
            let whole = read(graph)?;
            let past = whole.as_of(*before)?;
            let mut all = names.clone();
            if let Some(file) = file {
                all.extend(score::names(file)?);
            }
            let nodes = numbers(graph, &past, &all)?;
            past.were_there(&nodes.iter().map(|node| *node as usize).collect::<Vec<_>>(), *before)?;
            let opened = past.neighbourhood(&nodes, network.layers)?;
            opened.fits(network)?;
            let AskedOutput::Same(question) = claim else {
                let message = "a node has no continuation";
                return Err(Advice::new(message, "--task logits, choice, at-least or top is about nodes").into());
            };
            let root = Digest(*past.root().as_bytes());
            let cases = nodes.iter().map(|&node| about(question, root, node, network)).collect();
            Ok((cases, OpenedPart::Graph(opened)))
        }
        (InputSource::Pairs { graph, names, file, before }, true) => {
            if *claim != AskedOutput::Same(Logits::asked().into()) {
                let message = "of a pair its rating and log-odds are proved, and nothing else";
                return Err(Advice::new(message, "leave --task away: logits are these two numbers").into());
            }
            let whole = read(graph)?;
            let mut all = names.clone();
            if let Some(file) = file {
                all.extend(score::pairs_of_names(file)?);
            }
            let all = spelt_alike(all);
            numbers(graph, &whole, all.as_flattened())?;
            let known = whole.known(*before)?;
            let root = Digest(*known.root().as_bytes());
            Ok((all.iter().map(|pair| about_pair(root, pair)).collect(), OpenedPart::State(known.open(&all))))
        }
        (InputSource::Nodes { .. }, true) => {
            Err(Advice::new("the base scores pairs of users", "give --pair, or --pairs").into())
        }
        (InputSource::Pairs { .. }, false) => {
            Err(Advice::new("the base does not score pairs of users", "give --node, or --nodes").into())
        }
        (InputSource::Typed { .. } | InputSource::Rows(_), pairs) => {
            let hint =
                if pairs { "give --graph and --pair, or --pairs" } else { "give --graph and --node, or --nodes" };
            Err(Advice::new("the base is one of graphs", hint).into())
        }
    }
}

fn read(path: &Path) -> Result<Graph> {
    Ok(import(&Origin::Path(path.to_owned()))?.0)
}

/// Names as a graph keeps them.
pub fn spelt_alike(pairs: Vec<[String; 2]>) -> Vec<[String; 2]> {
    pairs.into_iter().map(|pair| pair.map(|name| spelt(&name).into_owned())).collect()
}

/// Nodes by their names.
fn numbers(path: &Path, graph: &Graph, names: &[String]) -> Result<Vec<u32>> {
    let numbers = graph.numbers();
    let number = |name: &String| {
        let missing = || Advice::new(format!("{}: has no node {name}", path.display()), "`ftk gnn score` names them");
        Ok(*numbers.get(name).ok_or_else(missing)?)
    };
    names.iter().map(number).collect()
}

/// The case of a pair of users, which is asked for its logits.
pub fn about_pair(state: Digest, [source, target]: &[String; 2]) -> Case {
    let (source, target) = (source.clone(), target.clone());
    Case { input: Input::Pair { state, source, target }, output: Logits::asked().into() }
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
