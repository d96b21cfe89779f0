//! What enters a network: the features of a graph's nodes as a recipe wants them, and how messages pass.

use std::collections::HashMap;
use std::sync::Arc;

use ftk_adapters::train::normal_values;
use ftk_networks::graphs::{Hop, Kind, Prepare};
use ftk_networks::ops::graph::{Features, Propagation, Sparse};

use super::error::GraphError;
use super::graph::{Graph, attended, closed_means, symmetric};

/// The features of a graph, normalised and projected.
///
/// # Errors
/// A graph without features.
pub fn features(graph: &Graph, prepare: Prepare) -> Result<Arc<Features>, GraphError> {
    let Some(features) = &graph.features else {
        return Err(GraphError::unfit("the graph has no features", "give nodes columns of numbers"));
    };
    Ok(prepared(features.clone(), prepare))
}

/// Features as a network takes them; every row by itself.
pub(super) fn prepared(mut features: Arc<Features>, prepare: Prepare) -> Arc<Features> {
    if prepare.normalise {
        features = Arc::new(each_row(&features, |row| {
            let sum: f32 = row.iter().sum();
            if sum != 0.0 {
                row.iter_mut().for_each(|value| *value /= sum);
            }
        }));
    }
    if let Some(width) = prepare.project {
        features = Arc::new(project(&features, width));
    }
    features
}

fn each_row(features: &Features, change: impl Fn(&mut Vec<f32>)) -> Features {
    let rows = (0..features.rows()).map(|row| {
        let mut row = features.row(row);
        change(&mut row);
        let entries = row.into_iter().enumerate().filter(|(_, value)| *value != 0.0);
        entries.map(|(column, value)| (column as u32, value)).collect::<Vec<_>>()
    });
    let sparse = Features::sparse(Sparse::from_rows(features.width(), rows));
    if sparse.entries() * 4 > sparse.rows() * sparse.width() {
        return Features::new(sparse.width(), (0..sparse.rows()).flat_map(|row| sparse.row(row)).collect());
    }
    sparse
}

/// `x R` with `R` `(features, width)` normally distributed, rows keyed by their number alone, then scaled to unit
/// length: distances survive (Johnson and Lindenstrauss 1984) and the scale of a graph's features does not matter.
fn project(features: &Features, width: usize) -> Features {
    let mut rows: HashMap<usize, Vec<f32>> = HashMap::new();
    let mut values = Vec::with_capacity(features.rows() * width);
    for node in 0..features.rows() {
        let mut sum = vec![0.0f32; width];
        for (feature, value) in features.row(node).into_iter().enumerate().filter(|(_, value)| *value != 0.0) {
            let make = || normal_values(&format!("feature {feature} of {width}"), width, 1.0, 0);
            let row = rows.entry(feature).or_insert_with(make);
            sum.iter_mut().zip(row).for_each(|(sum, entry)| *sum += value * *entry);
        }
        let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.extend(sum.into_iter().map(|value| if length > 0.0 { value / length } else { 0.0 }));
    }
    Features::new(width, values)
}

/// Who hears whom among all nodes: neighbours in either direction; where nodes carry times, earlier ones only.
pub fn heard(graph: &Graph) -> Vec<Vec<u32>> {
    let mut lists = graph.neighbours();
    if !graph.times.is_empty() {
        for (node, list) in lists.iter_mut().enumerate() {
            list.retain(|&other| graph.times[other as usize] < graph.times[node]);
        }
    }
    lists
}

/// The same hop for every convolution, over all nodes.
pub fn hops(kind: Kind, layers: usize, lists: &[Vec<u32>]) -> Vec<Hop> {
    let gather = match kind {
        Kind::Gcn => symmetric(lists),
        Kind::Sage => Propagation::means(lists, lists.len()),
        Kind::SageGcn => closed_means(lists),
        Kind::Gat => attended(lists),
    };
    let all: Vec<usize> = (0..lists.len()).collect();
    let hop = Hop { gather: Arc::new(gather), own: Arc::new(Propagation::choosing(&all, all.len())) };
    vec![hop; layers]
}
