//! The features of nodes as a network takes them: numbers of 32 bits, in one order, the same on every machine.

use std::collections::HashMap;
use std::sync::Arc;

use super::Prepare;
use crate::initial::normal_values;
use crate::ops::graph::{Features, Sparse};

impl Prepare {
    /// Features as a network takes them; every row by itself.
    pub fn features(self, mut features: Arc<Features>) -> Arc<Features> {
        if self.normalise {
            features = Arc::new(each_row(&features, |row| {
                let sum: f32 = row.iter().sum();
                if sum != 0.0 {
                    row.iter_mut().for_each(|value| *value /= sum);
                }
            }));
        }
        if let Some(width) = self.project {
            features = Arc::new(project(&features, width));
        }
        features
    }
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
