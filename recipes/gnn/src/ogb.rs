//! Graphs from folders as the Open Graph Benchmark lays them out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ftk_networks::ops::graph::Features;

use super::error::GraphError;
use super::graph::{Edge, Graph, ImportFindings, NodeSplit, are_believable};
use super::table::{HeaderLine, Table, TableRow};

/// A folder of the Open Graph Benchmark: `raw/edge.csv.gz`, `raw/num-node-list.csv.gz`, and where known
/// `raw/node-feat.csv.gz`, `raw/node-label.csv.gz`, `raw/node_year.csv.gz`, `split/*/{train,valid,test}.csv.gz`.
pub(super) fn read(folder: &Path) -> Result<(Graph, ImportFindings), GraphError> {
    let raw = if folder.join("raw").is_dir() { folder.join("raw") } else { folder.to_owned() };
    let table = |path: PathBuf| -> Result<Option<Table>, GraphError> {
        let plain = path.with_extension("");
        let path = if path.exists() { path } else { plain };
        if path.exists() { Table::read(&path, HeaderLine::Absent).map(Some) } else { Ok(None) }
    };
    let need = |name: &str| {
        let missing = || GraphError::malformed(&raw, format!("a folder of the Open Graph Benchmark has: {name}"));
        table(raw.join(name))?.ok_or_else(|| missing().hinted("give the folder that holds raw/ and split/"))
    };
    let integer = |table: &Table, row: &TableRow, column: usize| -> Result<u32, GraphError> {
        let text = table.text(row, column)?;
        // Labels are written as floats where some are missing.
        let text = text.strip_suffix(".0").unwrap_or(text);
        text.parse().map_err(|_| table.wrong(row, column, &format!("is no number of a node or class: {text}")))
    };
    let mut graph = Graph::empty();
    let counts = need("num-node-list.csv.gz")?;
    // What has a meaning and is not read: half a data set is another one.
    let known = ["edge", "num-node-list", "num-edge-list", "node-feat", "node-label", "node_year"];
    let mut names: Vec<String> = std::fs::read_dir(&raw)
        .map_err(|error| GraphError::io(&raw, error))?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    let strange = |name: &&String| {
        let stem = name.strip_suffix(".gz").unwrap_or(name).strip_suffix(".csv");
        stem.is_some_and(|stem| !known.contains(&stem))
    };
    if let Some(name) = names.iter().find(strange) {
        let error = GraphError::malformed(&raw, format!("holds what is not read of such a folder: {name}"));
        return Err(error.hinted("take the file out of the folder to go without it"));
    }
    let [row] = counts.rows() else {
        return Err(GraphError::malformed(&raw, format!("holds {} graphs, one is expected", counts.rows().len())));
    };
    graph.nodes = integer(&counts, row, 0)? as usize;
    let edges = need("edge.csv.gz")?;
    for row in edges.rows() {
        let ends = [integer(&edges, row, 0)?, integer(&edges, row, 1)?];
        if let Some(at) = ends.iter().position(|&end| end as usize >= graph.nodes) {
            return Err(edges.wrong(row, at, &format!("names no node: {}", ends[at])));
        }
        graph.edges.push(Edge { source: ends[0], target: ends[1], weight: 1.0, time: 0.0 });
    }
    if let Some(features) = table(raw.join("node-feat.csv.gz"))? {
        let mut values = Vec::new();
        let mut width = 0;
        for row in features.rows() {
            let first = values.len();
            for column in 0.. {
                if features.text(row, column).is_err() {
                    break;
                }
                values.push(features.number(row, column)? as f32);
            }
            width = values.len() - first;
        }
        graph.features = (width > 0).then(|| Arc::new(Features::new(width, values)));
    }
    if let Some(labels) = table(raw.join("node-label.csv.gz"))? {
        if let Some(row) = labels.rows().iter().find(|row| row.width() != 1) {
            let message = format!("has {} labels: one class a node is learnt", row.width());
            let error = labels.wrong(row, 0, &message);
            return Err(error.hinted("leave one column of labels, of integers"));
        }
        let known = |row: &TableRow| labels.text(row, 0).is_ok_and(|text| !text.is_empty() && text != "nan");
        let label = |row| if known(row) { integer(&labels, row, 0).map(Some) } else { Ok(None) };
        graph.labels = labels.rows().iter().map(label).collect::<Result<_, _>>()?;
        let most = graph.labels.iter().flatten().copied().max().map_or(0, |most| most as usize + 1);
        if most > graph.nodes {
            return Err(GraphError::malformed(&raw, format!("more classes than nodes: {most}")));
        }
        graph.classes = (0..most).map(|class| class.to_string()).collect();
    }
    if let Some(years) = table(raw.join("node_year.csv.gz"))? {
        graph.times = years.rows().iter().map(|row| years.number(row, 0)).collect::<Result<_, _>>()?;
    }
    if graph.features.is_none() && graph.labels.is_empty() && graph.times.is_empty() {
        are_believable(&raw, graph.nodes, graph.edges.len())?;
    }
    let splits = std::fs::read_dir(folder.join("split")).map(|entries| {
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        paths.sort();
        paths
    });
    let splits = splits.unwrap_or_default();
    if let [_, _, ..] = splits[..] {
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let names = splits.iter().map(name).collect::<Vec<_>>().join(", ");
        let error = GraphError::malformed(&folder.join("split"), format!("holds several splits: {names}"));
        return Err(error.hinted("leave the folder of one of them there"));
    }
    if let Some(split) = splits.first() {
        let tables = ["train.csv", "valid.csv", "test.csv"];
        let mut names: Vec<String> = std::fs::read_dir(split)
            .map_err(|error| GraphError::io(split, error))?
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .collect();
        names.sort();
        if let Some(name) = names.iter().find(|name| !tables.contains(&name.strip_suffix(".gz").unwrap_or(name))) {
            let error = GraphError::malformed(split, format!("holds what is not read of a split: {name}"));
            return Err(
                error.hinted("splits of links are pickles: take split/ out of the folder, and choose gnn.split")
            );
        }
        graph.parts = vec![NodeSplit::None; graph.nodes];
        for (name, part) in [("train", NodeSplit::Train), ("valid", NodeSplit::Validation), ("test", NodeSplit::Test)] {
            let Some(table) = table(split.join(format!("{name}.csv.gz")))? else { continue };
            for row in table.rows() {
                let node = integer(&table, row, 0)? as usize;
                match graph.parts.get_mut(node) {
                    Some(place @ NodeSplit::None) => *place = part,
                    Some(_) => return Err(table.wrong(row, 0, &format!("is in another part, too: {node}"))),
                    None => return Err(table.wrong(row, 0, &format!("names no node: {node}"))),
                }
            }
        }
    }
    Graph::new(&raw, graph)
}
