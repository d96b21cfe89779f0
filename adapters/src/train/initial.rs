//! What adapters start from.

use ftk_networks::initial::units;

use crate::lora::Factors;

/// Factors as PEFT initialises them: `A` uniform in `±1 / sqrt(d_in)`, `B` zero, so that the
/// adapted network starts as the base. Each site has a stream of its own, keyed by seed and name.
pub fn initial_factors(site: &str, rank: usize, (d_out, d_in): (usize, usize), scale: f32, seed: u64) -> Factors {
    let mut unit = units("ftk lora_A initial values", site, seed);
    let bound = 1.0 / (d_in as f64).sqrt();
    let a = (0..rank * d_in).map(|_| ((2.0 * unit() - 1.0) * bound) as f32).collect();
    Factors { rank, d_in, d_out, a, b: vec![0.0; d_out * rank], scale }
}
