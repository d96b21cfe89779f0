//! Dropout before an adapter's factors. Whether an entry is dropped depends on seed, site, row of
//! data, position and feature alone: not on the batch it is computed in, nor on when.

use candle_core::{Result, Tensor};

/// Dropout of one forward pass.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// Share of entries that become 0; the others are scaled up to keep the sum.
    pub rate: f64,
    /// One key a token: unlike for different rows of data, positions and steps.
    pub keys: Vec<u64>,
}

impl Dropout {
    /// `x` `(tokens, features)` with entries dropped at `site`; twice the same for the same arguments.
    pub(super) fn apply(&self, site: &str, x: &Tensor) -> Result<Tensor> {
        let (tokens, features) = x.dims2()?;
        if tokens != self.keys.len() {
            candle_core::bail!("dropout has keys for {} tokens, not {tokens}", self.keys.len());
        }
        let hash = blake3::Hasher::new_derive_key("ftk dropout site").update(site.as_bytes()).finalize();
        let site = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes"));
        let keep = (1.0 / (1.0 - self.rate)) as f32;
        // 16 bits an entry, four entries a draw.
        let threshold = (self.rate * 65536.0).round() as u64;
        let mut mask = vec![0.0f32; tokens * features];
        for (row, &key) in mask.chunks_exact_mut(features).zip(&self.keys) {
            for (block, entries) in row.chunks_mut(4).enumerate() {
                let mut bits = mix(key ^ site.wrapping_add((block as u64).wrapping_mul(GOLDEN)));
                for entry in entries {
                    *entry = if bits & 0xffff < threshold { 0.0 } else { keep };
                    bits >>= 16;
                }
            }
        }
        x * Tensor::from_vec(mask, (tokens, features), x.device())?
    }
}

/// 2^64 divided by the golden ratio: consecutive multiples lie far apart.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of the result depends on every bit of `x`.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(GOLDEN);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn dropped(keys: &[u64], site: &str) -> Vec<Vec<f32>> {
        let dropout = Dropout { rate: 0.25, keys: keys.to_vec() };
        let x = Tensor::ones((keys.len(), 1000), candle_core::DType::F32, &Device::Cpu).unwrap();
        dropout.apply(site, &x).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn a_share_of_entries_is_dropped_and_the_rest_scaled() {
        let rows = dropped(&(0..64).collect::<Vec<_>>(), "a");
        let all: Vec<f32> = rows.concat();
        assert!(all.iter().all(|&x| x == 0.0 || (x - 4.0 / 3.0).abs() < 1e-6));
        let share = all.iter().filter(|&&x| x == 0.0).count() as f64 / all.len() as f64;
        assert!((share - 0.25).abs() < 0.01, "{share}");
    }

    #[test]
    fn what_is_dropped_depends_on_key_and_site_but_not_on_the_batch() {
        let (both, one) = (dropped(&[7, 8], "a"), dropped(&[8], "a"));
        assert_eq!(both[1], one[0]);
        assert_ne!(both[0], both[1]);
        assert_ne!(dropped(&[8], "b"), one);
    }
}
