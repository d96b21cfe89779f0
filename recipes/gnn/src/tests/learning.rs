//! What is trained, and by which gradients.

use super::*;

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

/// Weights enter where they are asked for, and nowhere else.
#[test]
fn messages_weigh_what_their_edges_do() {
    let (mut graph, _) = guilds();
    graph.carries.weight = true;
    let by_number = |mut graph: Graph, weight: fn(usize) -> f32| {
        graph.edges.iter_mut().enumerate().for_each(|(at, edge)| edge.weight = weight(at));
        graph
    };
    let ones = by_number(graph.clone(), |_| 1.0);
    let various = by_number(graph.clone(), |at| [0.0, 0.5, 9.0][at % 3]);
    let all: Vec<usize> = (0..graph.nodes).collect();
    for kind in ["gcn", "sage", "sage-gcn"] {
        let logits = |messages: &str, graph: &Graph| {
            let table = format!("gnn = {{ network = \"{kind}\", messages = \"{messages}\" }}\n");
            let recipe = recipe(&format!("base = {{ model = \"fresh\", train = true }}\n{table}"));
            let session = nodes::NodeSession::open(&recipe, of(&recipe).unwrap(), graph).unwrap();
            let ours = session.logits(&all).unwrap();
            // What was trained says so to whoever applies it.
            let base = base_of(&recipe, graph);
            let asked = score::ScoreTargets::AllNodes;
            let scores = score::run((&base.path().join("base"), None), graph, &asked, None).unwrap();
            let theirs: Vec<f32> =
                scores.rows.iter().flat_map(|row| row.values.iter().map(|value| *value as f32)).collect();
            assert_eq!(bits(&ours), bits(&theirs));
            assert_eq!(scores.unread.as_deref(), (messages == "alike").then_some("not used of the edges: weights"));
            ours
        };
        let far = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let plain = logits("alike", &various);
        assert_eq!(bits(&plain), bits(&logits("alike", &ones)), "{kind}");
        assert!(far(&plain, &logits("weighed", &ones)) < 1e-5, "{kind}");
        assert!(far(&plain, &logits("weighed", &various)) > 1e-2, "{kind}");
    }
    let weighed = recipe("base = { model = \"fresh\", train = true }\ngnn = { messages = \"weighed\" }\n");
    let refused =
        |graph: &Graph| OpenedTask::on(&weighed, graph, ImportFindings::default()).map(|_| ()).unwrap_err().to_string();
    let negative = by_number(graph, |at| if at == 7 { -1.0 } else { 1.0 });
    let [source, target] = [negative.edges[7].source, negative.edges[7].target].map(|end| negative.name(end as usize));
    assert_eq!(refused(&negative), format!("messages cannot weigh less than nothing: {source} to {target}, -1"));
    let bare = "gnn.messages = \"weighed\" goes by weights, and the edges carry none";
    assert_eq!(refused(&guilds().0), bare);
    let table = "gnn = { messages = \"weighed\", network = \"gat\" }\n";
    let text = format!("{REST}base = {{ model = \"fresh\", train = true }}\n{table}");
    let error = Recipe::parse(Path::new("r"), &text).unwrap_err().to_string();
    assert!(error.contains("must be \"alike\" for \"gat\", which weighs messages itself"), "{error}");
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
