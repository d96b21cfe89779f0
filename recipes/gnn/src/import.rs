//! Graphs from the files people have: tables of nodes and edges, NumPy archives, folders as the Open Graph Benchmark
//! lays them out, and the canonical file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ftk_adapters::foreign;
use ftk_networks::ops::graph::Features;

use super::archives;
use super::error::GraphError;
use super::graph::{Carries, Edge, Graph, ImportFindings, NodeSplit};
use super::node_link::{self, NodeLink};
use super::npz::{self, Array, Values};
use super::ogb;
use super::table::{HeaderLine, Table, TableRow};
use ftk_networks::graphs::name::spelt;

/// Where a graph comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A canonical file, an archive (`.npz`), a table of edges, a folder with `edges.csv` and perhaps `nodes.csv`, or one
    /// of the Open Graph Benchmark: by its name.
    Path(PathBuf),
    /// Tables (`.csv`, `.csv.gz`, `.parquet`) of nodes, if there is one, and edges.
    Tables {
        /// `id`, features, and `y`, `split`, `time` where known.
        nodes: Option<PathBuf>,
        /// Both ends, and `weight` and `time` where known.
        edges: PathBuf,
        /// `(a, b)` is not `(b, a)`; so it is in any case where edges carry a weight or a time.
        directed: bool,
    },
}

/// File ending of the canonical file.
pub const ENDING: &str = "graph";

/// Reads a graph from wherever it is and checks it.
///
/// # Errors
/// Files that cannot be read or are malformed; whatever in them does not fit together.
pub fn import(origin: &Origin) -> Result<(Graph, ImportFindings), GraphError> {
    match origin {
        Origin::Tables { nodes, edges, directed } => tables(nodes.as_deref(), edges, *directed),
        Origin::Path(path) if path.join("edges.csv").exists() => {
            let nodes = path.join("nodes.csv");
            tables(nodes.exists().then_some(nodes.as_path()), &path.join("edges.csv"), false)
        }
        Origin::Path(path) if path.is_dir() => ogb::read(path),
        Origin::Path(path) => {
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            match ending.to_ascii_lowercase().as_str() {
                ENDING => {
                    let bytes = foreign::read(path, foreign::DATA).map_err(|error| GraphError::io(path, error))?;
                    Graph::new(path, Graph::from_bytes(path, &bytes)?)
                }
                "npz" => archive(path),
                "json" => {
                    let NodeLink { nodes, edges, directed } = node_link::read(path)?;
                    of_tables(Some(nodes), edges, directed)
                }
                "bin" | "pt" | "pth" | "pkl" | "pickle" | "gpickle" => {
                    let error = GraphError::malformed(path, "archives of DGL and PyTorch and pickles are not read");
                    Err(error.hinted(
                        "save x, edge_index, y and masks with numpy.savez: recipes/gnn/README.md has the lines",
                    ))
                }
                _ => tables(None, path, false),
            }
        }
    }
}

/// Gives names their numbers in the order in which they come.
#[derive(Default)]
struct Names {
    known: BTreeMap<String, u32>,
    order: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        let name = spelt(name);
        if let Some(&number) = self.known.get(&*name) {
            return number;
        }
        let number = self.order.len() as u32;
        self.known.insert(name.clone().into_owned(), number);
        self.order.push(name.into_owned());
        number
    }
}

/// Classes in an order of their own: by number where all are numbers, else by text.
fn classes<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut all: Vec<&str> = names.collect();
    all.sort_by(|a, b| match (a.parse::<i64>(), b.parse::<i64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => a.cmp(b),
    });
    all.dedup();
    all.into_iter().map(str::to_owned).collect()
}

const ID: [&str; 4] = ["id", "node", "name", "address"];
const LABEL: [&str; 3] = ["y", "label", "class"];
const SPLIT: [&str; 1] = ["split"];
const TIME: [&str; 5] = ["time", "ts", "timestamp", "date", "block_timestamp"];
const SOURCE: [&str; 8] = ["src", "source", "from", "rater", "from_address", "sender", "source_id", "u"];
const TARGET: [&str; 9] = ["dst", "target", "to", "destination", "ratee", "to_address", "receiver", "target_id", "v"];
const WEIGHT: [&str; 5] = ["weight", "rating", "value", "feature", "amount"];

/// Characters of a number that 32 bits hold in any case.
const EXACT: usize = 7;

fn tables(nodes: Option<&Path>, edges: &Path, directed: bool) -> Result<(Graph, ImportFindings), GraphError> {
    let nodes = nodes.map(|path| Table::read(path, HeaderLine::Names)).transpose()?;
    of_tables(nodes, Table::read(edges, HeaderLine::Names)?, directed)
}

fn of_tables(nodes: Option<Table>, edges: Table, directed: bool) -> Result<(Graph, ImportFindings), GraphError> {
    let mut names = Names::default();
    let mut graph = Graph::empty();
    let closed = nodes.is_some();
    if let Some(table) = nodes {
        node_table(&table, &mut names, &mut graph)?;
    }
    let path = edges.path().to_owned();
    let EdgeTable { edges, carries, merged, parts } = edge_table(edges, directed, &mut names, closed)?;
    (graph.edges, graph.carries) = (edges, carries);
    let known = graph.hold_out(&parts);
    graph.nodes = names.order.len();
    graph.names = Some(names.order);
    let (graph, found) = Graph::new(&path, graph)?;
    Ok((graph, ImportFindings { merged, known, ..found }))
}

/// What a table says of edges.
struct EdgeTable {
    edges: Vec<Edge>,
    carries: Carries,
    /// How many became the same as another by the rounding of their weights.
    merged: usize,
    /// What each is for; empty where the table does not say.
    parts: Vec<NodeSplit>,
}

/// The edges of a table; ends that are not among the names yet are added to them, or refused where all names are known.
fn edge_table(mut table: Table, directed: bool, names: &mut Names, closed: bool) -> Result<EdgeTable, GraphError> {
    let edges = table.path().to_owned();
    let edges = edges.as_path();
    if table.columns.iter().all(|name| name.parse::<f64>().is_ok()) {
        // As SNAP publishes graphs: numbers from the first line on.
        let names: &[&str] = match table.columns.len() {
            2 => &["src", "dst"],
            4 => &["src", "dst", "rating", "time"],
            _ => {
                let error = GraphError::at(edges, ":1", "no line of column names");
                return Err(error.hinted("write one: src,dst, and weight and time if there are any"));
            }
        };
        table.name_columns(names);
    }
    let table = table;
    let need = |which: &[&str], what: &str| {
        let missing = || {
            GraphError::at(edges, ":1", format!("no column for the {what}; there are: {}", table.columns.join(", ")))
        };
        table
            .only(which)?
            .ok_or_else(|| missing().hinted("name the columns src, dst, and weight and time if there are any"))
    };
    let (source, target) = (need(&SOURCE, "source")?, need(&TARGET, "target")?);
    let (weight, time, split) = (table.only(&WEIGHT)?, table.only(&TIME)?, table.only(&SPLIT)?);
    let known = [Some(source), Some(target), weight, time, split];
    if let Some(other) = (0..table.columns.len()).find(|at| !known.contains(&Some(*at))) {
        let error = GraphError::at(edges, ":1", format!("a column that is not understood: {}", table.columns[other]));
        return Err(error.hinted("edges have the columns src, dst, weight, time and split; leave out others"));
    }
    let carries = Carries {
        weight: weight.is_some(),
        time: time.is_some(),
        direction: directed || weight.is_some() || time.is_some(),
    };
    let (mut all, mut parts, mut dated) = (Vec::new(), Vec::new(), None);
    // Of weights that 32 bits do not hold: which of them was the first to be rounded so.
    let mut rounded: BTreeMap<(u32, u32, u64, u32), String> = BTreeMap::new();
    let mut merged = 0;
    for row in table.rows() {
        let mut end = |column: usize| -> Result<u32, GraphError> {
            let name = table.text(row, column)?;
            if closed && !names.known.contains_key(&*spelt(name)) {
                let error = table.wrong(row, column, &format!("names no node: {name}"));
                return Err(error.hinted("every end of an edge must be in the table of nodes"));
            }
            Ok(names.number(name))
        };
        let (source, target) = (end(source)?, end(target)?);
        let digits = weight.map(|column| table.text(row, column)).transpose()?;
        let weight = weight.map(|column| table.number(row, column)).transpose()?.map_or(1.0, |weight| weight as f32);
        let time = time.map(|column| table.time(row, column, &mut dated)).transpose()?.unwrap_or(0.0);
        if let Some(text) = digits.filter(|digits| digits.len() > EXACT) {
            let key = (source, target, time.to_bits(), weight.to_bits());
            merged += usize::from(rounded.entry(key).or_insert_with(|| text.to_owned()) != text);
        }
        if let Some(split) = split {
            match part(&table, row, split)? {
                NodeSplit::None => return Err(table.wrong(row, split, "must be train, val or test")),
                part => parts.push(part),
            }
        }
        all.push(Edge { source, target, weight, time });
    }
    Ok(EdgeTable { edges: all, carries, merged, parts })
}

/// A graph with the ratings of further tables, by those who are in it and by whoever comes; of the graph nothing but
/// names and edges. All that is added is later than all that is there.
///
/// # Errors
/// Tables that cannot be read or are malformed, ratings without a time, or no later than what is known.
pub fn with_later(graph: &Graph, files: &[PathBuf]) -> Result<Graph, GraphError> {
    let order: Vec<String> = (0..graph.nodes).map(|node| graph.name(node)).collect();
    let known = order.iter().enumerate().map(|(at, name)| (name.clone(), at as u32)).collect();
    let mut names = Names { known, order };
    let last = graph.edges.iter().map(|edge| edge.time).fold(f64::NEG_INFINITY, f64::max);
    let mut all = Graph { edges: graph.edges.clone(), carries: graph.carries, ..Graph::empty() };
    for path in files {
        let EdgeTable { edges, carries, parts, .. } =
            edge_table(Table::read(path, HeaderLine::Names)?, true, &mut names, false)?;
        if !parts.is_empty() {
            return Err(GraphError::at(path, ":1", "ratings as they come are of no part: split"));
        }
        if !carries.weight || !carries.time {
            let error = GraphError::at(path, ":1", "ratings need a column rating and a column time");
            return Err(error.hinted("name the columns src, dst, rating and time"));
        }
        if let Some(edge) = edges.iter().find(|edge| edge.time <= last) {
            let [source, target] = [edge.source, edge.target].map(|end| names.order[end as usize].clone());
            let message =
                format!("is no later than what is known already, {last}: {source} to {target}, {}", edge.time);
            return Err(GraphError::at(path, "", message).hinted("give ratings as they come, each once"));
        }
        all.edges.extend(edges);
    }
    all.nodes = names.order.len();
    all.names = Some(names.order);
    let place = files.first().map_or(Path::new(""), PathBuf::as_path);
    Ok(Graph::new(place, all)?.0)
}

fn node_table(table: &Table, names: &mut Names, graph: &mut Graph) -> Result<(), GraphError> {
    let path = table.path();
    let missing =
        || GraphError::at(path, ":1", format!("no column for names; there are: {}", table.columns.join(", ")));
    let id = table.only(&ID)?.ok_or_else(|| missing().hinted("call the column with the nodes' names id"))?;
    let (label, split, time) = (table.only(&LABEL)?, table.only(&SPLIT)?, table.only(&TIME)?);
    let masks = ["train_mask", "val_mask", "test_mask"];
    if let Some(mask) = masks.into_iter().find(|mask| table.column(&[mask]).is_some()) {
        let error = GraphError::at(path, ":1", format!("a column that is not understood: {mask}"));
        return Err(error.hinted("say in one column split whether a node is for train, val or test"));
    }
    let named = [Some(id), label, split, time];
    let features: Vec<usize> = (0..table.columns.len()).filter(|at| !named.contains(&Some(*at))).collect();
    if let Some(label) = label {
        // A feature that is the label under another name is all that would be learnt.
        let cell = |row: &TableRow, column: usize| table.text(row, column).unwrap_or_default().to_owned();
        let told = || table.rows().iter().filter(|row| !cell(row, label).is_empty());
        let classes: BTreeSet<String> = told().map(|row| cell(row, label)).collect();
        let same = |column: &&usize| classes.len() > 1 && told().all(|row| cell(row, **column) == cell(row, label));
        if let Some(&column) = features.iter().find(same) {
            let (name, label) = (&table.columns[column], &table.columns[label]);
            let error = GraphError::at(path, ":1", format!("the column {name} repeats the label, {label}"));
            return Err(error.hinted("leave it out: it would be learnt from, and tells what is to be found"));
        }
    }
    let (mut values, mut dated) = (Vec::new(), None);
    for (at, row) in table.rows().iter().enumerate() {
        let name = table.text(row, id)?;
        if names.number(name) as usize != at {
            return Err(table.wrong(row, id, &format!("is there already: {name}")));
        }
        for &column in &features {
            values.push(table.number(row, column)? as f32);
        }
        if let Some(split) = split {
            graph.parts.push(part(table, row, split)?);
        }
        if let Some(time) = time {
            graph.times.push(table.time(row, time, &mut dated)?);
        }
    }
    if !features.is_empty() && !values.is_empty() {
        graph.features = Some(Arc::new(Features::new(features.len(), values)));
    }
    if let Some(label) = label {
        let cells = table.rows().iter().map(|row| table.text(row, label)).collect::<Result<Vec<_>, _>>()?;
        graph.classes = classes(cells.iter().copied().filter(|cell| !cell.is_empty()));
        let class = |cell: &&str| graph.classes.iter().position(|class| class == cell).map(|class| class as u32);
        graph.labels = cells.iter().map(class).collect();
    }
    Ok(())
}

fn part(table: &Table, row: &TableRow, column: usize) -> Result<NodeSplit, GraphError> {
    match table.text(row, column)?.to_ascii_lowercase().as_str() {
        "" | "none" => Ok(NodeSplit::None),
        "train" => Ok(NodeSplit::Train),
        "val" | "valid" | "validation" => Ok(NodeSplit::Validation),
        "test" => Ok(NodeSplit::Test),
        other => Err(table.wrong(row, column, &format!("must be train, val, test or empty: {other}"))),
    }
}

/// `x` (nodes, features), `edge_index` (2, edges), and `y`, `train_mask`, `val_mask`, `test_mask`, `edge_attr`, `time`
/// where known: the names PyG's `Data` uses.
fn archive(path: &Path) -> Result<(Graph, ImportFindings), GraphError> {
    let mut arrays = archives::by_their_names(path, npz::read(path)?)?;
    let names = arrays.keys().cloned().collect::<Vec<_>>().join(", ");
    let wrong = |name: &str, message: String| GraphError::at(path, format!(":{name}"), message);
    let missing = || GraphError::malformed(path, format!("holds no edge_index; there are: {names}"));
    let index = arrays
        .remove("edge_index")
        .ok_or_else(|| missing().hinted("save x, edge_index, y and masks under these names"))?;
    let (Values::Integers(ends), &[2, count]) = (&index.values, index.shape.as_slice()) else {
        return Err(wrong("edge_index", format!("must be integers (2, edges), not {:?}", index.shape)));
    };
    let mut graph = Graph::empty();
    let integer = |value: i64| u32::try_from(value).map_err(|_| wrong("edge_index", format!("names no node: {value}")));
    for at in 0..count {
        let (source, target) = (integer(ends[at])?, integer(ends[count + at])?);
        graph.edges.push(Edge { source, target, weight: 1.0, time: 0.0 });
    }
    if let Some(Array { shape, values }) = arrays.remove("x") {
        let &[nodes, width] = shape.as_slice() else {
            return Err(wrong("x", format!("must be numbers (nodes, features), not {shape:?}")));
        };
        let values: Vec<f32> = match values {
            Values::Floats(values) => values,
            Values::Doubles(values) => values.into_iter().map(|value| value as f32).collect(),
            Values::Integers(values) => values.into_iter().map(|value| value as f32).collect(),
            Values::Flags(values) => values.into_iter().map(|set| f32::from(u8::from(set))).collect(),
        };
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            return Err(wrong("x", format!("is not finite at node {}, feature: {}", at / width, at % width)));
        }
        graph.nodes = nodes;
        graph.features = (width > 0 && nodes > 0).then(|| Arc::new(Features::new(width, values)));
    }
    if let Some(Array { shape, values }) = arrays.remove("y") {
        let (&[nodes] | &[nodes, 1]) = shape.as_slice() else {
            return Err(wrong("y", format!("must be one class a node, not {shape:?}")));
        };
        let labels: Option<Vec<i64>> = match values {
            Values::Integers(labels) => Some(labels),
            Values::Floats(labels) => labels.into_iter().map(|label| class_of(f64::from(label))).collect(),
            Values::Doubles(labels) => labels.into_iter().map(class_of).collect(),
            Values::Flags(labels) => Some(labels.into_iter().map(i64::from).collect()),
        };
        let labels = labels.ok_or_else(|| wrong("y", "must be whole numbers, or NaN for none".to_owned()))?;
        let most = labels.iter().copied().max().unwrap_or(-1);
        if most >= nodes as i64 {
            return Err(wrong("y", format!("a class beyond the number of nodes: {most}")));
        }
        graph.classes = (0..=most).map(|class| class.to_string()).collect();
        graph.labels = labels.into_iter().map(|label| u32::try_from(label).ok()).collect();
        graph.nodes = graph.nodes.max(nodes);
    }
    if graph.nodes == 0 {
        graph.nodes = graph.edges.iter().map(|edge| edge.source.max(edge.target) as usize + 1).max().unwrap_or(0);
    }
    for (name, part) in
        [("train_mask", NodeSplit::Train), ("val_mask", NodeSplit::Validation), ("test_mask", NodeSplit::Test)]
    {
        let Some(Array { values, .. }) = arrays.remove(name) else { continue };
        let mask = match values {
            Values::Flags(mask) => mask,
            Values::Integers(mask) => mask.into_iter().map(|value| value != 0).collect(),
            _ => return Err(wrong(name, "must be truth values".to_owned())),
        };
        if mask.len() != graph.nodes {
            return Err(wrong(name, format!("has {} entries for {} nodes", mask.len(), graph.nodes)));
        }
        graph.parts.resize(graph.nodes, NodeSplit::None);
        for (node, _) in mask.iter().enumerate().filter(|(_, set)| **set) {
            if graph.parts[node] != NodeSplit::None {
                return Err(wrong(name, format!("overlaps another mask at node: {node}")));
            }
            graph.parts[node] = part;
        }
    }
    for (name, weight) in [("edge_attr", true), ("edge_time", false)] {
        let Some(Array { values, shape }) = arrays.remove(name) else { continue };
        let values: Vec<f64> = match values {
            Values::Floats(values) => values.into_iter().map(f64::from).collect(),
            Values::Doubles(values) => values,
            Values::Integers(values) => values.into_iter().map(|value| value as f64).collect(),
            Values::Flags(_) => return Err(wrong(name, "must be numbers".to_owned())),
        };
        if values.len() != count {
            return Err(wrong(name, format!("must be one number an edge, of {count}, not {shape:?}")));
        }
        graph.carry(weight, &values);
    }
    if let Some(name) = arrays.keys().next() {
        let error = wrong(name, "is not understood".to_owned());
        return Err(error.hinted("a graph is x, edge_index, y, train_mask, val_mask, test_mask, edge_attr, edge_time"));
    }
    Graph::new(path, graph)
}

/// A class that is written as a float; none where it is no number.
fn class_of(label: f64) -> Option<i64> {
    match label {
        label if label.is_nan() => Some(-1),
        label if label.fract() == 0.0 && label.abs() < f64::from(u32::MAX) => Some(label as i64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use ftk_adapters::hint::Hint;

    use super::super::npz::tests::{npy, zip};
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn gz(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn columns_that_mean_the_same_or_tell_the_label_are_refused() {
        let refused = |nodes: &str, edges: &str| from_tables(nodes, edges).unwrap_err();
        let edges = "src,dst\ncy,ann\n";
        let twice = NODES.replace("f1", "label");
        assert_eq!(refused(&twice, edges), "./n.csv:1: two columns that mean the same: y and label");
        assert_eq!(refused(NODES, "src,from,dst\n1,2,3\n"), "./e.csv:1: two columns that mean the same: src and from");
        let numbered = "id,f0,y,copy\nann,1,0,0\nbob,0,,7\ncy,-2,1,1\n";
        assert_eq!(refused(numbered, edges), "./n.csv:1: the column copy repeats the label, y");
        let (graph, _) = from_tables(&numbered.replace("cy,-2,1,1", "cy,-2,1,0"), edges).unwrap();
        assert_eq!(graph.features.unwrap().width(), 2);
    }

    const NODES: &str = "id,f0,y,split,f1\nann,1,spam,train,0.5\nbob,0,,,0\ncy,-2,ham,test,1\n";

    fn from_tables(nodes: &str, edges: &str) -> Result<(Graph, ImportFindings), String> {
        let folder = folder(&[("n.csv", nodes.as_bytes()), ("e.csv", edges.as_bytes())]);
        let path = |name: &str| folder.path().join(name);
        let origin = Origin::Tables { nodes: Some(path("n.csv")), edges: path("e.csv"), directed: false };
        import(&origin).map_err(|error| error.to_string().replace(folder.path().to_str().unwrap(), "."))
    }

    #[test]
    fn tables_become_a_graph_with_the_names_kept() {
        let (graph, found) = from_tables(NODES, "src,dst\ncy,ann\nann,cy\nann,cy\nbob,bob\n").unwrap();
        assert_eq!(graph.names.as_deref().unwrap(), ["ann", "bob", "cy"]);
        assert_eq!(graph.features.as_ref().unwrap().row(2), [-2.0, 1.0]);
        assert_eq!(
            (graph.classes.clone(), graph.labels.clone()),
            (vec!["ham".into(), "spam".into()], vec![Some(1), None, Some(0)])
        );
        assert_eq!(graph.parts, [NodeSplit::Train, NodeSplit::None, NodeSplit::Test]);
        assert_eq!(graph.edges.len(), 1);
        assert_eq!(
            found,
            ImportFindings { duplicates: 1, loops: 1, isolated: 1, unlabelled: 1, ..ImportFindings::default() }
        );
    }

    #[test]
    fn a_table_that_is_cut_off_is_told_so() {
        let whole = gz("src,dst\nann,bob\n");
        let folder = folder(&[("e.csv.gz", &whole[..whole.len() - 3])]);
        let edges = folder.path().join("e.csv.gz");
        let refused = import(&Origin::Tables { nodes: None, edges: edges.clone(), directed: false }).unwrap_err();
        assert_eq!(refused.to_string(), format!("{}: is cut off inside its compressed data", edges.display()));
        assert_eq!(refused.hint().unwrap(), ftk_adapters::foreign::CUT_OFF);
    }

    #[test]
    fn a_table_that_is_wrong_is_refused_with_the_place() {
        let edges = "src,dst\nann,bob\n";
        let refused = |nodes: &str, edges: &str| from_tables(nodes, edges).unwrap_err();
        assert_eq!(refused(NODES, "src,dst\nann,bob\nann,dan\n"), "./e.csv:3:dst: names no node: dan");
        assert_eq!(refused(&NODES.replace("-2", "NaN"), edges), "./n.csv:4:f0: is not finite: NaN");
        assert_eq!(refused(&NODES.replace("-2", "x"), edges), "./n.csv:4:f0: is not a number: x");
        assert_eq!(refused(&NODES.replace("cy", "ann"), edges), "./n.csv:4:id: is there already: ann");
        assert_eq!(
            refused(&NODES.replace("test", "tset"), edges),
            "./n.csv:4:split: must be train, val, test or empty: tset"
        );
        assert_eq!(refused(NODES, "src,dest\nann,bob\n"), "./e.csv:1: no column for the target; there are: src, dest");
        assert_eq!(refused(NODES, "src,dst,type\nann,bob,1\n"), "./e.csv:1: a column that is not understood: type");
        assert!(
            refused(NODES, "src,dst\nann\n").starts_with("./e.csv:2: not CSV: "),
            "{}",
            refused(NODES, "src,dst\nann\n")
        );
    }

    #[test]
    fn ratings_are_directed_and_timed() {
        let folder = folder(&[("r.csv", b"from,to,rating,time\n7,3,-10,9.5\n3,7,4,2\n7,3,-10,9.5\n")]);
        let (graph, found) = import(&Origin::Path(folder.path().join("r.csv"))).unwrap();
        assert_eq!(graph.carries, Carries { weight: true, time: true, direction: true });
        assert_eq!((graph.name(0), graph.name(1)), ("7".to_owned(), "3".to_owned()));
        assert_eq!((found.duplicates, found.out_of_order), (1, 1));
    }

    #[test]
    fn transfers_and_files_without_a_header_are_read_as_they_come() {
        let folder = folder(&[]);
        let read = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            let read = import(&Origin::Path(folder.path().join(name)));
            read.map_err(|error| error.to_string().replace(folder.path().to_str().unwrap(), "."))
        };
        // One address with its checksum and without; wei beyond 2^53; times as dates.
        let (a, b) = ("0x52908400098527886E0F7030069857D2E4169EE7", "0x8617e340b3d01fa5f11f306f4090fd50e238070d");
        let rows = format!(
            "from_address,to_address,value,block_timestamp\n{a},{b},9007199254740993,2024-01-05T00:44:59Z\n\
             {b},{},1,2024-01-05 00:45:00.5 UTC\n",
            a.to_lowercase()
        );
        let (graph, _) = read("t.csv", &rows).unwrap();
        assert_eq!((graph.nodes, graph.name(0)), (2, a.to_lowercase()));
        let edges: Vec<_> = graph.edges.iter().map(|edge| (edge.source, edge.weight, edge.time)).collect();
        assert_eq!(edges, [(0, 9_007_199_254_740_992.0, 1_704_415_499.0), (1, 1.0, 1_704_415_500.5)]);
        assert_eq!(graph.numbers().get(&*spelt(a)), Some(&0));
        let mixed = rows.replace("2024-01-05 00:45:00.5 UTC", "1704415500");
        assert_eq!(
            read("m.csv", &mixed).unwrap_err(),
            "./m.csv:3:block_timestamp: is a number, the rows before it are dates: 1704415500"
        );
        let never = rows.replace("01-05T", "02-30T");
        assert_eq!(
            read("n.csv", &never).unwrap_err(),
            "./n.csv:2:block_timestamp: is not a number: 2024-02-30T00:44:59Z"
        );
        // SNAP's ratings, and its edges between tabs under remarks.
        let (graph, _) = read("r.csv", "6,2,4,1289241911.72836\n6,5,2,1289241941.53378\n").unwrap();
        assert_eq!((graph.nodes, graph.edges.len(), graph.edges[0].weight), (3, 2, 4.0));
        assert_eq!(graph.carries, Carries { weight: true, time: true, direction: true });
        let (graph, _) = read("e.txt", "# Directed graph\n# FromNodeId\tToNodeId\n0\t1\n1\t2\n").unwrap();
        assert_eq!((graph.nodes, graph.edges.len()), (3, 2));
        assert_eq!(read("x.csv", "1,2,3\n4,5,6\n").unwrap_err(), "./x.csv:1: no line of column names");
    }

    #[test]
    fn digits_beyond_the_weights_kept_are_said_to_merge_edges() {
        let read = |text: &str| {
            let folder = folder(&[("t.csv", text.as_bytes())]);
            import(&Origin::Path(folder.path().join("t.csv"))).unwrap().1
        };
        let rows = "src,dst,value,time\na,b,9007199254740993,5\na,b,9007199254740992,5\na,b,9007199254740993,6\n";
        let found = read(rows);
        assert_eq!((found.duplicates, found.merged), (1, 1));
        assert!(found.notes()[1].starts_with("1 of them differed by digits of their weight"), "{:?}", found.notes());
        let same = read(&rows.replace("992", "993"));
        assert_eq!((same.duplicates, same.merged), (1, 0));
    }

    #[test]
    fn node_link_json_becomes_a_graph() {
        let read = |text: &str| {
            let folder = folder(&[("g.json", text.as_bytes())]);
            let read = import(&Origin::Path(folder.path().join("g.json")));
            read.map_err(|error| error.to_string().replace(folder.path().to_str().unwrap(), "."))
        };
        let text = r#"{"directed": true, "multigraph": true, "graph": {"name": "town"},
            "nodes": [{"id": "ann", "x": [1, 0.5], "y": 0}, {"y": 1, "id": 7, "x": [0, 2]}],
            "links": [{"source": "ann", "target": 7, "key": 0, "weight": 2.5}, {"source": 7, "target": "ann", "key": 1, "weight": 1}]}"#;
        let (graph, _) = read(text).unwrap();
        assert_eq!(graph.names.as_deref().unwrap(), ["ann", "7"]);
        assert_eq!(
            (graph.features.as_ref().unwrap().row(0), graph.labels.clone()),
            (vec![1.0, 0.5], vec![Some(0), Some(1)])
        );
        assert_eq!(graph.carries, Carries { weight: true, time: false, direction: true });
        assert_eq!(graph.edges[0].weight, 2.5);
        let refused = |from: &str, to: &str| {
            assert!(text.contains(from));
            read(&text.replace(from, to)).unwrap_err()
        };
        assert_eq!(refused("\"nodes\"", "\"vertices\""), "./g.json: not node-link JSON: it has the key vertices");
        assert_eq!(refused("\"target\": 7, ", ""), "./g.json:source and target 1: has no target");
        assert_eq!(refused("\"target\": \"ann\"", "\"target\": \"bob\""), "./g.json:2:target: names no node: bob");
        assert_eq!(refused("[0, 2]", "[0]"), "./g.json:2:x_1: is not a number: ");
        assert_eq!(refused("[0, 2]", "{}"), "./g.json:id 2: holds more than a value: x");
        assert!(refused("\"links\": [", "\"links\": {").starts_with("./g.json: not JSON: "));
        assert_eq!(read("[]").unwrap_err(), "./g.json: not node-link JSON: no object");
    }

    #[test]
    fn pickles_and_masks_in_columns_are_refused_by_name() {
        let folder = folder(&[("g.pt", b"PK")]);
        let error = import(&Origin::Path(folder.path().join("g.pt"))).unwrap_err();
        assert!(error.to_string().ends_with("g.pt: archives of DGL and PyTorch and pickles are not read"), "{error}");
        let masked = NODES.replace("f1", "train_mask");
        let refused = from_tables(&masked, "src,dst\ncy,ann\n").unwrap_err();
        assert_eq!(refused, "./n.csv:1: a column that is not understood: train_mask");
    }

    fn from_archive(files: &[(&str, Vec<u8>)]) -> Result<(Graph, ImportFindings), String> {
        let folder = folder(&[("g.npz", &zip(files))]);
        import(&Origin::Path(folder.path().join("g.npz")))
            .map_err(|error| error.to_string().replace(folder.path().to_str().unwrap(), "."))
    }

    #[test]
    fn archives_become_a_graph_and_masks_a_split() {
        let longs = |values: &[i64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let index = ("edge_index.npy", npy("<i8", "(2, 4)", &longs(&[0, 1, 1, 2, 1, 0, 2, 1])));
        let x = ("x.npy", npy("<f4", "(3, 2)", &floats(&[1.0, 0.0, 0.0, 0.0, 0.0, 3.0])));
        let y = ("y.npy", npy("<i8", "(3,)", &longs(&[1, -1, 0])));
        let mask = |name, bytes: &[u8]| (name, npy("|b1", "(3,)", bytes));
        let (train, test) = (mask("train_mask.npy", &[1, 0, 0]), mask("test_mask.npy", &[0, 0, 1]));
        let (graph, found) = from_archive(&[index.clone(), x.clone(), y.clone(), train.clone(), test]).unwrap();
        assert_eq!((graph.edges.len(), found.duplicates, found.unlabelled), (2, 0, 1));
        assert_eq!((graph.parts, graph.classes.len()), (vec![NodeSplit::Train, NodeSplit::None, NodeSplit::Test], 2));
        let refused = |files: &[(&str, Vec<u8>)]| from_archive(files).unwrap_err();
        assert_eq!(refused(std::slice::from_ref(&x)), "./g.npz: holds no edge_index; there are: x");
        assert_eq!(
            refused(&[index.clone(), train, mask("val_mask.npy", &[1, 0, 0])]),
            "./g.npz:val_mask: overlaps another mask at node: 0"
        );
        // NumPy's default kind, a column of classes, classes as floats.
        let doubles = |values: &[f64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let wide = ("x.npy", npy("<f8", "(3, 1)", &doubles(&[0.5, 1.0, 2.0])));
        let column = ("y.npy", npy("<f8", "(3, 1)", &doubles(&[1.0, f64::NAN, 0.0])));
        let (other, _) = from_archive(&[index.clone(), wide.clone(), column]).unwrap();
        assert_eq!((other.features.unwrap().row(2), other.labels), (vec![2.0], vec![Some(1), None, Some(0)]));
        let half = ("y.npy", npy("<f8", "(3,)", &doubles(&[1.0, 0.5, 0.0])));
        assert_eq!(refused(&[index.clone(), wide, half]), "./g.npz:y: must be whole numbers, or NaN for none");
        let several = ("y.npy", npy("<i8", "(3, 2)", &longs(&[0; 6])));
        assert_eq!(refused(&[index.clone(), several]), "./g.npz:y: must be one class a node, not [3, 2]");
        let nan = ("x.npy", npy("<f4", "(3, 2)", &floats(&[0.0, 0.0, 0.0, f32::NAN, 0.0, 0.0])));
        assert_eq!(refused(&[index.clone(), nan]), "./g.npz:x: is not finite at node 1, feature: 1");
        let dangling = ("edge_index.npy", npy("<i8", "(2, 1)", &longs(&[0, -1])));
        assert_eq!(refused(&[dangling, x.clone()]), "./g.npz:edge_index: names no node: -1");
        let beyond = ("edge_index.npy", npy("<i8", "(2, 1)", &longs(&[0, 3])));
        assert_eq!(refused(&[beyond, x]), "./g.npz: 3 nodes, but an edge: 0 to 3");
        assert_eq!(refused(&[index, ("z.npy", npy("<i8", "(0,)", &[]))]), "./g.npz:z: is not understood");
    }

    #[test]
    fn folders_of_the_open_graph_benchmark_become_a_graph() {
        let files = [
            ("raw/num-node-list.csv.gz", gz("3\n")),
            ("raw/edge.csv.gz", gz("0,1\n2,1\n")),
            ("raw/node-feat.csv.gz", gz("0.5,1\n0,0\n-1,2\n")),
            ("raw/node-label.csv.gz", gz("1\nnan\n0.0\n")),
            ("split/time/train.csv.gz", gz("0\n")),
            ("split/time/test.csv.gz", gz("2\n")),
        ];
        let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        let place = folder(&files);
        let (graph, _) = import(&Origin::Path(place.path().to_owned())).unwrap();
        assert_eq!((graph.nodes, graph.edges.len()), (3, 2));
        assert_eq!(graph.features.as_ref().unwrap().row(2), [-1.0, 2.0]);
        assert_eq!(graph.labels, [Some(1), None, Some(0)]);
        assert_eq!(graph.parts, [NodeSplit::Train, NodeSplit::None, NodeSplit::Test]);
        let refused = |name: &str, bytes: &[u8]| {
            let path = place.path().join("raw").join(name);
            let before = std::fs::read(&path).ok();
            std::fs::write(&path, bytes).unwrap();
            let error = import(&Origin::Path(place.path().to_owned())).unwrap_err().to_string();
            before.map_or_else(|| std::fs::remove_file(&path), |before| std::fs::write(&path, before)).unwrap();
            error
        };
        let second = place.path().join("split/random");
        std::fs::create_dir(&second).unwrap();
        let error = import(&Origin::Path(place.path().to_owned())).unwrap_err().to_string();
        assert!(error.ends_with("split: holds several splits: random, time"), "{error}");
        std::fs::remove_dir(&second).unwrap();
        let pickled = place.path().join("split/time/split_dict.pt");
        std::fs::write(&pickled, b"PK").unwrap();
        let error = import(&Origin::Path(place.path().to_owned())).unwrap_err().to_string();
        assert!(error.ends_with("split/time: holds what is not read of a split: split_dict.pt"), "{error}");
        std::fs::remove_file(&pickled).unwrap();
        let error = refused("edge-feat.csv.gz", &gz("1\n2\n"));
        assert!(error.ends_with("raw: holds what is not read of such a folder: edge-feat.csv.gz"), "{error}");
        let error = refused("node-label.csv.gz", &gz("1,0\n0,0\n0,1\n"));
        assert!(error.ends_with("node-label.csv.gz:1:column 1: has 2 labels: one class a node is learnt"), "{error}");
        std::fs::write(place.path().join("raw/edge.csv.gz"), gz("0,3\n")).unwrap();
        let error = import(&Origin::Path(place.path().to_owned())).unwrap_err().to_string();
        assert!(error.ends_with("edge.csv.gz:1:column 2: names no node: 3"), "{error}");
        std::fs::remove_file(place.path().join("raw/edge.csv.gz")).unwrap();
        let error = import(&Origin::Path(place.path().to_owned())).unwrap_err().to_string();
        assert!(error.ends_with("raw: a folder of the Open Graph Benchmark has: edge.csv.gz"), "{error}");
    }
}
