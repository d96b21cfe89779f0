//! Node-link JSON, as NetworkX and d3 write graphs, as two tables.

use std::path::Path;

use ftk_adapters::foreign;
use serde_json::{Map, Value};

use super::error::GraphError;
use super::table::Table;

/// Nodes, edges, and whether these have a direction.
#[derive(Debug)]
pub struct NodeLink {
    /// `id` and whatever else is said of nodes.
    pub nodes: Table,
    /// `source`, `target` and whatever else is said of edges.
    pub edges: Table,
    /// What the file says under `directed`.
    pub directed: bool,
}

const KEYS: [&str; 6] = ["directed", "multigraph", "graph", "nodes", "links", "edges"];

/// Reads a file.
///
/// # Errors
/// A file that cannot be read, is no JSON, or has not that form.
pub fn read(path: &Path) -> Result<NodeLink, GraphError> {
    let text = foreign::read_text(path, foreign::DATA).map_err(|error| GraphError::io(path, error))?;
    let wrong = |message: String| {
        let error = GraphError::malformed(path, message);
        error.hinted("node-link JSON is {\"directed\": .., \"nodes\": [{\"id\": ..}], \"links\": [{\"source\": .., \"target\": ..}]}")
    };
    let value: Value = serde_json::from_str(&text).map_err(|error| wrong(format!("not JSON: {error}")))?;
    let Value::Object(mut object) = value else { return Err(wrong("not node-link JSON: no object".to_owned())) };
    if let Some(key) = object.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(wrong(format!("not node-link JSON: it has the key {key}")));
    }
    let directed = object.get("directed").and_then(Value::as_bool).unwrap_or(false);
    let both = object.contains_key("links") && object.contains_key("edges");
    let mut list = |names: &[&str]| match names.iter().find_map(|name| object.remove(*name)) {
        Some(Value::Array(items)) if !both => Ok(items),
        _ => Err(wrong(format!("not node-link JSON: no one list of {}", names.join(" or ")))),
    };
    let nodes = table(path, list(&["nodes"])?, &["id"], &[])?;
    // Edges of a multigraph are numbered, which says nothing.
    let edges = table(path, list(&["links", "edges"])?, &["source", "target"], &["key"])?;
    Ok(NodeLink { nodes, edges, directed })
}

/// A table of objects: the columns that all have, then whatever else is there, lists of numbers spread out.
fn table(path: &Path, items: Vec<Value>, first: &[&str], without: &[&str]) -> Result<Table, GraphError> {
    let mut columns: Vec<String> = first.iter().map(|&name| name.to_owned()).collect();
    let mut rows = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        let wrong = |message: String| GraphError::at(path, format!(":{} {}", first.join(" and "), at + 1), message);
        let Value::Object(item) = item else { return Err(wrong("is no object".to_owned())) };
        let mut cells: Map<String, Value> = Map::new();
        for (name, value) in item.into_iter().filter(|(name, _)| !without.contains(&name.as_str())) {
            match value {
                Value::Array(values) => {
                    let spread = values.into_iter().enumerate().map(|(at, value)| (format!("{name}_{at}"), value));
                    cells.extend(spread);
                }
                value => drop(cells.insert(name, value)),
            }
        }
        if let Some(missing) = first.iter().find(|&&name| !cells.contains_key(name)) {
            return Err(wrong(format!("has no {missing}")));
        }
        let mut row = vec![String::new(); columns.len()];
        for (name, value) in cells {
            let text = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(set) => u8::from(set).to_string(),
                Value::Null => String::new(),
                Value::Array(_) | Value::Object(_) => return Err(wrong(format!("holds more than a value: {name}"))),
            };
            match columns.iter().position(|column| *column == name) {
                Some(column) => row[column] = text,
                None => {
                    columns.push(name);
                    row.push(text);
                }
            }
        }
        rows.push(row);
    }
    rows.iter_mut().for_each(|row| row.resize(columns.len(), String::new()));
    Ok(Table::of_cells(path, columns, rows))
}
