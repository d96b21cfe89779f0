//! Proofs about nodes of a graph, through the command line, and what forgers try.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ftk::prove::bundle;
use ftk::prove::opening::OPENING;
use ftk::prove::subject::ProvedBase;
use ftk_adapters::peft;
use ftk_circuits::Digest;
use ftk_gnn::import::{Origin, import};
use ftk_networks::graphs::leaf::{Incident, NodeLeaf};
use ftk_networks::graphs::merkle::MerkleTree;
use ftk_networks::graphs::neighbourhood::Neighbourhood;
use ftk_networks::graphs::opened::{GraphQuestion, OpenedPart};
use ftk_proofs::bundle::{Bundle, GRAPH, HEAD, REGISTRATION};
use ftk_proofs::head::{head_bytes, parse_head};
use ftk_proofs::limits::Limits;
use ftk_proofs::{Case, Input, Logits, Output};
use serde_json::Value;
use tempfile::TempDir;

use crate::forger;
use crate::run::{ftk, stderr, succeed};
use crate::seller::Seller;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn guilds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/gnn/guilds")
}

/// The nodes that are asked about.
const NODES: [&str; 2] = ["bea-3", "ann-0"];

/// A base, an adapter with a head of its own, its commitment and a bundle, made once.
struct Made {
    folder: TempDir,
    adapter: String,
    root: String,
}

impl Made {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn prove(&self, out: &str, more: &[&str]) -> std::process::Command {
        let [base, adapter, commitment, out] =
            ["base/base", "adapter", "commitment", out].map(|name| text(&self.path(name)).to_owned());
        let graph = guilds();
        let mut command = ftk(&["prove", "--quiet", "--base", &base, "--adapter", &adapter, "--graph", text(&graph)]);
        command.args(["--commitment", &commitment, "--out", &out]);
        command.args(NODES.iter().flat_map(|node| ["--node", node])).args(more);
        command
    }

    /// The verdict on a bundle, with every expectation but those left out.
    fn verify(&self, bundle: &Path, root: Option<&str>) -> Value {
        let base = self.path("base/base");
        let mut command = ftk(&["verify", "--json", text(bundle), "--base", text(&base)]);
        command.args(["--expect-adapter", &self.adapter]);
        command.args(NODES.iter().flat_map(|node| ["--expect-node", node]));
        command.args(root.iter().flat_map(|root| ["--expect-graph", root]));
        let output = command.output().unwrap();
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
        let code = match verdict["verdict"].as_str().unwrap() {
            "valid" => 0,
            "invalid" => 1,
            _ => 2,
        };
        assert_eq!(output.status.code(), Some(code), "{verdict}");
        verdict
    }

    fn bundle(&self) -> Bundle {
        bundle::read(&self.path("bundle"), &Limits::default()).unwrap()
    }

    /// The check that refuses a bundle, for somebody who expects its own root.
    fn refusal(&self, bundle: &Bundle) -> String {
        let folder = tempfile::tempdir().unwrap();
        bundle::write(bundle, folder.path()).unwrap();
        let root = bundle.statement.graph().map(|root| root.to_string());
        let verdict = self.verify(folder.path(), root.as_deref());
        assert_eq!(verdict["verdict"], "invalid", "{verdict}");
        verdict["check"].as_str().unwrap().to_owned()
    }

    /// What a forger opens of these leaves, and the root they hang from.
    fn opened(change: impl Fn(&mut BTreeMap<String, NodeLeaf>)) -> (Neighbourhood, Digest) {
        let (graph, _) = import(&Origin::Path(guilds())).unwrap();
        let (frame, mut leaves) = (graph.frame(), graph.leaves());
        let mut named = leaves.iter().map(|leaf| (leaf.name.clone(), leaf.clone())).collect();
        change(&mut named);
        leaves = named.into_values().collect();
        leaves.sort_by_key(|leaf| leaf.node);
        let nodes: Vec<u32> = NODES.iter().map(|name| graph.numbers()[*name]).collect();
        let part = Neighbourhood::of_leaves(frame, &leaves, &nodes, 2);
        let tree = MerkleTree::new(leaves.iter().map(|leaf| leaf.hash(&frame)).collect());
        (part, Digest(*frame.root(&tree.top()).as_bytes()))
    }

    /// What a prover makes of these leaves, with everything that follows from them: root, statement, outputs, proof.
    fn forge(&self, change: impl Fn(&mut BTreeMap<String, NodeLeaf>)) -> Bundle {
        let (graph, _) = import(&Origin::Path(guilds())).unwrap();
        let nodes: Vec<u32> = NODES.iter().map(|name| graph.numbers()[*name]).collect();
        let (part, root) = Self::opened(change);
        let ProvedBase::Graph { base, .. } = ProvedBase::open(&self.path("base/base")).unwrap() else {
            panic!("a base of graphs")
        };
        let (adapter, head) = peft::load_with_saved(&self.path("adapter")).unwrap();
        let model = base.with_head(&head).unwrap().fixed().unwrap();
        let output = Output::Logits(Logits::Values(Vec::new()));
        let case = |&node: &u32| Case { input: Input::Node { graph: root, node }, output: output.clone() };
        let cases = nodes.iter().map(case).collect();
        let made = forger::proved(&self.path("commitment"), &model, &adapter, cases, OpenedPart::Graph(part));
        Bundle { registration: self.bundle().registration, head: Some(head), ..made }
    }
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let recipe = guilds().with_extension("toml");
    let place = |name: &str| text(&folder.path().join(name)).to_owned();
    let [base, trained, adapter, commitment] = ["base", "base/base", "adapter", "commitment"].map(place);
    let train = ["train", "--quiet", "--recipe", text(&recipe), "--out"];
    succeed(ftk(&train).args([&base, "--set", "gnn.head=linear", "--set", "run.steps=20"]));
    let model = format!("base.model={trained}");
    let settings = ["base.train=false", &model, "lora.rank=2", "gnn.l2=0", "gnn.train_head=true", "run.steps=3"];
    succeed(ftk(&train).arg(&adapter).args(settings.iter().flat_map(|setting| ["--set", setting])));
    let digest =
        succeed(&mut ftk(&["commit", "--quiet", "--base", &trained, "--adapter", &adapter, "--out", &commitment]));
    let graph = guilds();
    let found = succeed(&mut ftk(&["gnn", "import", "--quiet", text(&graph)]));
    let root = found.lines().find_map(|line| line.strip_prefix("root\t")).unwrap().to_owned();
    let made = Made { adapter: digest.trim().to_owned(), folder, root };
    let refused = made.prove("bundle", &["--open"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let (said, hint) = (stderr(&refused), "pass --disclose if the adapter may become known");
    assert!(said.contains("open mode publishes") && said.contains(hint), "{said}");
    succeed(&mut made.prove("bundle", &["--open", "--disclose"]));
    made
});

#[test]
fn nodes_are_proved_with_the_graph_they_are_of() {
    let verdict = MADE.verify(&MADE.path("bundle"), Some(&MADE.root));
    assert_eq!(verdict["verdict"], "valid", "{verdict}");
    assert_eq!(verdict["graph"], MADE.root);
    assert_eq!(verdict["head_of_its_own"], true);
    assert_eq!(verdict["cases"][0]["input"]["name"], NODES[0]);
    // Without the root it may be any graph.
    let verdict = MADE.verify(&MADE.path("bundle"), None);
    assert_eq!(verdict["verdict"], "consistent");
    assert_eq!(verdict["undecided"][0], "without --expect-graph the graph may be another than you think");
    // The forger's tools make an honest bundle of honest leaves, so that what they are refused for is what they change.
    let bundle = MADE.forge(|_| {});
    let folder = tempfile::tempdir().unwrap();
    bundle::write(&bundle, folder.path()).unwrap();
    assert_eq!(MADE.verify(folder.path(), Some(&MADE.root))["verdict"], "valid");
}

/// The logits of a verdict are near those that `ftk gnn score` gives of the whole graph.
fn assert_near(verdict: &Value, [base, adapter, graph]: [&str; 3], nodes: &[&str]) {
    let mut command = ftk(&["gnn", "score", "--json", "--base", base, "--adapter", adapter, "--graph", graph]);
    let scores: Vec<Value> = succeed(&mut command).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (case, node) in nodes.iter().enumerate() {
        let score = scores.iter().find(|score| score["ends"][0] == *node).unwrap();
        let exact = verdict["cases"][case]["output"]["values_16"].as_array().unwrap();
        for (exact, float) in exact.iter().zip(score["scores"].as_array().unwrap()) {
            let (exact, float) = (exact.as_f64().unwrap() / 65536.0, float.as_f64().unwrap());
            assert!((exact - float).abs() < 1e-2 * float.abs().max(1.0), "{node}: {exact} {float}");
        }
    }
}

/// The same statements as in the open, of which a change is refused.
#[test]
fn nodes_are_sealed() {
    for (name, more) in [("sealed-logits", &[][..]), ("sealed-choice", &["--task", "choice"])] {
        succeed(&mut MADE.prove(name, more));
        let verdict = MADE.verify(&MADE.path(name), Some(&MADE.root));
        assert_eq!((&verdict["verdict"], &verdict["sealed"]), (&"valid".into(), &true.into()), "{verdict}");
    }
    let statement = |name: &str| std::fs::read(MADE.path(name).join("statement.json")).unwrap();
    assert_eq!(statement("sealed-logits"), statement("bundle"));
    // Another logit.
    let changed = MADE.path("sealed-changed");
    std::fs::create_dir(&changed).unwrap();
    for file in ["commitment.bin", "registration.bin", "sealed.bin", "graph.bin", "head.safetensors", "statement.json"]
    {
        std::fs::copy(MADE.path("sealed-logits").join(file), changed.join(file)).unwrap();
    }
    let said = String::from_utf8(statement("sealed-logits")).unwrap();
    let value: Value = serde_json::from_str(&said).unwrap();
    let first = find_number(&value["cases"][0]["output"]).unwrap();
    let line = format!("{first},");
    std::fs::write(changed.join("statement.json"), said.replacen(&line, &format!("{},", first + 1), 1)).unwrap();
    assert_eq!(MADE.verify(&changed, Some(&MADE.root))["check"], "sealed proof");
}

/// A base that weighs messages proves what it says of the graph with these weights, and of no other.
#[test]
fn weights_of_edges_enter_what_is_proved() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| text(&folder.path().join(name)).to_owned();
    let [base, trained, adapter, commitment, bundle] =
        ["base", "base/base", "adapter", "commitment", "bundle"].map(place);
    let edges = std::fs::read_to_string(guilds().join("edges.csv")).unwrap();
    let nodes = text(&guilds().join("nodes.csv")).to_owned();
    let imported = |name: &str, weight: fn(usize) -> usize| {
        let rows = edges.lines().enumerate().map(|(at, line)| match at {
            0 => format!("{line},weight\n"),
            at => format!("{line},{}\n", weight(at)),
        });
        let table = place(&format!("{name}.csv"));
        std::fs::write(&table, rows.collect::<String>()).unwrap();
        let graph = place(&format!("{name}.graph"));
        let out = ["--quiet", "--nodes", &nodes, "--edges", &table, "--out", &graph];
        let said = succeed(ftk(&["gnn", "import"]).args(out));
        let root = said.lines().find_map(|line| line.strip_prefix("root\t")).unwrap().to_owned();
        (graph, root)
    };
    let (graph, root) = imported("one", |at| at % 4);
    let (other, _) = imported("other", |at| (at + 1) % 4);
    let data = format!("data.train={graph}");
    let recipe = guilds().with_extension("toml");
    let train = |out: &str, settings: &[&str]| {
        let settings = settings.iter().flat_map(|setting| ["--set", setting]);
        let start = ["train", "--quiet", "--recipe", text(&recipe), "--out", out, "--set", &data];
        succeed(ftk(&start).args(settings));
    };
    train(&base, &["gnn.messages=weighed", "run.steps=20"]);
    train(&adapter, &["base.train=false", &format!("base.model={trained}"), "lora.rank=2", "gnn.l2=0", "run.steps=3"]);
    let settings = ["--quiet", "--base", &trained, "--adapter", &adapter, "--out", &commitment];
    let digest = succeed(ftk(&["commit"]).args(settings));
    let files = ["--base", &trained, "--adapter", &adapter, "--commitment", &commitment, "--graph", &graph];
    let node = NODES[0];
    succeed(ftk(&["prove", "--quiet"]).args(files).args(["--node", node, "--out", &bundle]));
    let expected = ["--expect-adapter", digest.trim(), "--expect-graph", &root, "--expect-node", node];
    let told = succeed(ftk(&["verify", "--json", &bundle, "--base", &trained]).args(expected));
    let verdict: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(verdict["verdict"], "valid", "{verdict}");
    assert_near(&verdict, [&trained, &adapter, &graph].map(String::as_str), &[node]);
    // No message weighs less than nothing, whoever opens a graph that says so, under a root of its own.
    let open = place("open");
    succeed(ftk(&["prove", "--quiet", "--open", "--disclose"]).args(files).args(["--node", node, "--out", &open]));
    let mut forged = bundle::read(Path::new(&open), &Limits::default()).unwrap();
    let (loaded, _) = import(&Origin::Path(graph.clone().into())).unwrap();
    let (frame, mut leaves) = (loaded.frame(), loaded.leaves());
    for leaf in &mut leaves {
        leaf.edges.iter_mut().for_each(|edge| edge.weight = -1.0);
        leaf.edges.sort_by(Incident::order);
    }
    let tree = MerkleTree::new(leaves.iter().map(|leaf| leaf.hash(&frame)).collect());
    let nodes = nodes_of(&forged);
    forged.graph = Some(OpenedPart::Graph(Neighbourhood::of_leaves(frame, &leaves, &nodes, 2)));
    hang(&mut forged, Digest(*frame.root(&tree.top()).as_bytes()));
    let negative = tempfile::tempdir().unwrap();
    bundle::write(&forged, negative.path()).unwrap();
    let mut verify = ftk(&["verify", "--json", text(negative.path()), "--base", &trained, "--expect-node", node]);
    let refused: Value = serde_json::from_slice(&verify.output().unwrap().stdout).unwrap();
    assert_eq!(refused["check"], "graph weight", "{refused}");
    // Of other weights something else is true.
    let score = |graph: &str| {
        let files = ["--base", &trained, "--adapter", &adapter, "--graph", graph];
        succeed(ftk(&["gnn", "score"]).args(files))
    };
    assert_ne!(score(&graph), score(&other));
    // Who says of the base that it weighs none has another base.
    let config = folder.path().join("base/base/config.json");
    let said = std::fs::read_to_string(&config).unwrap();
    let alike: Vec<&str> = said.lines().filter(|line| !line.contains("weighed")).collect();
    std::fs::write(&config, alike.join("\n").replace("},\n}", "}\n}")).unwrap();
    let mut verify = ftk(&["verify", "--json", &bundle, "--base", &trained]);
    let verdict: Value = serde_json::from_slice(&verify.args(expected).output().unwrap().stdout).unwrap();
    assert_eq!((&verdict["verdict"], &verdict["check"]), (&"invalid".into(), &"base".into()), "{verdict}");
}

/// The first number of a list somewhere in a value.
fn find_number(value: &Value) -> Option<i64> {
    match value {
        Value::Array(items) => items.iter().find_map(Value::as_i64),
        Value::Object(fields) => fields.values().find_map(find_number),
        _ => None,
    }
}

/// The exact logits are those that the whole graph gives, and what is deployed is near them.
/// The same logits and classes as in the open, of the same graph.
#[test]
fn logits_are_those_of_the_whole_graph() {
    let (base, adapter, graph) = (MADE.path("base/base"), MADE.path("adapter"), guilds());
    let verdict = MADE.verify(&MADE.path("bundle"), Some(&MADE.root));
    assert_near(&verdict, [&base, &adapter, &graph].map(|path| text(path)), &NODES);
}

#[test]
fn classes_and_thresholds_are_proved_when_they_were_asked_for() {
    let choice = MADE.path("choice");
    succeed(&mut MADE.prove("choice", &["--open", "--disclose", "--task", "choice"]));
    assert_eq!(MADE.verify(&choice, Some(&MADE.root))["verdict"], "valid");
    let two = MADE.path("two");
    succeed(&mut MADE.prove("two", &["--open", "--disclose", "--task", "choice", "--among", "0,1"]));
    let verdict = MADE.verify(&two, Some(&MADE.root));
    assert_eq!((&verdict["verdict"], &verdict["check"]), (&"invalid".into(), &"expected question".into()));

    let likely = MADE.path("likely");
    let said =
        succeed(&mut MADE.prove("likely", &["--open", "--disclose", "--task", "at-least", "--at-least", "2=0.01"]));
    assert!(said.contains("class 2 with a log-probability of"), "{said}");
    let verdict = MADE.verify(&likely, Some(&MADE.root));
    let why = "what is stated of the input may not be what you asked";
    assert!(verdict["undecided"].to_string().contains(why), "{verdict}");
    let base = MADE.path("base/base");
    let judge = |likely_at: &str| {
        let mut command = ftk(&["verify", "--json", text(&likely), "--base", text(&base)]);
        command.args(["--expect-adapter", &MADE.adapter, "--expect-graph", &MADE.root]);
        command.args(NODES.iter().flat_map(|node| ["--expect-node", node])).args(["--expect-at-least", likely_at]);
        serde_json::from_slice::<Value>(&command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(judge("2=0.01")["verdict"], "valid");
    assert_eq!(judge("2=0.02")["check"], "expected question");
    assert_eq!(judge("1=0.01")["check"], "expected question");
    // Who says how likely it is to be means that it is so likely.
    succeed(&mut MADE.prove("unlikely", &["--open", "--disclose", "--task", "at-least", "--at-least", "2=0.99"]));
    for (bundle, asked, check) in [("unlikely", "2=0.99", "expected answer"), ("bundle", "2=0.01", "expected task")] {
        let mut command = ftk(&["verify", "--json", text(&MADE.path(bundle)), "--base", text(&base)]);
        command.args(NODES.iter().flat_map(|node| ["--expect-node", node])).args(["--expect-at-least", asked]);
        let verdict: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        assert_eq!(verdict["check"], check, "{bundle}");
    }
    // The likeliest classes, as many as were asked for.
    succeed(&mut MADE.prove("top", &["--open", "--disclose", "--task", "top", "--top", "2"]));
    for (count, verdict) in [("2", ("valid", Value::Null)), ("1", ("invalid", "expected question".into()))] {
        let mut command = ftk(&["verify", "--json", text(&MADE.path("top")), "--base", text(&base)]);
        command.args(["--expect-adapter", &MADE.adapter, "--expect-graph", &MADE.root, "--expect-top", count]);
        command.args(NODES.iter().flat_map(|node| ["--expect-node", node]));
        let found: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        assert_eq!((found["verdict"].as_str().unwrap(), found["check"].clone()), verdict);
    }
    let more = MADE.prove("more", &["--open", "--disclose", "--task", "top", "--top", "200"]).output().unwrap();
    assert!(stderr(&more).contains("fewer than the likeliest that are asked for: 200"), "{}", stderr(&more));
    // The other answer is refused.
    let mut bundle = bundle::read(&likely, &Limits::default()).unwrap();
    let Output::AtLeast(ftk_proofs::AtLeast { holds, .. }) = &mut bundle.statement.cases[0].output else {
        panic!("a threshold")
    };
    *holds = !*holds;
    let folder = tempfile::tempdir().unwrap();
    bundle::write(&bundle, folder.path()).unwrap();
    let refused = serde_json::from_slice::<Value>(
        &ftk(&["verify", "--json", text(folder.path()), "--base", text(&base)]).output().unwrap().stdout,
    );
    assert_eq!(refused.unwrap()["check"], "output");
}

/// The nodes that a bundle is about.
fn nodes_of(bundle: &Bundle) -> Vec<u32> {
    let Some(GraphQuestion::Nodes(nodes)) = bundle.statement.asked() else { panic!("nodes") };
    nodes
}

/// States that the nodes are of the graph with another root.
fn hang(bundle: &mut Bundle, root: Digest) {
    for case in &mut bundle.statement.cases {
        let Input::Node { graph, .. } = &mut case.input else { panic!("a node") };
        *graph = root;
    }
}

#[test]
fn forged_lists_of_neighbours_are_refused_each_by_its_own_check() {
    let (graph, _) = import(&Origin::Path(guilds())).unwrap();
    let lists = graph.neighbours();
    let name = |node: u32| graph.name(node as usize);
    let node = graph.numbers()[NODES[0]];
    let (mine, first) = (NODES[0].to_owned(), lists[node as usize][0]);
    let stranger = (0..graph.nodes as u32)
        .find(|other| *other != node && lists[node as usize].binary_search(other).is_err())
        .unwrap();
    let edge = |other| Incident { other, sends: false, weight: 1.0, time: 0.0 };
    let put = |leaf: &mut NodeLeaf, other: u32| {
        leaf.edges.push(edge(other));
        leaf.edges.sort_by(Incident::order);
    };
    let take = |leaf: &mut NodeLeaf, other: u32| leaf.edges.retain(|edge| edge.other != other);
    // The root is made anew for every forgery, and the verifier expects that root.
    let dropped = MADE.forge(|leaves| take(leaves.get_mut(&mine).unwrap(), first));
    assert_eq!(MADE.refusal(&dropped), "graph degree");
    let added = MADE.forge(|leaves| put(leaves.get_mut(&mine).unwrap(), stranger));
    assert_eq!(MADE.refusal(&added), "graph degree");
    let added = MADE.forge(|leaves| {
        let leaf = leaves.get_mut(&mine).unwrap();
        put(leaf, stranger);
        leaf.degree += 1;
    });
    assert_eq!(MADE.refusal(&added), "graph symmetry");
    let swapped = MADE.forge(|leaves| {
        let leaf = leaves.get_mut(&mine).unwrap();
        take(leaf, first);
        put(leaf, stranger);
    });
    assert_eq!(MADE.refusal(&swapped), "graph symmetry");
    let mut disordered = MADE.bundle();
    let (part, root) = Made::opened(|leaves| leaves.get_mut(&mine).unwrap().edges.reverse());
    disordered.graph = Some(OpenedPart::Graph(part));
    hang(&mut disordered, root);
    assert_eq!(MADE.refusal(&disordered), "graph order");
    // Both ends agree, so that it is another graph and not a wrong one.
    let agreed = MADE.forge(|leaves| {
        for (here, there) in [(mine.clone(), first), (name(first), node)] {
            let leaf = leaves.get_mut(&here).unwrap();
            take(leaf, there);
            leaf.degree -= 1;
        }
    });
    let folder = tempfile::tempdir().unwrap();
    bundle::write(&agreed, folder.path()).unwrap();
    let verdict = MADE.verify(folder.path(), Some(&MADE.root));
    assert_eq!(verdict["check"], "expected graph");
    assert_eq!(MADE.verify(folder.path(), None)["verdict"], "consistent");
    // The same under the true root.
    let mut claimed = agreed;
    hang(&mut claimed, Digest(*graph.root().as_bytes()));
    assert_eq!(MADE.refusal(&claimed), "graph root");
    // Less, or another part than what reaches the nodes.
    let mut other = MADE.bundle();
    other.graph = Some(OpenedPart::Graph(graph.neighbourhood(&[stranger], 2).unwrap()));
    assert_eq!(MADE.refusal(&other), "graph coverage");
    let mut near = MADE.bundle();
    let nodes = nodes_of(&near);
    near.graph = Some(OpenedPart::Graph(graph.neighbourhood(&nodes, 1).unwrap()));
    assert_eq!(MADE.refusal(&near), "graph hops");
    let mut none = MADE.bundle();
    none.graph = None;
    let folder = tempfile::tempdir().unwrap();
    bundle::write(&none, folder.path()).unwrap();
    let verdict = MADE.verify(folder.path(), Some(&MADE.root));
    assert_eq!((&verdict["verdict"], &verdict["check"]), (&"undecided".into(), &"incomplete".into()), "{verdict}");
}

#[test]
fn another_node_or_output_is_refused() {
    let mut bundle = MADE.bundle();
    bundle.statement.cases.swap(0, 1);
    assert_eq!(MADE.refusal(&bundle), "expected input");
    let mut bundle = MADE.bundle();
    let Output::Logits(Logits::Values(values)) = &mut bundle.statement.cases[1].output else { panic!("logits") };
    values[0] += 1;
    assert_eq!(MADE.refusal(&bundle), "output");
    let mut bundle = MADE.bundle();
    bundle.statement.cases.pop();
    assert_eq!(MADE.refusal(&bundle), "graph coverage");
    // The deltas of one convolution at one node are those at another.
    let mut bundle = MADE.bundle();
    let width = bundle.commitment.shapes()[0].d_out as usize;
    let (first, rest) = bundle.deltas[0].split_at_mut(width);
    first.copy_from_slice(&rest[..width]);
    assert_eq!(MADE.refusal(&bundle), "output");
}

#[test]
fn another_head_is_another_base() {
    let mut bundle = MADE.bundle();
    bundle.head.as_mut().unwrap().get_mut("head.bias").unwrap().1[0] += 0.5;
    assert_eq!(MADE.refusal(&bundle), "base");
    let mut bundle = MADE.bundle();
    bundle.head = None;
    assert_eq!(MADE.refusal(&bundle), "base");
    let mut bundle = MADE.bundle();
    let bias = bundle.head.as_mut().unwrap().remove("head.bias").unwrap();
    assert_eq!(MADE.refusal(&bundle), "head.safetensors");
    bundle.head.as_mut().unwrap().extend([("head.bias".to_owned(), bias.clone()), ("conv1.lin.bias".to_owned(), bias)]);
    assert_eq!(MADE.refusal(&bundle), "head.safetensors");
    // No other than the base's is a head of its own.
    let ProvedBase::Graph { base, .. } = ProvedBase::open(&MADE.path("base/base")).unwrap() else {
        panic!("a base of graphs")
    };
    let own = |name: &String| (name.clone(), base.weights()[name].clone());
    let mut bundle = MADE.bundle();
    bundle.head = Some(base.network().head_weights().iter().map(own).collect());
    assert_eq!(MADE.refusal(&bundle), "head.safetensors");
    let mut bundle = MADE.bundle();
    for (shape, values) in bundle.head.as_mut().unwrap().values_mut() {
        shape[0] = 0;
        values.clear();
    }
    assert_eq!(MADE.refusal(&bundle), "head.safetensors");
    assert!(parse_head(&head_bytes(&peft::Saved::new())).unwrap_err().contains("no weights"));
    let infinite = [("head.bias".to_owned(), (vec![1], vec![f32::INFINITY]))].into();
    assert!(parse_head(&head_bytes(&infinite)).unwrap_err().contains("not finite"));
    // What a bundle has not does not stay from one before it.
    let folder = tempfile::tempdir().unwrap();
    bundle::write(&MADE.bundle(), folder.path()).unwrap();
    let mut less = MADE.bundle();
    (less.head, less.graph, less.registration) = (None, None, None);
    bundle::write(&less, folder.path()).unwrap();
    for name in [HEAD, GRAPH, REGISTRATION] {
        assert!(!folder.path().join(name).exists(), "{name}");
    }
    // The one way to write it, and no other.
    let bytes = std::fs::read(MADE.path("bundle").join(HEAD)).unwrap();
    assert!(parse_head(&bytes).is_ok());
    assert!(parse_head(&[&bytes[..], &[0]].concat()).is_err());
    assert!(parse_head(&bytes[..bytes.len() - 1]).is_err());
}

#[test]
fn tokens_and_nodes_are_told_apart() {
    let mut bundle = MADE.bundle();
    let output = bundle.statement.cases[0].output.clone();
    bundle.statement.cases = vec![Case { input: Input::Tokens(vec![1]), output }];
    bundle.graph = None;
    let rows = bundle.commitment.shapes().iter().map(|shape| vec![0; shape.d_out as usize]);
    bundle.deltas = rows.collect();
    let folder = tempfile::tempdir().unwrap();
    bundle::write(&bundle, folder.path()).unwrap();
    let base = MADE.path("base/base");
    let output = ftk(&["verify", "--json", text(folder.path()), "--base", text(&base)]).output().unwrap();
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["check"], "kind of input", "{verdict}");

    // The other way round: nodes for the village, and what only statements about nodes may have beside them.
    let place = tempfile::tempdir().unwrap();
    let seller = Seller::new(place.path().to_owned(), 5);
    let honest = bundle::read(&seller.prove("bundle", "Who lives here?"), &Limits::default()).unwrap();
    let refusal = |bundle: &Bundle| {
        let folder = tempfile::tempdir().unwrap();
        bundle::write(bundle, folder.path()).unwrap();
        let output = ftk(&["verify", "--json", text(folder.path()), "--base", "village"]).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["check"].as_str().unwrap().to_owned()
    };
    let mut of_nodes = honest.clone();
    let node = bundle::read(&MADE.path("bundle"), &Limits::default()).unwrap();
    of_nodes.statement.cases = node.statement.cases.clone();
    of_nodes.graph = node.graph.clone();
    of_nodes.deltas = honest.commitment.shapes().iter().map(|shape| vec![0; 2 * shape.d_out as usize]).collect();
    assert_eq!(refusal(&of_nodes), "kind of input");
    let beside = Bundle { graph: node.graph, ..honest.clone() };
    assert_eq!(refusal(&beside), "graph.bin");
    let beside = Bundle { head: node.head, ..honest };
    assert_eq!(refusal(&beside), "head.safetensors");

    let mut of_tokens = MADE.prove("never", &["--open", "--disclose"]);
    of_tokens.args(["--task", "logprob"]);
    let output = of_tokens.output().unwrap();
    assert!(
        stderr(&output)
            .contains("a node has no continuation\nhint: --task logits, choice, at-least or top is about nodes")
    );
    let commitment = MADE.path("commitment");
    let adapter = MADE.path("adapter");
    let mut prompt = ftk(&["prove", "--base", text(&base), "--adapter", text(&adapter), "--prompt", "hello"]);
    prompt.args(["--commitment", text(&commitment), "--out", text(&MADE.path("never"))]);
    let output = prompt.output().unwrap();
    assert!(
        stderr(&output).contains("the base is one of graphs\nhint: give --graph and --node"),
        "{}",
        stderr(&output)
    );
}

/// GraphSAGE on a graph whose edges have weights, times and directions, and whose nodes have times: projected features,
/// one node twice.
#[test]
fn whatever_a_graph_carries_is_proved_as_it_is_scored() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| text(&folder.path().join(name)).to_owned();
    const FEATURES: u32 = 100;
    let node = |at: u32| {
        let features: String = (0..FEATURES).map(|feature| format!(",{}", 1 + (at * 5 + feature) % 7)).collect();
        format!("n{at},{},{}.5{features}", at % 3, at * 7 % 20)
    };
    let nodes: Vec<String> = (0..20).map(node).collect();
    let columns: String = (0..FEATURES).map(|feature| format!(",f{feature}")).collect();
    let edge = |at: u32| format!("n{},n{},{}.25,{}", at % 20, (at * at + 3) % 20, at % 5, at);
    let edges: Vec<String> = (0..60).map(edge).collect();
    std::fs::write(place("nodes.csv"), format!("id,y,time{columns}\n{}\n", nodes.join("\n"))).unwrap();
    std::fs::write(place("edges.csv"), format!("src,dst,weight,time\n{}\n", edges.join("\n"))).unwrap();
    let import = ["gnn", "import", "--nodes", &place("nodes.csv"), "--edges", &place("edges.csv")];
    let found = succeed(ftk(&import).args(["--quiet", "--out", &place("g.graph")]));
    let root = found.lines().find_map(|line| line.strip_prefix("root\t")).unwrap();
    let recipe = guilds().with_extension("toml");
    let data = format!("data.train={}", place("g.graph"));
    let train = |out: &str, more: &[&str]| {
        let mut command = ftk(&["train", "--quiet", "--recipe", text(&recipe), "--out", out, "--set", &data]);
        command.args(["--set", "gnn.split=temporal", "--set", "run.steps=5"]);
        succeed(command.args(more.iter().flat_map(|setting| ["--set", setting])));
    };
    let fresh = ["gnn.network=sage", "gnn.project=400", "gnn.normalise=true"];
    train(&place("base"), &fresh);
    let base = place("base/base");
    let model = format!("base.model={base}");
    train(&place("adapter"), &["base.train=false", &model, "lora.rank=2", "gnn.l2=0"]);
    let [adapter, commitment, bundle] = ["adapter", "commitment", "bundle"].map(place);
    let digest =
        succeed(&mut ftk(&["commit", "--quiet", "--base", &base, "--adapter", &adapter, "--out", &commitment]));
    let asked = ["n7", "n19", "n7"];
    let mut command = ftk(&["prove", "--quiet", "--base", &base, "--adapter", &adapter, "--commitment", &commitment]);
    command.args(["--graph", &place("g.graph"), "--open", "--disclose", "--out", &bundle]);
    succeed(command.args(asked.iter().flat_map(|node| ["--node", node])));
    let mut command = ftk(&["verify", "--json", &bundle, "--base", &base, "--expect-adapter", digest.trim()]);
    command.args(["--expect-graph", root]).args(asked.iter().flat_map(|node| ["--expect-node", node]));
    let verdict: Value = serde_json::from_str(&succeed(&mut command)).unwrap();
    assert_eq!(verdict["verdict"], "valid", "{verdict}");
    assert_near(&verdict, [&base, &adapter, &place("g.graph")], &asked);
    // What is projected is counted before it is: features are many here, and what they are projected to is wide.
    let limited = ["verify", "--json", &bundle, "--base", &base, "--max-memory"];
    let judged = |memory: &str| {
        let output = ftk(&limited).arg(memory).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["verdict"].as_str().unwrap().to_owned()
    };
    assert_eq!([judged("1500000"), judged("6000000")], ["undecided", "consistent"]);
}

/// A file that would take more than a verifier has is not looked at.
#[test]
fn parts_of_graphs_are_within_limits() {
    let base = MADE.path("base/base");
    for (limit, value, what) in [("--max-memory", "1000", "bytes of memory"), ("--max-tokens", "3", "nodes")] {
        let bundle = MADE.path("bundle");
        let output = ftk(&["verify", "--json", text(&bundle), "--base", text(&base), limit, value]).output().unwrap();
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&verdict["verdict"], &verdict["check"]), (&"undecided".into(), &"limit".into()));
        assert!(verdict["reason"].as_str().unwrap().contains(what), "{verdict}");
    }
}

/// What is delivered is the adapter with its head.
#[test]
fn a_delivered_adapter_opens_with_its_head() {
    let opening = MADE.path("commitment").join(OPENING);
    let folder = tempfile::tempdir().unwrap();
    let open = |adapter: &Path, commitment: &str| {
        let mut command = ftk(&["open", "--json", text(adapter), "--commitment", text(&MADE.path(commitment))]);
        let output = command.args(["--opening", text(&opening)]).output().unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
        (output.status.code().unwrap(), said["difference"].as_str().unwrap_or_default().to_owned())
    };
    for commitment in ["commitment", "bundle"] {
        assert_eq!(open(&MADE.path("adapter"), commitment), (0, String::new()));
    }
    let (adapter, mut head) = peft::load_with_saved(&MADE.path("adapter")).unwrap();
    let linear: Vec<String> = adapter.sites.keys().cloned().collect();
    head.get_mut("head.bias").unwrap().1[0] += 0.5;
    for (name, head) in [("other", head), ("none", peft::Saved::new())] {
        let delivered = folder.path().join(name);
        peft::save_with_saved(&delivered, &adapter, &head, "base", &linear).unwrap();
        let (code, said) = open(&delivered, "bundle");
        assert!(code == 1 && said.starts_with("head: the adapter's is not the one in "), "{name}: {said}");
    }
}

/// A head is counted as it is sent, and what it gives of every node before that is computed.
#[test]
fn heads_are_within_limits() {
    const CLASSES: usize = 2000;
    let (adapter, mut head) = peft::load_with_saved(&MADE.path("adapter")).unwrap();
    for (shape, values) in head.values_mut() {
        *values = values.iter().copied().cycle().take(values.len() / shape[0] * CLASSES).collect();
        shape[0] = CLASSES;
    }
    let linear: Vec<String> = adapter.sites.keys().cloned().collect();
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| text(&folder.path().join(name)).to_owned();
    let [wide, commitment, bundle] = ["wide", "commitment", "bundle"].map(place);
    peft::save_with_saved(Path::new(&wide), &adapter, &head, "base", &linear).unwrap();
    let (base, graph) = (MADE.path("base/base"), guilds());
    let with = ["--quiet", "--base", text(&base), "--adapter", &wide];
    succeed(ftk(&["commit"]).args(with).args(["--out", &commitment]));
    let mut prove = ftk(&["prove"]);
    prove.args(with).args([
        "--commitment",
        &commitment,
        "--out",
        &bundle,
        "--graph",
        text(&graph),
        "--open",
        "--disclose",
    ]);
    prove.args(["--task", "choice", "--among", "0,1"]).args([["--node", NODES[0]]; 60].as_flattened());
    succeed(&mut prove);
    let judged = |memory: usize| {
        let mut verify = ftk(&["verify", "--json", &bundle, "--base", text(&base), "--max-memory"]);
        let output = verify.arg(memory.to_string()).output().unwrap();
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        (verdict["verdict"].as_str().unwrap().to_owned(), verdict["reason"].as_str().unwrap_or_default().to_owned())
    };
    let sent = 8 * std::fs::metadata(Path::new(&bundle).join(HEAD)).unwrap().len() as usize;
    let logits = 60 * CLASSES * 24;
    assert!(sent < logits);
    let beyond = |needs: usize, allowed: usize| {
        (
            "undecided".to_owned(),
            format!("limit: {needs} bytes of memory are more than {allowed}; limits are set by --max-... options"),
        )
    };
    assert_eq!(judged(sent - 1), beyond(sent, sent - 1));
    assert_eq!(judged(logits - 1), beyond(logits, logits - 1));
    assert_eq!(judged(2 * logits).0, "consistent");
}
