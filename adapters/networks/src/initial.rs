//! Random numbers that adapters and weights start from, each stream keyed by what it is for; the same on every machine.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Normally distributed values for a weight that starts at random (Box and Muller), keyed by name and seed.
pub fn normal_values(name: &str, count: usize, std: f64, seed: u64) -> Vec<f32> {
    let mut unit = units("ftk normal initial values", name, seed);
    let mut draw = || {
        // 1 - u lies in (0, 1]. What the system's own functions give differs from one to the next.
        let (radius, angle) = ((-2.0 * libm::log(1.0 - unit())).sqrt(), std::f64::consts::TAU * unit());
        (std * radius * libm::cos(angle)) as f32
    };
    (0..count).map(|_| draw()).collect()
}

/// Values between `-bound` and `bound` for a weight that starts at random, keyed by name and seed.
pub fn uniform_values(name: &str, count: usize, bound: f64, seed: u64) -> Vec<f32> {
    let mut unit = units("ftk uniform initial values", name, seed);
    (0..count).map(|_| ((2.0 * unit() - 1.0) * bound) as f32).collect()
}

/// Numbers in [0, 1) from a stream keyed by purpose, name and seed.
pub fn units(purpose: &str, name: &str, seed: u64) -> impl FnMut() -> f64 {
    let key = blake3::Hasher::new_derive_key(purpose).update(&seed.to_le_bytes()).update(name.as_bytes()).finalize();
    let mut rng = ChaCha8Rng::from_seed(*key.as_bytes());
    // 24 bits: as many as an f32 has.
    move || f64::from(rng.next_u32() >> 8) / f64::from(1u32 << 24)
}
