//! What adapters and weights start from.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::lora::Factors;

/// Factors as PEFT initialises them: `A` uniform in `±1 / sqrt(d_in)`, `B` zero, so that the
/// adapted network starts as the base. Each site has a stream of its own, keyed by seed and name.
pub fn initial_factors(site: &str, rank: usize, (d_out, d_in): (usize, usize), scale: f32, seed: u64) -> Factors {
    let mut unit = units("ftk lora_A initial values", site, seed);
    let bound = 1.0 / (d_in as f64).sqrt();
    let a = (0..rank * d_in).map(|_| ((2.0 * unit() - 1.0) * bound) as f32).collect();
    Factors { rank, d_in, d_out, a, b: vec![0.0; d_out * rank], scale }
}

/// Normally distributed values for a weight that starts at random (Box and Muller), keyed like
/// [`initial_factors`]; the same on every machine.
pub fn normal_values(name: &str, count: usize, std: f64, seed: u64) -> Vec<f32> {
    let mut unit = units("ftk normal initial values", name, seed);
    let mut draw = || {
        // 1 - u lies in (0, 1]. What the system's own functions give differs from one to the next.
        let (radius, angle) = ((-2.0 * libm::log(1.0 - unit())).sqrt(), std::f64::consts::TAU * unit());
        (std * radius * libm::cos(angle)) as f32
    };
    (0..count).map(|_| draw()).collect()
}

/// Values between `-bound` and `bound` for a weight that starts at random, keyed like [`initial_factors`].
pub fn uniform_values(name: &str, count: usize, bound: f64, seed: u64) -> Vec<f32> {
    let mut unit = units("ftk uniform initial values", name, seed);
    (0..count).map(|_| ((2.0 * unit() - 1.0) * bound) as f32).collect()
}

/// Numbers in [0, 1) from a stream keyed by purpose, name and seed.
fn units(purpose: &str, name: &str, seed: u64) -> impl FnMut() -> f64 {
    let key = blake3::Hasher::new_derive_key(purpose).update(&seed.to_le_bytes()).update(name.as_bytes()).finalize();
    let mut rng = ChaCha8Rng::from_seed(*key.as_bytes());
    // 24 bits: as many as an f32 has.
    move || f64::from(rng.next_u32() >> 8) / f64::from(1u32 << 24)
}
