//! Figures of merit, from scores and truths alone.

use std::collections::BTreeMap;

/// Named figures, in a fixed order.
pub type NamedFigures = Vec<(&'static str, f64)>;

/// Index of the largest value, the first of equals.
pub fn largest(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, at| if values[at] > values[best] { at } else { best })
}

/// Accuracy, which is micro-F1 where every node has one class, and macro-F1: the mean over the classes that occur in
/// either list.
pub fn of_classes(predicted: &[u32], truth: &[u32]) -> NamedFigures {
    let mut counts: BTreeMap<u32, [f64; 3]> = BTreeMap::new();
    let mut hits = 0.0;
    for (&predicted, &truth) in predicted.iter().zip(truth) {
        let hit = f64::from(u8::from(predicted == truth));
        hits += hit;
        counts.entry(predicted).or_default()[1] += 1.0;
        let entry = counts.entry(truth).or_default();
        entry[0] += hit;
        entry[2] += 1.0;
    }
    let f1 = |[hits, predicted, there]: &[f64; 3]| 2.0 * hits / (predicted + there);
    let macro_f1 = counts.values().map(f1).sum::<f64>() / counts.len().max(1) as f64;
    vec![("accuracy", hits / truth.len().max(1) as f64), ("macro_f1", macro_f1)]
}

/// Area under the ROC curve: the chance that a positive scores above a negative, ties counting half. NaN without both.
pub fn roc_auc(scores: &[f64], positive: &[bool]) -> f64 {
    let order = ascending(scores);
    let (mut ranks, mut at) = (0.0, 0);
    while at < order.len() {
        let end = (at..order.len()).find(|&next| scores[order[next]] > scores[order[at]]).unwrap_or(order.len());
        let positives = order[at..end].iter().filter(|&&item| positive[item]).count();
        // Ranks from 1; equals share their mean.
        ranks += positives as f64 * (at + end + 1) as f64 / 2.0;
        at = end;
    }
    let ones = positive.iter().filter(|&&positive| positive).count() as f64;
    let zeros = positive.len() as f64 - ones;
    (ranks - ones * (ones + 1.0) / 2.0) / (ones * zeros)
}

/// Average precision: precision at each threshold, weighed by the recall it adds.
pub fn average_precision(scores: &[f64], positive: &[bool]) -> f64 {
    let mut order = ascending(scores);
    order.reverse();
    let all = positive.iter().filter(|&&positive| positive).count() as f64;
    let (mut found, mut sum, mut at) = (0.0, 0.0, 0);
    while at < order.len() {
        let end = (at..order.len()).find(|&next| scores[order[next]] < scores[order[at]]).unwrap_or(order.len());
        let here = order[at..end].iter().filter(|&&item| positive[item]).count() as f64;
        found += here;
        sum += here / all * found / end as f64;
        at = end;
    }
    sum
}

/// Root of the mean squared difference.
pub fn rmse(scores: &[f64], truth: &[f64]) -> f64 {
    let squares: f64 = scores.iter().zip(truth).map(|(a, b)| (a - b) * (a - b)).sum();
    (squares / truth.len() as f64).sqrt()
}

/// Share of pairs of one group whose order by score is that by truth, ties of scores counting half; the number of pairs.
pub fn pair_accuracy(groups: &[u32], scores: &[f64], truth: &[f64]) -> (f64, usize) {
    let mut members: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    groups.iter().enumerate().for_each(|(item, &group)| members.entry(group).or_default().push(item));
    let (mut right, mut pairs) = (0.0, 0);
    for items in members.values() {
        for &better in items {
            for &worse in items.iter().filter(|&&worse| truth[better] > truth[worse]) {
                pairs += 1;
                let order = scores[better].total_cmp(&scores[worse]);
                right += if order.is_gt() {
                    1.0
                } else if order.is_eq() {
                    0.5
                } else {
                    0.0
                };
            }
        }
    }
    (right / pairs as f64, pairs)
}

/// Mean reciprocal rank, and share of ranks of at most 1, 3 and 10, of the first candidate of each list; among equals it
/// stands in their middle.
pub fn of_ranks(lists: &[Vec<f64>]) -> NamedFigures {
    let rank = |list: &Vec<f64>| {
        let Some((own, others)) = list.split_first() else { return f64::INFINITY };
        let above = others.iter().filter(|other| *other > own).count() as f64;
        let equal = others.iter().filter(|other| *other == own).count() as f64;
        1.0 + above + equal / 2.0
    };
    let ranks: Vec<f64> = lists.iter().map(rank).collect();
    let mean = |f: &dyn Fn(f64) -> f64| ranks.iter().map(|&rank| f(rank)).sum::<f64>() / ranks.len().max(1) as f64;
    let hits = |most: f64| mean(&|rank| f64::from(u8::from(rank <= most)));
    vec![("mrr", mean(&|rank| 1.0 / rank)), ("hits@1", hits(1.0)), ("hits@3", hits(3.0)), ("hits@10", hits(10.0))]
}

/// Mean and standard deviation of a sample; no deviation of one.
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (mean, if values.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 })
}

fn ascending(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_known_lists() {
        let figures = of_classes(&[0, 1, 1, 2], &[0, 1, 2, 2]);
        assert_eq!(figures[0], ("accuracy", 0.75));
        assert!((figures[1].1 - (1.0 + 2.0 / 3.0 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
        let positive = [true, false, true, false];
        assert_eq!(roc_auc(&[0.9, 0.1, 0.8, 0.3], &positive), 1.0);
        assert_eq!(roc_auc(&[0.5; 4], &positive), 0.5);
        assert_eq!(roc_auc(&[0.9, 0.5, 0.5, 0.1], &positive), 0.875);
        assert!((average_precision(&[0.9, 0.8, 0.7, 0.1], &positive) - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-12);
        assert!((average_precision(&[0.5; 4], &positive) - 0.5).abs() < 1e-12);
        assert_eq!(rmse(&[1.0, 3.0], &[0.0, 3.0]), 0.5f64.sqrt());
        let (right, pairs) = pair_accuracy(&[1, 1, 1, 2], &[3.0, 3.0, 1.0, 9.0], &[2.0, 1.0, 0.0, 5.0]);
        assert_eq!((right, pairs), (2.5 / 3.0, 3));
        assert_eq!(of_ranks(&[vec![2.0, 1.0], vec![1.0, 1.0, 5.0]])[0], ("mrr", (1.0 + 1.0 / 2.5) / 2.0));
        assert_eq!(mean_and_deviation(&[1.0, 3.0]), (2.0, 2.0f64.sqrt()));
    }
}
