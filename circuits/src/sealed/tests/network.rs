//! Small networks with random weights, as operations on integers and as plans.

use std::sync::Arc;

use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use crate::fixed::attention::{self, HeadCounts};
use crate::fixed::elementary::Dyadic;
use crate::fixed::gate::{GateFunction, gelu, swiglu};
use crate::fixed::graph::{SparseRows, aggregate, relu};
use crate::fixed::linear::{Delta, FixedFactors, Matrix, linear, linear_rope};
use crate::fixed::log_prob::log_prob;
use crate::fixed::norm::{Norm, layer_norm, norm_rope, rms_norm};
use crate::fixed::rope::{FixedRope, Rotations, rotate};
use crate::fixed::{FixedError, add, greedy, words};
use crate::sealed::{Bound, Builder, Ranking, SealedPlan, Tensor, TotalLogProb};
use crate::tests::support::key;
use crate::*;

pub(super) const ROWS: usize = 5;
const HIDDEN: usize = 8;
const HEADS: HeadCounts = HeadCounts { query: 2, key_value: 1, dim: 4 };
const INNER: usize = 12;
/// Logits of most networks here.
pub(super) const VOCABULARY: usize = 21;
const EPS: i64 = 4295;

/// What both the pass and the plan are made from.
pub(super) struct Network {
    pub(super) factors: Vec<SiteFactors>,
    pub(super) commitment: AdapterCommitment,
    pub(super) opening: Opening,
    embedded: Vec<i64>,
    matrices: Vec<(&'static str, Arc<Matrix>)>,
    norms: Vec<(&'static str, Arc<Norm>)>,
    rotations: Arc<Rotations>,
    /// Whether it has silu and gelu, whose tables are most of what a proof of so small a network takes.
    curves: bool,
    pub(super) vocabulary: usize,
    pub(super) seed: u64,
}

/// Operations, on integers or in a plan.
pub(super) trait Walk {
    type Value: Clone;
    fn start(&mut self, values: &[i64]) -> Self::Value;
    fn project(&mut self, site: &str, matrix: &Arc<Matrix>, x: &Self::Value, rotated: bool) -> Self::Value;
    fn norm(&mut self, norm: &Arc<Norm>, x: &Self::Value) -> Self::Value;
    fn layer(&mut self, norm: &Arc<Norm>, x: &Self::Value) -> Self::Value;
    fn norm_rotated(&mut self, norm: &Arc<Norm>, x: &Self::Value) -> Self::Value;
    fn rotate(&mut self, x: &Self::Value) -> Self::Value;
    fn attend(&mut self, q: &Self::Value, k: &Self::Value, v: &Self::Value) -> Self::Value;
    fn gate(&mut self, gate: &Self::Value, up: &Self::Value) -> Self::Value;
    fn gelu(&mut self, x: &Self::Value) -> Self::Value;
    fn add(&mut self, x: &Self::Value, y: &Self::Value) -> Self::Value;
    fn part(&mut self, x: &Self::Value, features: std::ops::Range<usize>) -> Self::Value;
    fn select(&mut self, x: &Self::Value, rows: &[usize]) -> Self::Value;
    fn aggregate(&mut self, x: &Self::Value) -> Self::Value;
    fn relu(&mut self, x: &Self::Value) -> Self::Value;
    fn head(&mut self, matrix: &Arc<Matrix>, x: &Self::Value);
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self::of(seed, 23, VOCABULARY)
    }

    /// The same without silu and gelu: for what is about proofs, and not about operations.
    pub(super) fn without_curves(seed: u64) -> Self {
        Self { curves: false, ..Self::new(seed) }
    }

    /// The same with weights of norms at so many fractional bits, and so many logits.
    pub(super) fn of(seed: u64, shift: u32, vocabulary: usize) -> Self {
        Self::of_rank(seed, shift, vocabulary, 1)
    }

    /// The same with an adapter of the head of this rank.
    pub(super) fn of_rank(seed: u64, shift: u32, vocabulary: usize, rank: u32) -> Self {
        let mut random = ChaCha20Rng::seed_from_u64(seed);
        let mut small = |bits: u32| i64::from(random.next_u32() as i32) >> (32 - bits);
        let embedded = (0..ROWS * HIDDEN).map(|_| small(19)).collect();
        let mut matrices = Vec::new();
        for (name, d_out, d_in, bias) in [
            ("q", 8, HIDDEN, true),
            ("k", 4, HIDDEN, false),
            ("v", 4, HIDDEN, false),
            ("o", HIDDEN, 8, false),
            ("gate", INNER, HIDDEN, false),
            ("up", INNER, HIDDEN, false),
            ("down", HIDDEN, INNER, true),
            ("head", vocabulary, HIDDEN, false),
        ] {
            let weights = (0..d_out * d_in).map(|_| small(15) as i16).collect();
            let shifts = (0..d_out).map(|_| (13 + (small(8) & 3)) as u8).collect();
            let mut matrix = Matrix::new(name, d_in, weights, shifts).unwrap();
            if bias {
                matrix = matrix.with_bias(name, (0..d_out).map(|_| small(32) << 2).collect()).unwrap();
            }
            matrices.push((name, Arc::new(matrix)));
        }
        let norms =
            [("first", HIDDEN, false), ("layer", HIDDEN, true), ("heads", HEADS.dim, false), ("last", HIDDEN, false)]
                .map(|(name, n, bias)| {
                    let weights = (0..n).map(|_| small(26) as i32).collect();
                    let mut norm = Norm::new(name, weights, shift).unwrap();
                    if bias {
                        norm = norm.with_bias(name, (0..n).map(|_| small(32)).collect()).unwrap();
                    }
                    (name, Arc::new(norm))
                });
        let adapted =
            [("q", 2, HIDDEN, 8), ("v", 3, HIDDEN, 4), ("down", 2, INNER, HIDDEN), ("head", rank, HIDDEN, vocabulary)];
        let factors: Vec<SiteFactors> = adapted
            .iter()
            .map(|(name, rank, d_in, d_out)| {
                let shape = SiteShape {
                    name: (*name).into(),
                    rank: *rank,
                    d_in: *d_in as u32,
                    d_out: *d_out as u32,
                    shift_a: 15,
                    shift_b: 16,
                };
                let mut entries = |count: usize| (0..count).map(|_| small(15) as i16).collect::<Vec<_>>();
                SiteFactors { a: entries(*rank as usize * d_in), b: entries(d_out * *rank as usize), shape }
            })
            .collect();
        let shapes: Vec<SiteShape> = factors.iter().map(|site| site.shape.clone()).collect();
        let (commitment, opening) = commit(key(required_k(&shapes).unwrap()), Digest([7; 32]), &factors).unwrap();
        let rope = FixedRope { dim: HEADS.dim, theta: Dyadic { mantissa: 10_000, exponent: 0 }, scaling: None };
        let rotations = Arc::new(Rotations::new("rope", &rope, ROWS).unwrap());
        let norms = norms.to_vec();
        Self { factors, commitment, opening, embedded, matrices, norms, rotations, curves: true, vocabulary, seed }
    }

    /// The same with weights of the head at so many fractional bits: the fewer, the further apart its outputs are.
    pub(super) fn with_head(seed: u64, shift: u8) -> Self {
        let mut network = Self::new(seed);
        network.change_head(|weights, shifts| {
            shifts.fill(shift);
            weights.to_vec()
        });
        network
    }

    /// The same with every second output equal to the one before it, with the adapter, too.
    pub(super) fn with_equal_outputs(seed: u64) -> Self {
        let mut network = Self::new(seed);
        network.change_head(|weights, shifts| {
            shifts.fill(13);
            let row = |output: usize| &weights[(output & !1) * HIDDEN..][..HIDDEN];
            (0..VOCABULARY).flat_map(|output| row(output).to_vec()).collect()
        });
        let head = network.factors.iter_mut().find(|site| site.shape.name == "head").unwrap();
        let rank = head.shape.rank as usize;
        head.b = (0..VOCABULARY).flat_map(|output| head.b[(output & !1) * rank..][..rank].to_vec()).collect();
        let key = key(network.commitment.k());
        (network.commitment, network.opening) = commit(key, Digest([7; 32]), &network.factors).unwrap();
        network
    }

    fn change_head(&mut self, change: impl FnOnce(&[i16], &mut [u8]) -> Vec<i16>) {
        let (_, head) = self.matrices.iter_mut().find(|(own, _)| *own == "head").unwrap();
        let mut shifts = head.shifts().to_vec();
        let weights = change(head.weights(), &mut shifts);
        *head = Arc::new(Matrix::new("head", HIDDEN, weights, shifts).unwrap());
    }

    fn matrix(&self, name: &str) -> &Arc<Matrix> {
        &self.matrices.iter().find(|(own, _)| *own == name).unwrap().1
    }

    fn norm(&self, name: &str) -> &Arc<Norm> {
        &self.norms.iter().find(|(own, _)| *own == name).unwrap().1
    }

    /// Every operation once, but curves where there are none.
    pub(super) fn walk<W: Walk>(&self, walk: &mut W) {
        let x = walk.start(&self.embedded);
        let normal = walk.norm(self.norm("first"), &x);
        let q = walk.project("q", self.matrix("q"), &normal, true);
        let k = walk.project("k", self.matrix("k"), &normal, false);
        let k = walk.norm_rotated(self.norm("heads"), &k);
        let k = walk.rotate(&k);
        let v = walk.project("v", self.matrix("v"), &normal, false);
        let mixed = walk.attend(&q, &k, &v);
        let o = walk.project("o", self.matrix("o"), &mixed, false);
        let x = walk.add(&x, &o);
        let normal = walk.layer(self.norm("layer"), &x);
        let gate = walk.project("gate", self.matrix("gate"), &normal, false);
        let up = walk.project("up", self.matrix("up"), &normal, false);
        let inner = match self.curves {
            true => {
                let gated = walk.gate(&gate, &up);
                walk.gelu(&gated)
            }
            false => up,
        };
        let down = walk.project("down", self.matrix("down"), &inner, false);
        let x = walk.add(&x, &down);
        let first = walk.part(&x, 0..HIDDEN / 2);
        let second = walk.part(&x, HIDDEN / 2..HIDDEN);
        let _ = walk.add(&first, &second);
        let x = walk.norm(self.norm("last"), &x);
        let x = walk.aggregate(&x);
        let x = walk.relu(&x);
        let x = walk.select(&x, &[1, 3]);
        walk.head(self.matrix("head"), &x);
    }

    pub(super) fn pass(&self) -> Pass<'_> {
        let mut pass = Pass { network: self, logits: Vec::new() };
        self.walk(&mut pass);
        pass
    }

    pub(super) fn plan(&self, head: Head) -> SealedPlan {
        self.try_plan(head).unwrap()
    }

    /// The same; the first operation that is refused is said.
    pub(super) fn try_plan(&self, head: Head) -> Result<SealedPlan, FixedError> {
        let first = self.factors.iter().find(|site| site.shape.name == "q").unwrap();
        if self.commitment.shapes()[0] != first.shape {
            let mut builder = Builder::new(&self.commitment);
            let space = builder.space(ROWS);
            let x = builder.public(space, HIDDEN, self.embedded.clone());
            builder.project_rotated("q", self.matrix("q").clone(), &x, self.rotations.clone())?;
        }
        let mut walk = Planned { network: self, builder: Builder::new(&self.commitment), head, refused: None };
        self.walk(&mut walk);
        walk.refused.map_or_else(|| walk.builder.finish(), Err)
    }

    pub(super) fn statement(&self) -> StatementBytes {
        let said = format!("pass {}", self.seed).into_bytes();
        StatementBytes { base: Digest([7; 32]), adapter: self.commitment.digest(), said }
    }
}

const STARTS: [usize; 5] = [0, 2, 3, 3, 5];
const SENDERS: [u32; 5] = [0, 1, 4, 2, 0];
const COEFFICIENTS: [u32; 5] = [1 << 29, 1 << 30, 715_827_882, 3, 1 << 28];

fn over() -> SparseRows<'static> {
    SparseRows { starts: &STARTS, senders: &SENDERS, coefficients: &COEFFICIENTS }
}

/// The pass on integers.
pub(super) struct Pass<'a> {
    network: &'a Network,
    pub(super) logits: Vec<i64>,
}

impl Walk for Pass<'_> {
    type Value = (Vec<i64>, usize);

    fn start(&mut self, values: &[i64]) -> Self::Value {
        (values.to_vec(), HIDDEN)
    }

    fn project(&mut self, site: &str, matrix: &Arc<Matrix>, (x, _): &Self::Value, rotated: bool) -> Self::Value {
        let inputs = words(site, x).unwrap();
        let factors = self.network.factors.iter().find(|factors| factors.shape.name == site).map(|site| {
            let SiteFactors { shape, a, b } = site;
            let dims = [shape.d_in as usize, shape.d_out as usize];
            FixedFactors::new("s", shape.rank as usize, dims, a.clone(), b.clone(), [shape.shift_a, shape.shift_b])
                .unwrap()
        });
        let values = factors.as_ref().map(|factors| factors.delta(site, &inputs).unwrap());
        let delta = factors.as_ref().zip(values.as_ref()).map(|(factors, values)| Delta {
            values,
            rank: factors.rank(),
            shift: factors.shift(),
        });
        let out = match rotated {
            true => linear_rope(site, matrix, &inputs, delta, &self.network.rotations),
            false => linear(site, matrix, &inputs, delta),
        };
        (out.unwrap(), matrix.d_out())
    }

    fn norm(&mut self, norm: &Arc<Norm>, (x, width): &Self::Value) -> Self::Value {
        (rms_norm("norm", norm, EPS, x).unwrap(), *width)
    }

    fn layer(&mut self, norm: &Arc<Norm>, (x, width): &Self::Value) -> Self::Value {
        (layer_norm("norm", norm, EPS, x).unwrap(), *width)
    }

    fn norm_rotated(&mut self, norm: &Arc<Norm>, (x, width): &Self::Value) -> Self::Value {
        (norm_rope("norm", norm, EPS, x, width / norm.features(), &self.network.rotations).unwrap(), *width)
    }

    fn rotate(&mut self, (x, width): &Self::Value) -> Self::Value {
        (rotate("rope", *width, &words("rope", x).unwrap(), &self.network.rotations).unwrap(), *width)
    }

    fn attend(&mut self, q: &Self::Value, k: &Self::Value, v: &Self::Value) -> Self::Value {
        let [q, k, v] = [q, k, v].map(|(x, _)| words("attention", x).unwrap());
        (attention::attention("attention", HEADS, &q, &k, &v).unwrap(), 8)
    }

    fn gate(&mut self, (gate, width): &Self::Value, (up, _): &Self::Value) -> Self::Value {
        (swiglu("gate", &words("gate", gate).unwrap(), &words("gate", up).unwrap()).unwrap(), *width)
    }

    fn gelu(&mut self, (x, width): &Self::Value) -> Self::Value {
        (gelu(&words("gelu", x).unwrap()), *width)
    }

    fn add(&mut self, (x, width): &Self::Value, (y, _): &Self::Value) -> Self::Value {
        (add("add", x, y).unwrap(), *width)
    }

    fn part(&mut self, (x, width): &Self::Value, features: std::ops::Range<usize>) -> Self::Value {
        (x.chunks_exact(*width).flat_map(|row| &row[features.clone()]).copied().collect(), features.len())
    }

    fn select(&mut self, (x, width): &Self::Value, rows: &[usize]) -> Self::Value {
        (rows.iter().flat_map(|row| &x[row * width..][..*width]).copied().collect(), *width)
    }

    fn aggregate(&mut self, (x, width): &Self::Value) -> Self::Value {
        (aggregate("graph", over(), &words("graph", x).unwrap(), *width).unwrap(), *width)
    }

    fn relu(&mut self, (x, width): &Self::Value) -> Self::Value {
        (relu(x), *width)
    }

    fn head(&mut self, matrix: &Arc<Matrix>, x: &Self::Value) {
        self.logits = self.project("head", matrix, x, false).0;
    }
}

impl Pass<'_> {
    pub(super) fn greedy(&self) -> Vec<usize> {
        self.logits.chunks_exact(self.network.vocabulary).map(|row| greedy(row).unwrap() as usize).collect()
    }

    /// The log-probability of an output.
    pub(super) fn log_prob(&self, row: usize, output: usize) -> i64 {
        log_prob("head", &self.logits[row * VOCABULARY..][..VOCABULARY], output as u32).unwrap()
    }

    /// All outputs of a row, the likeliest first.
    pub(super) fn ranking(&self, row: usize) -> Ranking {
        let mut likeliest: Vec<_> = (0..VOCABULARY).map(|output| (output, self.log_prob(row, output))).collect();
        likeliest.sort_by_key(|(output, log_prob)| (std::cmp::Reverse(*log_prob), *output));
        Ranking { row, likeliest }
    }

    /// What is so of log-probabilities: of some outputs together, of one that is as likely as its bound, of one that is
    /// hardly below it, and of the three likeliest.
    pub(super) fn log_probs(&self) -> Head {
        let together = |of: &[(usize, usize)]| TotalLogProb {
            of: of.to_vec(),
            log_prob: of.iter().map(|(row, output)| self.log_prob(*row, *output)).sum(),
        };
        let ranking = |row: usize| {
            let mut ranking = self.ranking(row);
            ranking.likeliest.truncate(3);
            ranking
        };
        Head::LogProbs {
            sums: vec![together(&[(0, 4), (1, 20)]), together(&[(1, 0)])],
            bounds: vec![
                Bound { row: 0, output: 7, bound: self.log_prob(0, 7), holds: true },
                Bound { row: 1, output: 3, bound: self.log_prob(1, 3) + 1, holds: false },
            ],
            likeliest: vec![ranking(1), ranking(0), ranking(1)],
        }
    }

    /// The largest of some outputs of each row.
    pub(super) fn choice(&self, among: &[u32]) -> Head {
        let row = |row: &[i64]| {
            let listed: Vec<i64> = among.iter().map(|output| row[*output as usize]).collect();
            greedy(&listed).unwrap() as usize
        };
        Head::Choice(among.to_vec(), self.logits.chunks_exact(self.network.vocabulary).map(row).collect())
    }

    /// Of the same rows things of every kind.
    pub(super) fn several(&self) -> Head {
        let whole = [Head::Largest(self.greedy()), Head::Outputs(self.logits.clone()), self.log_probs()];
        Head::Several([whole.as_slice(), &[self.choice(&[3, 11, 20]), self.choice(&[4])]].concat())
    }

    /// Everything that may be stated.
    pub(super) fn heads(&self) -> [Head; 4] {
        [Head::Largest(self.greedy()), Head::Outputs(self.logits.clone()), self.log_probs(), self.several()]
    }
}

/// What is stated of the last logits.
#[derive(Clone, Debug)]
pub(super) enum Head {
    Largest(Vec<usize>),
    Choice(Vec<u32>, Vec<usize>),
    Several(Vec<Head>),
    /// Outputs that the network would go on with, twice.
    Projected,
    Outputs(Vec<i64>),
    /// Of each row.
    Rows(Vec<Vec<i64>>),
    LogProbs {
        sums: Vec<TotalLogProb>,
        bounds: Vec<Bound>,
        likeliest: Vec<Ranking>,
    },
}

/// The plan of the pass.
struct Planned<'a> {
    network: &'a Network,
    builder: Builder,
    head: Head,
    /// Why nothing is stated.
    refused: Option<FixedError>,
}

impl Walk for Planned<'_> {
    type Value = Tensor;

    fn start(&mut self, values: &[i64]) -> Tensor {
        let space = self.builder.space(ROWS);
        self.builder.public(space, HIDDEN, values.to_vec())
    }

    fn project(&mut self, site: &str, matrix: &Arc<Matrix>, x: &Tensor, rotated: bool) -> Tensor {
        match rotated {
            true => self.builder.project_rotated(site, matrix.clone(), x, self.network.rotations.clone()).unwrap(),
            false => self.builder.project(site, matrix.clone(), x).unwrap(),
        }
    }

    fn norm(&mut self, norm: &Arc<Norm>, x: &Tensor) -> Tensor {
        self.builder.rms_norm("norm", norm.clone(), EPS, x).unwrap()
    }

    fn layer(&mut self, norm: &Arc<Norm>, x: &Tensor) -> Tensor {
        self.builder.layer_norm("norm", norm.clone(), EPS, x).unwrap()
    }

    fn norm_rotated(&mut self, norm: &Arc<Norm>, x: &Tensor) -> Tensor {
        self.builder.norm_rotated("norm", norm.clone(), EPS, x, self.network.rotations.clone()).unwrap()
    }

    fn rotate(&mut self, x: &Tensor) -> Tensor {
        self.builder.rotate("rope", x, self.network.rotations.clone()).unwrap()
    }

    fn attend(&mut self, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let sees = (0..ROWS * ROWS).map(|at| at % ROWS <= at / ROWS).collect();
        self.builder.attention("attention", HEADS, sees, [q, k, v]).unwrap()
    }

    fn gate(&mut self, gate: &Tensor, up: &Tensor) -> Tensor {
        self.builder.gate("gate", GateFunction::Silu, gate, up).unwrap()
    }

    fn gelu(&mut self, x: &Tensor) -> Tensor {
        self.builder.gelu("gelu", x).unwrap()
    }

    fn add(&mut self, x: &Tensor, y: &Tensor) -> Tensor {
        self.builder.sum("add", x, y).unwrap()
    }

    fn part(&mut self, x: &Tensor, features: std::ops::Range<usize>) -> Tensor {
        self.builder.part("part", x, features).unwrap()
    }

    fn select(&mut self, x: &Tensor, rows: &[usize]) -> Tensor {
        self.builder.select("select", x, rows).unwrap()
    }

    fn aggregate(&mut self, x: &Tensor) -> Tensor {
        self.builder.aggregate("graph", x, over()).unwrap()
    }

    fn relu(&mut self, x: &Tensor) -> Tensor {
        self.builder.relu(x)
    }

    fn head(&mut self, matrix: &Arc<Matrix>, x: &Tensor) {
        self.refused = state(&mut self.builder, &self.head, matrix, x).err();
    }
}

fn state(builder: &mut Builder, head: &Head, matrix: &Arc<Matrix>, x: &Tensor) -> Result<(), FixedError> {
    match head {
        Head::Largest(stated) => builder.largest("head", matrix.clone(), None, x, stated.clone()),
        Head::Choice(among, stated) => builder.largest("head", matrix.clone(), Some(among), x, stated.clone()),
        Head::Projected => (0..2).try_for_each(|_| builder.project("head", matrix.clone(), x).map(|_| ())),
        Head::Several(heads) => heads.iter().try_for_each(|head| state(builder, head, matrix, x)),
        Head::Outputs(outputs) => {
            let rows: Vec<&[i64]> = outputs.chunks(matrix.d_out()).collect();
            builder.outputs("head", matrix.clone(), x, &rows)
        }
        Head::Rows(rows) => {
            let rows: Vec<&[i64]> = rows.iter().map(Vec::as_slice).collect();
            builder.outputs("head", matrix.clone(), x, &rows)
        }
        Head::LogProbs { sums, bounds, likeliest } => {
            let log_probs = builder.log_probs("head", matrix.clone(), x)?;
            builder.add_up("head", &log_probs, sums.clone())?;
            builder.at_least("head", &log_probs, bounds.clone())?;
            builder.likeliest("head", &log_probs, likeliest.clone())
        }
    }
}
