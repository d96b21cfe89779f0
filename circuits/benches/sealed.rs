//! A sealed proof of a decoder of a known model's shapes with random weights, phase by phase: what it costs to prove and
//! to verify, without anything of a real model. Biases are left out.
//!
//! `cargo bench -p ftk-circuits --bench sealed -- [MODEL] [LAYERS] [TOKENS] [GENERATED]`

use std::sync::Arc;
use std::time::Instant;

use ftk_circuits::fixed::attention::{HeadCounts, attention};
use ftk_circuits::fixed::elementary::Dyadic;
use ftk_circuits::fixed::gate::GateFunction;
use ftk_circuits::fixed::gate::swiglu;
use ftk_circuits::fixed::linear::{Delta, FixedFactors, Matrix, linear, linear_rope};
use ftk_circuits::fixed::norm::{Norm, rms_norm};
use ftk_circuits::fixed::rope::{FixedRope, Rotations};
use ftk_circuits::fixed::{add, greedy, words};
use ftk_circuits::sealed::{Builder, SealedPlan, seal, verify_sealed};
use ftk_circuits::{AdapterCommitment, CommitmentKey, Digest, SiteFactors, SiteShape, StatementBytes};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

const RANK: usize = 8;

/// The numbers of a decoder.
#[derive(Clone, Copy)]
struct Sizes {
    hidden: usize,
    inner: usize,
    heads: HeadCounts,
    vocabulary: usize,
}

const SMOLLM2: Sizes =
    Sizes { hidden: 576, inner: 1536, heads: HeadCounts { query: 9, key_value: 3, dim: 64 }, vocabulary: 49_152 };
const QWEN2_5: Sizes =
    Sizes { hidden: 896, inner: 4864, heads: HeadCounts { query: 14, key_value: 2, dim: 64 }, vocabulary: 151_936 };
const LLAMA_3_2: Sizes =
    Sizes { hidden: 2048, inner: 8192, heads: HeadCounts { query: 32, key_value: 8, dim: 64 }, vocabulary: 128_256 };

/// Models by name, with their layers.
const MODELS: [(&str, Sizes, usize); 3] =
    [("smollm2-135m", SMOLLM2, 30), ("qwen2.5-0.5b", QWEN2_5, 24), ("llama-3.2-1b", LLAMA_3_2, 16)];

const SITES: usize = 7;

impl Sizes {
    /// Linear sites of a layer: name, outputs, inputs.
    fn sites(&self) -> [(&'static str, usize, usize); SITES] {
        let Self { hidden, inner, heads: HeadCounts { query, key_value, dim }, .. } = *self;
        [
            ("q", query * dim, hidden),
            ("k", key_value * dim, hidden),
            ("v", key_value * dim, hidden),
            ("o", hidden, query * dim),
            ("gate", inner, hidden),
            ("up", inner, hidden),
            ("down", hidden, inner),
        ]
    }
}

struct Random(ChaCha20Rng);

impl Random {
    fn small(&mut self, bits: u32) -> i64 {
        i64::from(self.0.next_u32() as i32) >> (32 - bits)
    }

    fn matrix(&mut self, name: &str, d_out: usize, d_in: usize) -> Arc<Matrix> {
        let weights = (0..d_out * d_in).map(|_| self.small(16) as i16).collect();
        Arc::new(Matrix::new(name, d_in, weights, vec![18; d_out]).unwrap())
    }
}

struct Weights {
    sizes: Sizes,
    layers: Vec<Vec<Arc<Matrix>>>,
    head: Arc<Matrix>,
    norm: Arc<Norm>,
    rotations: Arc<Rotations>,
    embedded: Vec<i64>,
}

fn plan(weights: &Weights, commitment: &AdapterCommitment, tokens: usize, stated: &[usize]) -> SealedPlan {
    let mut builder = Builder::new(commitment);
    let space = builder.space(tokens);
    let mut x = builder.public(space, weights.sizes.hidden, weights.embedded.clone());
    let sees: Arc<[bool]> = (0..tokens * tokens).map(|at| at % tokens <= at / tokens).collect();
    for (layer, matrices) in weights.layers.iter().enumerate() {
        let site = |name: &str| format!("{layer}.{name}");
        let normal = builder.rms_norm("norm", weights.norm.clone(), 4295, &x).unwrap();
        let rotations = &weights.rotations;
        let q = builder.project_rotated(&site("q"), matrices[0].clone(), &normal, rotations.clone()).unwrap();
        let k = builder.project_rotated(&site("k"), matrices[1].clone(), &normal, rotations.clone()).unwrap();
        let v = builder.project(&site("v"), matrices[2].clone(), &normal).unwrap();
        let mixed = builder.attention("attention", weights.sizes.heads, sees.clone(), [&q, &k, &v]).unwrap();
        let o = builder.project(&site("o"), matrices[3].clone(), &mixed).unwrap();
        x = builder.sum("add", &x, &o).unwrap();
        let normal = builder.rms_norm("norm", weights.norm.clone(), 4295, &x).unwrap();
        let gate = builder.project(&site("gate"), matrices[4].clone(), &normal).unwrap();
        let up = builder.project(&site("up"), matrices[5].clone(), &normal).unwrap();
        let gated = builder.gate("gate", GateFunction::Silu, &gate, &up).unwrap();
        let down = builder.project(&site("down"), matrices[6].clone(), &gated).unwrap();
        x = builder.sum("add", &x, &down).unwrap();
    }
    let x = builder.rms_norm("norm", weights.norm.clone(), 4295, &x).unwrap();
    let rows: Vec<usize> = (tokens - stated.len()..tokens).collect();
    let x = builder.select("select", &x, &rows).unwrap();
    builder.largest("head", weights.head.clone(), None, &x, stated.to_vec()).unwrap();
    builder.finish().unwrap()
}

/// The number of the largest logit of each of the last rows, by the operations of the semantics.
fn largest(weights: &Weights, factors: &[SiteFactors], tokens: usize, generated: usize) -> Vec<usize> {
    let project = |at: usize, matrix: &Matrix, x: &[i64], rotated: bool| -> Vec<i64> {
        let x = words("site", x).unwrap();
        let SiteFactors { shape, a, b } = &factors[at];
        let dims = [shape.d_in as usize, shape.d_out as usize];
        let own = FixedFactors::new("site", RANK, dims, a.clone(), b.clone(), [shape.shift_a, shape.shift_b]).unwrap();
        let values = own.delta("site", &x).unwrap();
        let delta = Some(Delta { values: &values, rank: RANK, shift: own.shift() });
        match rotated {
            true => linear_rope("site", matrix, &x, delta, &weights.rotations),
            false => linear("site", matrix, &x, delta),
        }
        .unwrap()
    };
    let norm = |x: &[i64]| rms_norm("norm", &weights.norm, 4295, x).unwrap();
    let mut x = weights.embedded.clone();
    for (layer, matrices) in weights.layers.iter().enumerate() {
        let site = |number: usize, x: &[i64], rotated| project(layer * SITES + number, &matrices[number], x, rotated);
        let normal = norm(&x);
        let [q, k, v] = [(0, true), (1, true), (2, false)].map(|(at, rotated)| site(at, &normal, rotated));
        let [q, k, v] = [q, k, v].map(|x| words("attention", &x).unwrap());
        let mixed = attention("attention", weights.sizes.heads, &q, &k, &v).unwrap();
        x = add("add", &x, &site(3, &mixed, false)).unwrap();
        let normal = norm(&x);
        let [gate, up] = [4, 5].map(|at| words("gate", &site(at, &normal, false)).unwrap());
        x = add("add", &x, &site(6, &swiglu("gate", &gate, &up).unwrap(), false)).unwrap();
    }
    let last = words("head", &norm(&x)[(tokens - generated) * weights.sizes.hidden..]).unwrap();
    let logits = linear("head", &weights.head, &last, None).unwrap();
    logits.chunks_exact(weights.sizes.vocabulary).map(|row| greedy(row).unwrap() as usize).collect()
}

fn main() {
    let named = |argument: String| MODELS.into_iter().find(|(name, ..)| *name == argument);
    let (name, sizes, all_layers) = std::env::args().find_map(named).unwrap_or(MODELS[0]);
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse::<usize>().ok());
    let mut next = |default| arguments.next().unwrap_or(default);
    let (layers, tokens, generated) = (next(2), next(16), next(8));
    println!("{layers} of {all_layers} layers of {name}, {tokens} tokens, {generated} of them generated");
    let Sizes { hidden, heads, vocabulary, .. } = sizes;
    let mut random = Random(ChaCha20Rng::seed_from_u64(1));
    let rope = FixedRope { dim: heads.dim, theta: Dyadic { mantissa: 10_000, exponent: 0 }, scaling: None };
    let weights = Weights {
        sizes,
        layers: (0..layers)
            .map(|_| sizes.sites().map(|(name, d_out, d_in)| random.matrix(name, d_out, d_in)).to_vec())
            .collect(),
        head: random.matrix("head", vocabulary, hidden),
        norm: Arc::new(Norm::new("norm", (0..hidden).map(|_| random.small(25) as i32).collect(), 23).unwrap()),
        rotations: Arc::new(Rotations::new("rope", &rope, tokens).unwrap()),
        embedded: (0..tokens * hidden).map(|_| random.small(16)).collect(),
    };
    let factors: Vec<SiteFactors> = (0..layers)
        .flat_map(|layer| sizes.sites().map(|site| (layer, site)))
        .map(|(layer, (name, d_out, d_in))| SiteFactors {
            shape: SiteShape {
                name: format!("{layer}.{name}"),
                rank: RANK as u32,
                d_in: d_in as u32,
                d_out: d_out as u32,
                shift_a: 19,
                shift_b: 23,
            },
            a: (0..RANK * d_in).map(|_| random.small(16) as i16).collect(),
            b: (0..RANK * d_out).map(|_| random.small(16) as i16).collect(),
        })
        .collect();
    let shapes: Vec<SiteShape> = factors.iter().map(|site| site.shape.clone()).collect();
    let small = CommitmentKey::generate(ftk_circuits::required_k(&shapes).unwrap()).unwrap();
    let (commitment, opening) = ftk_circuits::commit(&small, Digest([7; 32]), &factors).unwrap();
    let statement = StatementBytes { base: Digest([7; 32]), adapter: commitment.digest(), said: Vec::new() };
    let stated = largest(&weights, &factors, tokens, generated);
    let plan = plan(&weights, &commitment, tokens, &stated);
    let key = CommitmentKey::generate(plan.k()).unwrap();
    println!("{plan:?}");
    let mut begun = Instant::now();
    let whole = Instant::now();
    let proof = seal(&key, &statement, &commitment, &opening, &factors, &plan, &mut |done, parts| {
        println!("  {done:>3} of {parts}: {:.2} s", begun.elapsed().as_secs_f64());
        begun = Instant::now();
    })
    .unwrap();
    println!("proved in {:.2} s, {} bytes", whole.elapsed().as_secs_f64(), proof.len());
    let whole = Instant::now();
    verify_sealed(&key, &statement, &commitment, &plan, &proof).unwrap();
    println!("verified in {:.2} s", whole.elapsed().as_secs_f64());
}
