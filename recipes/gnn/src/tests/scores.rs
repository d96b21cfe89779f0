//! What is scored, and what of a graph is used for it.

use super::*;

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
