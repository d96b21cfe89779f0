//! Sessions on small graphs: what learns from what, and what must never be seen.

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
    let (labels, classes, parts, times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let graph = Graph { names: None, nodes: 60, features: None, labels, classes, parts, times, edges, carries };
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

#[test]
fn every_operation_on_a_graph_is_computed_again_from_its_inputs_alone() {
    let (graph, _) = guilds();
    // Most are zero.
    let mut sparse = graph.clone();
    let features = graph.features.as_ref().unwrap();
    let row = |row: usize| {
        let values = features.row(row).into_iter().enumerate().map(|(column, value)| (column as u32, value));
        values.filter(move |(column, _)| (*column as usize + row).is_multiple_of(9)).collect::<Vec<_>>()
    };
    let entries = Sparse::from_rows(features.width(), (0..features.rows()).map(row));
    sparse.features = Some(Arc::new(Features::sparse(entries)));
    let names: Rc<RefCell<BTreeSet<String>>> = Rc::default();
    for kind in ["gcn", "sage", "sage-gcn", "gat"] {
        let attention = if kind == "gat" { ", attention_dropout = 0.3" } else { "" };
        let fresh = format!("gnn = {{ network = \"{kind}\", dropout = 0.3, l2 = 1e-3{attention} }}\n");
        let fresh = recipe(&format!("base = {{ model = \"fresh\", train = true }}\n{fresh}"));
        for graph in [&graph, &sparse] {
            let folder = base_of(&fresh, graph);
            let mut adapted = recipe("base = { model = \"b\" }\nlora = { rank = 2 }\ngnn = { dropout = 0.3 }\n");
            adapted.base.model = folder.path().join("base");
            for recipe in [&fresh, &adapted] {
                let session = nodes::NodeSession::open(recipe, of(recipe).unwrap(), graph).unwrap();
                let into = Rc::clone(&names);
                let see = move |seen: &mut TracedOperation| {
                    let TracedOperation { operation, inputs, outputs } = seen;
                    let digests = |all: &[Tensor]| all.iter().map(operation::digest).collect::<Result<Vec<_>, _>>();
                    let compute = |inputs: &[Tensor]| match &*operation {
                        Operation::Task { rule } => {
                            serde_json::from_value::<rule::GraphRule>(rule.clone()).unwrap().compute(inputs)
                        }
                        operation => operation.compute(inputs),
                    };
                    assert_eq!(digests(&compute(inputs)?)?, digests(outputs)?, "{operation:?}");
                    assert!(compute(&inputs[1..]).is_err() || operation.name() == "pull", "{operation:?}");
                    into.borrow_mut().insert(operation.name());
                    Ok(())
                };
                trace::during(see, || drop(loss(&session)));
            }
        }
    }
    let known = ["messages", "product", "pull", "relu", "relu_back", "stated", "thin", "transpose", "weight_back"];
    let attention = ["attend_neighbours", "attend_neighbours_back", "task"];
    let names = names.borrow();
    known.iter().chain(&attention).for_each(|known| assert!(names.contains(*known), "{known} is not among {names:?}"));
}

#[test]
fn a_fresh_adapter_on_every_convolution_changes_no_bit() {
    let (graph, _) = guilds();
    for kind in ["gcn", "sage", "sage-gcn", "gat"] {
        let fresh =
            recipe(&format!("base = {{ model = \"fresh\", train = true }}\ngnn = {{ network = \"{kind}\" }}\n"));
        let folder = base_of(&fresh, &graph);
        let base = folder.path().join("base");
        let mut adapted = recipe("base = { model = \"b\" }\nlora = { rank = 2 }\ngnn = {}\n");
        adapted.base.model.clone_from(&base);
        let session = nodes::NodeSession::open(&adapted, of(&adapted).unwrap(), &graph).unwrap();
        let plain = GraphModel::frozen(&base, None).unwrap();
        let convolutions = plain.network.adaptable().len();
        assert_eq!(session.model.parameters().len(), 2 * convolutions, "{kind}");
        let all: Vec<usize> = (0..graph.nodes).collect();
        let features = inputs::features(&graph, plain.network.prepare).unwrap();
        let hops = inputs::hops(plain.network.model_type, 2, &inputs::incoming(&graph));
        let logits = plain.network.classify(&mut plain.applied(), &features, &hops, &all).unwrap();
        let logits = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(bits(&session.logits(&all).unwrap()), bits(&logits), "{kind}");
        // And every factor A hears of a B that is not zero.
        for (name, tensor) in session.model.parameters() {
            if name.ends_with("lora_B") {
                let value = (tensor.ones_like().unwrap() * 0.3).unwrap();
                Var::from_tensor(&tensor).unwrap().set(&value).unwrap();
            }
        }
        let loss = loss(&session);
        for (name, _) in session.parameters() {
            let gradient = loss.gradients[&name].abs().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(gradient > 0.0, "{kind}: nothing reaches {name}");
        }
    }
}

#[test]
fn an_adapter_and_its_head_are_read_as_they_were_written() {
    let (graph, _) = guilds();
    let fresh = recipe("base = { model = \"fresh\", train = true }\ngnn = { head = \"linear\" }\n");
    let folder = base_of(&fresh, &graph);
    let base = folder.path().join("base");
    let mut adapted =
        recipe("base = { model = \"b\" }\nlora = { rank = 2 }\ngnn = { train_head = true, dropout = 0.0 }\n");
    adapted.base.model.clone_from(&base);
    let session = nodes::NodeSession::open(&adapted, of(&adapted).unwrap(), &graph).unwrap();
    let names: Vec<String> = session.parameters().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("head.")).count(), 2);
    for (name, tensor) in session.parameters() {
        let count = tensor.elem_count();
        // On the adapters' grid, so that export changes nothing.
        let values: Vec<f32> = (0..count).map(|i| ((i * 7 + name.len()) % 16) as f32 / 16.0 - 0.4375).collect();
        let value = Tensor::from_vec(values, tensor.shape(), &Device::Cpu).unwrap();
        let value = if name.ends_with("lora_B") { (value / 8.0).unwrap() } else { value };
        Var::from_tensor(&tensor).unwrap().set(&value).unwrap();
    }
    let out = folder.path().join("adapter");
    session.model.export(&out, "base").unwrap();
    let config = std::fs::read_to_string(out.join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["modules_to_save"], serde_json::json!(["head"]));
    assert_eq!(config["task_type"], serde_json::Value::Null);
    // A reader that knows nothing of heads must not apply half of it.
    let error = ftk_adapters::peft::load(&out).unwrap_err().to_string();
    assert!(error.contains("modules_to_save: this kind of adapter is not supported"), "{error}");
    let read = GraphModel::frozen(&base, Some(&out)).unwrap();
    let all: Vec<usize> = (0..graph.nodes).collect();
    let features = inputs::features(&graph, read.network.prepare).unwrap();
    let hops = inputs::hops(read.network.model_type, 2, &inputs::incoming(&graph));
    let logits = read.network.classify(&mut read.applied(), &features, &hops, &all).unwrap();
    let logits = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let ours = session.logits(&all).unwrap();
    let far = ours.iter().zip(&logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far < 1e-5, "{far}");
}

#[test]
fn the_loss_of_a_session_has_the_gradients_it_says() {
    let (graph, _) = guilds();
    let text = "gnn = { dropout = 0.0, l2 = 0.01, hidden = 4 }\n";
    let classes = recipe(&format!("base = {{ model = \"fresh\", train = true }}\n{text}"));
    let rated = recipe(&RATINGS.replace("hidden = 6", "hidden = 4, dropout = 0.0, l2 = 0.01, network = \"sage\""));
    for opened in [on(&classes, &graph), on(&rated, &ratings()), on(&recipe(CONTRAST), &graph)] {
        let session = opened.session();
        // Away from where the rectifier bends and rows have no length.
        for (name, tensor) in session.parameters() {
            if name.ends_with(".bias") {
                let values = (0..tensor.elem_count()).map(|i| 0.05 + 0.1 * (i % 3) as f32).collect();
                let value = Tensor::from_vec(values, tensor.shape(), &Device::Cpu).unwrap();
                Var::from_tensor(&tensor).unwrap().set(&value).unwrap();
            }
        }
        let found = loss(session);
        for (name, tensor) in session.parameters() {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let gradient = found.gradients[&name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let largest =
                (0..values.len()).fold(0, |best, at| if gradient[at].abs() > gradient[best].abs() { at } else { best });
            let at = |step: f32| {
                let mut moved = values.clone();
                moved[largest] += step;
                let value = Tensor::from_vec(moved, tensor.shape(), &Device::Cpu).unwrap();
                Var::from_tensor(&tensor).unwrap().set(&value).unwrap();
                loss(session).sum
            };
            let step = 1e-3;
            let difference = (at(step) - at(-step)) / (2.0 * f64::from(step));
            at(0.0);
            let ours = f64::from(gradient[largest]);
            // The rectifier bends somewhere among so many rows.
            assert!((difference - ours).abs() < 0.03 * ours.abs() + 0.02, "{name}: {ours} against {difference}");
        }
    }
}

#[test]
fn nothing_that_comes_after_training_enters_it() {
    let graph = ratings();
    let mut order: Vec<usize> = (0..graph.edges.len()).collect();
    order.sort_by(|&a, &b| graph.edges[a].time.total_cmp(&graph.edges[b].time));
    let trained = order.len() * 7 / 10;
    // What is validated and tested on turns into its opposite.
    let mut other = graph.clone();
    order[trained..].iter().for_each(|&edge| other.edges[edge].weight *= -1.0);
    let recipe = recipe(RATINGS);
    let gnn = of(&recipe).unwrap();
    let [ours, theirs] = [&graph, &other].map(|graph| edges::EdgeSession::open(&recipe, gnn, graph).unwrap());
    assert_eq!(ours.counts(), theirs.counts());
    let (a, b) = (loss(&ours), loss(&theirs));
    assert_eq!(a.sum.to_bits(), b.sum.to_bits());
    let last = |session: &edges::EdgeSession| {
        let moments = session.moments().iter();
        moments.flat_map(|moment| moment.edges.iter().map(|edge| edge.time)).fold(0.0, f64::max)
    };
    assert!(last(&ours) <= graph.edges[order[trained - 1]].time);
    for part in [NodeSplit::Validation, NodeSplit::Test] {
        let (ours, theirs) = (ours.held_out(part).unwrap(), theirs.held_out(part).unwrap());
        for at in 0..ours.edges.len() {
            assert_eq!(ours.row(at), theirs.row(at), "what is known of a pair that is tested comes from the future");
            assert_ne!(ours.edges[at].weight, theirs.edges[at].weight);
        }
    }
    // Training itself changes when what is trained on does.
    let mut earlier = graph.clone();
    earlier.edges[order[trained / 2]].weight *= -1.0;
    assert_ne!(loss(&edges::EdgeSession::open(&recipe, gnn, &earlier).unwrap()).sum, a.sum);
}

#[test]
fn a_moment_knows_nothing_of_what_it_predicts_nor_of_its_reverse() {
    let graph = ratings();
    let recipe = recipe(RATINGS);
    let session = edges::EdgeSession::open(&recipe, of(&recipe).unwrap(), &graph).unwrap();
    let held_out = [NodeSplit::Validation, NodeSplit::Test].map(|part| session.held_out(part).unwrap());
    for moment in session.moments().iter().chain(held_out) {
        let first = moment.edges.iter().map(|edge| edge.time).fold(f64::INFINITY, f64::min);
        let earlier = |edge: &&Edge| edge.time < first;
        for edge in &moment.edges {
            let known = moment.snapshot().pair(edge.source, edge.target);
            let back = |other: &Edge| (other.source, other.target) == (edge.target, edge.source);
            let there = graph.edges.iter().filter(earlier).any(back);
            assert!(there || known[2] == 0.0, "a rating back that was not there yet is known");
            let neighbours = &moment.snapshot().lists[edge.source as usize];
            let met = |other: &Edge| {
                let ends = (other.source, other.target);
                ends == (edge.source, edge.target) || ends == (edge.target, edge.source)
            };
            let met = graph.edges.iter().filter(earlier).any(met);
            assert!(met || !neighbours.contains(&edge.target), "an edge that is predicted passes messages");
        }
    }
}

#[test]
fn preferences_pair_what_one_user_rated_in_the_training_part() {
    let graph = ratings();
    let folder = base_of(&recipe(RATINGS), &graph);
    let text = RATINGS
        .replace("\"ratings\"", "\"feedback\", dropout = 0.0")
        .replace("base = { model = \"fresh\", train = true }", "base = { model = \"b\" }\nlora = {}");
    let mut recipe = recipe(&text);
    recipe.base.model = folder.path().join("base");
    let session = edges::EdgeSession::open(&recipe, of(&recipe).unwrap(), &graph).unwrap();
    assert!(session.rows() > 100);
    let loss = loss(&session);
    // The adapter starts as the base, which is the reference: every preference costs log 2.
    assert!((loss.sum / session.rows() as f64 - 2.0f64.ln()).abs() < 1e-6);
    assert_eq!(session.model.network.head, edges::END);
    assert_eq!(session.model.network.inputs, OF_NODE);
}

#[test]
fn a_split_that_would_leak_is_refused_until_the_leak_is_named() {
    let graph = ratings();
    let text = RATINGS.replace("\"temporal\"", "\"random\"");
    let refused = OpenedTask::on(&recipe(&text), &graph, ImportFindings::default()).unwrap_err();
    assert_eq!(refused.to_string(), "a random split of a graph that carries time learns from the future");
    assert!(refused.hint().unwrap().contains("gnn.random_split_leaks_the_future = true"));
    let named = text.replace("hidden = 6", "hidden = 6, random_split_leaks_the_future = true");
    assert!(OpenedTask::on(&recipe(&named), &graph, ImportFindings::default()).is_ok());
    let (guilds, found) = guilds();
    let random = recipe("base = { model = \"fresh\", train = true }\ngnn = { split = \"random\" }\n");
    assert!(OpenedTask::on(&random, &guilds, found).is_ok());
    let temporal = recipe("base = { model = \"fresh\", train = true }\ngnn = { split = \"temporal\" }\n");
    let error = OpenedTask::on(&temporal, &guilds, found).unwrap_err().to_string();
    assert_eq!(error, "the graph does not say when its nodes came to be");
}

#[test]
fn nodes_hear_earlier_nodes_alone_where_they_carry_times() {
    let (mut graph, _) = guilds();
    graph.times = (0..graph.nodes).map(|node| (node * 31 % 100) as f64).collect();
    let lists = inputs::incoming(&graph);
    assert!(lists.iter().map(Vec::len).sum::<usize>() > 100);
    for (node, list) in lists.iter().enumerate() {
        assert!(list.iter().all(|&other| graph.times[other as usize] < graph.times[node]));
    }
}

#[test]
fn drawn_neighbourhoods_learn_and_are_evaluated_whole() {
    let (graph, found) = guilds();
    let text = |rest: &str| {
        format!("base = {{ model = \"fresh\", train = true }}\ngnn = {{ network = \"sage\", dropout = 0.0{rest} }}\n")
    };
    let whole = OpenedTask::on(&recipe(&text("")), &graph, found).unwrap();
    let drawn = OpenedTask::on(&recipe(&text(", neighbours = [50, 50]")), &graph, found).unwrap();
    // With all neighbours drawn, nothing differs but the order of sums.
    let (a, b) = (loss(whole.session()), loss(drawn.session()));
    assert!((a.sum - b.sum).abs() < 1e-3, "{} {}", a.sum, b.sum);
    let few = OpenedTask::on(&recipe(&text(", neighbours = [2, 2]")), &graph, found).unwrap();
    assert!((loss(few.session()).sum - a.sum).abs() > 1e-3);
    assert_eq!(few.figures(NodeSplit::Test).unwrap(), drawn.figures(NodeSplit::Test).unwrap());
    let error = OpenedTask::on(&recipe(&text(", neighbours = [2]")), &graph, found).unwrap_err().to_string();
    assert!(error.starts_with("neighbours can be drawn for"), "{error}");
}

#[test]
fn edges_that_are_tested_pass_no_message_either_way_round() {
    let (graph, _) = guilds();
    let recipe = recipe(
        "base = { model = \"fresh\", train = true }\ngnn = { objective = \"links\", split = \"random\", shares = [0.85, 0.05] }\n",
    );
    let gnn = of(&recipe).unwrap();
    let session = links::LinkSession::open(&recipe, gnn, &graph).unwrap();
    let parts = split::edges(&graph, gnn, recipe.run.seed).unwrap();
    assert_eq!(session.counts()[0], parts.iter().filter(|part| **part == NodeSplit::Train).count());
    // Without what is held out, the graph is another; what is learnt from is the same.
    let mut rest = graph.clone();
    let kept = graph.edges.iter().zip(&parts).filter(|(_, part)| **part == NodeSplit::Train).map(|(edge, _)| *edge);
    rest.edges = kept.collect();
    let messages = inputs::hops(ftk_networks::graphs::GraphNetworkKind::Gcn, 2, &rest.neighbours());
    for (edge, part) in graph.edges.iter().zip(&parts) {
        for (a, b) in [(edge.source, edge.target), (edge.target, edge.source)] {
            let passes = session.hops()[0].gather.coefficients().row(a as usize).any(|(sender, _)| sender == b);
            assert_eq!(passes, *part == NodeSplit::Train);
        }
    }
    assert_eq!(session.hops()[1].gather.coefficients(), messages[1].gather.coefficients());
    let figures = session.figures(NodeSplit::Test).unwrap();
    assert!(figures.iter().any(|(name, _)| *name == "mrr") && figures.iter().all(|(_, value)| value.is_finite()));
    let loss = loss(&session);
    assert!(session.parameters().iter().all(|(name, _)| loss.gradients.contains_key(name)));
}

/// Edges between nodes drawn at random, and features drawn at random: nothing can be learnt of who is joined.
fn noise(nodes: u32, count: u32) -> Vec<(u32, u32)> {
    let mut state = 1u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % nodes
    };
    (0..count).map(|_| (draw(), draw())).collect()
}

#[test]
fn edges_between_the_same_nodes_are_held_out_together() {
    let pairs = noise(300, 900);
    let features = noise(97, 300 * 4).into_iter().map(|(a, b)| (a as f32 - b as f32) / 97.0).collect();
    // Each of them both ways round, and once more with another weight and at another time.
    let edge = |(source, target), weight, time| Edge { source, target, weight, time };
    let twins = |(at, &(a, b)): (usize, &(u32, u32))| {
        let at = at as f64;
        [edge((a, b), 1.0, at), edge((b, a), 1.0, at + 500.0), edge((a, b), 2.0, at + 900.0)]
    };
    let edges: Vec<Edge> = pairs.iter().enumerate().flat_map(twins).collect();
    for (split, time) in [("random", false), ("temporal", true)] {
        let carries = Carries { weight: true, time, direction: true };
        let features = Some(std::sync::Arc::new(Features::new(4, Vec::clone(&features))));
        let (labels, classes, parts, times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut edges = edges.clone();
        if !time {
            edges.iter_mut().for_each(|edge| edge.time = 0.0);
        }
        let graph = Graph { names: None, nodes: 300, features, labels, classes, parts, times, edges, carries };
        let graph = Graph::new(Path::new("g"), graph).unwrap().0;
        let recipe = recipe(&format!(
            "base = {{ model = \"fresh\", train = true }}\ngnn = {{ objective = \"links\", split = \"{split}\" }}\n"
        ));
        let gnn = of(&recipe).unwrap();
        let parts = split::pairs(&graph, gnn, recipe.run.seed).unwrap();
        let session = links::LinkSession::open(&recipe, gnn, &graph).unwrap();
        for (edge, part) in graph.edges.iter().zip(&parts) {
            let mut twins = graph.edges.iter().zip(&parts).filter(|(other, _)| {
                [(other.source, other.target), (other.target, other.source)].contains(&(edge.source, edge.target))
            });
            assert!(twins.all(|(_, of)| of == part), "{split}: {edge:?}");
            let passes = |(a, b): (u32, u32)| {
                session.hops()[0].gather.coefficients().row(a as usize).any(|(sender, _)| sender == b)
            };
            let known = [passes((edge.source, edge.target)), passes((edge.target, edge.source))];
            assert_eq!(known, [*part == NodeSplit::Train; 2], "{split}: {edge:?}");
        }
        assert!(
            [NodeSplit::Train, NodeSplit::Validation, NodeSplit::Test].iter().all(|part| parts.contains(part)),
            "{split}"
        );
        if time {
            // What is tested came to be after all that is learnt from.
            let first = |edge: &Edge| {
                let ends = [(edge.source, edge.target), (edge.target, edge.source)];
                let twins = graph.edges.iter().filter(|other| ends.contains(&(other.source, other.target)));
                twins.map(|twin| twin.time).fold(f64::INFINITY, f64::min)
            };
            let of =
                |part| graph.edges.iter().zip(&parts).filter(move |(_, of)| **of == part).map(|(edge, _)| first(edge));
            assert!(of(NodeSplit::Train).fold(0.0, f64::max) <= of(NodeSplit::Test).fold(f64::INFINITY, f64::min));
        }
        for (name, _, figures) in session.baselines(&graph) {
            let (_, auc) = figures[0];
            assert!((0.35..0.65).contains(&auc), "{split}: {name} tells noise apart: {auc}");
        }
    }
}

#[test]
fn a_random_split_of_ratings_knows_nothing_of_those_that_are_held_out() {
    let graph = ratings();
    let text = RATINGS.replace("\"temporal\"", "\"random\", random_split_leaks_the_future = true");
    let recipe = recipe(&text);
    let gnn = of(&recipe).unwrap();
    let parts = split::pairs(&graph, gnn, recipe.run.seed).unwrap();
    let mut other = graph.clone();
    for (edge, _) in other.edges.iter_mut().zip(&parts).filter(|(_, part)| **part != NodeSplit::Train) {
        edge.weight = -edge.weight;
    }
    let open = |graph: &Graph| edges::EdgeSession::open(&recipe, gnn, graph).unwrap();
    let (session, changed) = (open(&graph), open(&other));
    let held_out = |session: &edges::EdgeSession| session.held_out(NodeSplit::Test).unwrap().edges.clone();
    assert_ne!(held_out(&session), held_out(&changed));
    let seen = |session: &edges::EdgeSession| {
        let held_out = [NodeSplit::Validation, NodeSplit::Test].map(|part| session.held_out(part).unwrap());
        let known = |moment: &edges::Moment| (0..moment.edges.len()).flat_map(|at| moment.row(at)).collect::<Vec<_>>();
        let learnt: Vec<_> = session.moments().iter().map(|moment| (known(moment), moment.edges.clone())).collect();
        (held_out.map(known), learnt)
    };
    assert_eq!(seen(&session), seen(&changed));
    let learnt: Vec<Edge> = session.moments().iter().flat_map(|moment| moment.edges.clone()).collect();
    let train: Vec<Edge> =
        graph.edges.iter().zip(&parts).filter(|(_, part)| **part == NodeSplit::Train).map(|(edge, _)| *edge).collect();
    assert!(learnt.iter().all(|edge| train.contains(edge)) && !learnt.is_empty());
}

#[test]
fn a_score_before_a_moment_hears_nothing_of_what_is_later() {
    let folder = tempfile::tempdir().unwrap();
    let asked = folder.path().join("asked.csv");
    std::fs::write(&asked, "source,target\n3,7\n7,3\n20,41\n").unwrap();
    let pairs = score::ScoreTargets::Pairs(asked);
    let moment = 250.0;
    let graph = ratings();
    // What is later turns into its opposite, the other way round, and between others; or is not there at all.
    let later = |edge: &&Edge| edge.time >= moment;
    let mut other = graph.clone();
    other.edges.retain(|edge| edge.time < moment);
    let past = other.clone();
    other.edges.extend(graph.edges.iter().filter(later).map(|edge| Edge {
        source: edge.target,
        target: edge.source,
        weight: -edge.weight,
        ..*edge
    }));
    other.edges.push(Edge { source: 3, target: 7, weight: -10.0, time: moment });
    let other = Graph::new(Path::new("g"), other).unwrap().0;
    let base = base_of(&recipe(RATINGS), &graph);
    let base = base.path().join("base");
    let run = |graph: &Graph, before| score::run((&base, None), graph, &pairs, before).unwrap();
    let ours = run(&graph, Some(moment));
    assert_eq!(ours, run(&other, Some(moment)));
    assert_eq!(ours, run(&past, Some(moment)));
    assert_ne!(run(&graph, None), run(&other, None));
    assert_ne!(ours, run(&graph, None));

    // Nodes, whose times make messages.
    let (mut graph, _) = guilds();
    let fresh = recipe("base = { model = \"fresh\", train = true }\ngnn = {}\n");
    let base = base_of(&fresh, &graph);
    let base = base.path().join("base");
    let run = |graph: &Graph, before| score::run((&base, None), graph, &score::ScoreTargets::AllNodes, before);
    let untimed = run(&graph, Some(1.0)).unwrap_err();
    assert_eq!(untimed.to_string(), "the graph does not say when anything came to be");
    assert!(untimed.hint().unwrap().contains("--before"));
    // Every edge comes after both its ends.
    graph.carries.time = true;
    graph.times = (0..graph.nodes).map(|node| (node * 31 % 100) as f64).collect();
    for edge in &mut graph.edges {
        edge.time =
            graph.times[edge.source as usize].max(graph.times[edge.target as usize]) + f64::from(edge.source % 40);
    }
    let mut other = graph.clone();
    let count = other.edges.len();
    other.edges.retain(|edge| edge.time < 60.0);
    assert!(other.edges.len() > 100 && other.edges.len() + 100 < count);
    let ours = run(&graph, Some(60.0)).unwrap();
    let (ours, other) = (ours.rows, run(&other, Some(60.0)).unwrap().rows);
    assert_eq!(ours.len(), graph.times.iter().filter(|&&time| time < 60.0).count());
    assert_eq!(ours, other);
    assert_ne!(ours, run(&graph, None).unwrap().rows[..ours.len()]);
    let late = graph.times.iter().position(|&time| time >= 60.0).unwrap();
    let asked = folder.path().join("late.csv");
    std::fs::write(&asked, format!("node\n{}\n", graph.name(late))).unwrap();
    let error =
        score::run((&base, None), &graph, &score::ScoreTargets::Nodes(asked), Some(60.0)).unwrap_err().to_string();
    assert_eq!(error, format!("a node was not there before the moment of --before: {}", graph.name(late)));
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

#[test]
fn what_contrast_leaves_behind_is_a_base_for_a_head() {
    let (graph, _) = guilds();
    let session = on(&recipe(CONTRAST), &graph);
    let folder = base_of(&recipe(CONTRAST), &graph);
    let base = folder.path().join("base");
    let kept = graphs::network(&base).unwrap();
    assert_eq!((kept.head, session.model().network.head), (End::Encoder, End::Comparer(5)));
    assert_eq!(kept.parameters(), 6 * 8 + 6 + 6 * 6 + 6);
    let error = score::run((&base, None), &graph, &score::ScoreTargets::AllNodes, None).unwrap_err();
    assert_eq!(error.to_string(), "the base was trained without classes and scores nothing by itself");
    let mut adapted = recipe("base = { model = \"b\" }\nlora = { rank = 2 }\ngnn = { train_head = true }\n");
    adapted.base.model.clone_from(&base);
    let adapter = folder.path().join("adapter");
    on(&adapted, &graph).export(&adapter, "base").unwrap();
    let scores = score::run((&base, Some(&adapter)), &graph, &score::ScoreTargets::AllNodes, None).unwrap();
    assert_eq!((scores.rows.len(), scores.rows[0].values.len(), scores.columns.len()), (240, 4, 6));
    let headless = recipe("base = { model = \"b\" }\nlora = { rank = 2 }\ngnn = {}\n");
    let headless = Recipe { base: adapted.base, ..headless };
    let error = OpenedTask::on(&headless, &graph, ImportFindings::default()).unwrap_err();
    assert!(error.to_string().starts_with("the base ends in Encoder"), "{error}");
}

#[test]
fn views_of_a_graph_with_time_see_no_node_that_is_tested() {
    let (mut graph, _) = guilds();
    graph.times = (0..graph.nodes).map(|node| (node * 31 % 240) as f64).collect();
    let recipe = recipe(&CONTRAST.replace("dropout", "split = \"temporal\", dropout"));
    let ours = on(&recipe, &graph);
    assert_eq!(ours.session().rows(), 168, "the earliest 70 %");
    let mut other = graph.clone();
    let features = graph.features.as_ref().unwrap();
    let row = |node: usize| {
        let turned = graph.times[node] >= 168.0;
        features.row(node).into_iter().map(move |x| if turned { 1.0 - x } else { x })
    };
    other.features = Some(std::sync::Arc::new(Features::new(8, (0..graph.nodes).flat_map(row).collect())));
    assert_eq!(loss(on(&recipe, &other).session()).sum.to_bits(), loss(ours.session()).sum.to_bits());
    let row = |node: usize| features.row(node).into_iter().map(|x| 1.0 - x);
    other.features = Some(std::sync::Arc::new(Features::new(8, (0..graph.nodes).flat_map(row).collect())));
    assert_ne!(loss(on(&recipe, &other).session()).sum, loss(ours.session()).sum);
    // Classes are not needed for it, and nodes without one are learnt from, too.
    let mut half = graph.clone();
    half.labels.iter_mut().skip(1).step_by(2).for_each(|label| *label = None);
    let rows = on(&recipe, &half).session().rows();
    assert!((160..=168).contains(&rows), "{rows}");
    (graph.labels, graph.classes, graph.parts) = (Vec::new(), Vec::new(), Vec::new());
    assert_eq!(on(&recipe, &graph).session().rows(), 168);
    // A moment is a number.
    assert!(graph.before(f64::NAN).unwrap_err().to_string().contains("no moment: NaN"));
}

#[test]
fn a_base_of_links_scores_pairs_as_it_was_trained_to() {
    let (graph, _) = guilds();
    let text = "base = { model = \"fresh\", train = true }\ngnn = { objective = \"links\", split = \"random\" }\n";
    let folder = base_of(&recipe(text), &graph);
    let base = folder.path().join("base");
    let asked = folder.path().join("pairs.csv");
    std::fs::write(&asked, format!("a,b\n{},{}\n{0},{}\n", graph.name(0), graph.name(1), graph.name(7))).unwrap();
    let run = |asked: &score::ScoreTargets| score::run((&base, None), &graph, asked, None);
    let scores = run(&score::ScoreTargets::Pairs(asked)).unwrap();
    assert_eq!(scores.columns, ["source", "target", "log_odds"]);
    // The same from the network itself, over all edges.
    let model = super::model::GraphModel::frozen(&base, None).unwrap();
    let seen =
        links::LinkGraph::new(inputs::features(&graph, model.network.prepare).unwrap(), graph.neighbours(), &model);
    let expected = seen.scores(&model, &[(0, 1), (0, 7)]).unwrap();
    assert_eq!(scores.rows.iter().map(|row| row.values[0]).collect::<Vec<_>>(), expected);
    assert_ne!(expected[0], expected[1]);
    let error = run(&score::ScoreTargets::AllNodes).unwrap_err();
    assert_eq!(error.to_string(), "the base scores pairs");
}

#[test]
fn what_edges_carry_and_is_not_used_is_said() {
    let (mut graph, found) = guilds();
    let classes = recipe("base = { model = \"fresh\", train = true }\ngnn = {}\n");
    let notes = |graph: &Graph, recipe: &Recipe| OpenedTask::on(recipe, graph, found).unwrap().notes();
    let plain = notes(&graph, &classes);
    graph.carries = graph::Carries { weight: true, time: true, direction: true };
    let added = |recipe: &Recipe| {
        let notes = notes(&graph, recipe);
        notes.into_iter().filter(|note| !plain.contains(note)).collect::<Vec<_>>()
    };
    assert_eq!(added(&classes), ["not used of the edges: weights, times, directions"]);
    assert_eq!(added(&recipe(CONTRAST)), ["not used of the edges: weights, times, directions"]);
    let links = "base = { model = \"fresh\", train = true }\ngnn = { objective = \"links\", split = \"temporal\" }\n";
    assert_eq!(added(&recipe(links)), ["not used of the edges: weights"]);
}

#[test]
fn ratings_want_seconds_and_feedback_that_is_not_used_is_counted() {
    let mut graph = ratings();
    let feedback = tempfile::tempdir().unwrap();
    let path = feedback.path().join("f.jsonl");
    let edge = graph.edges[0];
    let other = graph.edges.iter().find(|it| it.source == edge.source && it.target != edge.target).unwrap();
    let line = |source: u32, chosen: u32, rejected: u32| {
        format!("{{\"src\": {source}, \"chosen\": {chosen}, \"rejected\": {rejected}}}\n")
    };
    // Of nobody whom the source rated.
    let strangers: Vec<u32> =
        (0..60).filter(|&to| graph.edges.iter().all(|it| (it.source, it.target) != (edge.source, to))).collect();
    let every: String = graph
        .edges
        .iter()
        .zip(&graph.edges[1..])
        .map(|(one, two)| match one.source == two.source {
            true => line(one.source, one.target, two.target),
            false => String::new(),
        })
        .collect();
    std::fs::write(&path, every + &line(edge.source, strangers[0], other.target)).unwrap();
    let base = base_of(&recipe(RATINGS), &graph);
    let text = RATINGS
        .replace("\"ratings\"", "\"feedback\", dropout = 0.0")
        .replace("base = { model = \"fresh\", train = true }", "base = { model = \"b\" }\nlora = {}");
    let mut recipe = recipe(&text);
    recipe.base.model = base.path().join("base");
    recipe.gnn.as_mut().unwrap().feedback = Some(path);
    let notes = OpenedTask::on(&recipe, &graph, ImportFindings::default()).unwrap().notes();
    let [note] = notes.as_slice() else { panic!("{notes:?}") };
    let count: usize = note.split(' ').next().unwrap().parse().unwrap();
    assert!(count >= 1 && note.ends_with("preferences are not used: both of their pairs must be rated, where they are learnt from or validated on"), "{note}");
    graph.edges.iter_mut().for_each(|edge| edge.time += 1.6e12);
    let error = OpenedTask::on(&recipe, &graph, ImportFindings::default()).unwrap_err().to_string();
    assert!(error.starts_with("ratings need their times in seconds, and this is no such time: 16000000000"), "{error}");
}
