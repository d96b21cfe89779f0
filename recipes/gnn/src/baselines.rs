//! What a network has to beat: predictors without one.

use std::collections::BTreeMap;

use ftk_networks::graphs::GraphNetworkKind;
use ftk_networks::graphs::messages::alike;
use ftk_networks::ops::graph::{Features, Sparse};

use super::graph::Edge;
use super::measures;
use super::structure::Snapshot;

/// Ridge of the linear models, in units of a row: enough that no weight runs away.
const RIDGE: f64 = 1e-4;
/// Newton steps of logistic regression; it has converged long before.
const NEWTON: usize = 12;

/// A linear model of rows of features.
#[derive(Clone, Debug)]
pub struct LinearModel(Vec<f64>);

impl LinearModel {
    /// Least squares with a ridge; rows are followed by a constant.
    pub fn squares(rows: &[Vec<f32>], truth: &[f64]) -> Self {
        let width = rows.first().map_or(0, Vec::len) + 1;
        let mut system = System::new(width);
        for (row, truth) in rows.iter().zip(truth) {
            system.add(row, 1.0, *truth);
        }
        Self(system.solve(RIDGE * rows.len() as f64))
    }

    /// Logistic regression with a ridge, by Newton's method.
    pub fn logistic(rows: &[Vec<f32>], positive: &[bool]) -> Self {
        let width = rows.first().map_or(0, Vec::len) + 1;
        let mut model = Self(vec![0.0; width]);
        for _ in 0..NEWTON {
            let mut system = System::new(width);
            for (row, &positive) in rows.iter().zip(positive) {
                let score = model.score(row);
                let chance = 1.0 / (1.0 + libm::exp(-score));
                let weight = (chance * (1.0 - chance)).max(1e-6);
                // The working response of iteratively reweighted least squares.
                system.add(row, weight, score + (f64::from(u8::from(positive)) - chance) / weight);
            }
            model = Self(system.solve(RIDGE * rows.len() as f64));
        }
        model
    }

    /// The score of a row; of logistic regression, the log of the odds.
    pub fn score(&self, row: &[f32]) -> f64 {
        let last = self.0.len() - 1;
        self.0[last] + row.iter().zip(&self.0).map(|(x, w)| f64::from(*x) * w).sum::<f64>()
    }

    /// Its parameters.
    pub fn parameters(&self) -> usize {
        self.0.len()
    }
}

/// Normal equations.
struct System {
    width: usize,
    matrix: Vec<f64>,
    right: Vec<f64>,
}

impl System {
    fn new(width: usize) -> Self {
        Self { width, matrix: vec![0.0; width * width], right: vec![0.0; width] }
    }

    fn add(&mut self, row: &[f32], weight: f64, truth: f64) {
        let value = |at: usize| row.get(at).map_or(1.0, |value| f64::from(*value));
        for i in 0..self.width {
            let scaled = weight * value(i);
            if scaled != 0.0 {
                self.right[i] += scaled * truth;
                for j in 0..=i {
                    self.matrix[i * self.width + j] += scaled * value(j);
                }
            }
        }
    }

    /// By Cholesky's decomposition; the ridge makes the matrix positive.
    fn solve(mut self, ridge: f64) -> Vec<f64> {
        let n = self.width;
        for i in 0..n {
            self.matrix[i * n + i] += ridge;
            for j in 0..=i {
                let dot: f64 = (0..j).map(|k| self.matrix[i * n + k] * self.matrix[j * n + k]).sum();
                let left = self.matrix[i * n + j] - dot;
                self.matrix[i * n + j] = if i == j { left.max(1e-12).sqrt() } else { left / self.matrix[j * n + j] };
            }
        }
        let mut x = self.right;
        for i in 0..n {
            let dot: f64 = (0..i).map(|k| self.matrix[i * n + k] * x[k]).sum();
            x[i] = (x[i] - dot) / self.matrix[i * n + i];
        }
        for i in (0..n).rev() {
            let dot: f64 = (i + 1..n).map(|k| self.matrix[k * n + i] * x[k]).sum();
            x[i] = (x[i] - dot) / self.matrix[i * n + i];
        }
        x
    }
}

/// Multinomial logistic regression on features, by one such model for each class against the rest. Every row is at unit
/// length, so that the ridge weighs the same whatever the features' scale: propagation makes it many times smaller.
pub fn one_against_rest(features: &Features, train: &[(usize, u32)], classes: usize, nodes: &[usize]) -> Vec<u32> {
    // With more features than rows the equations are solved among the rows: w = X^T a.
    let unit = |node: usize| {
        let mut row = features.row(node);
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
        row.iter_mut().filter(|_| length > 0.0).for_each(|value| *value /= length);
        row
    };
    let rows: Vec<Vec<f32>> = train.iter().map(|(node, _)| unit(*node)).collect();
    let dot = |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    let inner: Vec<Vec<f32>> = rows.iter().map(|row| rows.iter().map(|other| dot(row, other)).collect()).collect();
    let models: Vec<LinearModel> = (0..classes as u32)
        .map(|class| LinearModel::logistic(&inner, &train.iter().map(|(_, label)| *label == class).collect::<Vec<_>>()))
        .collect();
    let predict = |&node: &usize| {
        let row = unit(node);
        let inner: Vec<f32> = rows.iter().map(|other| dot(&row, other)).collect();
        measures::largest(&models.iter().map(|model| model.score(&inner) as f32).collect::<Vec<_>>()) as u32
    };
    nodes.iter().map(predict).collect()
}

/// Rounds of propagation of features.
const HOPS: usize = 2;

/// Features after two rounds of the mean over both degrees that graph convolutions take (Wu et al. 2019, SGC), at some
/// nodes; of others there are none.
pub fn propagated(features: &Features, lists: &[Vec<u32>], nodes: &[usize]) -> Features {
    let over = alike(GraphNetworkKind::Gcn, lists);
    let weights = over.floats();
    // What a row is made of, rather than all rows: a graph may be wide.
    let mut rows: Vec<Vec<(u32, f32)>> = vec![Vec::new(); lists.len()];
    let mut sums = vec![0.0f64; features.width()];
    let mut made = vec![false; lists.len()];
    for &node in nodes {
        if std::mem::replace(&mut made[node], true) {
            continue;
        }
        let mut shares: BTreeMap<u32, f64> = BTreeMap::from([(node as u32, 1.0)]);
        for _ in 0..HOPS {
            let mut next = BTreeMap::new();
            for (at, share) in shares {
                for (sender, weight) in weights.row(at as usize) {
                    *next.entry(sender).or_insert(0.0) += share * f64::from(weight);
                }
            }
            shares = next;
        }
        for (sender, share) in shares {
            let row = features.row(sender as usize);
            row.iter()
                .zip(&mut sums)
                .filter(|(value, _)| **value != 0.0)
                .for_each(|(value, sum)| *sum += share * f64::from(*value));
        }
        let entries = sums.iter().enumerate().filter(|(_, sum)| **sum != 0.0);
        rows[node] = entries.map(|(column, sum)| (column as u32, *sum as f32)).collect();
        sums.fill(0.0);
    }
    Features::sparse(Sparse::from_rows(features.width(), rows))
}

/// Share of its own label a node keeps in each round of label propagation.
const KEPT: f64 = 0.1;
/// Rounds of label propagation.
const ROUNDS: usize = 50;

/// Label propagation (Zhou et al. 2004): known classes spread along edges, scaled by both degrees.
pub fn spread(lists: &[Vec<u32>], train: &[(usize, u32)], classes: usize, nodes: &[usize]) -> Vec<u32> {
    let root: Vec<f64> = lists.iter().map(|list| (list.len().max(1) as f64).sqrt()).collect();
    let mut known = vec![0.0; lists.len() * classes];
    train.iter().for_each(|&(node, class)| known[node * classes + class as usize] = 1.0);
    let mut values = known.clone();
    for _ in 0..ROUNDS {
        let mut next: Vec<f64> = known.iter().map(|value| KEPT * value).collect();
        for (node, list) in lists.iter().enumerate() {
            for &other in list {
                let share = (1.0 - KEPT) / (root[node] * root[other as usize]);
                for class in 0..classes {
                    next[node * classes + class] += share * values[other as usize * classes + class];
                }
            }
        }
        values = next;
    }
    let row = |&node: &usize| values[node * classes..][..classes].iter().map(|&value| value as f32).collect::<Vec<_>>();
    nodes.iter().map(|node| measures::largest(&row(node)) as u32).collect()
}

/// Ratings that the users rated receive, smoothed along the edges between users.
pub fn spread_ratings(snapshot: &Snapshot, rated: &[Edge]) -> Vec<f64> {
    let own: Vec<f64> =
        (0..snapshot.lists.len()).map(|node| snapshot.target_mean(node as u32) - snapshot.mean).collect();
    let mut values = own.clone();
    for _ in 0..ROUNDS {
        let mean =
            |list: &Vec<u32>| list.iter().map(|&other| values[other as usize]).sum::<f64>() / list.len().max(1) as f64;
        values = own.iter().zip(&snapshot.lists).map(|(own, list)| 0.5 * own + 0.5 * mean(list)).collect();
    }
    rated.iter().map(|edge| snapshot.mean + values[edge.target as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_models_find_what_made_the_rows() {
        let rows: Vec<Vec<f32>> =
            (0..200).map(|i| vec![((i * 37) % 101) as f32 / 50.0 - 1.0, ((i * 53) % 97) as f32 / 48.0 - 1.0]).collect();
        let truth: Vec<f64> = rows.iter().map(|row| 2.0 * f64::from(row[0]) - f64::from(row[1]) + 0.5).collect();
        let model = LinearModel::squares(&rows, &truth);
        assert!(rows.iter().zip(&truth).all(|(row, truth)| (model.score(row) - truth).abs() < 0.02), "{model:?}");
        let positive: Vec<bool> = truth.iter().map(|&truth| truth > 0.0).collect();
        let model = LinearModel::logistic(&rows, &positive);
        let right = rows.iter().zip(&positive).filter(|(row, positive)| (model.score(row) > 0.0) == **positive).count();
        assert!(right >= 195, "{right}");
    }

    #[test]
    fn labels_spread_along_edges_and_features_tell_classes() {
        // Two paths of three nodes.
        let lists = [vec![1], vec![0, 2], vec![1], vec![4], vec![3, 5], vec![4]];
        assert_eq!(spread(&lists, &[(0, 1), (5, 0)], 2, &[1, 2, 3]), [1, 1, 0]);
        let features = Features::new(2, vec![1.0, 0.0, 0.9, 0.2, 0.0, 1.0, 0.1, 0.8]);
        assert_eq!(one_against_rest(&features, &[(0, 0), (2, 1)], 2, &[1, 3]), [0, 1]);
        // Where most nodes are of one class, a ridge that weighs more on small features finds no other.
        let rows: Vec<f32> = (0..20).flat_map(|at| if at < 15 { [1.0, 0.1] } else { [0.2, 1.0] }).collect();
        let train: Vec<(usize, u32)> = (0..20).filter(|at| at % 5 != 4).map(|at| (at, u32::from(at >= 15))).collect();
        for scale in [1.0, 1e-3] {
            let scaled = Features::new(2, rows.iter().map(|value| value * scale).collect());
            assert_eq!(one_against_rest(&scaled, &train, 2, &[4, 9, 14, 19]), [0, 0, 0, 1], "{scale}");
        }
    }
}
