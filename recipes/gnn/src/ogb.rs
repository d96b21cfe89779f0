//! Graphs from folders as the Open Graph Benchmark lays them out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ftk_networks::ops::graph::Features;

use super::error::GraphError;
use super::graph::{Edge, Graph, ImportFindings, NodeSplit, are_believable};
use super::npz::Values;
use super::pickle;
use super::table::{HeaderLine, Table, TableRow};

/// A folder of the Open Graph Benchmark: `raw/edge.csv.gz`, `raw/num-node-list.csv.gz`, and where known
/// `raw/node-feat.csv.gz`, `raw/node-label.csv.gz`, `raw/node_year.csv.gz`, `raw/edge_weight.csv.gz`,
/// `raw/edge_year.csv.gz`, and `split/*/{train,valid,test}` as `.csv.gz` (nodes) or `.pt` (links).
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
    let known =
        ["edge", "num-node-list", "num-edge-list", "node-feat", "node-label", "node_year", "edge_weight", "edge_year"];
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
    for (name, is_weight) in [("edge_weight.csv.gz", true), ("edge_year.csv.gz", false)] {
        let Some(values) = table(raw.join(name))? else { continue };
        if values.rows().len() != graph.edges.len() {
            let message = format!("{name} has {} rows for {} edges", values.rows().len(), graph.edges.len());
            return Err(GraphError::malformed(&raw, message));
        }
        let values = values.rows().iter().map(|row| values.number(row, 0)).collect::<Result<Vec<f64>, _>>()?;
        graph.carry(is_weight, &values);
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
    let mut parts = Vec::new();
    let pickled = |split: &&PathBuf| split.join("train.pt").exists();
    if let Some(split) = splits.first().filter(pickled) {
        parts = links(split, &mut graph)?;
    } else if let Some(split) = splits.first() {
        let tables = ["train.csv", "valid.csv", "test.csv"];
        let mut names: Vec<String> = std::fs::read_dir(split)
            .map_err(|error| GraphError::io(split, error))?
            .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
            .collect();
        names.sort();
        if let Some(name) = names.iter().find(|name| !tables.contains(&name.strip_suffix(".gz").unwrap_or(name))) {
            let error = GraphError::malformed(split, format!("holds what is not read of a split: {name}"));
            return Err(error.hinted("take split/ out of the folder, and choose gnn.split"));
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
    let known = graph.hold_out(&parts);
    let (graph, found) = Graph::new(&raw, graph)?;
    Ok((graph, ImportFindings { known, ..found }))
}

/// Adds the edges that a split of links validates and tests on to a graph, whose own are those to learn from; what each
/// edge is for. Pairs that are none are drawn by whoever learns, and those of the split are passed over.
fn links(split: &Path, graph: &mut Graph) -> Result<Vec<NodeSplit>, GraphError> {
    let own: BTreeSet<(u32, u32)> = graph.edges.iter().map(Edge::pair).collect();
    let mut parts = vec![NodeSplit::Train; graph.edges.len()];
    for (name, part) in
        [("train.pt", NodeSplit::Train), ("valid.pt", NodeSplit::Validation), ("test.pt", NodeSplit::Test)]
    {
        let path = split.join(name);
        let wrong = |message: String| GraphError::malformed(&path, message);
        let mut arrays = pickle::read(&path)?;
        let mut integers = |name: &str, axes: usize| match arrays.remove(name) {
            None => Ok(None),
            Some(array) => match array.values {
                Values::Integers(values) if array.shape.get(1) == [None, Some(&2)][axes - 1] => Ok(Some(values)),
                _ => Err(wrong(format!("{name} is not the numbers of nodes, but of shape {:?}", array.shape))),
            },
        };
        let ends = match (integers("edge", 2)?, integers("source_node", 1)?, integers("target_node", 1)?) {
            (Some(ends), None, None) => ends,
            (None, Some(sources), Some(targets)) if sources.len() == targets.len() => {
                sources.into_iter().zip(targets).flat_map(|(source, target)| [source, target]).collect()
            }
            _ => {
                let names = arrays.keys().cloned().collect::<Vec<_>>().join(", ");
                let error = wrong(format!("holds no edge, nor source_node and target_node; beside them: {names}"));
                return Err(error.hinted("graphs of several relations are not read"));
            }
        };
        let mut of_edges = |name: &str, there: bool| {
            let values = arrays.remove(name).map(|array| array.values);
            match values.filter(|values| values.len() * 2 == ends.len()) {
                Some(values) => Ok(Some(values)),
                // Of those to learn from, raw/ says it.
                None if there && part != NodeSplit::Train => {
                    Err(wrong(format!("does not have one number an edge: {name}")))
                }
                None => Ok(None),
            }
        };
        let (weights, years) = (of_edges("weight", graph.carries.weight)?, of_edges("year", graph.carries.time)?);
        ["edge_neg", "target_node_neg"].into_iter().for_each(|name| drop(arrays.remove(name)));
        if let Some(name) = arrays.keys().next() {
            return Err(wrong(format!("holds what is not read of a split: {name}")));
        }
        let mut met = BTreeSet::new();
        for (at, pair) in ends.chunks_exact(2).enumerate() {
            let node = |end: i64| {
                let node = u32::try_from(end).ok().filter(|&node| (node as usize) < graph.nodes);
                node.ok_or_else(|| wrong(format!("names no node: {end}")))
            };
            let number = |values: &Option<Values>, other: f64| values.as_ref().map_or(other, |it| it.number(at));
            let (source, target) = (node(pair[0])?, node(pair[1])?);
            let weight = if graph.carries.weight { number(&weights, 1.0) as f32 } else { 1.0 };
            let time = if graph.carries.time { number(&years, 0.0) } else { 0.0 };
            let edge = Edge { source, target, weight, time };
            if part == NodeSplit::Train {
                met.insert(edge.pair());
            } else {
                graph.edges.push(edge);
                parts.push(part);
            }
        }
        if part == NodeSplit::Train && met != own {
            let error = wrong("its edges are not those of raw/edge.csv.gz".to_owned());
            return Err(error.hinted("a graph and a split of one data set belong together"));
        }
    }
    Ok(parts)
}
