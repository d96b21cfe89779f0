//! Boosted regression trees (Friedman 2001, with the second-order gain of Chen and Guestrin 2016): what tabular features
//! are usually given to, and so what a network on them has to beat.

/// Trees.
const ROUNDS: usize = 150;
/// Splits from root to leaf.
const DEPTH: usize = 4;
/// What of each tree is taken.
const RATE: f64 = 0.1;
/// Values that a feature is told apart by: thresholds lie between its quantiles.
const BINS: usize = 32;
/// Pulls leaves towards 0, in rows of weight one.
const RIDGE: f64 = 2.0;

/// A split, or a leaf.
#[derive(Clone, Copy, Debug)]
enum TreeNode {
    Split { feature: usize, above: f32, left: usize },
    Leaf(f64),
}

/// Trees for the odds of a sign.
#[derive(Clone, Debug)]
pub struct BoostedTrees {
    trees: Vec<Vec<TreeNode>>,
    start: f64,
}

impl BoostedTrees {
    /// Logistic loss, so many rounds.
    pub fn logistic(rows: &[Vec<f32>], positive: &[bool]) -> Self {
        let width = rows.first().map_or(0, Vec::len);
        let edges: Vec<Vec<f32>> = (0..width).map(|feature| edges(rows, feature)).collect();
        let bin = |row: &Vec<f32>| -> Vec<u8> {
            row.iter().zip(&edges).map(|(value, edges)| edges.partition_point(|edge| edge < value) as u8).collect()
        };
        let binned: Vec<Vec<u8>> = rows.iter().map(bin).collect();
        let share = positive.iter().filter(|&&it| it).count() as f64 / positive.len().max(1) as f64;
        let share = share.clamp(1e-6, 1.0 - 1e-6);
        let mut model = Self { trees: Vec::new(), start: libm::log(share / (1.0 - share)) };
        let mut scores = vec![model.start; rows.len()];
        for _ in 0..ROUNDS {
            let slopes: Vec<[f64; 2]> = scores
                .iter()
                .zip(positive)
                .map(|(score, &positive)| {
                    let chance = 1.0 / (1.0 + libm::exp(-score));
                    [chance - f64::from(u8::from(positive)), (chance * (1.0 - chance)).max(1e-9)]
                })
                .collect();
            let mut tree = vec![TreeNode::Leaf(0.0)];
            grow(
                &mut tree,
                0,
                (0..rows.len()).collect(),
                DEPTH,
                &Binned { edges: &edges, rows: &binned, slopes: &slopes },
            );
            rows.iter().zip(&mut scores).for_each(|(row, score)| *score += leaf(&tree, row));
            model.trees.push(tree);
        }
        model
    }

    /// Log of the odds of a row.
    pub fn score(&self, row: &[f32]) -> f64 {
        self.start + self.trees.iter().map(|tree| leaf(tree, row)).sum::<f64>()
    }

    /// Leaves of all trees.
    pub fn parameters(&self) -> usize {
        self.trees.iter().flatten().filter(|node| matches!(node, TreeNode::Leaf(_))).count()
    }
}

/// Rows by the bins of their features, and first and second derivatives of the loss by their scores.
struct Binned<'a> {
    edges: &'a [Vec<f32>],
    rows: &'a [Vec<u8>],
    slopes: &'a [[f64; 2]],
}

fn edges(rows: &[Vec<f32>], feature: usize) -> Vec<f32> {
    let mut values: Vec<f32> = rows.iter().map(|row| row[feature]).collect();
    values.sort_by(f32::total_cmp);
    let mut edges: Vec<f32> = (1..BINS).map(|at| values[at * (values.len() - 1) / BINS]).collect();
    edges.dedup();
    // Above the largest there is nothing to split off.
    edges.retain(|edge| Some(edge) != values.last());
    edges
}

fn leaf(tree: &[TreeNode], row: &[f32]) -> f64 {
    let mut at = 0;
    loop {
        match tree[at] {
            TreeNode::Split { feature, above, left } => at = left + usize::from(row[feature] > above),
            TreeNode::Leaf(value) => return value,
        }
    }
}

fn grow(tree: &mut Vec<TreeNode>, at: usize, rows: Vec<usize>, depth: usize, binned: &Binned<'_>) {
    let sum = |rows: &[usize]| {
        rows.iter().fold([0.0, 0.0], |[g, h], &row| {
            let [slope, bend] = binned.slopes[row];
            [g + slope, h + bend]
        })
    };
    let [g, h] = sum(&rows);
    let worth = |g: f64, h: f64| g * g / (h + RIDGE);
    let mut best: Option<(f64, usize, usize)> = None;
    if depth > 0 {
        for (feature, edges) in binned.edges.iter().enumerate() {
            let mut sums = [[0.0f64; 2]; BINS];
            for &row in &rows {
                let sum = &mut sums[usize::from(binned.rows[row][feature])];
                let [slope, bend] = binned.slopes[row];
                (sum[0], sum[1]) = (sum[0] + slope, sum[1] + bend);
            }
            let (mut left, mut low) = (0.0, 0.0);
            for (edge, [slope, bend]) in sums.iter().take(edges.len()).enumerate() {
                (left, low) = (left + slope, low + bend);
                let gain = worth(left, low) + worth(g - left, h - low) - worth(g, h);
                if low > 0.5 && h - low > 0.5 && gain > best.map_or(1e-6, |it| it.0) {
                    best = Some((gain, feature, edge));
                }
            }
        }
    }
    let Some((_, feature, edge)) = best else {
        tree[at] = TreeNode::Leaf(-RATE * g / (h + RIDGE));
        return;
    };
    let (left, right): (Vec<usize>, Vec<usize>) =
        rows.into_iter().partition(|&row| usize::from(binned.rows[row][feature]) <= edge);
    let first = tree.len();
    tree[at] = TreeNode::Split { feature, above: binned.edges[feature][edge], left: first };
    tree.extend([TreeNode::Leaf(0.0); 2]);
    grow(tree, first, left, depth - 1, binned);
    grow(tree, first + 1, right, depth - 1, binned);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_find_what_no_line_does() {
        let value = |i: usize, by: usize| ((i * by) % 101) as f32 / 50.0 - 1.0;
        let rows: Vec<Vec<f32>> = (0..1500).map(|i| vec![value(i, 37), value(i / 7, 53), 0.5]).collect();
        // Same signs: a line through it tells nothing.
        let positive: Vec<bool> = rows.iter().map(|row| (row[0] > 0.0) == (row[1] > 0.0)).collect();
        let model = BoostedTrees::logistic(&rows[..1000], &positive[..1000]);
        let told = (1000..1500).filter(|&at| (model.score(&rows[at]) > 0.0) == positive[at]).count();
        assert!(told > 470, "{told}");
        // One class alone: no split, and odds that say so.
        let all = BoostedTrees::logistic(&rows[..50], &[true; 50]);
        assert!(all.score(&rows[0]) > 5.0 && all.parameters() == ROUNDS, "{}", all.parameters());
    }
}
