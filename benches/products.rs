//! The products of a training step, in the order of sums that ARITHMETIC.md promises and as `gemm` computes them, which
//! is what candle's matrices are multiplied by: what one order of sums on every processor costs.
//!
//! `cargo bench --bench products` takes those of a step of SmolLM2-135M, rank 8 on all linear layers, on 1024 tokens of
//! which 256 are scored. Both ways of a product are timed in turns, the better of some times is taken, and it ends with 1
//! where all products together take more than 3 % longer than `gemm`'s. `-- TOKENS SCORED` takes other numbers. `-- few`
//! takes products of one row and of eight, as of a token that is generated and of some sequences, in f32 and in bf16.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use candle_core::{Device, Result, Tensor};
use ftk_adapters::train::{normal_values, product};
use ftk_kernels::float::bf16::{self, Bf16Matrix, Bf16Side, rounded_all};
use ftk_kernels::float::product::{MatrixView, new_product};

const HIDDEN: usize = 576;
const KEYS: usize = 192;
const INNER: usize = 1536;
const VOCAB: usize = 49152;
const LAYERS: usize = 30;
const RANK: usize = 8;
/// Times that each is computed, in turns.
const ROUNDS: usize = 7;
/// By how much all together may take longer.
const LIMIT: f64 = 1.03;

/// A product of factors `(m, k)` and `(k, n)`, either of which may lie the other way round.
struct Kind {
    name: String,
    /// How often a step has it.
    count: usize,
    shape: [usize; 3],
    turned: [bool; 2],
}

/// What an adapted layer multiplies on both ways.
fn layer(name: &str, count: usize, rows: usize, [d_in, d_out]: [usize; 2]) -> Vec<Kind> {
    let kind = |what: &str, shape, turned| Kind { name: format!("{name}: {what}"), count, shape, turned };
    vec![
        kind("x W^T", [rows, d_in, d_out], [false, true]),
        kind("x A^T", [rows, d_in, RANK], [false, true]),
        kind("low B^T", [rows, RANK, d_out], [false, true]),
        kind("g W", [rows, d_out, d_in], [false, false]),
        kind("g B", [rows, d_out, RANK], [false, false]),
        kind("g B A", [rows, RANK, d_in], [false, false]),
        kind("dA", [RANK, rows, d_in], [true, false]),
        kind("dB", [d_out, rows, RANK], [true, false]),
    ]
}

fn matrix(name: &str, [rows, columns]: [usize; 2], turned: bool) -> Result<Tensor> {
    let shape = if turned { (columns, rows) } else { (rows, columns) };
    let matrix = Tensor::from_vec(normal_values(name, rows * columns, 1.0, 7), shape, &Device::Cpu)?;
    if turned { matrix.t() } else { Ok(matrix) }
}

/// The better of some times, of ours and of `gemm`'s.
fn timed(kind: &Kind) -> Result<[Duration; 2]> {
    let [m, k, n] = kind.shape;
    let (a, b) = (matrix("a", [m, k], kind.turned[0])?, matrix("b", [k, n], kind.turned[1])?);
    in_turns(|first| {
        let result = if first { product(1.0, &a, &b)? } else { a.matmul(&b)? };
        assert_eq!(result.dims(), [m, n]);
        Ok(())
    })
}

/// The better of some times of each of two ways.
fn in_turns(mut run: impl FnMut(bool) -> Result<()>) -> Result<[Duration; 2]> {
    let mut best = [Duration::MAX; 2];
    for round in 0..2 * ROUNDS {
        // Each goes first in turn.
        let first = (round + round / 2) % 2 == 0;
        let began = Instant::now();
        run(first)?;
        let place = &mut best[usize::from(!first)];
        *place = (*place).min(began.elapsed());
    }
    Ok(best)
}

/// Products of few rows with weights that come from memory, in bf16 and in f32.
fn few_rows() -> Result<()> {
    /// Numbers of the matrices that take turns: more than the caches hold.
    const NUMBERS: usize = 1 << 25;
    println!("| rows | d_in, d_out | bf16, ms | f32, ms | bf16 to f32 | weights in bf16, GB/s |");
    println!("|---|---|---|---|---|---|");
    for (rows, d_in, d_out) in [1, 8].into_iter().flat_map(|rows| {
        [(HIDDEN, HIDDEN), (HIDDEN, INNER), (INNER, HIDDEN), (HIDDEN, VOCAB)].map(|(d_in, d_out)| (rows, d_in, d_out))
    }) {
        let size = d_in * d_out;
        let (x, weight) = (normal_values("x", rows * d_in, 1.0, 7), normal_values("w", size, 1.0, 7));
        let wide = weight.repeat(NUMBERS.div_ceil(size));
        let narrow = rounded_all(&wide);
        let best = in_turns(|in_bf16| {
            for (wide, narrow) in wide.chunks_exact(size).zip(narrow.chunks_exact(size)) {
                black_box(if in_bf16 {
                    bf16::product(&x, Bf16Matrix::new(narrow, d_in), Bf16Side::Inputs)
                } else {
                    new_product(1.0, MatrixView::new(&x, d_in), MatrixView::new(wide, d_in).t())
                });
            }
            Ok(())
        })?;
        let [narrow, wide] = best.map(|best| 1e3 * best.as_secs_f64() / (wide.len() / size) as f64);
        let speed = 2e-6 * size as f64 / narrow;
        println!("| {rows} | {d_in}, {d_out} | {narrow:.3} | {wide:.3} | {:.2} | {speed:.1} |", narrow / wide);
    }
    Ok(())
}

fn main() -> Result<ExitCode> {
    if std::env::args().any(|argument| argument == "few") {
        return few_rows().map(|()| ExitCode::SUCCESS);
    }
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let (rows, scored) = match numbers.as_slice() {
        [] => (1024, 256),
        [rows, scored] => (*rows, *scored),
        _ => panic!("two numbers: tokens, and those that are scored"),
    };
    let mut kinds = layer("q, o", 2 * LAYERS, rows, [HIDDEN, HIDDEN]);
    kinds.extend(layer("k, v", 2 * LAYERS, rows, [HIDDEN, KEYS]));
    kinds.extend(layer("gate, up", 2 * LAYERS, rows, [HIDDEN, INNER]));
    kinds.extend(layer("down", LAYERS, rows, [INNER, HIDDEN]));
    let head = |what: &str, shape, turned| Kind { name: format!("head: {what}"), count: 1, shape, turned };
    kinds.push(head("x W^T", [scored, HIDDEN, VOCAB], [false, true]));
    kinds.push(head("g W", [scored, VOCAB, HIDDEN], [false, false]));

    println!("| product | m, k, n | in a step | ours, ms | gemm's, ms | ours to gemm's |");
    println!("|---|---|---|---|---|---|");
    let mut all = [0.0; 2];
    for kind in &kinds {
        let times = timed(kind)?.map(|time| 1e3 * time.as_secs_f64());
        let ([m, k, n], count) = (kind.shape, kind.count);
        println!(
            "| {} | {m}, {k}, {n} | {count} | {:.3} | {:.3} | {:.2} |",
            kind.name,
            times[0],
            times[1],
            times[0] / times[1]
        );
        all.iter_mut().zip(times).for_each(|(sum, time)| *sum += count as f64 * time);
    }
    let share = all[0] / all[1];
    println!("| all of a step | | | {:.0} | {:.0} | {share:.3} |", all[0], all[1]);
    Ok(if share <= LIMIT { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
