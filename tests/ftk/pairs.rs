//! Proofs of scores of pairs in a stream of ratings, through the command line, and what forgers try.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use ftk::prove::bundle;
use ftk::prove::subject::ProvedBase;
use ftk_adapters::peft;
use ftk_circuits::{AdapterCommitment, Digest};
use ftk_gnn::graph::Edge;
use ftk_gnn::import::{Origin, import};
use ftk_networks::graphs::opened::OpenedPart;
use ftk_networks::graphs::state::KnownRatings;
use ftk_proofs::bundle::{Bundle, GRAPH, STATEMENT};
use ftk_proofs::limits::Limits;
use ftk_proofs::{Case, Input, Logits, Output};
use serde_json::Value;
use tempfile::TempDir;

use crate::forger;
use crate::run::{ftk, stderr, succeed};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Who is asked about: two who have rated, somebody whose first rating comes later, as who rates and as who is rated.
const PAIRS: [[&str; 2]; 3] = [["u4", "u9"], ["u3", "late, later"], ["late, later", "u0"]];
/// The moment that is asked about.
const MOMENT: &str = "500000.5";

/// Three hundred ratings among twenty users, every other one of the moment of the one before it.
fn ratings() -> String {
    let mut table = "src,dst,rating,time\n".to_owned();
    for at in 0..300u32 {
        let (source, target) = (at * 7 % 20, (at * at + 3 * at + 1) % 20);
        if source != target {
            table += &format!("u{source},u{target},{},{}\n", [4, -3, 1, 8, -10, 2][at as usize % 6], at / 2 * 5000);
        }
    }
    table + "u1,\"late, later\",5,600000\n\"late, later\",u2,-4,600001\n"
}

/// A base, an adapter, its commitment and a bundle in the open, made once.
struct Made {
    folder: TempDir,
    adapter: String,
    state: String,
}

impl Made {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, verb: &str, named: &[(&str, &str)]) -> Command {
        let mut command = ftk(&[verb, "--quiet"]);
        for (option, name) in named {
            command.arg(option).arg(self.path(name));
        }
        command
    }

    fn prove(&self, out: &str, pairs: &[[&str; 2]], more: &[&str]) -> Command {
        let files = [("--base", "base/base"), ("--adapter", "adapter"), ("--commitment", "commitment"), ("--out", out)];
        let mut command = self.command("prove", &files);
        command.arg("--graph").arg(self.path("ratings.csv")).args(["--before", MOMENT]);
        command.args(pairs.iter().flat_map(|[from, to]| ["--pair", from, to])).args(more);
        command
    }

    /// The verdict on a bundle, with every expectation but those left out.
    fn verify(&self, bundle: &Path, state: Option<&str>, pairs: &[[&str; 2]]) -> Value {
        let mut command = ftk(&["verify", "--json", text(bundle), "--base", text(&self.path("base/base"))]);
        command.args(["--expect-adapter", &self.adapter]);
        command.args(pairs.iter().flat_map(|[from, to]| ["--expect-pair", from, to]));
        command.args(state.iter().flat_map(|state| ["--expect-graph", state]));
        let output = command.output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)))
    }

    fn bundle(&self) -> Bundle {
        bundle::read(&self.path("bundle"), &Limits::default()).unwrap()
    }

    /// The check that refuses a bundle, for somebody who expects its own root.
    fn refusal(&self, bundle: &Bundle) -> String {
        let folder = tempfile::tempdir().unwrap();
        bundle::write(bundle, folder.path()).unwrap();
        let root = bundle.statement.graph().map(|root| root.to_string());
        let verdict = self.verify(folder.path(), root.as_deref(), &PAIRS);
        assert_eq!(verdict["verdict"], "invalid", "{verdict}");
        verdict["check"].as_str().unwrap().to_owned()
    }

    /// The state of these ratings as a prover has it.
    fn known(change: impl Fn(&mut Vec<Edge>)) -> KnownRatings {
        let (graph, _) = import(&Origin::Path(MADE.path("ratings.csv"))).unwrap();
        let moment = MOMENT.parse().unwrap();
        let mut edges = graph.before(moment).unwrap().edges;
        change(&mut edges);
        KnownRatings::new(moment, &edges, |user| graph.name(user as usize)).unwrap()
    }

    /// What a prover makes of these ratings, with everything that follows from them: root, statement, outputs, proof.
    fn forge(&self, change: impl Fn(&mut Vec<Edge>)) -> Bundle {
        let known = Self::known(change);
        let (state, asked) = (Digest(*known.root().as_bytes()), PAIRS.map(|pair| pair.map(str::to_owned)));
        let part = OpenedPart::State(known.open(&asked));
        let ProvedBase::Graph { base, .. } = ProvedBase::open(&self.path("base/base")).unwrap() else {
            panic!("a base of graphs")
        };
        let (adapter, _) = peft::load_with_saved(&self.path("adapter")).unwrap();
        let case = |[source, target]: [String; 2]| Case {
            input: Input::Pair { state, source, target },
            output: Logits::asked().into(),
        };
        let (cases, registration) = (asked.map(case).to_vec(), self.bundle().registration);
        let model = base.fixed().unwrap();
        Bundle { registration, ..forger::proved(&self.path("commitment"), &model, &adapter, cases, part) }
    }
}

/// States that the pairs are of the state with another root.
fn hang(bundle: &mut Bundle, root: Digest) {
    for case in &mut bundle.statement.cases {
        let Input::Pair { state, .. } = &mut case.input else { panic!("a pair") };
        *state = root;
    }
}

static MADE: LazyLock<Made> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ratings.csv"), ratings()).unwrap();
    let mut made = Made { adapter: String::new(), state: String::new(), folder };
    let data = format!("data.train={}", text(&made.path("ratings.csv")));
    let train = |out: &str, settings: &[&str]| {
        let mut command = made.command("train", &[("--out", out)]);
        let shared = [data.as_str(), "gnn.dropout=0.0", "run.batch=32", "run.eval_every=2"];
        let settings = shared.iter().chain(settings).flat_map(|setting| ["--set", setting]);
        succeed(command.args(["--recipe", "gnn/bitcoin-otc-stream"]).args(settings));
    };
    train("base", &["gnn.layers=2", "gnn.hidden=8", "run.steps=8"]);
    let model = format!("base.model={}", text(&made.path("base/base")));
    train("adapter", &["base.train=false", &model, "lora.rank=2", "run.steps=4"]);
    let files = [("--base", "base/base"), ("--adapter", "adapter"), ("--out", "commitment")];
    let digest = succeed(&mut made.command("commit", &files));
    let found = succeed(ftk(&["gnn", "import", "--quiet", "--before", MOMENT]).arg(made.path("ratings.csv")));
    made.state = found.lines().find_map(|line| line.strip_prefix("state\t")).unwrap().to_owned();
    made.adapter = digest.trim().to_owned();
    let refused = made.prove("bundle", &PAIRS, &["--open"]).output().unwrap();
    assert!(stderr(&refused).contains("open mode publishes"), "{}", stderr(&refused));
    succeed(&mut made.prove("bundle", &PAIRS, &["--open", "--disclose"]));
    made
});

#[test]
fn pairs_are_proved_with_the_state_they_are_of() {
    succeed(&mut MADE.prove("sealed", &PAIRS, &[]));
    for (name, sealed) in [("bundle", false), ("sealed", true)] {
        let verdict = MADE.verify(&MADE.path(name), Some(&MADE.state), &PAIRS);
        assert_eq!((&verdict["verdict"], &verdict["sealed"]), (&"valid".into(), &sealed.into()), "{verdict}");
        assert_eq!(verdict["graph"], MADE.state);
        assert_eq!(verdict["cases"][1]["input"]["target"], PAIRS[1][1]);
        // Of whom nothing is known, the verdict says so.
        let strangers = |case: usize| verdict["cases"][case]["input"]["strangers"].clone();
        assert_eq!((strangers(0), strangers(1)), (serde_json::json!([]), serde_json::json!([PAIRS[1][1]])));
        // Without the root it may be any state.
        let verdict = MADE.verify(&MADE.path(name), None, &PAIRS);
        assert_eq!(verdict["verdict"], "consistent");
        assert_eq!(verdict["undecided"][0], "without --expect-graph the graph may be another than you think");
        let verdict = MADE.verify(&MADE.path(name), Some(&MADE.state), &[]);
        assert_eq!(verdict["verdict"], "consistent", "{verdict}");
    }
    let statement = |name: &str| std::fs::read(MADE.path(name).join(STATEMENT)).unwrap();
    assert_eq!(statement("sealed"), statement("bundle"));
    // The forger's tools make an honest bundle of honest ratings, so that what they are refused for is what they change.
    let folder = tempfile::tempdir().unwrap();
    bundle::write(&MADE.forge(|_| {}), folder.path()).unwrap();
    assert_eq!(MADE.verify(folder.path(), Some(&MADE.state), &PAIRS)["verdict"], "valid");
}

/// What is proved is what is deployed, but for the rounding of integers, and a table names pairs as options do.
#[test]
fn proved_scores_are_those_that_are_deployed() {
    let table = MADE.path("pairs.csv");
    std::fs::write(&table, "from,to\nu4,u9\nu3,\"late, later\"\n\"late, later\",u0\n").unwrap();
    succeed(MADE.prove("of-table", &[], &["--open", "--disclose"]).arg("--pairs").arg(&table));
    let read = |name: &str| std::fs::read(MADE.path(name).join(STATEMENT)).unwrap();
    assert_eq!(read("of-table"), read("bundle"));
    let mut command = ftk(&["verify", "--json", text(&MADE.path("bundle")), "--base", text(&MADE.path("base/base"))]);
    command.args(["--expect-adapter", &MADE.adapter, "--expect-graph", &MADE.state, "--expect-task", "logits"]);
    let verdict: Value = serde_json::from_str(&succeed(command.arg("--expect-pairs").arg(&table))).unwrap();
    assert_eq!((&verdict["verdict"], verdict["not_expected"].as_array().unwrap().len()), (&"valid".into(), 0));
    let mut command = ftk(&["gnn", "score", "--json", "--before", MOMENT]);
    for (option, name) in
        [("--base", "base/base"), ("--adapter", "adapter"), ("--graph", "ratings.csv"), ("--pairs", "pairs.csv")]
    {
        command.arg(option).arg(MADE.path(name));
    }
    let scores: Vec<Value> = succeed(&mut command).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (case, score) in scores.iter().enumerate() {
        let output = &verdict["cases"][case]["output"];
        for (at, name) in ["rating", "log_odds"].into_iter().enumerate() {
            let (exact, float) = (output[name].as_f64().unwrap(), score["scores"][at].as_f64().unwrap());
            assert!((exact - float).abs() < 2e-2 * float.abs().max(1.0), "{case} {name}: {exact} {float}");
        }
    }
    assert_eq!(scores.len(), 3);
}

/// Nothing of what came later is known, and nothing of what was not asked about: whoever has the ratings up to a moment,
/// in whatever order, has its root.
#[test]
fn the_root_of_a_state_is_of_what_was_known() {
    let mut rows: Vec<String> = ratings().lines().map(str::to_owned).collect();
    let header = rows.remove(0);
    rows.retain(|row| row.rsplit(',').next().unwrap().parse::<f64>().unwrap() < MOMENT.parse().unwrap());
    rows.reverse();
    let table = MADE.path("reversed.csv");
    std::fs::write(&table, format!("{header}\n{}\n", rows.join("\n"))).unwrap();
    let state = |more: &[&str]| {
        let found = succeed(ftk(&["gnn", "import", "--quiet"]).arg(&table).args(more));
        found.lines().find_map(|line| line.strip_prefix("state\t")).unwrap().to_owned()
    };
    assert_eq!(state(&["--before", MOMENT]), MADE.state);
    // The moment is part of it, and without one it is that of the last rating.
    assert_ne!(state(&[]), MADE.state);
    assert_ne!(state(&["--before", "500001"]), MADE.state);
    rows.pop();
    std::fs::write(&table, format!("{header}\n{}\n", rows.join("\n"))).unwrap();
    assert_ne!(state(&["--before", MOMENT]), MADE.state);
    // What is imported up to a moment is all there is of it.
    let cut = MADE.path("cut.graph");
    let told = succeed(ftk(&["gnn", "import", "--json", "--before", MOMENT, "--out", text(&cut)]).arg(&table));
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["edges"], rows.len());
    // Where edges are no ratings there is none.
    let plain = MADE.path("plain.csv");
    std::fs::write(&plain, "src,dst\na,b\n").unwrap();
    let told: Value = serde_json::from_str(&succeed(ftk(&["gnn", "import", "--json"]).arg(&plain))).unwrap();
    assert!(told["state"].is_null());
}

/// What a forger does to the ratings.
type Change<'a> = &'a dyn Fn(&mut Vec<Edge>);

#[test]
fn forged_ratings_are_refused() {
    let truth = Made::known(|_| {}).root();
    // One is left out, one is added, one is another: whoever has the root of the ratings does not take another.
    let (graph, _) = import(&Origin::Path(MADE.path("ratings.csv"))).unwrap();
    let target = graph.numbers()[PAIRS[0][1]];
    let first = |edges: &[Edge]| edges.iter().position(|edge| edge.target == target).unwrap();
    let changes: [Change<'_>; 3] = [
        &|edges| {
            edges.remove(first(edges));
        },
        &|edges| {
            let edge = edges[first(edges)];
            edges.push(Edge { weight: 10.0, time: edge.time + 1.0, ..edge });
        },
        &|edges| {
            let at = first(edges);
            edges[at].weight = 10.0;
        },
    ];
    for change in changes {
        let mut forged = MADE.forge(change);
        assert_ne!(forged.statement.cases[0].output, MADE.bundle().statement.cases[0].output);
        let folder = tempfile::tempdir().unwrap();
        bundle::write(&forged, folder.path()).unwrap();
        let verdict = MADE.verify(folder.path(), Some(&MADE.state), &PAIRS);
        assert_eq!(verdict["check"], "expected graph");
        assert_eq!(MADE.verify(folder.path(), None, &PAIRS)["verdict"], "consistent");
        // The same under the true root.
        hang(&mut forged, Digest(*truth.as_bytes()));
        assert_eq!(MADE.refusal(&forged), "graph root");
    }
    // Less or more is opened than the pairs depend on, or who has ratings is passed off as somebody who has none.
    let named = |pair: [&str; 2]| pair.map(str::to_owned);
    let few = |edges: &mut Vec<Edge>| edges.truncate(40);
    let known = Made::known(few);
    let (all, less) = (known.open(&PAIRS.map(named)), known.open(&[PAIRS[0]].map(named)));
    assert!(less.members() < all.members());
    let mut part = MADE.forge(few);
    part.graph = Some(OpenedPart::State(less));
    assert_eq!(MADE.refusal(&part), "graph name");
    part.graph = Some(OpenedPart::State(all));
    part.statement.cases.truncate(1);
    assert_eq!(MADE.refusal(&part), "graph coverage");
    let mut newcomer = MADE.bundle();
    newcomer.graph = Some(OpenedPart::State(Made::known(|_| {}).open(&[["u4", "u99"]].map(named))));
    assert_eq!(MADE.refusal(&newcomer), "graph name");
    // Bytes of something else.
    let folder = tempfile::tempdir().unwrap();
    bundle::write(&MADE.bundle(), folder.path()).unwrap();
    let bytes = std::fs::read(folder.path().join(GRAPH)).unwrap();
    let put = |at: usize, with: &[u8]| {
        let mut edited = bytes.clone();
        edited[at..at + with.len()].copy_from_slice(with);
        std::fs::write(folder.path().join(GRAPH), edited).unwrap();
        MADE.verify(folder.path(), Some(&MADE.state), &PAIRS)["check"].as_str().unwrap().to_owned()
    };
    assert_eq!(put(0, b"ftk graph part\0\x01"), "graph encoding");
    // Another moment, one that is before what it knows, other totals.
    assert_eq!(put(16, &500_000.75f64.to_le_bytes()), "graph root");
    assert_eq!(put(16, &1.0f64.to_le_bytes()), "state time");
    assert_eq!(put(32, &1.0f64.to_le_bytes()), "graph root");
    assert_eq!(put(24, &1u64.to_le_bytes()), "state totals");
}

#[test]
fn another_pair_or_output_is_refused() {
    let mut bundle = MADE.bundle();
    bundle.statement.cases.swap(0, 1);
    assert_eq!(MADE.refusal(&bundle), "expected input");
    // Who rates whom is what is asked.
    let [[source, target], ..] = PAIRS;
    let verdict = MADE.verify(&MADE.path("bundle"), Some(&MADE.state), &[[target, source], PAIRS[1], PAIRS[2]]);
    assert_eq!(verdict["check"], "expected input");
    let mut bundle = MADE.bundle();
    let Output::Logits(Logits::Values(values)) = &mut bundle.statement.cases[2].output else { panic!("logits") };
    values[1] += 1;
    assert_eq!(MADE.refusal(&bundle), "output");
    // The deltas of the scorer at one pair are those at another.
    let mut bundle = MADE.bundle();
    let shapes = bundle.commitment.shapes();
    let at = shapes.iter().position(|shape| shape.name == "scorer.pair").unwrap();
    let width = shapes[at].d_out as usize;
    let (first, rest) = bundle.deltas[at].split_at_mut(width);
    first.copy_from_slice(&rest[..width]);
    assert_eq!(MADE.refusal(&bundle), "output");
    // A sealed one with another logit.
    succeed(&mut MADE.prove("sealed-one", &PAIRS[..1], &[]));
    let folder = MADE.path("sealed-one");
    assert_eq!(MADE.verify(&folder, Some(&MADE.state), &PAIRS[..1])["verdict"], "valid");
    let said = std::fs::read_to_string(folder.join(STATEMENT)).unwrap();
    let value: Value = serde_json::from_str(&said).unwrap();
    let logit = value["cases"][0]["output"]["values"][1].as_i64().unwrap();
    std::fs::write(folder.join(STATEMENT), said.replacen(&logit.to_string(), &(logit + 1).to_string(), 1)).unwrap();
    assert_eq!(MADE.verify(&folder, Some(&MADE.state), &PAIRS[..1])["check"], "sealed proof");
}

/// What is asked of a pair that is none of this base's, or of this graph's, is refused where it is asked.
#[test]
fn pairs_and_nodes_are_told_apart() {
    let refused = |command: &mut Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    let node = refused(MADE.prove("never", &[], &[]).args(["--node", "u4"]));
    assert!(node.contains("the base scores pairs of users\nhint: give --pair, or --pairs"), "{node}");
    let choice = refused(MADE.prove("never", &PAIRS[..1], &[]).args(["--task", "choice"]));
    assert!(choice.contains("of a pair its rating and log-odds are proved, and nothing else"), "{choice}");
    let nobody = refused(&mut MADE.prove("never", &[["u4", "nobody"]], &[]));
    assert!(nobody.contains("has no node nobody"), "{nobody}");
    let mut early = MADE.prove("never", &PAIRS[..1], &[]);
    let early = refused(early.args(["--before", "-5"]));
    assert!(early.contains("cannot be used multiple times"), "{early}");
    let files = [("--base", "base/base"), ("--adapter", "adapter"), ("--commitment", "commitment"), ("--out", "never")];
    let mut early = MADE.command("prove", &files);
    early.arg("--graph").arg(MADE.path("ratings.csv")).args(["--pair", "u4", "u9", "--before", "-5"]);
    let early = refused(&mut early);
    assert!(early.contains("no rating is known by then\nhint: give --before a later moment"), "{early}");
    let prompt = refused(MADE.command("prove", &files).args(["--prompt", "hello"]));
    assert!(prompt.contains("the base is one of graphs\nhint: give --graph and --pair"), "{prompt}");

    // A base that classifies nodes takes no pairs, and this one no nodes.
    let guilds = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/gnn/guilds");
    let recipe = guilds.with_extension("toml");
    succeed(MADE.command("train", &[("--out", "nodes")]).args(["--recipe", text(&recipe), "--set", "run.steps=3"]));
    let judge = |bundle: &Path| {
        let base = MADE.path("nodes/base");
        let output = ftk(&["verify", "--json", text(bundle), "--base", text(&base), "--any-input"]).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["check"].clone()
    };
    // Who says of which base it is comes before what it takes.
    assert_eq!(judge(&MADE.path("bundle")), "base");
    let ProvedBase::Graph { base, .. } = ProvedBase::open(&MADE.path("nodes/base")).unwrap() else { panic!("a base") };
    let (digest, folder) = (base.fixed().unwrap().digest(), tempfile::tempdir().unwrap());
    let mut other = MADE.bundle();
    other.statement.base = digest;
    let bytes = other.commitment.encode();
    let place = bytes.windows(32).position(|window| window == MADE.bundle().statement.base.0).unwrap();
    let moved = [&bytes[..place], &digest.0, &bytes[place + 32..]].concat();
    other.commitment = AdapterCommitment::decode(&moved).unwrap();
    other.statement.adapter = other.commitment.digest();
    bundle::write(&other, folder.path()).unwrap();
    assert_eq!(judge(folder.path()), "kind of input");
    let (graph, _) = import(&Origin::Path(guilds)).unwrap();
    let mut nodes = MADE.bundle();
    let state = Digest(*graph.root().as_bytes());
    let output = nodes.statement.cases[0].output.clone();
    nodes.statement.cases = vec![Case { input: Input::Node { graph: state, node: 7 }, output }];
    nodes.graph = Some(OpenedPart::Graph(graph.neighbourhood(&[7], 2).unwrap()));
    let rows = |at: usize| Some(nodes.graph.as_ref()?.receivers(&nodes.statement.asked()?)[at.min(1)]);
    let sites = nodes.commitment.shapes();
    let of = |name: &str| match name.strip_prefix("conv") {
        Some(rest) => rows(rest[..1].parse::<usize>().unwrap() - 1).unwrap(),
        None => 1,
    };
    nodes.deltas = sites.iter().map(|site| vec![0; of(&site.name) * site.d_out as usize]).collect();
    let folder = tempfile::tempdir().unwrap();
    bundle::write(&nodes, folder.path()).unwrap();
    let base = MADE.path("base/base");
    let output = ftk(&["verify", "--json", text(folder.path()), "--base", text(&base)]).output().unwrap();
    let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verdict["check"], "kind of input", "{verdict}");
}

/// A file that would take more than a verifier has is not looked at, nor more users than it would run the base on.
#[test]
fn parts_of_states_are_within_limits() {
    let base = MADE.path("base/base");
    for (limit, value, what) in [("--max-memory", "10000", "bytes of memory"), ("--max-tokens", "53", "nodes")] {
        let bundle = MADE.path("bundle");
        let output = ftk(&["verify", "--json", text(&bundle), "--base", text(&base), limit, value]).output().unwrap();
        let verdict: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&verdict["verdict"], &verdict["check"]), (&"undecided".into(), &"limit".into()), "{verdict}");
        assert!(verdict["reason"].as_str().unwrap().contains(what), "{verdict}");
    }
}
