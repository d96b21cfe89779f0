//! What one step spends its time on: each operation, as it is seen while it is computed, with its floating-point
//! operations, the bytes of what goes in and out, and the part of its time that the machine's own limits would take.
//!
//! To be seen, an operation is computed on its own: logits are copied before they turn into gradients, and what an adapter
//! and its weight give an input is not added up in place. So the same step is timed unseen, too. The optimiser, which works
//! on the adapter alone, is not in it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use ftk_adapters::lora::Adapter;
use ftk_adapters::train::operation::Operation;
use ftk_adapters::train::trace::{self, TracedOperation};
use ftk_adapters::train::{Learns, LoraTensors, Train, initial_factors, normal_values};
use ftk_adapters::weights::Weights;
use ftk_networks::Network;
use ftk_networks::ops::Tokens;
use ftk_networks::sites::Role;

const RANK: usize = 8;
/// Side of the matrices whose product says what the processor can do; entries that are added say what memory can.
const SIDE: usize = 2048;
const ENTRIES: usize = 1 << 26;

#[derive(Default)]
struct Row {
    calls: usize,
    seconds: f64,
    flop: f64,
    bytes: f64,
}

/// Prints the table of a supervised step, forward and backward, over sequences of so many tokens each.
pub fn print(network: &Network, weights: Weights, [sequences, tokens]: [usize; 2], format: DType) {
    let weights = if format == DType::BF16 { weights.narrowed().expect("weights on the host") } else { weights };
    let mut adapter = Adapter::default();
    for site in network.sites().iter().filter(|site| site.role == Role::Linear) {
        let (d_out, d_in) =
            weights.get(&format!("{}.weight", site.weight)).expect("a weight").dims2().expect("a matrix");
        let mut factors = initial_factors(&site.name, RANK, (d_out, d_in), 2.0, 0);
        factors.b = normal_values(&site.name, d_out * RANK, 0.02, 0);
        adapter.sites.insert(site.name.clone(), factors);
    }
    let adapter = LoraTensors::frozen(&adapter, &Device::Cpu).expect("tensors on the host");
    let ids = |row: usize| (0..tokens).map(move |at| ((row * 7919 + at * 104_729) % network.vocab()) as u32);
    let rows: Vec<Vec<u32>> = (0..sequences).map(|row| ids(row).collect()).collect();

    // The first pass is for caches and memory.
    pass(network, &weights, &adapter, &rows, format);
    let table: Rc<RefCell<BTreeMap<String, Row>>> = Rc::default();
    let last = Rc::new(RefCell::new(Instant::now()));
    let (into, since) = (Rc::clone(&table), Rc::clone(&last));
    let see = move |seen: &mut TracedOperation| {
        let seconds = since.replace(Instant::now()).elapsed().as_secs_f64();
        let mut table = into.borrow_mut();
        let row = table.entry(seen.operation.name()).or_default();
        row.calls += 1;
        row.seconds += seconds;
        row.flop += flop(seen);
        row.bytes += seen.inputs.iter().chain(&seen.outputs).map(bytes).sum::<f64>();
        *since.borrow_mut() = Instant::now();
        Ok(())
    };
    trace::during(see, || {
        *last.borrow_mut() = Instant::now();
        pass(network, &weights, &adapter, &rows, format);
    });
    let began = Instant::now();
    pass(network, &weights, &adapter, &rows, format);
    let unseen = began.elapsed().as_secs_f64();
    let [rate, bandwidth] = limits(format);
    let table = table.borrow();
    let mut rows: Vec<(&String, &Row)> = table.iter().collect();
    rows.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
    let all: f64 = rows.iter().map(|(_, row)| row.seconds).sum();
    println!("\nA supervised step of {sequences} x {tokens} tokens in {}, on the clock:", format.as_str());
    println!("{all:.2} s of operations, {unseen:.2} s unseen;");
    println!("limits: {:.0} GFLOP/s, {:.0} GB/s\n", rate / 1e9, bandwidth / 1e9);
    println!(
        "| operation | calls | share | s | GFLOP | GB | GFLOP/s | GB/s | of the limit |\n|---|---|---|---|---|---|---|---|---|"
    );
    for (name, Row { calls, seconds, flop, bytes }) in rows {
        let limit = (flop / rate).max(bytes / bandwidth) / seconds;
        println!(
            "| {name} | {calls} | {:.1} % | {seconds:.3} | {:.1} | {:.2} | {:.0} | {:.1} | {:.0} % |",
            100.0 * seconds / all,
            flop / 1e9,
            bytes / 1e9,
            flop / seconds / 1e9,
            bytes / seconds / 1e9,
            100.0 * limit,
        );
    }
}

fn pass(network: &Network, weights: &Weights, adapter: &LoraTensors, rows: &[Vec<u32>], format: DType) {
    let mut tokens = Tokens::default();
    let (mut scored, mut labels) = (Vec::new(), Vec::new());
    for row in rows {
        let placed = tokens.push_alike(&[row]);
        for position in 1..row.len() {
            scored.push(placed[0].row(position - 1));
            labels.push(row[position]);
        }
    }
    let slopes = vec![-1.0 / labels.len() as f32; labels.len()];
    let mut pass = Train::recording(weights, Some(adapter), Learns::Adapter);
    pass.multiply_in(format);
    pass.score(labels, Some(slopes.clone()));
    let log_probs = network.forward(&mut pass, &tokens, &scored).expect("a pass");
    pass.backward(&log_probs, Tensor::new(slopes, &Device::Cpu).expect("a tensor")).expect("its way back");
}

/// Multiplications and additions of products; of everything else the numbers it gives.
fn flop(seen: &TracedOperation) -> f64 {
    let size = |tensor: &Tensor| tensor.elem_count() as f64;
    let rows = |tensor: &Tensor| tensor.dim(0).unwrap_or(1) as f64;
    match (&seen.operation, seen.inputs.as_slice()) {
        (Operation::Linear {}, [x, weight]) => 2.0 * rows(x) * size(weight),
        (Operation::LinearBack {}, [weight, g]) => 2.0 * rows(g) * size(weight),
        (Operation::LoraLinear { .. }, [x, _, weight, a, b]) => 2.0 * rows(x) * (size(weight) + size(a) + size(b)),
        (Operation::LoraBack { .. }, [x, _, a, b, _]) => 4.0 * rows(x) * (size(a) + size(b)),
        (Operation::Attention { heads, spans, .. }, _) => 4.0 * scores(spans) * (heads[0] * heads[2]) as f64,
        (Operation::AttentionBack { heads, spans, .. }, _) => 10.0 * scores(spans) * (heads[0] * heads[2]) as f64,
        _ => seen.outputs.iter().map(size).sum(),
    }
}

/// Pairs of a query and a key it sees.
fn scores(spans: &[[[usize; 2]; 3]]) -> f64 {
    let of = |[rows, _, before]: &[[usize; 2]; 3]| {
        let (rows, before) = ((rows[1] - rows[0]) as f64, (before[1] - before[0]) as f64);
        rows * (before + (rows + 1.0) / 2.0)
    };
    spans.iter().map(of).sum()
}

fn bytes(tensor: &Tensor) -> f64 {
    (tensor.elem_count() * tensor.dtype().size_in_bytes()) as f64
}

/// Floating-point operations and bytes a second: of a large product in the format, and of a large sum.
fn limits(format: DType) -> [f64; 2] {
    use ftk_kernels::float::bf16::{self, Bf16Matrix, Bf16Side};
    use ftk_kernels::float::product::{MatrixView, new_product};
    let best = |work: &dyn Fn() -> Vec<f32>| {
        let time = |_| {
            let began = Instant::now();
            std::hint::black_box(work());
            began.elapsed().as_secs_f64()
        };
        (0..5).map(time).fold(f64::MAX, f64::min)
    };
    let x = normal_values("x", SIDE * SIDE, 1.0, 0);
    let weight: Vec<half::bf16> = x.iter().map(|&x| half::bf16::from_f32(x)).collect();
    let product = if format == DType::BF16 {
        best(&|| bf16::product(&x, Bf16Matrix::new(&weight, SIDE), Bf16Side::Inputs))
    } else {
        best(&|| new_product(1.0, MatrixView::new(&x, SIDE), MatrixView::new(&x, SIDE).t()))
    };
    let (a, b) = (vec![1.0f32; ENTRIES], vec![2.0f32; ENTRIES]);
    let sum = best(&|| ftk_kernels::float::sum(&a, &b));
    [2.0 * (SIDE * SIDE * SIDE) as f64 / product, 12.0 * ENTRIES as f64 / sum]
}
