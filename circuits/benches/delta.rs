//! Times of commitment, registration, delta proof and their verification; `cargo bench -p ftk-circuits --bench delta`.
//!
//! Arguments pick adapters by name: `tiny`, `module`, `smollm2`. Factors and inputs are pseudo-random, deltas exact.

use std::time::Instant;

use ftk_circuits::{
    Case, CommitmentKey, Digest, Input, Output, SiteFactors, SiteRows, SiteShape, Statement, commit, prove, register,
    required_k, verify, verify_registration,
};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

const ROWS: usize = 16;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    println!(
        "| adapter | sites | weights | k | commit | register | verify it | bytes | prove | verify | bytes | peak MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (name, shapes) in adapters() {
        if wanted.is_empty() || wanted.iter().any(|want| want == name) {
            measure(name, &shapes);
        }
    }
}

/// `(rank, d_in, d_out)`
type Dims = (u32, u32, u32);

/// The sites of some adapters.
fn adapters() -> Vec<(&'static str, Vec<Dims>)> {
    let smollm2_layer =
        [(8, 576, 576), (8, 576, 192), (8, 576, 192), (8, 576, 576), (8, 576, 1536), (8, 576, 1536), (8, 1536, 576)];
    vec![("tiny", vec![(4, 64, 64); 8]), ("module", vec![(4, 768, 2304)]), ("smollm2", smollm2_layer.repeat(30))]
}

fn measure(name: &str, dims: &[Dims]) {
    let mut generator = ChaCha20Rng::seed_from_u64(1);
    let factors: Vec<SiteFactors> = dims
        .iter()
        .enumerate()
        .map(|(i, &(rank, d_in, d_out))| {
            let mut entries = |count: u32| (0..count).map(|_| generator.next_u32() as i16).collect();
            SiteFactors {
                a: entries(rank * d_in),
                b: entries(d_out * rank),
                shape: SiteShape { name: format!("site.{i}"), rank, d_in, d_out, shift_a: 15, shift_b: 15 },
            }
        })
        .collect();
    let sites: Vec<SiteRows> = factors.iter().map(|site| rows(&mut generator, site)).collect();
    let shapes: Vec<SiteShape> = factors.iter().map(|site| site.shape.clone()).collect();
    let k = required_k(&shapes).expect("shapes are in bounds");
    let key = CommitmentKey::generate(k).expect("the pinned key");
    let base = Digest([0; 32]);
    let ((commitment, opening), commit_time) = timed(|| commit(&key, base, &factors).expect("committed"));
    let statement = Statement {
        base,
        adapter: commitment.digest(),
        context: Vec::new(),
        cases: vec![Case {
            input: Input::Tokens(vec![0; ROWS]),
            output: Output::Completion { ids: vec![0], max_tokens: 1, stop_ids: Vec::new() },
        }],
    };
    let (proof, prove_time) =
        timed(|| prove(&key, &statement, &commitment, &opening, &factors, &sites, &mut |_, _| {}).expect("proved"));
    let ((), verify_time) = timed(|| verify(&key, &statement, &commitment, &sites, &proof).expect("valid"));
    let (registration, register_time) =
        timed(|| register(&key, &commitment, &opening, &factors, &mut |_, _| {}).expect("registered"));
    let ((), check_time) = timed(|| verify_registration(&key, &commitment, &registration).expect("valid"));
    let weights: usize = factors.iter().map(|site| site.a.len() + site.b.len()).sum();
    println!(
        "| {name} | {} | {weights} | {k} | {commit_time:.2} s | {register_time:.2} s | {check_time:.2} s | {} | {prove_time:.2} s | {verify_time:.2} s | {} | {} |",
        factors.len(),
        registration.len(),
        proof.proof.len() + proof.link.len(),
        peak_megabytes().map_or_else(|| "?".into(), |peak| peak.to_string()),
    );
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let value = run();
    (value, start.elapsed().as_secs_f64())
}

/// Inputs of about 2^24 (256 on the grid) and the exact deltas.
fn rows(generator: &mut ChaCha20Rng, site: &SiteFactors) -> SiteRows {
    let (rank, d_in, d_out) = (site.shape.rank as usize, site.shape.d_in as usize, site.shape.d_out as usize);
    let inputs: Vec<i64> = (0..ROWS * d_in).map(|_| i64::from(generator.next_u32() as i32 >> 7)).collect();
    let mut deltas = Vec::with_capacity(ROWS * d_out);
    for x in inputs.chunks_exact(d_in) {
        let hidden: Vec<i128> = site
            .a
            .chunks_exact(d_in)
            .map(|row| row.iter().zip(x).map(|(a, x)| i128::from(*a) * i128::from(*x)).sum())
            .collect();
        deltas.extend(
            site.b.chunks_exact(rank).map(|row| row.iter().zip(&hidden).map(|(b, h)| i128::from(*b) * h).sum::<i128>()),
        );
    }
    SiteRows { inputs, deltas }
}

/// Peak resident memory of this process so far, where the system tells.
fn peak_megabytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? / 1024)
}
