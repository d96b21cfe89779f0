//! Views of a graph told apart.

use super::*;

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
