//! A plain 64-bit float interpretation of networks: the oracle the integers are compared with.

use std::ops::Range;
use std::sync::Arc;

use ftk_adapters::weights::{Weights, values};
use ftk_networks::ops::graph::{ONE, Propagation};
use ftk_networks::ops::{Bias, Heads, Nodes, Ops, Rope, TableShape, Tokens};

use ftk_proofs::fixed::PassError;

use super::WeightsError;

/// Rows of features.
pub(super) type FloatRows = Vec<Vec<f64>>;

/// Computes with the unquantised weights, without adapter.
pub(super) struct FloatOracle<'a>(pub(super) &'a Weights);

impl FloatOracle<'_> {
    fn weight(&self, name: &str) -> Result<Vec<f64>, WeightsError> {
        self.values(&format!("{name}.weight"))
    }

    fn values(&self, name: &str) -> Result<Vec<f64>, WeightsError> {
        Ok(values(&self.0.get(name)?, |values| values.iter().copied().map(f64::from).collect())?)
    }
}

impl Ops for FloatOracle<'_> {
    type Value = FloatRows;
    type Error = WeightsError;

    fn embed(&mut self, site: &str, table: TableShape, tokens: &Tokens) -> Result<FloatRows, WeightsError> {
        let (_, hidden) = self.0.get(&format!("{site}.weight"))?.dims2()?;
        let scale = f64::from(table.scale);
        let table = self.weight(site)?;
        let row = |&id: &u32| table[id as usize * hidden..][..hidden].iter().map(|x| x * scale).collect();
        Ok(tokens.ids().iter().map(row).collect())
    }

    fn add_positions(&mut self, site: &str, _: usize, x: &FloatRows) -> Result<FloatRows, WeightsError> {
        let table = self.weight(site)?;
        let rows = x.iter().zip(table.chunks_exact(x[0].len()));
        Ok(rows.map(|(x, row)| x.iter().zip(row).map(|(x, y)| x + y).collect()).collect())
    }

    fn linear(&mut self, site: &str, d_out: usize, bias: Bias, x: &FloatRows) -> Result<FloatRows, WeightsError> {
        let mut rows = self.head(site, site, d_out, x)?;
        if bias == Bias::Present {
            let bias = self.values(&format!("{site}.bias"))?;
            rows.iter_mut().for_each(|row| row.iter_mut().zip(&bias).for_each(|(x, b)| *x += b));
        }
        Ok(rows)
    }

    fn linear_rope(
        &mut self,
        site: &str,
        d_out: usize,
        bias: Bias,
        x: &FloatRows,
        rope: &Rope,
    ) -> Result<FloatRows, WeightsError> {
        let rows = self.linear(site, d_out, bias, x)?;
        Ok(rotate(rows, rope))
    }

    fn norm_rope(&mut self, site: &str, x: &FloatRows, eps: f64, rope: &Rope) -> Result<FloatRows, WeightsError> {
        let mut rows = Vec::new();
        for row in x {
            let heads: FloatRows = row.chunks_exact(rope.dim).map(<[f64]>::to_vec).collect();
            rows.push(self.rms_norm(site, &heads, eps)?.concat());
        }
        Ok(rotate(rows, rope))
    }

    fn layer_norm(&mut self, site: &str, x: &FloatRows, eps: f64) -> Result<FloatRows, WeightsError> {
        let (weight, bias) = (self.weight(site)?, self.values(&format!("{site}.bias"))?);
        let normalise = |row: &Vec<f64>| {
            let n = row.len() as f64;
            let mean = row.iter().sum::<f64>() / n;
            let root = (row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n + eps).sqrt();
            row.iter().zip(weight.iter().zip(&bias)).map(|(x, (w, b))| (x - mean) / root * w + b).collect()
        };
        Ok(x.iter().map(normalise).collect())
    }

    fn part(&mut self, x: &FloatRows, features: Range<usize>) -> Result<FloatRows, WeightsError> {
        Ok(x.iter().map(|row| row[features.clone()].to_vec()).collect())
    }

    fn rope(&mut self, x: &FloatRows, rope: &Rope) -> Result<FloatRows, WeightsError> {
        Ok(rotate(x.clone(), rope))
    }

    fn geglu(&mut self, gate: &FloatRows, up: &FloatRows) -> Result<FloatRows, WeightsError> {
        let gate = self.gelu(gate)?;
        Ok(gate.iter().zip(up).map(|(g, u)| g.iter().zip(u).map(|(g, u)| g * u).collect()).collect())
    }

    fn gelu(&mut self, x: &FloatRows) -> Result<FloatRows, WeightsError> {
        let gelu = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
        Ok(x.iter().map(|row| row.iter().copied().map(gelu).collect()).collect())
    }

    fn rms_norm(&mut self, site: &str, x: &FloatRows, eps: f64) -> Result<FloatRows, WeightsError> {
        let weight = self.weight(site)?;
        let normalise = |row: &Vec<f64>| {
            let root = (row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64 + eps).sqrt();
            row.iter().zip(&weight).map(|(x, w)| x / root * w).collect()
        };
        Ok(x.iter().map(normalise).collect())
    }

    fn attention(
        &mut self,
        _: &str,
        q: &FloatRows,
        k: &FloatRows,
        v: &FloatRows,
        heads: Heads,
        window: Option<usize>,
    ) -> Result<FloatRows, WeightsError> {
        assert!(window.is_none_or(|window| window >= q.len()), "a window that shows is not written here");
        let Heads { query, key_value, dim } = heads;
        let attend = |(i, q): (usize, &Vec<f64>)| {
            let mut output = Vec::new();
            for head in 0..query {
                let shared = head / (query / key_value) * dim;
                let score = |k: &Vec<f64>| {
                    (0..dim).map(|d| q[head * dim + d] * k[shared + d]).sum::<f64>() / (dim as f64).sqrt()
                };
                let scores: Vec<f64> = k[..=i].iter().map(score).collect();
                let largest = scores.iter().copied().fold(f64::MIN, f64::max);
                let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
                let sum: f64 = weights.iter().sum();
                output
                    .extend((0..dim).map(|d| weights.iter().zip(v).map(|(w, v)| w * v[shared + d]).sum::<f64>() / sum));
            }
            output
        };
        Ok(q.iter().enumerate().map(attend).collect())
    }

    fn swiglu(&mut self, gate: &FloatRows, up: &FloatRows) -> Result<FloatRows, WeightsError> {
        let silu = |g: f64| g / (1.0 + (-g).exp());
        Ok(gate.iter().zip(up).map(|(g, u)| g.iter().zip(u).map(|(&g, u)| silu(g) * u).collect()).collect())
    }

    fn add(&mut self, x: &FloatRows, y: &FloatRows) -> Result<FloatRows, WeightsError> {
        Ok(x.iter().zip(y).map(|(x, y)| x.iter().zip(y).map(|(x, y)| x + y).collect()).collect())
    }

    fn select(&mut self, x: &FloatRows, rows: &[usize]) -> Result<FloatRows, WeightsError> {
        Ok(rows.iter().map(|&row| x[row].clone()).collect())
    }

    fn convolve(
        &mut self,
        site: &str,
        d_out: usize,
        bias: Bias,
        x: Nodes<'_, FloatRows>,
        over: &Arc<Propagation>,
    ) -> Result<FloatRows, WeightsError> {
        let x = match x {
            Nodes::Value(x) => x.clone(),
            Nodes::Features(x) => (0..x.rows()).map(|row| x.row(row).into_iter().map(f64::from).collect()).collect(),
        };
        let gather = |receiver: usize| {
            let mut sum = vec![0.0; x[0].len()];
            for (sender, coefficient) in over.coefficients().row(receiver) {
                let share = f64::from(coefficient) / f64::from(ONE);
                sum.iter_mut().zip(&x[sender as usize]).for_each(|(sum, x)| *sum += share * x);
            }
            sum
        };
        let gathered = (0..over.rows()).map(gather).collect();
        self.linear(site, d_out, bias, &gathered)
    }

    fn attend_neighbours(
        &mut self,
        site: &str,
        _: &FloatRows,
        _: usize,
        _: &Arc<Propagation>,
    ) -> Result<FloatRows, WeightsError> {
        Err(PassError::Neighbours(site.to_owned()).into())
    }

    fn relu(&mut self, x: &FloatRows) -> Result<FloatRows, WeightsError> {
        Ok(x.iter().map(|row| row.iter().map(|x| x.max(0.0)).collect()).collect())
    }

    fn dropout(&mut self, x: &FloatRows) -> Result<FloatRows, WeightsError> {
        Ok(x.clone())
    }

    fn head(&mut self, _: &str, weight: &str, _: usize, x: &FloatRows) -> Result<FloatRows, WeightsError> {
        let weight = self.weight(weight)?;
        let dot = |w: &[f64], x: &[f64]| w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
        Ok(x.iter().map(|x| weight.chunks_exact(x.len()).map(|w| dot(w, x)).collect()).collect())
    }
}

/// Each head rotated by its row's position.
fn rotate(mut rows: FloatRows, rope: &Rope) -> FloatRows {
    assert!(rope.scaling.is_none(), "the scaled frequencies are tested with the rotation table");
    let half = rope.dim / 2;
    for (position, row) in rows.iter_mut().enumerate() {
        for head in row.chunks_exact_mut(rope.dim) {
            for i in 0..half {
                let angle = position as f64 * rope.theta.powf(-2.0 * i as f64 / rope.dim as f64);
                let (sin, cos) = angle.sin_cos();
                (head[i], head[i + half]) =
                    (head[i] * cos - head[i + half] * sin, head[i + half] * cos + head[i] * sin);
            }
        }
    }
    rows
}
