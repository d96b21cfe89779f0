//! The rectifier, and entries dropped at random.

use rayon::prelude::*;

use super::CHUNK;
use crate::vectors::vectorised;

/// `max(x, 0)`, entry by entry.
pub fn relu(x: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
        vectorised(
            #[inline(always)]
            || y.iter_mut().zip(x).for_each(|(y, &x)| *y = if x > 0.0 { x } else { 0.0 }),
        );
    });
    y
}

/// Gradient of [`relu`], given its result and the gradient of that: nothing passes at 0, as in PyTorch.
///
/// # Panics
/// If the lengths differ.
pub fn relu_backward(y: &[f32], g: &[f32]) -> Vec<f32> {
    assert_eq!(y.len(), g.len(), "a gradient has the shape of its value");
    let mut dx = vec![0.0; y.len()];
    dx.par_chunks_mut(CHUNK).zip(y.par_chunks(CHUNK).zip(g.par_chunks(CHUNK))).for_each(|(dx, (y, g))| {
        vectorised(
            #[inline(always)]
            || dx.iter_mut().zip(y.iter().zip(g)).for_each(|(dx, (&y, &g))| *dx = if y > 0.0 { g } else { 0.0 }),
        );
    });
    dx
}

/// Which entries are dropped: a function of key and index alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drop {
    key: u64,
    /// Of 2^16.
    threshold: u64,
    keep: f32,
}

impl Drop {
    /// Drops a share of the entries and scales up the others to keep the sum.
    ///
    /// # Panics
    /// If the share does not lie in [0, 1).
    pub fn new(share: f64, key: u64) -> Self {
        assert!((0.0..1.0).contains(&share), "a share that is dropped lies below one");
        Self { key, threshold: (share * 65536.0).round() as u64, keep: (1.0 / (1.0 - share)) as f32 }
    }

    /// What the entry at an index is multiplied by.
    pub fn factor(&self, index: usize) -> f32 {
        self.of(self.bits(index / 4) >> (16 * (index % 4)))
    }

    /// `x` with entries dropped; twice the same for the same key.
    pub fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).enumerate().for_each(|(chunk, (y, x))| {
            for (block, (y, x)) in y.chunks_mut(4).zip(x.chunks(4)).enumerate() {
                let mut bits = self.bits(chunk * (CHUNK / 4) + block);
                for (y, x) in y.iter_mut().zip(x) {
                    *y = x * self.of(bits);
                    bits >>= 16;
                }
            }
        });
        y
    }

    fn of(&self, bits: u64) -> f32 {
        if bits & 0xffff < self.threshold { 0.0 } else { self.keep }
    }

    /// SplitMix64 (Steele, Lea and Flood 2014), four entries a draw.
    fn bits(&self, block: usize) -> u64 {
        let x = self.key.wrapping_add((block as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_passes_at_zero_or_below() {
        let y = relu(&[-1.0, 0.0, 2.0, f32::NAN]);
        assert_eq!(y, [0.0, 0.0, 2.0, 0.0]);
        assert_eq!(relu_backward(&y, &[5.0; 4]), [0.0, 0.0, 5.0, 0.0]);
    }

    #[test]
    fn a_share_is_dropped_at_the_places_the_key_says() {
        let ones = vec![1.0; 3 * CHUNK + 3];
        let drop = Drop::new(0.6, 7);
        let dropped = drop.apply(&ones);
        assert!(dropped.iter().enumerate().all(|(index, &value)| value == drop.factor(index)));
        assert!(dropped.iter().all(|&value| value == 0.0 || (value - 2.5).abs() < 1e-6));
        let share = dropped.iter().filter(|&&value| value == 0.0).count() as f64 / ones.len() as f64;
        assert!((share - 0.6).abs() < 0.01, "{share}");
        assert_ne!(Drop::new(0.6, 8).apply(&ones), dropped);
    }
}
