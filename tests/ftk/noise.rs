//! Random graphs, random features, classes and ratings by lot: nothing can be learnt of what is held out, and whatever
//! finds something there has seen it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::run::{ftk, succeed};

const NODES: u32 = 1000;
/// Pairs, of which a tenth is tested: 400 against 400 others leave an AUC a standard deviation of 0.02.
const PAIRS: usize = 4000;
/// Four deviations, where a network that sees one half of the twins of what is tested has 0.35.
const CHANCE: f64 = 0.08;

/// Numbers below a bound, by Knuth's linear congruences.
struct Lots(u64);

impl Lots {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32 % bound
    }
}

/// A folder with nodes that have random features and classes, and pairs of them in the order they were drawn, none
/// twice.
fn nodes(folder: &Path, lots: &mut Lots) -> Vec<(u32, u32)> {
    let mut text = "id,y,split,a,b,c,d,e,f,g,h\n".to_owned();
    for node in 0..NODES {
        let split = ["train", "val", "test"][(node % 3) as usize];
        write!(text, "{node},{},{split}", lots.below(2)).unwrap();
        (0..8).for_each(|_| write!(text, ",{}", lots.below(2)).unwrap());
        text.push('\n');
    }
    std::fs::write(folder.join("nodes.csv"), text).unwrap();
    let mut met = BTreeSet::new();
    let mut pairs = Vec::new();
    while pairs.len() < PAIRS {
        let (a, b) = (lots.below(NODES), lots.below(NODES));
        if a != b && met.insert((a.min(b), a.max(b))) {
            pairs.push((a, b));
        }
    }
    pairs
}

/// The figure of every way to learn a recipe's task, by its name in the table.
fn ablate(folder: &Path, name: &str, set: &[&str], figure: &str) -> Vec<(String, f64)> {
    let out = folder.join(format!("runs-{name}"));
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/gnn/cora.toml");
    let mut command = ftk(&["gnn", "ablate", "--json", "--seeds", "1", recipe.to_str().unwrap()]);
    command.arg("--out").arg(out).arg("--set").arg(format!("data.train={}", folder.display()));
    for set in ["gnn.l2=0", "run.steps=30", "run.eval_every=5", "run.best=eval_loss"].iter().chain(set) {
        command.args(["--set", set]);
    }
    let said: Value = serde_json::from_str(&succeed(&mut command)).unwrap();
    let rows = said["ways"].as_array().unwrap();
    let of = |row: &Value| {
        let value = row["figures"][figure]["mean"].as_f64()?;
        Some((row["name"].as_str().unwrap().to_owned(), value))
    };
    rows.iter().filter_map(of).collect()
}

fn at_chance(mode: &str, figures: &[(String, f64)], chance: f64) {
    within(mode, figures, chance, CHANCE);
}

fn within(mode: &str, figures: &[(String, f64)], chance: f64, most: f64) {
    assert!(figures.iter().any(|(name, _)| name == "network"), "{mode}: {figures:?}");
    for (name, figure) in figures {
        assert!((figure - chance).abs() < most, "{mode}: {name} tells noise apart: {figure}");
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let graph = folder.path().join("graph");
    std::fs::create_dir(&graph).unwrap();
    (folder, graph)
}

#[test]
fn no_link_of_a_random_graph_is_told_from_none() {
    let links = ["gnn.objective=links", "gnn.shares=[0.85,0.05]", "gnn.hidden=16"];
    // What stands in the file for the pair that was drawn at this place.
    type Rows = fn(usize, u32, u32) -> String;
    let modes: [(&str, &str, Rows); 5] = [
        ("once", "src,dst", |_, a, b| format!("{a},{b}\n")),
        ("one weight, both ways", "src,dst,weight", |_, a, b| format!("{a},{b},1\n{b},{a},1\n")),
        ("two weights, one way", "src,dst,weight", |_, a, b| format!("{a},{b},1\n{a},{b},2\n")),
        ("two weights, both ways", "src,dst,weight", |_, a, b| format!("{a},{b},1\n{b},{a},3\n")),
        ("two times, both ways", "src,dst,time", |at, a, b| {
            let late = at + 7 * PAIRS / 10;
            format!("{a},{b},{at}\n{b},{a},{late}\n{a},{b},{}\n", late + 1)
        }),
    ];
    for (mode, header, rows) in modes {
        let (_kept, folder) = folder();
        let pairs = nodes(&folder, &mut Lots(5));
        let rows: String = pairs.iter().enumerate().map(|(at, &(a, b))| rows(at, a, b)).collect();
        std::fs::write(folder.join("edges.csv"), format!("{header}\n{rows}")).unwrap();
        let timed = header.ends_with("time");
        for split in ["gnn.split=random", "gnn.split=temporal"] {
            if split.ends_with("temporal") && !timed {
                continue;
            }
            for scorer in ["gnn.scorer=layers", "gnn.scorer=product"] {
                let mut set = [&links[..], &[split, scorer]].concat();
                if timed && split.ends_with("random") {
                    set.push("gnn.random_split_leaks_the_future=true");
                }
                let mode = format!("{mode}, {split}, {scorer}");
                at_chance(&mode, &ablate(&folder, &format!("{split}{scorer}"), &set, "roc_auc"), 0.5);
            }
        }
    }
}

#[test]
fn no_rating_by_lot_is_foretold() {
    let (_kept, folder) = folder();
    let lots = &mut Lots(9);
    let pairs = nodes(&folder, lots);
    let mut rows = "src,dst,rating,time\n".to_owned();
    for (at, (a, b)) in pairs.iter().enumerate() {
        let rating = [-5, 5][lots.below(2) as usize];
        writeln!(rows, "{a},{b},{rating},{}", 1_300_000_000 + at).unwrap();
        // Each rating back agrees: whoever sees one of the two knows the other.
        writeln!(rows, "{b},{a},{rating},{}", 1_300_000_000 + at).unwrap();
    }
    std::fs::write(folder.join("edges.csv"), &rows).unwrap();
    std::fs::remove_file(folder.join("nodes.csv")).unwrap();
    for split in ["temporal", "stream", "random"] {
        let split_key = format!("gnn.split={split}");
        let mut set = vec!["gnn.objective=ratings", "gnn.network=sage", "gnn.hidden=8", &split_key];
        if split == "random" {
            set.push("gnn.random_split_leaks_the_future=true");
        }
        // Of two ratings that one user gave there are some two hundred pairs: a deviation of 0.035.
        for (figure, most) in [("sign_auc", CHANCE), ("pair_accuracy", 0.14)] {
            within(split, &ablate(&folder, &format!("{split}{figure}"), &set, figure), 0.5, most);
        }
    }
}

#[test]
fn no_class_by_lot_is_learnt() {
    let (_kept, folder) = folder();
    let pairs = nodes(&folder, &mut Lots(3));
    let rows: String = pairs.iter().map(|(a, b)| format!("{a},{b}\n")).collect();
    std::fs::write(folder.join("edges.csv"), format!("src,dst\n{rows}")).unwrap();
    for network in ["gcn", "sage", "gat"] {
        let figures = ablate(&folder, network, &[&format!("gnn.network={network}")], "accuracy");
        at_chance(network, &figures, 0.5);
    }
}
