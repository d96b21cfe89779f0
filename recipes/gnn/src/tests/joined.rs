//! Who is joined to whom.

use super::*;

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
    for (split, time) in [("random", false), ("temporal", true), ("given", true)] {
        let carries = Carries { weight: true, time, direction: true };
        let features = Some(std::sync::Arc::new(Features::new(4, Vec::clone(&features))));
        let mut edges = edges.clone();
        if !time {
            edges.iter_mut().for_each(|edge| edge.time = 0.0);
        }
        let mut graph = Graph { nodes: 300, features, edges, carries, ..Graph::empty() };
        if split == "given" {
            // Of the three, one is said to be tested on, whatever the others are.
            let part = |at: usize| [NodeSplit::Train, NodeSplit::Validation, NodeSplit::Test][at / 3 % 5 % 3];
            graph.hold_out(&(0..graph.edges.len()).map(part).collect::<Vec<_>>());
        }
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
        if split == "temporal" {
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
    let model = GraphModel::frozen(&base, None).unwrap();
    let seen =
        links::LinkGraph::new(inputs::features(&graph, model.network.prepare).unwrap(), graph.neighbours(), &model);
    let expected = seen.scores(&model, &[(0, 1), (0, 7)]).unwrap();
    assert_eq!(scores.rows.iter().map(|row| row.values[0]).collect::<Vec<_>>(), expected);
    assert_ne!(expected[0], expected[1]);
    let error = run(&score::ScoreTargets::AllNodes).unwrap_err();
    assert_eq!(error.to_string(), "the base scores pairs");
}
