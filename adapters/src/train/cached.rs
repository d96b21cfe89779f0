//! Keys and values that are kept of the positions a sequence has seen, and attention of the next ones over them.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use ftk_kernels::float::attention::{AttentionSpan, CachedSpan, FactorFormat, HeldRows, attention_cached};
use ftk_networks::ops::Heads;

use super::{attention as uncached, host};

/// Keys and values of the positions of one sequence seen so far, by layer: what generation keeps between tokens.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    layers: BTreeMap<String, KeptLayer>,
    positions: usize,
}

/// Keys and values of one layer, `(positions, key_value * dim)`.
#[derive(Clone, Debug)]
enum KeptLayer {
    /// In host memory, in the format they are multiplied in, with room for more.
    Host([HeldRows<'static>; 2]),
    /// Elsewhere.
    Device([Tensor; 2]),
}

impl Cache {
    /// Positions seen so far.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Forgets what comes behind so many positions.
    ///
    /// # Errors
    /// The device's.
    pub fn truncate(&mut self, positions: usize) -> Result<()> {
        if positions >= self.positions {
            return Ok(());
        }
        if positions == 0 {
            *self = Self::default();
            return Ok(());
        }
        for layer in self.layers.values_mut() {
            match layer {
                KeptLayer::Host(kept) => {
                    let width = kept[0].entries() / self.positions;
                    kept.iter_mut().for_each(|kept| kept.truncate(positions * width));
                }
                KeptLayer::Device(kept) => {
                    for kept in kept {
                        *kept = kept.narrow(0, 0, positions)?;
                    }
                }
            }
        }
        self.positions = positions;
        Ok(())
    }

    /// Says that so many positions are about to be seen.
    pub(super) fn extend(&mut self, by: usize) {
        self.positions += by;
    }
}

/// Attention of `q` `(rows, query * dim)`, the next tokens of the sequences one after another, over what the caches hold
/// of each and its own `k` and `v`, which the caches hold from then on.
pub(super) fn attention(
    caches: &mut [&mut Cache],
    site: &str,
    [q, k, v]: [&Tensor; 3],
    heads: Heads,
    format: FactorFormat,
    spans: &[AttentionSpan],
) -> Result<Tensor> {
    let on_host = host::read([q, k, v], |[q, k, v]| {
        let width = heads.key_value * heads.dim;
        for (cache, span) in caches.iter_mut().zip(spans) {
            let none = || KeptLayer::Host([(); 2].map(|()| HeldRows::new(format, Vec::new())));
            let layer = cache.layers.entry(site.to_owned()).or_insert_with(none);
            let KeptLayer::Host(kept) = layer else { candle_core::bail!("{site} was cached on another device") };
            for (kept, new) in kept.iter_mut().zip([k, v]) {
                if kept.format() != format {
                    candle_core::bail!("{site} was cached in another number format");
                }
                kept.extend(&new[span.rows.start * width..span.rows.end * width]);
            }
        }
        let kept = caches.iter().zip(spans).filter_map(|(cache, span)| match cache.layers.get(site) {
            Some(KeptLayer::Host([k, v])) => Some(CachedSpan { rows: span.rows.clone(), k, v }),
            _ => None,
        });
        Ok(attention_cached(q, uncached::shape(heads), &kept.collect::<Vec<_>>()))
    })?;
    match on_host {
        Some(values) => Tensor::from_vec(values, q.shape(), q.device()),
        None => on_device(caches, site, [q, k, v], heads, spans),
    }
}

fn on_device(
    caches: &mut [&mut Cache],
    site: &str,
    [q, k, v]: [&Tensor; 3],
    heads: Heads,
    spans: &[AttentionSpan],
) -> Result<Tensor> {
    let mut parts = Vec::with_capacity(spans.len());
    for (cache, span) in caches.iter_mut().zip(spans) {
        let of_span = |x: &Tensor| x.narrow(0, span.rows.start, span.rows.len());
        let new = [of_span(k)?, of_span(v)?];
        let kept = match cache.layers.get(site) {
            Some(KeptLayer::Device([k, v])) => [Tensor::cat(&[k, &new[0]], 0)?, Tensor::cat(&[v, &new[1]], 0)?],
            Some(KeptLayer::Host(_)) => candle_core::bail!("{site} was cached on another device"),
            None => new,
        };
        let [k, v] = &kept;
        let alone = AttentionSpan { rows: 0..span.rows.len(), ..span.clone() };
        parts.push(uncached::on_device([&of_span(q)?, k, v], heads, &[alone])?);
        cache.layers.insert(site.to_owned(), KeptLayer::Device(kept));
    }
    Tensor::cat(&parts, 0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{close, random};
    use super::*;

    #[test]
    fn kernels_and_tensor_operations_agree_and_keep_each_sequence_to_itself() {
        let heads = Heads { query: 6, key_value: 2, dim: 5 };
        let span = |rows: std::ops::Range<usize>, cached: usize| {
            let own = cached..cached + rows.len();
            AttentionSpan { rows, own, before: 0..cached }
        };
        // A prompt each, then a token each, of the second two.
        let passes = [vec![span(0..7, 0), span(7..10, 0)], vec![span(0..1, 7), span(1..3, 3)]];
        let caches = || [Cache::default(), Cache::default()];
        let (mut ours, mut theirs, mut alone) = (caches(), caches(), caches());
        for (pass, spans) in passes.iter().enumerate() {
            let rows = spans.last().unwrap().rows.end;
            let [q, k, v] = [30, 10, 10].map(|width| random(7 * pass as u64 + width as u64, &[rows, width]));
            let run = |caches: &mut [Cache; 2], how: How| {
                let mut caches: Vec<&mut Cache> = caches.iter_mut().collect();
                for (cache, span) in caches.iter_mut().zip(spans) {
                    cache.extend(span.rows.len());
                }
                how(&mut caches, "layer", [&q, &k, &v], heads, spans).unwrap()
            };
            let together = run(&mut ours, |caches, site, x, heads, spans| {
                attention(caches, site, x, heads, FactorFormat::F32, spans)
            });
            close(&together, &run(&mut theirs, on_device));
            // Bit for bit what each gives by itself.
            for (cache, span) in alone.iter_mut().zip(spans) {
                let part = |x: &Tensor| x.narrow(0, span.rows.start, span.rows.len()).unwrap();
                cache.extend(span.rows.len());
                let own = AttentionSpan { rows: 0..span.rows.len(), ..span.clone() };
                let operands = [&part(&q), &part(&k), &part(&v)];
                let own = attention(&mut [cache], "layer", operands, heads, FactorFormat::F32, &[own]).unwrap();
                let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                assert_eq!(values(&own), values(&part(&together)));
            }
        }
        assert_eq!(ours.each_ref().map(Cache::positions), [8, 5]);
    }

    #[test]
    fn what_is_kept_gives_the_bits_of_attention_over_all_positions() {
        let heads = Heads { query: 6, key_value: 2, dim: 5 };
        let bits = |x: &Tensor| -> Vec<u32> {
            x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        };
        let [q, k, v] = [30, 10, 10].map(|width| random(width as u64, &[9, width]));
        for (format, other) in [(FactorFormat::F32, FactorFormat::Bf16), (FactorFormat::Bf16, FactorFormat::F32)] {
            let mut cache = Cache::default();
            let mut see = |rows: std::ops::Range<usize>, forget: usize, format: FactorFormat| {
                let [q, k, v] = [&q, &k, &v].map(|x| x.narrow(0, rows.start, rows.len()).unwrap());
                cache.truncate(forget).unwrap();
                let before = 0..cache.positions();
                cache.extend(rows.len());
                let span = AttentionSpan { rows: 0..rows.len(), own: before.end..cache.positions(), before };
                attention(&mut [&mut cache], "layer", [&q, &k, &v], heads, format, &[span])
            };
            let all = AttentionSpan { rows: 0..9, own: 0..9, before: 0..0 };
            let whole = uncached::attention([&q, &k, &v], heads, format, &[all]).unwrap();
            // The last three of seven are forgotten, and others come after the rest.
            see(0..7, 0, format).unwrap();
            for (rows, forget) in [(4..8, 4), (8..9, 9)] {
                let ours = see(rows.clone(), forget, format).unwrap();
                assert_eq!(bits(&ours), bits(&whole.narrow(0, rows.start, rows.len()).unwrap()), "{format:?} {rows:?}");
            }
            let refused = see(0..1, 9, other).unwrap_err().to_string();
            assert!(refused.starts_with("layer was cached in another number format"), "{refused}");
        }
    }

    type How = fn(&mut [&mut Cache], &str, [&Tensor; 3], Heads, &[AttentionSpan]) -> Result<Tensor>;
}
