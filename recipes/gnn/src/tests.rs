//! Sessions on small graphs: what learns from what, and what must never be seen.

mod given;
mod joined;
mod learning;
mod ratings;
mod scores;
mod splits;
mod views;

use ftk_adapters::hint::Hint;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::{Device, Tensor, Var};
use ftk_adapters::train::operation::{self, Operation};
use ftk_adapters::train::trace::{self, TracedOperation};
use ftk_bases::graphs;
use ftk_networks::graphs::End;
use ftk_networks::ops::graph::{Features, Sparse};
use tempfile::TempDir;

use super::graph::{Carries, Edge, Graph, ImportFindings, NodeSplit};
use super::import::{Origin, import};
use super::learner::Learner;
use super::model::GraphModel;
use super::structure::OF_NODE;
use super::*;
use ftk_recipes::{Recipe, Session, StepWindow};

/// Everything of a recipe but its base, adapter and table.
const REST: &str = "task = \"gnn\"\ndata = { train = \"g\" }\nrun = { out = \"o\", batch = 1000000 }\n";

fn recipe(text: &str) -> Recipe {
    Recipe::parse(Path::new("r"), &format!("{REST}{text}")).unwrap()
}

fn guilds() -> (Graph, ImportFindings) {
    import(&Origin::Path(Path::new(env!("CARGO_MANIFEST_DIR")).join("guilds"))).unwrap()
}

/// Ratings among sixty users, one a second, in no order; a tenth of them bad.
fn ratings() -> Graph {
    let edge = |i: u32| Edge {
        source: i * 7 % 60,
        target: (i * 13 + 5) % 59 + u32::from((i * 13 + 5) % 59 >= i * 7 % 60),
        weight: if (i + i / 60) % 10 == 3 { -10.0 } else { (1 + (i + i / 60) % 5) as f32 },
        time: f64::from(i * 17 % 500),
    };
    let edges = (0..500).map(edge).collect();
    let carries = Carries { weight: true, time: true, direction: true };
    let graph = Graph { nodes: 60, edges, carries, ..Graph::empty() };
    Graph::new(Path::new("g"), graph).unwrap().0
}

const RATINGS: &str =
    "base = { model = \"fresh\", train = true }\ngnn = { objective = \"ratings\", split = \"temporal\", hidden = 6 }\n";

fn on(recipe: &Recipe, graph: &Graph) -> OpenedTask {
    OpenedTask::on(recipe, graph, ImportFindings::default()).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The loss of all rows in the first step, and its gradients.
fn loss(session: &dyn Session) -> ftk_recipes::BatchLoss {
    let rows: Vec<usize> = (0..session.rows()).collect();
    session.loss(&rows, StepWindow { step: 0, rows: &rows }).unwrap()
}

fn base_of(recipe: &Recipe, graph: &Graph) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    on(recipe, graph).export(folder.path(), "fresh").unwrap();
    folder
}

const CONTRAST: &str = "base = { model = \"fresh\", train = true }\n\
    gnn = { objective = \"contrast\", dropout = 0.0, hidden = 6, l2 = 0.01, contrast = { width = 5 } }\n";

#[test]
fn views_are_the_same_however_a_step_is_parted_and_know_no_labels() {
    let (graph, _) = guilds();
    let ours = on(&recipe(CONTRAST), &graph);
    let whole = loss(ours.session());
    assert_eq!(ours.session().rows(), graph.nodes);
    let rows: Vec<usize> = (0..graph.nodes).collect();
    let parts = rows.chunks(100).map(|part| ours.session().loss(part, StepWindow { step: 0, rows: &rows }).unwrap());
    let (mut sum, mut gradients) = (0.0, std::collections::BTreeMap::<String, Tensor>::new());
    for part in parts {
        sum += part.sum;
        for (name, gradient) in part.gradients {
            let all = gradients.remove(&name).map_or(gradient.clone(), |all| (all + &gradient).unwrap());
            gradients.insert(name, all);
        }
    }
    assert!((sum - whole.sum).abs() < 1e-3 * sum, "{sum} {}", whole.sum);
    for (name, gradient) in whole.gradients {
        let far = (gradient - &gradients[&name]).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(far < 1e-3 * graph.nodes as f32, "{name}: {far}");
    }
    let mut other = graph.clone();
    other.labels.reverse();
    let other = on(&recipe(CONTRAST), &other);
    assert_eq!(loss(other.session()).sum.to_bits(), whole.sum.to_bits());
    // Another step has other views.
    let next = ours.session().loss(&rows, StepWindow { step: 1, rows: &rows }).unwrap();
    assert_ne!(next.sum, whole.sum);
    let refused = Recipe::parse(
        Path::new("r"),
        &format!("{REST}{}lora = {{}}\n", CONTRAST.replace("\"fresh\", train = true", "\"b\"")),
    );
    assert!(refused.unwrap_err().to_string().contains("\"contrast\" trains a base, not an adapter"));
}
