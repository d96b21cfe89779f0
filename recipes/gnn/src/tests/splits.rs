//! Who is learnt from, and who hears whom.

use super::*;

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
