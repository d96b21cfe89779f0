//! Attention of nodes over their neighbours (GAT, Velickovic et al. 2018), forward and backward.
//!
//! Node `i` weighs its neighbour `j` in each head by the softmax over `j` of
//! `leaky_relu(source . x_j + target . x_i)`, slope 0.2, and adds up the `x_j`.

use rayon::prelude::*;

use super::elementary::exp;
use super::relu::Drop;

/// Slope of the leaky rectifier below zero, as in the paper.
const SLOPE: f32 = 0.2;

/// Who receives from whom: neighbours of node `i` stand at `starts[i]..starts[i + 1]`.
#[derive(Clone, Copy, Debug)]
pub struct Edges<'a> {
    /// First edge of each node, and behind them the number of edges.
    pub starts: &'a [usize],
    /// The sender of each edge.
    pub senders: &'a [u32],
}

/// What attention is computed from.
#[derive(Clone, Copy, Debug)]
pub struct NeighbourOperands<'a> {
    /// `(nodes, heads * dim)`.
    pub x: &'a [f32],
    /// Weighs senders, `(heads * dim)`.
    pub source: &'a [f32],
    /// Weighs receivers, `(heads * dim)`.
    pub target: &'a [f32],
    /// Heads.
    pub heads: usize,
    /// Drops shares of the senders.
    pub drop: Option<Drop>,
}

impl NeighbourOperands<'_> {
    fn width(&self) -> usize {
        self.source.len()
    }

    fn dim(&self) -> usize {
        self.width() / self.heads
    }

    /// `vector . x_i` of each node and head, `(nodes, heads)`.
    fn scores(&self, vector: &[f32]) -> Vec<f32> {
        let dim = self.dim();
        let one = |(x, vector): (&[f32], &[f32])| x.iter().zip(vector).map(|(x, y)| x * y).sum::<f32>();
        let row = |x: &[f32]| x.chunks_exact(dim).zip(vector.chunks_exact(dim)).map(one).collect::<Vec<_>>();
        self.x.par_chunks_exact(self.width()).flat_map_iter(row).collect()
    }

    fn check(&self, edges: Edges<'_>) -> usize {
        let (width, nodes) = (self.width(), edges.starts.len() - 1);
        assert!(self.heads > 0 && width > 0 && width.is_multiple_of(self.heads), "heads share the features equally");
        assert_eq!(self.target.len(), width, "both vectors have the features' width");
        assert_eq!(self.x.len(), nodes * width, "every node has a row");
        assert!(edges.starts.is_sorted() && edges.starts.last() == Some(&edges.senders.len()), "edges in order");
        assert!(edges.senders.iter().all(|&sender| (sender as usize) < nodes), "senders are nodes");
        nodes
    }
}

/// The shares of all edges and heads `(edges, heads)`, before any are dropped.
///
/// # Panics
/// If the shapes do not agree.
pub fn shares(operands: &NeighbourOperands<'_>, edges: Edges<'_>) -> Vec<f32> {
    operands.check(edges);
    let (heads, sent, received) = (operands.heads, operands.scores(operands.source), operands.scores(operands.target));
    let mut shares = vec![0.0f32; edges.senders.len() * heads];
    for_nodes(edges, heads, &mut shares, |node, shares| {
        for head in 0..heads {
            let raw = |sender: u32| leaky(sent[sender as usize * heads + head] + received[node * heads + head]);
            let senders = &edges.senders[edges.starts[node]..edges.starts[node + 1]];
            let largest = senders.iter().map(|&sender| raw(sender)).fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for (at, &sender) in senders.iter().enumerate() {
                let value = exp(raw(sender) - largest);
                shares[at * heads + head] = value;
                sum += value;
            }
            (0..senders.len()).for_each(|at| shares[at * heads + head] /= sum);
        }
    });
    shares
}

/// What every node receives, `(nodes, heads * dim)`, given the [`shares`].
///
/// # Panics
/// As [`shares`].
pub fn attend(operands: &NeighbourOperands<'_>, edges: Edges<'_>, shares: &[f32]) -> Vec<f32> {
    operands.check(edges);
    let (heads, dim, width) = (operands.heads, operands.dim(), operands.width());
    let mut result = vec![0.0f32; operands.x.len()];
    result.par_chunks_exact_mut(width).enumerate().for_each(|(node, sum)| {
        for edge in edges.starts[node]..edges.starts[node + 1] {
            let x = &operands.x[edges.senders[edge] as usize * width..][..width];
            for head in 0..heads {
                let share = shares[edge * heads + head] * kept(operands, edge * heads + head);
                let (sum, x) = (&mut sum[head * dim..][..dim], &x[head * dim..][..dim]);
                sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += share * x);
            }
        }
    });
    result
}

/// Gradients with respect to `x`, `source` and `target`, given that of the result. `back` names the receivers of each
/// sender, `places` where each of those edges stands among `edges`.
///
/// # Panics
/// As [`shares`].
pub fn backward(
    operands: &NeighbourOperands<'_>,
    edges: Edges<'_>,
    (back, places): (Edges<'_>, &[u32]),
    shares: &[f32],
    g: &[f32],
) -> [Vec<f32>; 3] {
    let nodes = operands.check(edges);
    let (heads, dim, width) = (operands.heads, operands.dim(), operands.width());
    let raw = raw_gradients(operands, edges, shares, g);
    // Of the two scores of each node and head.
    let sum = |node: usize, head: usize| -> [f32; 2] {
        let into = (edges.starts[node]..edges.starts[node + 1]).map(|edge| raw[edge * heads + head]).sum();
        let out = (back.starts[node]..back.starts[node + 1]).map(|at| raw[places[at] as usize * heads + head]).sum();
        [out, into]
    };
    let scores: Vec<[f32; 2]> =
        (0..nodes).into_par_iter().flat_map_iter(|node| (0..heads).map(move |head| sum(node, head))).collect();
    let mut dx = vec![0.0f32; operands.x.len()];
    dx.par_chunks_exact_mut(width).enumerate().for_each(|(node, dx)| {
        for at in back.starts[node]..back.starts[node + 1] {
            let (edge, receiver) = (places[at] as usize, back.senders[at] as usize);
            for head in 0..heads {
                let share = shares[edge * heads + head] * kept(operands, edge * heads + head);
                let g = &g[receiver * width + head * dim..][..dim];
                dx[head * dim..][..dim].iter_mut().zip(g).for_each(|(dx, g)| *dx += share * g);
            }
        }
        for (at, dx) in dx.iter_mut().enumerate() {
            let [out, into] = scores[node * heads + at / dim];
            *dx += out * operands.source[at] + into * operands.target[at];
        }
    });
    let vector = |which: usize| {
        let mut sum = vec![0.0f32; width];
        for (node, x) in operands.x.chunks_exact(width).enumerate() {
            for (at, (sum, x)) in sum.iter_mut().zip(x).enumerate() {
                *sum += scores[node * heads + at / dim][which] * x;
            }
        }
        sum
    };
    let (source, target) = (vector(0), vector(1));
    [dx, source, target]
}

/// Gradients with respect to the raw scores of all edges and heads `(edges, heads)`, given that of the result.
fn raw_gradients(operands: &NeighbourOperands<'_>, edges: Edges<'_>, shares: &[f32], g: &[f32]) -> Vec<f32> {
    let (heads, dim, width) = (operands.heads, operands.dim(), operands.width());
    let (sent, received) = (operands.scores(operands.source), operands.scores(operands.target));
    let mut raw = vec![0.0f32; shares.len()];
    for_nodes(edges, heads, &mut raw, |node, raw| {
        let first = edges.starts[node];
        for head in 0..heads {
            let g = &g[node * width + head * dim..][..dim];
            let mut mean = 0.0;
            for at in 0..raw.len() / heads {
                let (entry, sender) = ((first + at) * heads + head, edges.senders[first + at] as usize);
                let x = &operands.x[sender * width + head * dim..][..dim];
                let slope = kept(operands, entry) * g.iter().zip(x).map(|(g, x)| g * x).sum::<f32>();
                mean += shares[entry] * slope;
                raw[at * heads + head] = slope;
            }
            for at in 0..raw.len() / heads {
                let (entry, sender) = ((first + at) * heads + head, edges.senders[first + at] as usize);
                let score = sent[sender * heads + head] + received[node * heads + head];
                let bend = if score > 0.0 { 1.0 } else { SLOPE };
                raw[at * heads + head] = shares[entry] * (raw[at * heads + head] - mean) * bend;
            }
        }
    });
    raw
}

fn leaky(x: f32) -> f32 {
    if x > 0.0 { x } else { SLOPE * x }
}

fn kept(operands: &NeighbourOperands<'_>, entry: usize) -> f32 {
    operands.drop.map_or(1.0, |drop| drop.factor(entry))
}

/// Hands every node its edges' part of `values` `(edges, width)`, many nodes at a time.
fn for_nodes(edges: Edges<'_>, width: usize, values: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync) {
    const NODES: usize = 256;
    let nodes = edges.starts.len() - 1;
    let mut rest = values;
    let mut parts = Vec::new();
    for first in (0..nodes).step_by(NODES) {
        let last = nodes.min(first + NODES);
        let (part, after) = rest.split_at_mut((edges.starts[last] - edges.starts[first]) * width);
        rest = after;
        parts.push((first..last, part));
    }
    parts.into_par_iter().for_each(|(range, mut part)| {
        for node in range {
            let (own, after) = part.split_at_mut((edges.starts[node + 1] - edges.starts[node]) * width);
            part = after;
            f(node, own);
        }
    });
}
