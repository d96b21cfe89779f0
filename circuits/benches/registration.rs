//! What it costs to commit to an adapter and to register it: `cargo bench -p ftk-circuits --bench registration`.
//!
//! The adapter has the sites of SmolLM2-135M at rank 8: 2,464 columns with 2.44 million entries over all 16 bits.
//! Seconds are those of one core, as Linux counts them for this process; keys are at hand.

use std::time::Instant;

use ftk_circuits::{CommitmentKey, Digest, SiteFactors, SiteShape, commit, register, required_k, verify_registration};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

/// `(d_in, d_out)` of the seven layers of a block.
const BLOCK: [(u32, u32); 7] = [(576, 576), (576, 192), (576, 192), (576, 576), (576, 1536), (576, 1536), (1536, 576)];
const BLOCKS: usize = 30;
const RANK: u32 = 8;

fn main() {
    let mut generator = ChaCha20Rng::seed_from_u64(1);
    let factors: Vec<SiteFactors> = (0..BLOCKS)
        .flat_map(|block| BLOCK.into_iter().enumerate().map(move |(layer, dimensions)| (block, layer, dimensions)))
        .map(|(block, layer, (d_in, d_out))| {
            let mut entries = |count: u32| (0..count).map(|_| generator.next_u32() as i16).collect();
            let name = format!("site.{block}.{layer}");
            SiteFactors {
                a: entries(RANK * d_in),
                b: entries(d_out * RANK),
                shape: SiteShape { name, rank: RANK, d_in, d_out, shift_a: 15, shift_b: 15 },
            }
        })
        .collect();
    let shapes: Vec<SiteShape> = factors.iter().map(|site| site.shape.clone()).collect();
    let key = CommitmentKey::generate(required_k(&shapes).expect("shapes are in bounds")).expect("the pinned key");
    let (commitment, opening) =
        timed("commit", || commit(&key, Digest([0; 32]), &factors).expect("it can be committed"));
    let registration = timed("register", || {
        register(&key, &commitment, &opening, &factors, &mut |_, _| {}).expect("it can be registered")
    });
    timed("verify", || verify_registration(&key, &commitment, &registration).expect("it is registered"));
    println!("k {}, columns {}, registration {} bytes", commitment.k(), commitment.columns(), registration.len());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("peak memory unknown"));
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (clock, before) = (Instant::now(), processor_seconds());
    let result = work();
    println!("{what}: {:.2} core-s, {:.2} s", processor_seconds() - before, clock.elapsed().as_secs_f64());
    result
}

/// Seconds of all cores that this process has used, in hundredths; NaN where the system does not say.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is a name in brackets; user and system time are the 14th and the 15th.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields
        .map(|ticks| ticks.parse::<f64>().unwrap_or(f64::NAN))
        .reduce(|a, b| a + b)
        .map_or(f64::NAN, |sum| sum / 100.0)
}
