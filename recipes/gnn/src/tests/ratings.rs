//! Ratings, and preferences between those who are rated.

use super::*;

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
    let said = "preferences are not used: both of their pairs must be rated, where they are learnt from or validated on, \
                and their time, if they have one, must be of that part";
    assert!(count >= 1 && note.ends_with(said), "{note}");
    // What was said when the training part was over is not learnt from.
    let path = recipe.gnn.as_ref().unwrap().feedback.clone().unwrap();
    let lines = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, lines.replace('}', ", \"ts\": 0}")).unwrap();
    let open = |recipe: &Recipe| OpenedTask::on(recipe, &graph, ImportFindings::default());
    assert!(open(&recipe).is_ok());
    std::fs::write(&path, lines.replace('}', ", \"ts\": 9e99}")).unwrap();
    assert_eq!(open(&recipe).unwrap_err().to_string(), "nothing to learn from");
    graph.edges.iter_mut().for_each(|edge| edge.time += 1.6e12);
    let error = OpenedTask::on(&recipe, &graph, ImportFindings::default()).unwrap_err().to_string();
    assert!(error.starts_with("ratings need their times in seconds, and this is no such time: 16000000000"), "{error}");
}
