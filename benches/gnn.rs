//! Epochs of `ftk train` on whole graphs, as a whole command, in f32: a graph of Cora's size with features as sparse as
//! Cora's (GCN, 16 hidden features), and one of the size of ogbn-arxiv (GCN, three layers of 256).
//!
//! `cargo bench --bench gnn` measures ftk. With `-- --peer PYTHON`, an interpreter that has torch and torch_geometric,
//! `benches/gnn_peer.py` trains the same network on the same graph before and after, in the same run. Words pick graphs:
//! `-- cora`.
//!
//! Peak memory is read from `/proc`, so it is known on Linux only.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use ftk_gnn::graph::{Carries, Edge, Graph, NodeSplit};
use ftk_networks::ops::graph::{Features, Sparse};
use serde_json::Value;

/// A graph and a network for it.
struct Shape {
    name: &'static str,
    nodes: usize,
    edges: usize,
    features: usize,
    /// Features that are not zero, of each node.
    present: usize,
    classes: usize,
    train: usize,
    hidden: usize,
    layers: usize,
    /// Epochs before timing, and timed.
    epochs: [usize; 2],
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "cora",
        nodes: 2708,
        edges: 5278,
        features: 1433,
        present: 18,
        classes: 7,
        train: 140,
        hidden: 16,
        layers: 2,
        epochs: [20, 200],
    },
    Shape {
        name: "arxiv",
        nodes: 169_343,
        edges: 1_166_243,
        features: 128,
        present: 128,
        classes: 40,
        train: 90_941,
        hidden: 256,
        layers: 3,
        epochs: [1, 3],
    },
];

/// Knuth's MMIX generator: any numbers will do.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let peer = args.iter().position(|arg| arg == "--peer").map(|at| args.get(at + 1).expect("--peer needs a path"));
    let named = |shape: &&Shape| args.iter().any(|arg| arg == shape.name);
    let chosen: Vec<&Shape> = SHAPES.iter().filter(named).collect();
    let chosen = if chosen.is_empty() { SHAPES.iter().collect() } else { chosen };
    println!("| graph | tool | ms an epoch | peak MiB |");
    println!("|---|---|---|---|");
    for shape in chosen {
        let folder = tempfile::tempdir().expect("a temporary folder");
        make(folder.path(), shape);
        if let Some(python) = peer {
            report(shape, "PyG", run_peer(python, folder.path(), shape));
        }
        report(shape, "ftk", run_ftk(folder.path(), shape));
        if let Some(python) = peer {
            report(shape, "PyG", run_peer(python, folder.path(), shape));
            report(shape, "ftk", run_ftk(folder.path(), shape));
        }
    }
}

fn report(shape: &Shape, tool: &str, (seconds, peak): (f64, Option<f64>)) {
    let peak = peak.map_or("-".to_owned(), |peak| format!("{peak:.0}"));
    println!("| {} | {tool} | {:.2} | {peak} |", shape.name, 1000.0 * seconds);
}

/// Writes the graph for ftk, and its edges, features and classes as plain numbers for the peer.
fn make(folder: &Path, shape: &Shape) {
    let mut numbers = Numbers(1);
    let mut edges = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    while edges.len() < shape.edges {
        // Squared, some nodes have many neighbours.
        let draw = |numbers: &mut Numbers| numbers.below(shape.nodes) * numbers.below(shape.nodes) / shape.nodes;
        let (a, b) = (draw(&mut numbers), numbers.below(shape.nodes));
        if a != b && seen.insert((a.min(b), a.max(b))) {
            edges.push(Edge { source: a.min(b) as u32, target: a.max(b) as u32, weight: 1.0, time: 0.0 });
        }
    }
    edges.sort_by_key(|edge| (edge.source, edge.target));
    let rows: Vec<Vec<(u32, f32)>> = (0..shape.nodes)
        .map(|_| {
            let mut columns: Vec<u32> = if shape.present == shape.features {
                (0..shape.features as u32).collect()
            } else {
                (0..shape.present).map(|_| numbers.below(shape.features) as u32).collect()
            };
            columns.sort_unstable();
            columns.dedup();
            columns.into_iter().map(|column| (column, (1 + numbers.below(1000)) as f32 / 1000.0)).collect()
        })
        .collect();
    let sparse = Features::sparse(Sparse::from_rows(shape.features, rows));
    let x: Vec<f32> = (0..shape.nodes).flat_map(|node| sparse.row(node)).collect();
    let labels: Vec<Option<u32>> = (0..shape.nodes).map(|_| Some(numbers.below(shape.classes) as u32)).collect();
    let part = |node: usize| match node {
        node if node < shape.train => NodeSplit::Train,
        node if node < shape.train + 500 => NodeSplit::Validation,
        _ => NodeSplit::None,
    };
    let write = |name: &str, bytes: Vec<u8>| std::fs::write(folder.join(name), bytes).expect("a file on disk");
    write("x.bin", x.iter().flat_map(|value| value.to_le_bytes()).collect());
    write("y.bin", labels.iter().flatten().flat_map(|label| i64::from(*label).to_le_bytes()).collect());
    let both =
        edges.iter().map(|edge| (edge.source, edge.target)).chain(edges.iter().map(|edge| (edge.target, edge.source)));
    let (sources, targets): (Vec<u32>, Vec<u32>) = both.unzip();
    write("edges.bin", sources.iter().chain(&targets).flat_map(|end| i64::from(*end).to_le_bytes()).collect());
    let graph = Graph {
        names: None,
        nodes: shape.nodes,
        features: Some(Arc::new(Features::new(shape.features, x))),
        labels,
        classes: (0..shape.classes).map(|class| class.to_string()).collect(),
        parts: (0..shape.nodes).map(part).collect(),
        times: Vec::new(),
        edges,
        carries: Carries::default(),
        held_out: Default::default(),
    };
    write("g.graph", graph.to_bytes());
}

fn run_ftk(folder: &Path, shape: &Shape) -> (f64, Option<f64>) {
    let out = folder.join("run");
    // A run folder is not used twice.
    std::fs::remove_dir_all(&out).ok();
    let recipe = format!(
        "task = \"gnn\"\n[base]\nmodel = \"fresh\"\ntrain = true\n[data]\ntrain = \"g.graph\"\n\
         [gnn]\nlayers = {}\nhidden = {}\n[optim]\nlr = 0.01\n[run]\nout = \"run\"\nbatch = 10000000\nsteps = {}\n",
        shape.layers,
        shape.hidden,
        shape.epochs[0] + shape.epochs[1],
    );
    let path = folder.join("recipe.toml");
    std::fs::write(&path, recipe).expect("a recipe on disk");
    let mut command = Command::new(env!("CARGO_BIN_EXE_ftk"));
    command.args(["train", "--json", "--quiet", "--recipe"]).arg(path);
    measure(command, shape)
}

fn run_peer(python: &str, folder: &Path, shape: &Shape) -> (f64, Option<f64>) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gnn_peer.py");
    let mut command = Command::new(python);
    let numbers =
        [shape.features, shape.classes, shape.hidden, shape.layers, shape.train, shape.epochs[0] + shape.epochs[1]];
    command.arg(script).arg(folder).args(numbers.map(|number| number.to_string()));
    measure(command, shape)
}

/// Runs a command that prints a JSON object with a `step` after each epoch: the median time of one, and peak memory.
fn measure(mut command: Command, shape: &Shape) -> (f64, Option<f64>) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the command starts");
    let status = format!("/proc/{}/status", child.id());
    let began = Instant::now();
    let (mut ends, mut peak) = (Vec::new(), None);
    for line in BufReader::new(child.stdout.take().expect("piped above")).lines().map_while(Result::ok) {
        let object = serde_json::from_str::<Value>(&line).unwrap_or_default();
        // The last object says what came of all epochs.
        if object["step"].is_u64() && object["ended"].is_null() {
            ends.push(began.elapsed().as_secs_f64());
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            let line =
                status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
            peak = line.map(|kib: f64| kib / 1024.0).or(peak);
        }
    }
    assert!(child.wait().expect("the command ends").success(), "the command failed");
    let mut epochs: Vec<f64> = ends.windows(2).map(|pair| pair[1] - pair[0]).skip(shape.epochs[0] - 1).collect();
    assert_eq!(epochs.len(), shape.epochs[1], "a line an epoch");
    // The last one is evaluated, too.
    epochs.pop();
    epochs.sort_by(f64::total_cmp);
    (epochs[epochs.len() / 2], peak)
}
